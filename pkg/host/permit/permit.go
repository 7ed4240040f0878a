// Package permit has bridges pass in the forward chains of other programs, see
// [firewall.Permit]. It looks at those chains by netlink, and puts rules into chains of
// iptables as that would write them; where the kernel has tables of the iptables that came
// before nf_tables, by that one's program.
package permit

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"dcni/pkg/firewall"
	"dcni/pkg/firewall/foreign"
	host "dcni/pkg/host/foreign"
	"dcni/pkg/host/iptables"
	"dcni/pkg/host/proc"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// Permits are those of one host.
type Permits struct {
	Records records.Store
	Uplink  func() string            // the link that leads out; "": none
	Bridges func() ([]string, error) // of other programs
}

// Blocked returns those of the permits that are not so: chains are read once for all.
func (h Permits) Blocked(list []*firewall.Permit) (blocked []*firewall.Permit, err error) {
	chains, err := host.Forwarding()
	if err != nil || len(chains) == 0 {
		return nil, err
	}
	for _, o := range list {
		blocks, e := permit{h, o}.in(chains)
		if err = errors.Join(err, e); len(blocks) > 0 {
			blocked = append(blocked, o)
		}
	}
	return blocked, err
}

// Of returns the kind of a permit.
func (h Permits) Of(o *firewall.Permit) wire.Kind { return permit{h, o} }

// permit is a [firewall.Permit].
type permit struct {
	h Permits
	o *firewall.Permit
}

// blocks returns the chains that drop something of the bridge's. On a host without chains of
// other programs it asks the kernel once.
func (p permit) blocks() ([]foreign.Block, error) {
	chains, err := host.Forwarding()
	if err != nil || len(chains) == 0 {
		return nil, err
	}
	if foreign.Ruleset(chains).Panics() {
		return nil, wire.Owners(errPanic)
	}
	return p.in(chains)
}

// errPanic tells of what firewalld does besides zones.
var errPanic = wire.Errorf(wire.CodeUnavailable, "firewalld is in panic mode, and drops everything; end that by: firewall-cmd --panic-off")

// in returns those of the chains.
func (p permit) in(chains []foreign.Chain) ([]foreign.Block, error) {
	bridges, err := p.others()
	if err != nil {
		return nil, err
	}
	known, err := p.h.Records.Change(p.o.Key())
	if err != nil {
		return nil, err
	}
	b := foreign.Bridge{Name: p.o.Bridge, Uplink: p.h.Uplink(), Families: p.o.Families, Ports: p.o.Ports || known != nil && known.Ports}
	b.Filtered = proc.BridgesFiltered()
	b.Others = slices.DeleteFunc(slices.Clone(bridges), func(name string) bool { return name == b.Uplink })
	b.Put = func(c *foreign.Chain) []string { return formsOf(known, c, p.o.Bridge, bridges) }
	return foreign.Ruleset(chains).Blocks(b), nil
}

// others lists the bridges that are not dcni's. A network's bridge may have a MAC that a user
// chose, so its record is asked as well.
func (p permit) others() ([]string, error) {
	bridges, err := p.h.Bridges()
	if err != nil || len(bridges) == 0 {
		return nil, err
	}
	ours := []string{p.o.Bridge}
	list, _ := p.h.Records.OneOfEach() // of one that can't be read the MAC tells
	for _, r := range list {
		if r.Firewall != nil && !r.Firewall.Adopted {
			ours = append(ours, r.Firewall.Bridge)
		}
	}
	return slices.DeleteFunc(bridges, func(name string) bool { return slices.Contains(ours, name) }), nil
}

// Ensure puts rules where they are missing, and notes before in which chains. The caller holds
// the host's lock.
func (p permit) Ensure() (bool, error) {
	blocks, err := p.blocks()
	if errors.Is(err, errPanic) {
		return false, nil // it goes as it came
	}
	if err != nil || len(blocks) == 0 {
		return false, err
	}
	if err := p.refused(blocks); err != nil {
		return false, err
	}
	known, err := p.h.Records.Change(p.o.Key())
	if err != nil {
		return false, err
	}
	if known == nil || known.Unreadable {
		known = &records.Change{Key: p.o.Key(), Permit: p.o.Bridge}
	}
	if blocks, _, err = p.untrusted(blocks); err != nil || len(blocks) == 0 {
		return false, err
	}
	before := maps.Clone(known.Rules)
	note(known, blocks, before)
	known.Ports = known.Ports || p.o.Ports
	if err := p.h.Records.PutChange(known); err != nil {
		return false, err
	}
	if err := p.put(blocks); err != nil {
		return true, err
	}
	if note(known, blocks, nil); len(before) == 0 {
		return true, nil
	}
	return true, p.h.Records.PutChange(known)
}

