package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dcni/pkg/wire"
)

// route is a [wire.Route].
type route struct {
	h *Host
	o *wire.Route
}

func (r route) ensure() (bool, error) {
	rt, l, err := r.h.iface(r.o.NetNS, r.o.Dev)
	if err != nil {
		return false, err
	}
	const rounds = 8 // another ADD to the same sandbox may be at it as well
	for range rounds {
		err = rt.ChangeRoute(unix.RTM_NEWROUTE, l.Index, r.o)
		if !errors.Is(err, unix.EEXIST) {
			return err == nil, err
		}
		if r.check() == nil {
			return false, nil
		}
		if !r.o.Probe {
			break
		}
		if err := r.rank(l.Index); err != nil {
			return false, err
		}
	}
	return false, err
}

// rank raises the route's metric past those of networks that sort before its
// own, and makes way there: the routes of networks that sort behind move on.
// Each has its new route before it loses the old one.
func (r route) rank(own int) error {
	s, err := r.h.in(r.o.NetNS)
	if err != nil {
		return err
	}
	nl, err := r.h.handle(r.o.NetNS)
	if err != nil {
		return err
	}
	rivals, err := r.rivals(nl)
	if err != nil {
		return err
	}
	name := r.h.networkOf(s, own)
	i := slices.IndexFunc(rivals, func(rival netlink.Route) bool {
		return r.h.networkOf(s, rival.LinkIndex) > name
	})
	if i < 0 {
		i = len(rivals)
	}
	r.o.Metric += i
	for _, rival := range slices.Backward(rivals[i:]) {
		moved := rival
		moved.Priority++
		if err := nl.RouteAdd(&moved); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("make way for metric %d: %w", r.o.Metric, err)
		}
		if err := nl.RouteDel(&rival); err != nil && !gone(err) {
			return fmt.Errorf("make way for metric %d: %w", r.o.Metric, err)
		}
	}
	return nil
}

// rivals lists the routes of the same destination whose metrics follow one
// another from this route's own on.
func (r route) rivals(nl *netlink.Handle) ([]netlink.Route, error) {
	list, err := r.list(nl, &netlink.Route{Table: r.table()}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(have netlink.Route) bool {
		dst, ok := routeDst(have)
		return !ok || dst != r.o.Dst || have.Priority < r.o.Metric
	})
	slices.SortFunc(list, func(a, b netlink.Route) int { return a.Priority - b.Priority })
	for i, have := range list {
		if have.Priority != r.o.Metric+i {
			return list[:i], nil
		}
	}
	return list, nil
}

func (r route) list(nl *netlink.Handle, filter *netlink.Route, mask uint64) (list []netlink.Route, err error) {
	err = retryDump(func() (err error) {
		list, err = nl.RouteListFiltered(family(r.o.Dst.Addr()), filter, mask)
		return err
	})
	return list, err
}

func (r route) table() int {
	if r.o.Table == 0 {
		return unix.RT_TABLE_MAIN
	}
	return r.o.Table
}

// networkOf returns the network that a sandbox's link belongs to: the alias of
// the link's other end begins with it. Links of others have none, and sort
// before all: they keep their place.
func (h *Host) networkOf(s *sandbox, index int) string {
	l, err := s.rt.LinkByIndex(index)
	if err != nil || l.Peer == 0 {
		return ""
	}
	end, err := h.root.rt.LinkByIndex(l.Peer)
	if err != nil || !wire.IsHostLink(end.Name) {
		return ""
	}
	name, _, _ := strings.Cut(end.Alias, " ")
	return name
}

// check finds a route of that destination and gateway; its metric may have
// been changed by a chained plugin, or by rank.
func (r route) check() error {
	_, l, err := r.h.iface(r.o.NetNS, r.o.Dev)
	if err != nil {
		return err
	}
	nl, err := r.h.handle(r.o.NetNS)
	if err != nil {
		return err
	}
	filter := &netlink.Route{LinkIndex: l.Index, Table: r.table()}
	list, err := r.list(nl, filter, netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
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
	rt, l, err := r.h.iface(r.o.NetNS, r.o.Dev)
	if err == nil {
		err = rt.ChangeRoute(unix.RTM_DELROUTE, l.Index, r.o)
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
