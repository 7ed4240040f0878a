// Package ipvlan is Docker's ipvlan network, the plugin dipvlan.
//
// The containers of an ipvlan network are on a network of the host's own: each has an
// interface on a link of the host, the parent, with an address of its own and the MAC of
// the parent. In mode l2 the interface is one on the LAN. In modes l3 and l3s the parent
// takes packets for the containers by address: there are no neighbours and no gateway,
// and a router or a neighbour must have a route to them by the host.
//
// Nothing of theirs is published, and the host itself does not reach them. [Ipvlan.Plan]
// says what must be there.
package ipvlan

import (
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// Plugin is dipvlan.
var Plugin = &network.Plugin{Type: "dipvlan", Kind: network.MakesInterface, Inside: true, Parse: parse, Roots: roots, Driver: driver{}}

// roots are what DEL removes of an attachment that it only knows the name of: where the
// sandbox is not known, its interface went with it, or will.
func roots(e network.Endpoint) []wire.Object {
	if e.NetNS == "" {
		return nil
	}
	p := network.Parent{Kind: wire.KindIpvlan}
	return []wire.Object{p.Child(e, ""), e.SourceRoutes()}
}

// Describe returns what the engine must know.
func (n *Ipvlan) Describe() network.Description {
	d := n.OnParent.Describe("a container of an ipvlan network is reached by its own address")
	d.Routed = n.Parent.Mode != l2
	d.NoMAC = "ipvlan interfaces do not support custom mac address assignment: all have the MAC of their parent"
	return d
}

// Plan says what must be there for one attachment. An interface follows the MTU of its
// parent, unless the network has one.
func (n *Ipvlan) Plan(e network.Endpoint) (wire.Plan, error) {
	if e.MTU != 0 && e.MTU < network.MinMTU6 && e.Has6() {
		return wire.Plan{}, wire.Invalid("mtu", e.MTU, "must be at least 1280 on a network with IPv6 (RFC 8200)")
	}
	child := n.Parent.Child(e, "")
	child.MTU = n.MTU
	return wire.Plan{Host: n.Parent.Objects(), Own: append([]wire.Object{child}, e.Interface()...)}, nil
}
