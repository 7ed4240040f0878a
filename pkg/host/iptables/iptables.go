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

// Permit puts two rules into a chain that let a bridge pass: before the rule of an index, or at
// the end. Where ours says that they are there, and behind what drops, those go.
func Permit(b foreign.Block, bridge string, ours bool) error {
	t, err := open(b.Chain)
	if err != nil {
		return err
	}
	number := b.At + 1 // as iptables counts
	if ours {
		for _, r := range b.Chain.Rules[:b.At] {
			if r.Lets(bridge) {
				number-- // it goes as well
			}
		}
		if err := remove(t, b.Chain, bridge); err != nil {
			return err
		}
	}
	for i, rule := range passing(bridge) {
		if err := t.Insert(b.Chain.Table, b.Chain.Name, max(number, 1)+i, rule...); err != nil {
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
	for _, rule := range passing(bridge) {
		errs = append(errs, t.DeleteIfExists(c.Table, c.Name, rule...))
	}
	return errors.Join(errs...)
}