// note puts into a permit's record which chains it is in, and the rules that are put there,
// with those of before, which go while they come.
func note(known *records.Change, blocks []foreign.Block, before map[string][]string) {
	for _, b := range blocks {
		id := idOf(b.Chain)
		if !slices.Contains(known.In, id) {
			known.In = append(known.In, id)
		}
		if b.Chain.OfFirewalld() {
			continue
		}
		forms := slices.Clone(before[id])
		for _, put := range b.Puts {
			if !slices.Contains(forms, put.Form()) {
				forms = append(forms, put.Form())
			}
		}
		if known.Rules == nil {
			known.Rules = map[string][]string{}
		}
		known.Rules[id] = forms
	}
}

// formsOf returns the forms of the rules that were put into a chain for a bridge, by its record.
// A record that can't be read tells nothing of them: then all that may be are.
func formsOf(known *records.Change, c *foreign.Chain, bridge string, others []string) []string {
	switch {
	case known == nil:
		return nil
	case !known.Unreadable:
		return known.Rules[idOf(c)]
	}
	in, out := foreign.Passing(bridge)
	forms := []string{in.Form(), out.Form()}
	for _, other := range others {
		forms = append(forms, foreign.Parting(bridge, other).Form())
	}
	return forms
}

// put puts rules where the bridge is dropped.
func (p permit) put(blocks []foreign.Block) error {
	for _, b := range blocks {
		if b.Chain.OfFirewalld() {
			if err := p.trust(); err != nil {
				return err
			}
			continue
		}
		put := host.Permit
		if b.Chain.OfLegacy() {
			put = iptables.Permit
		}
		if err := put(b); err != nil {
			return fmt.Errorf("chain %s: %w", b.Chain, err)
		}
	}
	return nil
}

// idOf is how records call a chain.
func idOf(c *foreign.Chain) string {
	if c.OfFirewalld() {
		return trusted
	}
	return c.Tool + " " + c.Table + " " + c.Name
}

// refused tells of chains that drop and that rules can't be put into: nil, or an error of code
// 50 with the command by which its owner can.
func (p permit) refused(blocks []foreign.Block) error {
	var errs []error
	for _, b := range blocks {
		if !b.Chain.OfIPTables() && !b.Chain.OfFirewalld() {
			errs = append(errs, wire.Errorf(wire.CodeUnavailable, "%s; it is another program's, and dcni does not change it; let the bridge pass by: %s",
				p.drops(b), b.Chain.Command(p.o.Bridge)))
		}
	}
	return errors.Join(errs...)
}

func (p permit) drops(b foreign.Block) string {
	chain := b.Chain.String()
	if b.Chain.OfIPTables() {
		chain += " of " + b.Chain.Tool
	}
	if b.Open != "" {
		return fmt.Sprintf("rules in chain %s let bridge %s reach %s, which is another program's", chain, p.o.Bridge, b.Open)
	}
	return fmt.Sprintf("chain %s drops what bridge %s forwards", chain, p.o.Bridge)
}

// Check tells which chains drop. What rules can't be put into, and what firewalld was told by
// its owner, is the owner's to mend.
func (p permit) Check() error {
	blocks, err := p.blocks()
	if err != nil {
		return err
	}
	if err := p.refused(blocks); err != nil {
		return wire.Owners(err)
	}
	blocks, told, err := p.untrusted(blocks)
	if err != nil || len(blocks) == 0 && told != nil {
		return wire.Owners(errors.Join(err, told))
	}
	errs := []error{told}
	for _, b := range blocks {
		errs = append(errs, errors.New(p.drops(b)))
	}
	return errors.Join(errs...)
}

// Remove takes the rules that Ensure has put. The caller holds the host's lock.
func (p permit) Remove() error {
	known, err := p.h.Records.Change(p.o.Key())
	if err != nil || known == nil {
		return err
	}
	chains, err := host.Forwarding()
	bridges, e := p.others()
	errs := []error{err, e}
	if known.Unreadable || slices.Contains(known.In, trusted) {
		errs = append(errs, p.distrust())
	}
	for i := range chains {
		if c := &chains[i]; c.Hook == "forward" && c.OfIPTables() {
			ours := c.Find(formsOf(known, c, p.o.Bridge, bridges))
			switch {
			case len(ours) == 0:
			case c.OfLegacy():
				errs = append(errs, iptables.Forbid(c, ours))
			default:
				errs = append(errs, host.Forbid(c, ours))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return p.h.Records.DeleteChange(p.o.Key())
}

// Probe tells whether all that drops the bridge's packets could be mended.
func (p permit) Probe() error {
	blocks, err := p.blocks()
	if err != nil {
		return err
	}
	if err := p.refused(blocks); err != nil {
		return err
	}
	_, _, err = p.untrusted(blocks)
	return err
}
