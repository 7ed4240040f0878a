package links

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dcni/pkg/host/spaces"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// sourceRoutes is a [wire.SourceRoutes].
type sourceRoutes struct {
	h *Links
	o *wire.SourceRoutes
}

// Ensure gives the attachment rules, and those that its container has already: the
// first of them was alone until now. It sends nothing where the container is on no other
// network. ADDs to one sandbox at the same time see each other's records, which are written
// before anything is made: the last one finds all others.
func (s sourceRoutes) Ensure() (bool, error) {
	for _, r := range s.o.Defaults {
		s.o.Foreign = s.o.Foreign || r.Foreign
	}
	siblings := s.siblings()
	if len(siblings) == 0 && !s.o.Foreign {
		return false, nil
	}
	changed, err := s.install(s.o)
	errs := []error{err}
	for _, rec := range siblings {
		if rec.State != records.Up {
			continue // its own ADD does it
		}
		did, err := s.install(sourceRoutesOf(rec, s.o.NetNS))
		changed = changed || did
		if !spaces.Gone(err) { // on its way out
			errs = append(errs, err)
		}
	}
	return changed, errors.Join(errs...)
}

// siblings are the container's other attachments that have an interface in this sandbox, or
// are about to have one.
func (s sourceRoutes) siblings() []*records.Record {
	list := s.h.Records.Siblings(s.o.Owner)
	if len(list) == 0 {
		return nil
	}
	found, err := s.h.Sandbox(s.o.NetNS)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(list, func(r *records.Record) bool {
		here := r.Cookie == found.Cookie && r.Target == 0 && (r.State == records.Up || r.State == records.Adding)
		return !here || r.State == records.Up && r.IPAM.Type == "" // a meta plugin's
	})
}

// sourceRoutesOf returns those of a recorded attachment.
func sourceRoutesOf(rec *records.Record, netns string) *wire.SourceRoutes {
	e := network.Endpoint{Attachment: rec.Attachment, NetNS: netns, Foreign: rec.Foreign, Addresses: rec.AddressesThere()}
	o := e.SourceRoutes()
	o.Dev, o.Addresses = rec.IfName, e.IPs()
	return o
}

// install makes routes, then rules that lead there, and removes what is there besides.
func (s sourceRoutes) install(o *wire.SourceRoutes) (changed bool, err error) {
	return applyEach(func(family int) (sourceDiff, error) { return s.differences(o, family) })
}

// applyEach changes what differs of each family.
func applyEach(differences func(family int) (sourceDiff, error)) (changed bool, err error) {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		d, err := differences(family)
		if err != nil {
			return changed, err
		}
		did, err := d.apply()
		changed = changed || did
		if err != nil {
			return changed, err
		}
	}
	return changed, nil
}

// A sourceDiff is what of one family has to be changed.
type sourceDiff struct {
	nl         *netlink.Handle
	add, drop  []netlink.Route
	rules, old []netlink.Rule // to be added, and to be deleted
}

func (d sourceDiff) apply() (changed bool, err error) {
	do := func(err error, there ...error) error {
		if slices.ContainsFunc(there, func(e error) bool { return errors.Is(err, e) }) {
			return nil
		}
		changed = changed || err == nil
		return err
	}
	for _, r := range d.add {
		if err := do(d.nl.RouteAdd(&r), unix.EEXIST); err != nil {
			return changed, err
		}
	}
	for _, r := range d.rules {
		if err := do(d.nl.RuleAdd(&r), unix.EEXIST); err != nil {
			return changed, err
		}
	}
	var errs []error
	for _, r := range d.old {
		errs = append(errs, do(d.nl.RuleDel(&r), unix.ENOENT))
	}
	for _, r := range d.drop {
		errs = append(errs, do(d.nl.RouteDel(&r), unix.ESRCH))
	}
	return changed, errors.Join(errs...)
}

// differences compares one family. Where the link has no default route in the table main,
// it has none of its own, or another program has moved it to a table that its own rules
// lead to (the plugins sbr and vrf): then there is nothing to do. A rule of another program's
// for an address counts in place of ours.
func (s sourceRoutes) differences(o *wire.SourceRoutes, family int) (d sourceDiff, err error) {
	var own []netip.Addr
	for _, a := range o.Addresses {
		if a.Is6() == (family == netlink.FAMILY_V6) {
			own = append(own, a)
		}
	}
	nl, l, err := s.h.LibraryLink(o.NetNS, o.Dev)
	if err != nil || len(own) == 0 {
		return d, err
	}
	want, err := s.routes(nl, family, unix.RT_TABLE_MAIN, l.Attrs().Index)
	if err != nil || !slices.ContainsFunc(want, isDefault) {
		return d, err
	}
	have, err := s.routes(nl, family, o.Table(), l.Attrs().Index)
	if err != nil {
		return d, err
	}
	d.nl = nl
	for _, r := range missingRoutes(want, have) {
		r.Table, r.Protocol, r.Flags = o.Table(), unix.RTPROT_BOOT, r.Flags&unix.RTNH_F_ONLINK
		d.add = append(d.add, r)
	}
	d.drop = missingRoutes(have, want)
	err = d.compareRules(o, family, own)
	return d, err
}

