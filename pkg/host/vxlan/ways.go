package vxlan

import (
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dcni/pkg/host/rtnl"
	"dcni/pkg/host/spaces"
	"dcni/pkg/wire"
)

// Ways lists the rules of policy routing that are about what came in by a bridge with a mark under
// a mask, and the default routes of the tables that they lead to. The rules outlive the bridge.
func (m Machine) Ways(bridge string, mask uint32) (list []wire.Object, err error) {
	nl, err := m.Library()
	if err != nil {
		return nil, err
	}
	rt, l, noLink := m.Link(bridge)
	if noLink != nil && !gone(noLink) {
		return nil, noLink
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		rules, err := spaces.Dump(func() ([]netlink.Rule, error) { return nl.RuleList(family) })
		if err != nil {
			return list, err
		}
		led := map[int]bool{}
		for _, r := range rules {
			if r.IifName == bridge && r.Mask != nil && *r.Mask == mask {
				o := &wire.Rule{Family: 4, Priority: r.Priority, IIF: bridge, Mark: r.Mark, Mask: mask, Table: r.Table}
				if family == unix.AF_INET6 {
					o.Family = 6
				}
				list, led[r.Table] = append(list, o), true
			}
		}
		if len(led) == 0 || noLink != nil { // routes have gone with the bridge
			continue
		}
		routes, err := defaultRoutes(rt, family, l, led)
		if err != nil {
			return list, err
		}
		list = append(list, routes...)
	}
	return list, nil
}

// defaultRoutes lists the default routes by a bridge in some tables.
func defaultRoutes(rt *rtnl.Conn, family int, bridge *rtnl.Link, tables map[int]bool) (list []wire.Object, err error) {
	all, err := rt.Routes(byte(family), 0, bridge.Index) // of all tables at once: there may be hundreds
	for _, r := range all {
		if tables[r.Table] && r.Dst.Bits() == 0 {
			list = append(list, &wire.Route{Dev: bridge.Name, Dst: defaultOf(r.Via), Via: r.Via, Table: r.Table, OnLink: true})
		}
	}
	return list, err
}

// defaultOf returns the destination of a default route by the family of its gateway.
func defaultOf(via netip.Addr) netip.Prefix {
	if via.Is6() {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}
