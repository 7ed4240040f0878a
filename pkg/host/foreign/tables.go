package foreign

import (
	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"dcni/pkg/host/nft"
	"dcni/pkg/host/nlsock"
)

// anyTable reports whether nf_tables has a table of another program that packets of IP go by.
// Each ADD asks, and on most hosts that is all: the answer is one message for each table.
func anyTable() (bool, error) {
	conn, err := nlsock.Dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	var m nlsock.Message
	at := m.Begin(nft.MessageType(unix.NFT_MSG_GETTABLE), unix.NLM_F_DUMP, conn.Next())
	m.NFHeader(unix.NFPROTO_UNSPEC, 0)
	m.End(at)
	tables, err := conn.Dump(m.B)
	if err != nil {
		return false, err
	}
	for _, t := range tables {
		if isForeign(t) {
			return true, nil
		}
	}
	return false, nil
}

// isForeign reads a message that describes a table: nfgenmsg, whose first byte is the family,
// and the attributes.
func isForeign(table []byte) bool {
	const header = 4
	if len(table) < header || families[nftables.TableFamily(table[0])] == "" {
		return false
	}
	name := ""
	nlsock.Attributes(table[header:], func(typ uint16, data []byte) {
		if typ == unix.NFTA_TABLE_NAME {
			name = nlsock.CString(data)
		}
	})
	return !isOurs(name)
}