func (d *sourceDiff) compareRules(o *wire.SourceRoutes, family int, own []netip.Addr) error {
	rules, err := spaces.Dump(func() ([]netlink.Rule, error) { return d.nl.RuleList(family) })
	if err != nil {
		return err
	}
	for _, a := range own {
		from := func(r netlink.Rule) bool {
			src, ok := prefix(r.Src)
			return ok && src == netip.PrefixFrom(a, a.BitLen()) && hasSourceOnly(r)
		}
		if !slices.ContainsFunc(rules, from) {
			r := netlink.NewRule()
			r.Family, r.Priority, r.Table = family, wire.SourcePref, o.Table()
			r.Src = &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
			d.rules = append(d.rules, *r)
		}
	}
	for _, r := range rules {
		src, ok := prefix(r.Src)
		if r.Table == o.Table() && !(ok && slices.Contains(own, src.Addr())) {
			r.Family = family
			d.old = append(d.old, r)
		}
	}
	return nil
}

// hasSourceOnly reports whether a rule looks at nothing of packets but their source.
func hasSourceOnly(r netlink.Rule) bool {
	return r.Dst == nil && r.IifName == "" && r.OifName == "" && r.Mark == 0 && r.Sport == nil && r.Dport == nil && r.IPProto == 0 &&
		r.UIDRange == nil && !r.Invert
}

// routes lists the routes through a link in a table, for 0 through any, without what the kernel has learned
// from router advertisements, which it forgets again, and what is of the link alone.
func (s sourceRoutes) routes(nl *netlink.Handle, family, table, index int) (list []netlink.Route, err error) {
	mask := netlink.RT_FILTER_TABLE
	if index != 0 {
		mask |= netlink.RT_FILTER_OIF
	}
	list, err = spaces.Dump(func() ([]netlink.Route, error) {
		return nl.RouteListFiltered(family, &netlink.Route{Table: table, LinkIndex: index}, mask)
	})
	if errors.Is(err, unix.ENOENT) {
		return nil, nil // no such table
	}
	return slices.DeleteFunc(list, func(r netlink.Route) bool {
		dst, ok := routeDst(r)
		return !ok || r.Protocol == unix.RTPROT_RA || r.Type != unix.RTN_UNICAST || dst.Addr().IsLinkLocalUnicast() || dst.Addr().IsMulticast()
	}), err
}

func isDefault(r netlink.Route) bool {
	dst, ok := routeDst(r)
	return ok && dst.Bits() == 0
}

// missingRoutes returns the routes of one list that the other has none like: of the same
// destination and gateway. Metrics may differ, for default routes in the table main move.
func missingRoutes(want, have []netlink.Route) []netlink.Route {
	return slices.DeleteFunc(slices.Clone(want), func(w netlink.Route) bool {
		dst, _ := routeDst(w)
		return slices.ContainsFunc(have, func(h netlink.Route) bool {
			other, _ := routeDst(h)
			return dst == other && w.Gw.Equal(h.Gw)
		})
	})
}

// Check finds a rule for each address, and the link's default routes behind them. Other
// routes may be added and taken by the sandbox's user.
func (s sourceRoutes) Check() error {
	if len(s.siblings()) == 0 && !s.o.Foreign {
		return nil
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		d, err := s.differences(s.o, family)
		if err != nil {
			return err
		}
		if len(d.rules) > 0 {
			return fmt.Errorf("the rule from %s is missing", d.rules[0].Src)
		}
		if slices.ContainsFunc(d.add, isDefault) {
			return fmt.Errorf("the default route of table %d is missing", s.o.Table())
		}
	}
	return nil
}

// Remove takes away the attachment's rules and table, and those of the one that is left alone.
// A container that was on one network only has none: then the sandbox is not looked at.
func (s sourceRoutes) Remove() error {
	siblings := s.siblings()
	if len(siblings) == 0 && !s.o.Foreign || s.o.NetNS == "" {
		return nil
	}
	err := s.clear(s.o)
	left := map[wire.Attachment]*records.Record{}
	for _, rec := range siblings {
		left[rec.Attachment] = rec
	}
	for _, rec := range left {
		if len(left) == 1 && !rec.Foreign {
			err = errors.Join(err, s.clear(sourceRoutesOf(rec, s.o.NetNS)), s.again(rec))
		}
	}
	return err
}

// again puts back the rules of an attachment that was left alone, if another ADD has come
// since: that one found them there still.
func (s sourceRoutes) again(rec *records.Record) error {
	alone := sourceRoutes{s.h, sourceRoutesOf(rec, s.o.NetNS)}
	others := slices.ContainsFunc(alone.siblings(), func(r *records.Record) bool { return r.Attachment != s.o.Owner })
	if rec.State != records.Up || !others {
		return nil
	}
	_, err := alone.install(alone.o)
	return spaces.UnlessGone(err)
}

// clear removes the rules that lead to an attachment's table, and what is in it.
func (s sourceRoutes) clear(o *wire.SourceRoutes) error {
	nl, err := s.h.Handle(o.NetNS)
	if err != nil {
		return spaces.UnlessGone(err)
	}
	var errs []error
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		d := sourceDiff{nl: nl}
		err := d.compareRules(o, family, nil)
		if err == nil {
			d.drop, err = s.routes(nl, family, o.Table(), 0)
		}
		if err == nil {
			_, err = d.apply()
		}
		errs = append(errs, spaces.UnlessGone(err))
	}
	return errors.Join(errs...)
}

func (s sourceRoutes) Probe() error { return nil }
