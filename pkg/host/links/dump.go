package links

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dcni/pkg/host/spaces"
	"dcni/pkg/ipam"
	"dcni/pkg/wire"
)

// This file lists what there is, by the library: what is not on every ADD's way.

// HostRoutes lists the host's unicast routes of all tables: policy routing does not make a
// subnet free.
func (h *Links) HostRoutes() ([]ipam.HostRoute, error) {
	nl, err := h.Handle("")
	if err != nil {
		return nil, err
	}
	var out []ipam.HostRoute
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := spaces.Dump(func() ([]netlink.Route, error) {
			filter := &netlink.Route{Table: unix.RT_TABLE_UNSPEC}
			return nl.RouteListFiltered(family, filter, netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return nil, err
		}
		for _, r := range list {
			dst, ok := routeDst(r)
			switch {
			case !ok:
			case r.Type == unix.RTN_UNICAST:
				out = append(out, ipam.HostRoute{Dst: dst, OnLink: r.Gw == nil && len(r.MultiPath) == 0 && r.Via == nil})
			case r.Type == unix.RTN_BLACKHOLE || r.Type == unix.RTN_UNREACHABLE || r.Type == unix.RTN_PROHIBIT:
				out = append(out, ipam.HostRoute{Dst: dst})
			}
		}
	}
	return out, nil
}

// DefaultRoutes lists the default routes through a link of a namespace, of both families.
func (h *Links) DefaultRoutes(netns, link string) (list []*wire.Route, err error) {
	rt, l, err := h.Link(netns, link)
	if err != nil {
		return nil, err
	}
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		routes, err := rt.Routes(family, unix.RT_TABLE_MAIN, l.Index)
		if err != nil {
			return nil, err
		}
		for _, r := range routes {
			if r.Dst.Bits() == 0 {
				list = append(list, &wire.Route{NetNS: netns, Dev: link, Dst: r.Dst, Via: r.Via, Metric: r.Metric})
			}
		}
	}
	return list, nil
}

// Veths lists the names of the host's veths that look like ours: the names
// that [wire.Attachment.HostLink] gives, with the alias of such an attachment, or those that
// versions before gave.
func (h *Links) Veths() ([]string, error) {
	nl, err := h.Handle("")
	if err != nil {
		return nil, err
	}
	links, err := spaces.Dump(nl.LinkList)
	var names []string
	for _, l := range links {
		name := l.Attrs().Name
		if l.Type() == "veth" && wire.IsHostLink(name) && (wire.IsFormerHostLink(name) || isNamedAs(name, l.Attrs().Alias)) {
			names = append(names, name)
		}
	}
	return names, err
}

// isNamedAs reports whether a host's end has the name of the attachment that its alias is of: other programs'
// names may be of the same form. An alias that the kernel cut is taken for the owner's.
func isNamedAs(name, alias string) bool {
	const most = 255 // bytes (IFALIASZ - 1)
	network, container, _ := strings.Cut(alias, " ")
	container, ifName, ok := strings.Cut(container, "/")
	owner := wire.Attachment{Network: network, Container: container, IfName: ifName}
	return len(alias) == most || ok && owner.HostLink() == name
}

// IsWayOut reports whether a link of a namespace has its default route of a family, the
// one of the lowest metric. It is false where that can't be told.
func (h *Links) IsWayOut(netns, name string, v6 bool) bool {
	nl, err := h.Handle(netns)
	if err != nil {
		return false
	}
	everywhere := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if v6 {
		everywhere = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	r := route{h: h, o: &wire.Route{NetNS: netns, Dst: everywhere}}
	routes, err := r.list(nl, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return false
	}
	routes = slices.DeleteFunc(routes, func(have netlink.Route) bool {
		dst, ok := routeDst(have)
		return !ok || dst != everywhere
	})
	link, err := nl.LinkByName(name)
	if err != nil || len(routes) == 0 {
		return false
	}
	best := slices.MinFunc(routes, func(a, b netlink.Route) int { return a.Priority - b.Priority })
	return best.LinkIndex == link.Attrs().Index
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

func prefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	ip, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	ones, bits := n.Mask.Size()
	if ip.Is4In6() && bits == 32 {
		ip = ip.Unmap()
	}
	return netip.PrefixFrom(ip, ones), true
}
