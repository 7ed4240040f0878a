package network

import (
	"fmt"

	"dcni/pkg/wire"
)

// Interface returns what every interface that we make has in its sandbox,
// whatever kind of link it is: settings, addresses, and routes, in the order in
// which they must be made. The link itself comes before.
func (e Endpoint) Interface() []wire.Object {
	objects := e.beforeUp()
	for _, a := range e.Addresses {
		objects = append(objects, &wire.Addr{NetNS: e.NetNS, Dev: e.IfName, Prefix: a.Address})
	}
	up := &wire.Up{NetNS: e.NetNS, Dev: e.IfName}
	if e.Reused {
		objects = append(append(objects, e.announce()...), up)
	} else {
		objects = append(append(objects, up), e.announce()...)
	}
	return append(objects, e.routes()...)
}

// beforeUp is what must be set before the interface comes up: it has IPv6 only on
// a network with IPv6, and does no duplicate detection there.
func (e Endpoint) beforeUp() []wire.Object {
	if !e.Has6() {
		return []wire.Object{e.setting(6, "disable_ipv6", "1")}
	}
	return []wire.Object{e.setting(6, "disable_ipv6", "0"), e.setting(6, "accept_dad", "0")}
}

// announce has the interface tell its neighbours whenever it comes up. The first
// time it does so only if a neighbour may believe another MAC: an announcement
// goes to every port of a bridge, 2 ms with 800.
func (e Endpoint) announce() []wire.Object {
	objects := []wire.Object{e.setting(4, "arp_notify", "1")}
	if e.Has6() {
		objects = append(objects, e.setting(6, "ndisc_notify", "1"))
	}
	return objects
}

// setting is one of the interface's settings of a family.
func (e Endpoint) setting(family int, name, value string) wire.Object {
	path := fmt.Sprintf("net/ipv%d/conf/%s/%s", family, e.IfName, name)
	return &wire.Sysctl{NetNS: e.NetNS, Path: path, Value: value}
}

// routes are the default routes, unless the network is internal or the ipam
// section has its own, and those of the ipam section.
func (e Endpoint) routes() []wire.Object {
	var objects []wire.Object
	for _, family := range e.Families() {
		gw, dst := e.Gateway(family == 6), DefaultRoute(family)
		if !gw.IsValid() || e.Info.Internal || e.HasRoute(dst) {
			continue
		}
		objects = append(objects, &wire.Route{
			NetNS: e.NetNS, Dev: e.IfName, Dst: dst, Via: gw, OnLink: !e.Within(gw),
			Metric: e.candidate().Metric(), Probe: true,
		})
	}
	return append(objects, e.ipamRoutes()...)
}
