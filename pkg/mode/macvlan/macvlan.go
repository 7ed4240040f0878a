// Package macvlan is Docker's macvlan network, the plugin dmacvlan.
//
// The containers of a macvlan network are on a network of the host's own: each has an
// interface of its own MAC on a link of the host, the parent. Nothing of theirs passes
// the host: no rule sees it, no port is published, and the host itself reaches them only
// where hostAccess gives it an interface beside theirs. [Macvlan.Plan] says just that.
package macvlan

import (
	"cmp"
	"net/netip"

	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// Plugin is dmacvlan.
var Plugin = &network.Plugin{Type: "dmacvlan", Kind: network.MakesInterface, Inside: true, Parse: parse, Roots: roots, Driver: driver{}}

// roots are what DEL removes of an attachment that it only knows the name of: where the
// sandbox is not known, its interface went with it, or will.
func roots(e network.Endpoint) []wire.Object {
	list := []wire.Object{hostAccess(e, "")}
	if e.NetNS != "" {
		p := network.Parent{Kind: wire.KindMacvlan}
		list = append(list, p.Child(e, ""), e.SourceRoutes())
	}
	return list
}

// hostLink is the host's own interface on the parent of a network.
func hostLink(network string) string { return "mh-" + id(network) }

func hostAccess(e network.Endpoint, parent string) *wire.HostAccess {
	return &wire.HostAccess{Owner: e.Attachment, Link: hostLink(e.Network), Parent: parent, Addresses: e.IPs()}
}

func id(name string) string { return network.ID(name)[:network.ShortID] }

// Describe returns what the engine must know.
func (m *Macvlan) Describe() network.Description {
	return m.OnParent.Describe("a container of a macvlan network is on the LAN itself, reach it by its own address")
}

// Plan says what must be there for one attachment.
func (m *Macvlan) Plan(e network.Endpoint) (wire.Plan, error) {
	if e.MTU != 0 && e.MTU < network.MinMTU6 && e.Has6() {
		return wire.Plan{}, wire.Invalid("mtu", e.MTU, "must be at least 1280 on a network with IPv6 (RFC 8200)")
	}
	e.AcceptRA = m.AcceptRA
	plan := wire.Plan{
		Host: m.Parent.Objects(),
		Own:  append([]wire.Object{m.Parent.Child(e, m.mac(e))}, e.Interface()...),
	}
	if m.HostAccess {
		access := hostAccess(e, m.Parent.Name)
		access.Sources = m.hostAddresses()
		plan.Host = append(plan.Host, &wire.SharedLink{Name: access.Link, Kind: wire.KindMacvlan, Parent: m.Parent.Name})
		plan.Own = append(plan.Own, access)
	}
	return plan, nil
}

// hostAddresses are what the configuration gives the host: the auxiliary address "host"
// of each subnet.
func (m *Macvlan) hostAddresses() []netip.Addr {
	var list []netip.Addr
	for _, s := range m.IPAM.Own.Subnets {
		if a, ok := s.Aux["host"]; ok {
			list = append(list, a)
		}
	}
	return list
}

// mac returns the MAC of the interface. In mode passthru it has the parent's, and one
// that is asked for becomes the parent's.
func (m *Macvlan) mac(e network.Endpoint) string {
	if m.Parent.Mode == passthru {
		return cmp.Or(e.MAC, e.ParentMAC)
	}
	return e.SandboxMAC()
}
