package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dcni/pkg/wire"
)

// route is a [wire.Route].
type route struct {
	h *Host
	o *wire.Route
}

func (r route) message(index int) *netlink.Route {
	m := &netlink.Route{
		LinkIndex: index,
		Dst:       ipNet(r.o.Dst),
		Priority:  r.o.Metric,
		MTU:       r.o.MTU,
		AdvMSS:    r.o.AdvMSS,
		Table:     r.o.Table,
		Scope:     netlink.Scope(r.o.Scope),
		Protocol:  unix.RTPROT_BOOT,
	}
	if r.o.Via.IsValid() {
		m.Gw = r.o.Via.AsSlice()
		if r.o.OnLink {
			m.SetFlag(netlink.FLAG_ONLINK)
		}
	} else if !r.o.HasScope {
		m.Scope = netlink.SCOPE_LINK
	}
	return m
}

func (r route) ensure() (bool, error) {
	nl, l, err := r.h.link(r.o.NetNS, r.o.Dev)
	if err != nil {
		return false, err
	}
	const rounds = 256
	for range rounds {
		err = nl.RouteAdd(r.message(l.Attrs().Index))
		if !errors.Is(err, unix.EEXIST) {
			return err == nil, err
		}
		if r.check() == nil {
			return false, nil
		}
		if !r.o.Probe {
			break
		}
		r.o.Metric++
	}
	return false, err
}

// check finds a route of that destination and gateway; its metric may have
// been changed by a chained plugin, or by Probe.
func (r route) check() error {
	nl, l, err := r.h.link(r.o.NetNS, r.o.Dev)
	if err != nil {
		return err
	}
	table := r.o.Table
	if table == 0 {
		table = unix.RT_TABLE_MAIN
	}
	filter := &netlink.Route{LinkIndex: l.Attrs().Index, Table: table}
	var list []netlink.Route
	err = retryDump(func() (err error) {
		list, err = nl.RouteListFiltered(family(r.o.Dst.Addr()), filter, netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
		return err
	})
	if err != nil {
		return err
	}
	for _, have := range list {
		if dst, ok := routeDst(have); ok && dst == r.o.Dst && sameGateway(have.Gw, r.o.Via) {
			return nil
		}
	}
	return fmt.Errorf("missing")
}

// routeDst returns a route's destination: netlink leaves a default route's out.
func routeDst(r netlink.Route) (netip.Prefix, bool) {
	if r.Dst != nil {
		return prefix(r.Dst)
	}
	if r.Family == netlink.FAMILY_V6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0), true
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0), true
}

func sameGateway(have net.IP, want netip.Addr) bool {
	gw, ok := netip.AddrFromSlice(have)
	if !ok || !want.IsValid() {
		return !ok && !want.IsValid()
	}
	return gw.Unmap() == want
}

func (r route) remove() error {
	nl, l, err := r.h.link(r.o.NetNS, r.o.Dev)
	if err == nil {
		err = nl.RouteDel(r.message(l.Attrs().Index))
	}
	if err != nil && !gone(err) {
		return err
	}
	return nil
}

func (r route) probe() error { return nil }

func family(a netip.Addr) int {
	if a.Is6() {
		return netlink.FAMILY_V6
	}
	return netlink.FAMILY_V4
}
