package parents

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/rtnl"
	"dcni/pkg/host/spaces"
	"dcni/pkg/wire"
)

// hostAccess is a [wire.HostAccess].
type hostAccess struct {
	h *Parents
	o *wire.HostAccess
}

// Ensure makes a route for each address, and before it gives the link what the host
// speaks from. With IPv6 a link answers for its own addresses only; with IPv4 the host
// answers for the parent's on any link, and needs no copy.
func (a hostAccess) Ensure() (changed bool, err error) {
	rt, l, err := a.h.Link("", a.o.Link)
	if err != nil {
		return false, err
	}
	missing, err := a.missing(rt, l)
	if err != nil || len(missing) == 0 {
		return false, err
	}
	for _, to := range missing {
		from, given, err := a.source(rt, to)
		if err != nil {
			return changed, err
		}
		if given || from.Is6() {
			own := a.h.Links.Of(&wire.Addr{Dev: a.o.Link, Prefix: netip.PrefixFrom(from, from.BitLen())})
			if _, err := own.Ensure(); err != nil {
				return changed, err
			}
		}
		if err := rt.AddSingle(l.Index, to, from, a.o.Metric()); err != nil && !errors.Is(err, unix.EEXIST) {
			return changed, err
		}
		changed = true
	}
	return changed, nil
}

// source returns the address that the host speaks from to another one, and whether the
// network gives it.
func (a hostAccess) source(rt *rtnl.Conn, to netip.Addr) (from netip.Addr, given bool, err error) {
	for _, from := range a.o.Sources {
		if from.Is6() == to.Is6() {
			return from, true, nil
		}
	}
	_, on, err := a.h.Link("", a.o.Parent)
	if err != nil {
		return from, false, err
	}
	list, err := rt.Addrs(on.Index, int(rtnl.Family(to)))
	if err != nil {
		return from, false, err
	}
	for _, p := range list {
		if p.Contains(to) {
			return p.Addr(), false, nil
		}
	}
	return from, false, wire.Errorf(wire.CodeConfig,
		"hostAccess true: the host has no address beside %s on parent %s: give it one, as ipam.auxAddresses.host", to, a.o.Parent)
}

// missing returns the addresses that there is no route to.
func (a hostAccess) missing(rt *rtnl.Conn, l *rtnl.Link) ([]netip.Addr, error) {
	have, err := a.routes(rt, l)
	var list []netip.Addr
	for _, to := range a.o.Addresses {
		if !slices.ContainsFunc(have, func(r rtnl.Route) bool { return r.Dst.Addr() == to && r.Dst.IsSingleIP() }) {
			list = append(list, to)
		}
	}
	return list, err
}

// routes lists the attachment's routes through the link.
func (a hostAccess) routes(rt *rtnl.Conn, l *rtnl.Link) (own []rtnl.Route, err error) {
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		list, failed := rt.Routes(family, unix.RT_TABLE_MAIN, l.Index)
		err = errors.Join(err, failed)
		for _, r := range list {
			if r.Metric == a.o.Metric() {
				own = append(own, r)
			}
		}
	}
	return own, err
}

func (a hostAccess) Check() error {
	rt, l, err := a.h.Link("", a.o.Link)
	if err != nil {
		return err
	}
	missing, err := a.missing(rt, l)
	if err == nil && len(missing) > 0 {
		err = fmt.Errorf("no route to %v", missing)
	}
	return err
}

// Remove takes the attachment's routes, known by their metric.
func (a hostAccess) Remove() error {
	rt, l, err := a.h.Link("", a.o.Link)
	if err != nil {
		return spaces.UnlessGone(err)
	}
	list, err := a.routes(rt, l)
	for _, r := range list {
		err = errors.Join(err, spaces.UnlessGone(rt.DelRoute(r)))
	}
	return err
}

func (a hostAccess) Probe() error { return nil }
