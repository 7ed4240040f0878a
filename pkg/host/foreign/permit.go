package foreign

import (
	"errors"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"

	"dcni/pkg/firewall/foreign"
)

// Permit puts rules into a chain of iptables' that let a bridge pass, in the form that iptables
// writes: see [foreign.Rule.Form]. What was put there before goes.
func Permit(b foreign.Block) error {
	c, chain, err := open(b.Chain)
	if err != nil {
		return err
	}
	if err := remove(c, chain, b.Chain, b.Ours); err != nil {
		return err
	}
	var rest []foreign.Rule
	for i, r := range b.Chain.Rules {
		if !slices.Contains(b.Ours, i) {
			rest = append(rest, r) // what goes is no place to stand before
		}
	}
	for _, p := range b.Puts {
		r := &nftables.Rule{Table: chain.Table, Chain: chain, Exprs: expressions(p.Rule)}
		if p.At < len(rest) {
			r.Position = rest[p.At].Handle
			c.InsertRule(r)
		} else {
			c.AddRule(r)
		}
	}
	return c.Flush()
}

// expressions are those of a rule that has a form.
func expressions(r foreign.Rule) (list []expr.Any) {
	for _, in := range r.In {
		list = append(list, link(expr.MetaKeyIIFNAME, in)...)
	}
	for _, out := range r.Out {
		list = append(list, link(expr.MetaKeyOIFNAME, out)...)
	}
	if r.New {
		info := &xt.ConntrackMtinfo3{}
		info.MatchFlags, info.StateMask = uint16(xt.ConntrackState), uint16(expr.CtStateBitNEW)
		list = append(list, &expr.Match{Name: "conntrack", Rev: 3, Info: info})
	}
	kind := expr.VerdictAccept
	if r.Verdict == foreign.Drop {
		kind = expr.VerdictDrop
	}
	return append(list, &expr.Counter{}, &expr.Verdict{Kind: kind})
}

// link are the expressions of a match of a link's name.
func link(key expr.MetaKey, name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: append([]byte(name), 0)}}
}

// Forbid takes rules of some indexes out of a chain.
func Forbid(in *foreign.Chain, ours []int) error {
	c, chain, err := open(in)
	if err == nil {
		err = remove(c, chain, in, ours)
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
