package rules

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/host/spaces"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// fwLinks is a [firewall.Links]. What is there of links is made from the records: of the
// attachments with links, which are marked, and of those that they link to. All changes are
// made under the lock of the firewall, by whichever of the two comes or goes.
type fwLinks struct {
	h *Rules
	o *firewall.Links
}

// linkProtocol is the protocol number of routes that links need, by which they are told from
// others (linux/rtnetlink.h: 4 to 255 are free to use; iproute2 knows no name for it).
const linkProtocol = 0xdc

// Ensure opens what links say, in both directions. On a network without links it reads one
// folder.
func (l fwLinks) Ensure() (changed bool, err error) {
	if len(l.o.Targets) > 0 {
		if err := errors.Join(l.h.Records.MarkLinks(l.o.Owner), l.awaitTargets()); err != nil {
			return false, err
		}
	}
	marked, err := l.h.Records.MarkedLinks(l.o.Owner.Network)
	if err != nil || len(marked) == 0 {
		return false, err
	}
	lock, err := l.h.Records.LockFirewall()
	if err != nil {
		return false, err
	}
	defer lock.Unlock()
	return l.sync(marked, false)
}

// awaitTargets waits for ADDs of containers that this one links to: one that looked for links
// before the mark was there finds none, and its addresses are on record only when it is done. ADDs of
// containers with links are not waited for, or two could wait for each other; those find the mark.
func (l fwLinks) awaitTargets() error {
	list, err := l.h.Records.List(l.o.Owner.Network)
	for _, rec := range list {
		if rec.State != records.Adding || len(rec.Links) > 0 || !l.o.LinksTo(linksOf(rec)) {
			continue
		}
		lock, err := l.h.Records.LockAttachmentToRead(rec.Attachment)
		if err != nil {
			return err
		}
		lock.Unlock()
	}
	return err
}

// sync makes the attachment's own part so, and that of those that it is linked with. gone says
// that the attachment goes: it is linked with none then, and all others are looked at.
func (l fwLinks) sync(marked []wire.Attachment, gone bool) (changed bool, err error) {
	ends, err := l.ends(marked, gone)
	errs := []error{err}
	for _, e := range ends {
		peer := e.LinksTo(l.o) || l.o.LinksTo(e)
		if e.Owner != l.o.Owner && !peer && !gone {
			continue
		}
		did, err := l.apply(e, ends)
		changed = changed || did
		if e.Owner != l.o.Owner && spaces.Gone(err) {
			err = nil // on its way out
		}
		errs = append(errs, err)
	}
	return changed, errors.Join(errs...)
}

// ends returns all attachments of the network that links are about: those with links, and
// those that they link to. The attachment itself is as the object says, for its ADD has not
// recorded it yet, or is left out if it goes.
func (l fwLinks) ends(marked []wire.Attachment, gone bool) (ends []*firewall.Links, err error) {
	list, err := l.h.Records.List(l.o.Owner.Network)
	var all []*firewall.Links
	self := l.o
	for _, rec := range list {
		if gone && rec.Attachment == l.o.Owner && rec.IPAM.Type != "" {
			self = linksOf(rec) // what DEL knows may be the identity alone
		}
		if rec.State == records.Up && rec.Attachment != l.o.Owner && rec.IPAM.Type != "" {
			all = append(all, linksOf(rec))
		}
	}
	if !gone {
		all = append(all, l.o)
	}
	for _, e := range all {
		if slices.Contains(marked, e.Owner) || self.LinksTo(e) || slices.ContainsFunc(all, func(o *firewall.Links) bool { return o.LinksTo(e) }) {
			ends = append(ends, e)
		}
	}
	return ends, err
}

// linksOf returns what a record says of links.
func linksOf(rec *records.Record) *firewall.Links {
	e := network.Endpoint{Attachment: rec.Attachment, NetNS: rec.NetNS, Cookie: rec.Cookie, Name: rec.Name, Addresses: rec.AddressesThere(),
		Links: rec.Links, Exposed: rec.Exposed}
	if rec.Endpoint != nil {
		e.Ports = rec.Endpoint.Ports
	}
	bridge := ""
	if rec.Firewall != nil {
		bridge = rec.Firewall.Bridge
	}
	return e.LinksOn(bridge)
}

// wanted returns what is to be open to one attachment, and its routes to others.
func wanted(e *firewall.Links, ends []*firewall.Links) (open *firewall.Linked, routes []wire.Route) {
	open = &firewall.Linked{Owner: e.Owner}
	for _, o := range ends {
		if e.LinksTo(o) {
			open.Open = append(open.Open, e.Elements(o)...)
		}
		if e.LinksTo(o) || o.LinksTo(e) {
			routes = append(routes, e.RoutesTo(o)...)
		}
	}
	return open, routes
}

