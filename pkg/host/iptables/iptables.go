// Package iptables changes chains of the iptables that came before nf_tables. Its own program
// does it, for the kernel takes and gives such tables whole.
package iptables

import (
	"errors"
	"fmt"

	"github.com/coreos/go-iptables/iptables"

	"dcni/pkg/firewall/foreign"
)

// patience is how many seconds the program waits for another one to be done with the tables.
const patience = 5

func open(c *foreign.Chain) (*iptables.IPTables, error) {
	protocol := iptables.ProtocolIPv4
	if c.Family == "ip6" {
		protocol = iptables.ProtocolIPv6
	}
	return iptables.New(iptables.IPFamily(protocol), iptables.Path(c.Tool), iptables.Timeout(patience))
}

// passing are the options of the two rules that let a bridge pass.
func passing(bridge string) [][]string {
	return [][]string{{"-i", bridge, "-j", "ACCEPT"}, {"-o", bridge, "-j", "ACCEPT"}}
}

// parting are the options of a rule that keeps a bridge apart from another one.
func parting(bridge, other string) []string { return []string{"-i", bridge, "-o", other, "-j", "DROP"} }

// Permit puts two rules into a chain that let a bridge pass, and before them those that keep it
// apart from other programs' bridges. What was put there before goes.
func Permit(b foreign.Block, bridge string) error {
	t, err := open(b.Chain)
	if err != nil {
		return err
	}
	number := b.At + 1 // as iptables counts
	if b.Ours {
		for _, i := range b.Chain.Ours(bridge) {
			if i < b.At {
				number-- // it goes as well
			}
		}
		if err := remove(t, b.Chain, bridge); err != nil {
			return err
		}
	}
	var rules [][]string
	for _, other := range b.Apart {
		rules = append(rules, parting(bridge, other))
	}
	for i, rule := range append(rules, passing(bridge)...) {
		if err := t.Insert(b.Chain.Table, b.Chain.Name, number+i, rule...); err != nil {
			return fmt.Errorf("%s: %w", b.Chain.Tool, err)
		}
	}
	return nil
}

// Forbid takes such rules out of a chain: one of each, for a user may have the same.
func Forbid(c *foreign.Chain, bridge string) error {
	t, err := open(c)
	if err != nil {
		return err
	}
	return remove(t, c, bridge)
}

func remove(t *iptables.IPTables, c *foreign.Chain, bridge string) error {
	var errs []error
	for _, i := range c.Ours(bridge) {
		rule := passing(bridge)[0]
		switch r := c.Rules[i]; {
		case r.Verdict == foreign.Drop:
			rule = parting(bridge, r.Out[0])
		case len(r.Out) > 0:
			rule = passing(bridge)[1]
		}
		errs = append(errs, t.DeleteIfExists(c.Table, c.Name, rule...))
	}
	return errors.Join(errs...)
}
