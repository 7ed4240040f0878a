package foreign

import (
	"errors"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"dcni/pkg/firewall/foreign"
)

// Permit puts two rules into a chain of iptables' that let a bridge pass, in the form that
// iptables writes: it lists them as -i BRIDGE -j ACCEPT and -o BRIDGE -j ACCEPT. Where ours says
// that they are there, and behind what drops, those go.
func Permit(b foreign.Block, bridge string, ours bool) error {
	c, chain, err := open(b.Chain)
	if err != nil {
		return err
	}
	if ours {
		if err := forbid(c, chain, b.Chain.Rules, bridge); err != nil {
			return err
		}
	}
	for _, key := range []expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME} {
		r := &nftables.Rule{Table: chain.Table, Chain: chain, Exprs: passing(key, bridge)}
		if b.At < len(b.Chain.Rules) {
			r.Position = b.Chain.Rules[b.At].Handle
			c.InsertRule(r)
		} else {
			c.AddRule(r)
		}
	}
	return c.Flush()
}

// passing are the expressions of a rule that lets pass what has a link on one side.
func passing(key expr.MetaKey, link string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: append([]byte(link), 0)},
		&expr.Counter{},
		&expr.Verdict{Kind: expr.VerdictAccept},
	}
}

// Forbid takes such rules out of a chain: one of each, for a user may have the same.
func Forbid(in *foreign.Chain, bridge string) error {
	c, chain, err := open(in)
	if err == nil {
		err = forbid(c, chain, in.Rules, bridge)
	}
	if err == nil {
		err = c.Flush()
	}
	if errors.Is(err, unix.ENOENT) {
		return nil // it was deleted just now
	}
	return err
}

func forbid(c *nftables.Conn, chain *nftables.Chain, rules []foreign.Rule, bridge string) error {
	seen := map[bool]bool{}
	for _, r := range rules {
		in := len(r.In) > 0
		if !r.Lets(bridge) || seen[in] {
			continue
		}
		seen[in] = true
		if err := c.DelRule(&nftables.Rule{Table: chain.Table, Chain: chain, Handle: r.Handle}); err != nil {
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
