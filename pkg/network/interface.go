package network

import (
	"fmt"

	"dcni/pkg/wire"
)

// Interface returns what every interface that we make has in its sandbox,
// whatever kind of link it is: settings, addresses, and routes, in the order in
// which they must be made. The link itself comes before.
//
// The kernel announces the addresses that are there when the link comes up, and none
// that comes later (arp_notify and ndisc_notify).
func (e Endpoint) Interface() []wire.Object {
	objects := append(e.beforeUp(), e.sends()...)
	up := &wire.Up{NetNS: e.NetNS, Dev: e.IfName}
	var addresses []wire.Object
	for _, a := range e.Addresses {
		addresses = append(addresses, &wire.Addr{NetNS: e.NetNS, Dev: e.IfName, Prefix: a.Address})
	}
	switch {
	case e.Routed:
		objects = append(append(objects, addresses...), up)
	case e.UpFirst:
		objects = append(append(objects, e.announce()...), up)
		objects = append(objects, addresses...)
		if e.OnLAN && len(addresses) > 0 {
			objects = append(objects, &wire.Announcement{NetNS: e.NetNS, Dev: e.IfName, Addresses: e.IPs()})
		}
	case e.Reused || e.OnLAN:
		objects = append(append(objects, addresses...), e.announce()...)
		objects = append(objects, up)
	default:
		objects = append(append(objects, addresses...), up)
		objects = append(objects, e.announce()...)
	}
	objects = e.settings(objects)
	routes := e.routes()
	objects = append(objects, routes...)
	if s := e.sourceRoutes(routes); s != nil {
		objects = append(objects, s)
	}
	return objects
}

// SourceRoutes is what DEL removes of the attachment's routing by source.
func (e Endpoint) SourceRoutes() *wire.SourceRoutes {
	return &wire.SourceRoutes{Owner: e.Attachment, NetNS: e.NetNS, Foreign: e.Foreign}
}

// sourceRoutes has answers leave by this network where the container is on others as well.
func (e Endpoint) sourceRoutes(routes []wire.Object) *wire.SourceRoutes {
	s := e.SourceRoutes()
	s.Dev, s.Addresses = e.IfName, e.IPs()
	for _, o := range routes {
		if r, ok := o.(*wire.Route); ok && r.Rank != 0 {
			s.Defaults = append(s.Defaults, r)
		}
	}
	if len(s.Addresses) == 0 {
		return nil
	}
	return s
}

// beforeUp is what must be set before the interface comes up: it has no IPv6 on
// a network without, and does no duplicate detection. What neighbours say counts for
// nothing. IPv6 is not switched on: where a new interface has none, the sandbox's
// owner wants none. Nor is it switched off once the interface is up.
func (e Endpoint) beforeUp() []wire.Object {
	six := e.Has6() || e.AcceptRA
	autoconf := &wire.Autoconf{NetNS: e.NetNS, Dev: e.IfName, AcceptRA: e.AcceptRA}
	if !six {
		off := e.setting(6, "disable_ipv6", "1")
		off.AtFirst = true
		return []wire.Object{off, autoconf}
	}
	return []wire.Object{e.setting(6, "accept_dad", "0"), autoconf}
}

// announce has the interface tell its neighbours whenever it comes up. On a bridge it does
// so the first time only if a neighbour may believe another MAC: an announcement goes to
// every port, 2 ms with 800.
func (e Endpoint) announce() []wire.Object {
	objects := []wire.Object{e.setting(4, "arp_notify", "1")}
	if e.Has6() || e.AcceptRA {
		objects = append(objects, e.setting(6, "ndisc_notify", "1"))
	}
	return objects
}

// setting is one of the interface's settings of a family.
func (e Endpoint) setting(family int, name, value string) *wire.Sysctl {
	path := fmt.Sprintf("net/ipv%d/conf/%s/%s", family, e.IfName, name)
	return &wire.Sysctl{NetNS: e.NetNS, Path: path, Value: value}
}

// routes are the default routes, unless the network is internal or the ipam
// section has its own, and those of the ipam section.
func (e Endpoint) routes() []wire.Object {
	var objects []wire.Object
	for _, family := range e.Families() {
		gw, dst := e.Gateway(family == 6), DefaultRoute(family)
		leads := gw.IsValid() || e.Routed && e.hasAddress(family == 6)
		if !leads || e.Info.Internal || e.HasRoute(dst) {
			continue
		}
		objects = append(objects, &wire.Route{
			NetNS: e.NetNS, Dev: e.IfName, Dst: dst, Via: gw, OnLink: gw.IsValid() && !e.Within(gw),
			Metric: e.candidate().Metric(), Rank: e.candidate().Rank(), Owner: e.Attachment,
		})
	}
	return append(objects, e.ipamRoutes()...)
}
