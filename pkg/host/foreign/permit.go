package foreign

import (
	"errors"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"dcni/pkg/firewall/foreign"
)

// Permit puts two rules into a chain of iptables' that let a bridge pass, in the form that
// iptables writes: it lists them as -i BRIDGE -j ACCEPT and -o BRIDGE -j ACCEPT. Before them come
// those that keep it apart from other programs' bridges. What was put there before goes.
func Permit(b foreign.Block, bridge string) error {
	c, chain, err := open(b.Chain)
	if err != nil {
		return err
	}
	at := b.At
	if b.Ours {
		ours := b.Chain.Ours(bridge)
		if err := remove(c, chain, b.Chain, ours); err != nil {
			return err
		}
		for slices.Contains(ours, at) {
			at++ // what goes is no place to stand before
		}
	}
	add := func(e []expr.Any) {
		r := &nftables.Rule{Table: chain.Table, Chain: chain, Exprs: e}
		if at < len(b.Chain.Rules) {
			r.Position = b.Chain.Rules[at].Handle
			c.InsertRule(r)
		} else {
			c.AddRule(r)
		}
	}
	for _, other := range b.Apart {
		add(slices.Concat(link(expr.MetaKeyIIFNAME, bridge), link(expr.MetaKeyOIFNAME, other), verdictOf(expr.VerdictDrop)))
	}
	for _, key := range []expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME} {
		add(append(link(key, bridge), verdictOf(expr.VerdictAccept)...))
	}
	return c.Flush()
}

// link are the expressions of a match of a link's name.
func link(key expr.MetaKey, name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: append([]byte(name), 0)}}
}

func verdictOf(kind expr.VerdictKind) []expr.Any {
	return []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: kind}}
}

// Forbid takes such rules out of a chain: one of each, for a user may have the same.
func Forbid(in *foreign.Chain, bridge string) error {
	c, chain, err := open(in)
	if err == nil {
		err = remove(c, chain, in, in.Ours(bridge))
	}
	if err == nil {
		err = c.Flush()
	}
	if errors.Is(err, unix.ENOENT) {
		return nil // it was deleted just now
	}
	return err
}

func remove(c *nftables.Conn, chain *nftables.Chain, in *foreign.Chain, ours []int) error {
	for _, i := range ours {
		if err := c.DelRule(&nftables.Rule{Table: chain.Table, Chain: chain, Handle: in.Rules[i].Handle}); err != nil {
			return err
		}
	}
	return nil
}

// open returns a chain as the library has it.
func open(in *foreign.Chain) (*nftables.Conn, *nftables.Chain, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, nil, err
	}
	number := nftables.TableFamilyIPv4
	if in.Family == families[nftables.TableFamilyIPv6] {
		number = nftables.TableFamilyIPv6
	}
	return c, &nftables.Chain{Name: in.Name, Table: &nftables.Table{Name: in.Table, Family: number}}, nil
}
