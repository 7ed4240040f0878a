package watch

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/firewall/iptables"
	"dcni/pkg/host/nlsock"
	"dcni/pkg/host/rtnl"
)

// ruleWatch collects, for each namespace, what the transaction that is being told of does.
// Its last message says whose it was.
type ruleWatch map[int]ruleChange

// A ruleChange is what a transaction does, as far as it matters here.
type ruleChange struct {
	takes    bool // something of ours
	iptables bool // changes chains of iptables where rules of ours are, if networks have them there
	foreign  bool // changes chains or rules that the host's forwarded packets may go by, and that are not ours
}

// nftaGenProcName is NFTA_GEN_PROC_NAME, which x/sys lacks.
const nftaGenProcName = 3

// NFT_MSG_DESTROYTABLE and so on, which x/sys lacks: what `nft destroy` did.
const (
	nftMsgDestroyTable = iota + 26
	nftMsgDestroyChain
	nftMsgDestroyRule
	nftMsgDestroySet
	nftMsgDestroySetElem
)

// feed reads one message, and returns what a transaction did that has ended and was not
// ours.
func (w ruleWatch) feed(nsid int, r nlsock.Reply, ours func(program string) bool) ruleChange {
	if r.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || len(r.Data) < 4 {
		return ruleChange{}
	}
	if r.Type&0xff != unix.NFT_MSG_NEWGEN {
		c := w[nsid]
		here := nsid == rtnl.Here
		w[nsid] = ruleChange{c.takes || takes(nsid, r), c.iptables || here && isIPTables(r), c.foreign || here && isForeign(r)}
		return ruleChange{}
	}
	did := w[nsid]
	delete(w, nsid)
	if did == (ruleChange{}) {
		return did
	}
	program := ""
	nlsock.Attributes(r.Data[4:], func(typ uint16, data []byte) {
		if typ == nftaGenProcName {
			program = nlsock.CString(data)
		}
	})
	if ours(program) {
		return ruleChange{}
	}
	return did
}

// isForeign reports whether a message is about a chain or a rule of another program that what
// is forwarded may go by. Tables that translate addresses are not: they change often, as with
// services of a cluster.
func isForeign(r nlsock.Reply) bool {
	const table = 1 // attribute of all these messages
	switch r.Type & 0xff {
	case unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_DELRULE, unix.NFT_MSG_NEWTABLE,
		nftMsgDestroyChain, nftMsgDestroyRule:
	default:
		return false
	}
	name := ""
	nlsock.Attributes(r.Data[4:], func(typ uint16, data []byte) {
		if typ == table {
			name = nlsock.CString(data)
		}
	})
	family := r.Data[0]
	return name != "nat" && !strings.HasPrefix(name, firewall.TableName) &&
		(family == unix.NFPROTO_INET || family == unix.NFPROTO_IPV4 || family == unix.NFPROTO_IPV6)
}

// isIPTables reports whether a message is about a rule of a chain of iptables that has rules of dcni's
// where networks are by iptables, or about such a chain or table that goes.
func isIPTables(r nlsock.Reply) bool {
	const table, chain = 1, 2 // attributes of all these messages
	whole := false
	switch r.Type & 0xff {
	case unix.NFT_MSG_DELTABLE, nftMsgDestroyTable:
		whole = true
	case unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_DELRULE, unix.NFT_MSG_NEWRULE, nftMsgDestroyChain, nftMsgDestroyRule:
	default:
		return false
	}
	names := map[uint16]string{}
	nlsock.Attributes(r.Data[4:], func(typ uint16, data []byte) {
		if typ == table || typ == chain {
			names[typ] = nlsock.CString(data)
		}
	})
	family := r.Data[0]
	return (family == unix.NFPROTO_IPV4 || family == unix.NFPROTO_IPV6) && (whole && slices.Contains([]string{"raw", "filter", "nat"}, names[table]) || iptables.Uses(names[table], names[chain]))
}

// takes reports whether a message is about something of ours that goes or is set
// in another way, or a rule that comes among ours.
func takes(nsid int, r nlsock.Reply) bool {
	const table, chain = 1, 2 // attributes of all these messages
	switch r.Type & 0xff {
	case unix.NFT_MSG_DELTABLE, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_DELSET, unix.NFT_MSG_DELSETELEM,
		unix.NFT_MSG_DELRULE, unix.NFT_MSG_NEWRULE,
		unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_NEWCHAIN, // and so, of one that is there, its flags or its policy
		nftMsgDestroyTable, nftMsgDestroyChain, nftMsgDestroyRule, nftMsgDestroySet, nftMsgDestroySetElem:
	default:
		return false
	}
	names := map[uint16]string{}
	nlsock.Attributes(r.Data[4:], func(typ uint16, data []byte) {
		if typ == table || typ == chain {
			names[typ] = nlsock.CString(data)
		}
	})
	isRule := r.Type&0xff == unix.NFT_MSG_DELRULE || r.Type&0xff == unix.NFT_MSG_NEWRULE || r.Type&0xff == nftMsgDestroyRule
	family := r.Data[0]
	return isOurs(names[table], nsid) && (nsid != rtnl.Here || family == unix.NFPROTO_INET || family == unix.NFPROTO_BRIDGE) &&
		(!isRule || names[chain] != firewall.UserChain)
}

// isOurs reports whether a table is one of dcni's. Those of overlay networks are the
// host's only.
func isOurs(table string, nsid int) bool {
	return table == firewall.TableName || nsid == rtnl.Here && (table == firewall.TableUnderlay || table == firewall.TableEncrypted)
}