func (l fwLinks) apply(e *firewall.Links, ends []*firewall.Links) (changed bool, err error) {
	open, routes := wanted(e, ends)
	changed, err = l.h.backend(l.o.Owner.Network).Ensure(open)
	if err != nil {
		return changed, err
	}
	d, err := l.routeDiff(e, routes)
	if err != nil {
		return changed, err
	}
	for _, r := range d.add {
		if err := d.nl.RouteAdd(&r); err != nil && !errors.Is(err, unix.EEXIST) {
			return changed, fmt.Errorf("route to %s: %w", r.Dst, err)
		}
		changed = true
	}
	for _, r := range d.drop {
		if err := d.nl.RouteDel(&r); err != nil && !spaces.Gone(err) {
			return changed, fmt.Errorf("route to %s: %w", r.Dst, err)
		}
		changed = true
	}
	if len(d.add)+len(d.drop) > 0 { // a container on several networks has the routes a second time
		_, err = l.h.Links.Of(&wire.SourceRoutes{Owner: e.Owner, NetNS: e.NetNS, Dev: e.Owner.IfName, Addresses: e.Addresses}).Ensure()
	}
	return changed, err
}

// A linkRoutes is what of an attachment's routes has to change.
type linkRoutes struct {
	nl        *netlink.Handle
	add, drop []netlink.Route
}

// routeDiff compares the routes of links in a sandbox with what they are to be.
func (l fwLinks) routeDiff(e *firewall.Links, want []wire.Route) (d linkRoutes, err error) {
	found, err := l.h.Sandbox(e.NetNS)
	if err != nil {
		return d, err
	}
	if found.Cookie != e.Cookie {
		return d, spaces.Error(e.NetNS, unix.ENOENT)
	}
	nl, link, err := l.h.LibraryLink(e.NetNS, e.Owner.IfName)
	if err != nil {
		return d, err
	}
	d.nl = nl
	var have []netlink.Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		filter := &netlink.Route{Protocol: linkProtocol, LinkIndex: link.Attrs().Index, Table: unix.RT_TABLE_MAIN}
		const mask = netlink.RT_FILTER_PROTOCOL | netlink.RT_FILTER_OIF | netlink.RT_FILTER_TABLE
		list, err := spaces.Dump(func() ([]netlink.Route, error) { return nl.RouteListFiltered(family, filter, mask) })
		if err != nil {
			return d, err
		}
		have = append(have, list...)
	}
	same := func(r netlink.Route, w wire.Route) bool {
		return r.Dst != nil && r.Dst.String() == w.Dst.String() && r.Gw.String() == w.Via.String()
	}
	for _, w := range want {
		if !slices.ContainsFunc(have, func(r netlink.Route) bool { return same(r, w) }) {
			d.add = append(d.add, netlink.Route{
				LinkIndex: link.Attrs().Index, Dst: &net.IPNet{IP: w.Dst.Addr().AsSlice(), Mask: net.CIDRMask(w.Dst.Bits(), w.Dst.Bits())}, Gw: w.Via.AsSlice(), Protocol: linkProtocol,
			})
		}
	}
	for _, r := range have {
		if !slices.ContainsFunc(want, func(w wire.Route) bool { return same(r, w) }) {
			d.drop = append(d.drop, r)
		}
	}
	return d, nil
}

// Check compares the attachment's own part.
func (l fwLinks) Check() error {
	marked, err := l.h.Records.MarkedLinks(l.o.Owner.Network)
	if err != nil || len(marked) == 0 && len(l.o.Targets) == 0 {
		return err
	}
	if len(l.o.Targets) > 0 && !slices.Contains(marked, l.o.Owner) {
		return errors.New("it is not among the network's links")
	}
	ends, err := l.ends(marked, false)
	if err != nil {
		return err
	}
	open, routes := wanted(l.o, ends)
	if err := l.h.backend(l.o.Owner.Network).Check(open); err != nil {
		return err
	}
	d, err := l.routeDiff(l.o, routes)
	switch {
	case err != nil:
		return err
	case len(d.add) > 0:
		return fmt.Errorf("the route to %s is missing", d.add[0].Dst)
	case len(d.drop) > 0:
		return fmt.Errorf("the route to %s is of no link", d.drop[0].Dst)
	}
	return nil
}

// Remove closes what links with the attachment opened.
func (l fwLinks) Remove() error {
	marked, err := l.h.Records.MarkedLinks(l.o.Owner.Network)
	if err != nil || len(marked) == 0 {
		return err
	}
	lock, err := l.h.Records.LockFirewall()
	if err != nil {
		return err
	}
	defer lock.Unlock()
	_, err = l.sync(marked, true)
	if slices.Contains(marked, l.o.Owner) {
		_, closed := l.h.backend(l.o.Owner.Network).Ensure(&firewall.Linked{Owner: l.o.Owner})
		if err = errors.Join(err, closed); err == nil {
			err = l.h.Records.UnmarkLinks(l.o.Owner)
		}
	}
	return err
}

func (l fwLinks) Probe() error { return nil }
