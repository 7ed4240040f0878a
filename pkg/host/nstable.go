package host

import (
	"errors"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/host/nft"
	"dcni/pkg/host/nlsock"
	"dcni/pkg/names"
)

// A nsTable is the table of one family in a sandbox that carries a [mapping]
// out, and the [detour] to it. It is ours alone, and constant: it is replaced
// whole or taken away.
type nsTable struct {
	conn   *nlsock.Conn // in the sandbox
	six    bool
	detour detour // what a mapping with intercept takes besides
}

// look returns what mapping is there. Of a table that lacks rules, or has others,
// it is the zero mapping; there says whether any rule is in it.
func (t nsTable) look() (m mapping, there bool, err error) {
	var msg nlsock.Message
	at := msg.Begin(nft.MessageType(unix.NFT_MSG_GETRULE), unix.NLM_F_DUMP, t.conn.Next())
	msg.NFHeader(mapping{six: t.six}.family(), 0)
	msg.Str(unix.NFTA_RULE_TABLE, firewall.TableName)
	msg.End(at)
	payloads, err := t.conn.Dump(msg.B)
	if errors.Is(err, unix.ENOENT) || err == nil && len(payloads) == 0 {
		return mapping{}, false, nil
	}
	if err != nil {
		return mapping{}, false, nft.Wrap("list rules", nft.UnsupportedSubsystem(err))
	}
	for i, p := range payloads {
		have := parseMapping(nft.RuleComment(p), t.six)
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
		deleteTable(b)
	}
	if err := appendMapping(b, m); err != nil {
		return err
	}
	return nft.Wrap("lay "+m.String(), nft.Unsupported(b.Commit()))
}

// remove takes the table away.
func (t nsTable) remove() error {
	b := t.batch()
	deleteTable(b)
	return nft.Wrap("remove rules", nft.Unsupported(b.Commit()))
}

// batch begins a transaction on the table.
func (t nsTable) batch() *nft.Batch {
	b := nft.NewBatch(t.conn)
	b.Family = mapping{six: t.six}.family()
	return b
}

// deleteTable appends that there is no table: one that does not exist can't be
// deleted, and one that is there can be made again.
func deleteTable(b *nft.Batch) {
	newTable(b)
	b.Change(unix.NFT_MSG_DELTABLE, 0, func(m *nlsock.Message) { m.Str(unix.NFTA_TABLE_NAME, firewall.TableName) })
}

func newTable(b *nft.Batch) {
	b.Change(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, func(m *nlsock.Message) { m.Str(unix.NFTA_TABLE_NAME, firewall.TableName) })
}

// appendMapping appends the table of a mapping.
func appendMapping(b *nft.Batch, m mapping) error {
	encoded, err := m.encode()
	if err != nil {
		return err
	}
	newTable(b)
	for _, c := range encoded.chains {
		b.Chain(firewall.TableName, c.Chain)
		for _, rule := range c.rules {
			b.Encoded(firewall.TableName, c.Name, rule, encoded.comment)
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
			list, err := nft.EncodeRule(m.family(), rule)
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

// shrink leaves what the resolvers of a sandbox want when one goes: nothing for
// none. The table may be gone already, or only half of it be there.
func (t nsTable) shrink(gone *names.Resolver, kin []*names.Resolver) error {
	have, there, err := t.look()
	if err != nil {
		return err
	}
	want := t.wanted(kin, have)
	if !want.intercept && (have.intercept || gone.Intercept) {
		if err := t.detour.remove(); err != nil {
			return err
		}
	}
	switch {
	case !there || want.String() == have.String():
		return nil
	case want.port == 0:
		return t.remove()
	}
	return t.lay(want, there)
}

// wanted returns what resolvers want of the family together.
func (t nsTable) wanted(list []*names.Resolver, have mapping) (want mapping) {
	for _, r := range list {
		at := *r
		if have.port != 0 { // it counts, whatever the record says
			at.Port, at.Port6 = have.port, have.port
		}
		if m := resolverMapping(&at, t.six); m.port != 0 {
			want = m.and(want)
		}
	}
	return want
}
