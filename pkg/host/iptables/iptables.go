// Package iptables runs the programs of iptables: it carries the firewall policy out ([Firewall]), and changes chains of
// others of the iptables that came before nf_tables ([Permit], [Forbid]). The programs
// do it: the older kernel interface takes and gives whole tables, and rules on nf_tables are to be as iptables writes them.
package iptables

import (
	"errors"
	"fmt"
	"strings"

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

// Permit puts rules into a chain that let a bridge pass. What was put there before goes.
func Permit(b foreign.Block) error {
	t, err := open(b.Chain)
	if err != nil {
		return err
	}
	if err := remove(t, b.Chain, b.Ours); err != nil {
		return err
	}
	for i, p := range b.Puts {
		number := p.At + 1 // as iptables counts
		for _, before := range b.Puts[:i] {
			if before.At <= p.At {
				number++
			}
		}
		if err := t.Insert(b.Chain.Table, b.Chain.Name, number, strings.Fields(p.Form())...); err != nil {
			return fmt.Errorf("%s: %w", b.Chain.Tool, err)
		}
	}
	return nil
}

// Forbid takes rules of some indexes out of a chain.
func Forbid(c *foreign.Chain, ours []int) error {
	t, err := open(c)
	if err != nil {
		return err
	}
	return remove(t, c, ours)
}

func remove(t *iptables.IPTables, c *foreign.Chain, ours []int) error {
	var errs []error
	for _, i := range ours {
		errs = append(errs, t.DeleteIfExists(c.Table, c.Name, strings.Fields(c.Rules[i].Form())...))
	}
	return errors.Join(errs...)
}
