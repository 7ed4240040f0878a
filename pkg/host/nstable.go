package host

import (
	"errors"
	"sync/atomic"

	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/host/nlsock"
)

// A nsTable is the table of one family in a sandbox that carries a [mapping]
// out, and the [detour] to it. It is ours alone, and constant: it is replaced
// whole or taken away.
type nsTable struct {
	conn   *nlsock.Conn // in the sandbox
	six    bool
	detour detour // what a mapping with intercept takes besides
}

// table returns a family's table of a sandbox.
func (s *sandbox) table(six bool) (nsTable, error) {
	if s.nft == nil {
		if err := s.do(s.dialNFT); err != nil {
			return nsTable{}, err
		}
	}
	return nsTable{s.nft, six, detour{s.rt, six}}, nil
}

// dialNFT opens a sandbox's socket for tables, in the thread's namespace.
func (s *sandbox) dialNFT() (err error) {
	if s.nft == nil {
		s.nft, err = nlsock.Dial(unix.NETLINK_NETFILTER)
	}
	return noNFTables(err)
}

// look returns what mapping is there. Of a table that lacks rules, or has others,
// it is the zero mapping; there says whether any rule is in it.
func (t nsTable) look() (m mapping, there bool, err error) {
	var msg nlsock.Message
	at := msg.Begin(nftType(unix.NFT_MSG_GETRULE), unix.NLM_F_DUMP, t.conn.Next())
	msg.NFHeader(mapping{six: t.six}.family(), 0)
	msg.Str(unix.NFTA_RULE_TABLE, firewall.TableName)
	msg.End(at)
	payloads, err := t.conn.Dump(msg.B)
	if errors.Is(err, unix.ENOENT) || err == nil && len(payloads) == 0 {
		return mapping{}, false, nil
	}
	if err != nil {
		return mapping{}, false, wrap("list rules", noSubsystem(err))
	}
	for i, p := range payloads {
		have := parseMapping(ruleComment(p), t.six)
		if i > 0 && have.String() != m.String() {
			return mapping{}, true, nil
		}
		m = have
	}
	if m.port == 0 || len(payloads) != m.ruleCount() {
		return mapping{}, true, nil
	}
	return m, true, nil
}

// ruleComment returns the comment of a rule as it is dumped.
func ruleComment(payload []byte) (note string) {
	if len(payload) < 4 {
		return ""
	}
	nlsock.Attributes(payload[4:], func(typ uint16, data []byte) {
		if typ == unix.NFTA_RULE_USERDATA {
			note = comment(data, userdata.TypeComment)
		}
	})
	return note
}

// lead makes a mapping so, whatever is there. The detour comes after the table,
// without which it leads nowhere, and goes before it.
func (t nsTable) lead(m, have mapping, there bool) error {
	if m.String() != have.String() {
		if err := t.lay(m, there); err != nil {
			return err
		}
	}
	if m.intercept {
		return t.detour.lay()
	}
	return nil
}

// lay puts the table there, in place of one that is there. Where none is, it
// deletes nothing: the kernel frees what was deleted after an RCU grace period,
// and lets the socket be closed, and so the process end, only then, 5 to 20 ms
// later.
func (t nsTable) lay(m mapping, there bool) error {
	b := t.batch()
	if there {
		b.deleteTable()
	}
	if err := b.mapping(m); err != nil {
		return err
	}
	return wrap("lay "+m.String(), noNFTables(b.commit()))
}

// remove takes the table away.
func (t nsTable) remove() error {
	b := t.batch()
	b.deleteTable()
	return wrap("remove rules", noNFTables(b.commit()))
}

// batch begins a transaction on the table.
func (t nsTable) batch() *batch {
	b := newBatch(t.conn)
	b.family = mapping{six: t.six}.family()
	return b
}

// deleteTable appends that there is no table: one that does not exist can't be
// deleted, and one that is there can be made again.
func (b *batch) deleteTable() {
	b.newTable()
	b.change(unix.NFT_MSG_DELTABLE, 0, func(m *nlsock.Message) { m.Str(unix.NFTA_TABLE_NAME, firewall.TableName) })
}

func (b *batch) newTable() {
	b.change(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, func(m *nlsock.Message) { m.Str(unix.NFTA_TABLE_NAME, firewall.TableName) })
}

// mapping appends the table of a mapping.
func (b *batch) mapping(m mapping) error {
	encoded, err := m.encode()
	if err != nil {
		return err
	}
	b.newTable()
	for _, c := range encoded.chains {
		b.chain(firewall.TableName, c.Chain)
		for _, rule := range c.rules {
			b.encoded(firewall.TableName, c.Name, rule, encoded.comment)
		}
	}
	return nil
}

// An encodedMapping is a mapping's rules as the kernel takes them.
type encodedMapping struct {
	six     bool
	comment string
	chains  []encodedChain
}

type encodedChain struct {
	firewall.Chain
	rules [][]byte // see encodeRule
}

// lastMapping is what was encoded last. In nearly all sandboxes the name server has
// the same port, and so the same rules: dnetd encodes them once.
var lastMapping atomic.Pointer[encodedMapping]

// encode returns a mapping's rules, encoded.
func (m mapping) encode() (*encodedMapping, error) {
	e := &encodedMapping{six: m.six, comment: m.String()}
	if last := lastMapping.Load(); last != nil && last.six == e.six && last.comment == e.comment {
		return last, nil
	}
	for _, c := range m.chains() {
		chain := encodedChain{Chain: c.Chain}
		for _, rule := range c.rules {
			list, err := encodeRule(m.family(), rule)
			if err != nil {
				return nil, err
			}
			chain.rules = append(chain.rules, list)
		}
		e.chains = append(e.chains, chain)
	}
	lastMapping.Store(e)
	return e, nil
}
