package firewall

import (
	"fmt"
	"net/netip"
	"slices"
)

// This file is about ports that are reached by the container's own address: all published ones
// of a routed network, of which no port of the host is bound, and those of other networks from
// interfaces of the host that are trusted.

// binds reports whether the endpoint's ports are bound on the host's addresses of a family. The
// host's IPv6 leads to IPv4 where the container has no other.
func (e *Endpoint) binds(v6 bool) bool {
	if slices.Contains(e.NotGateway, familyOf(v6)) {
		return false
	}
	if _, has6 := e.target(true); v6 && !has6 {
		v6 = false
	}
	return !e.routed(v6)
}

// routed reports whether the endpoint's ports are opened in a family and never bound on the host.
func (e *Endpoint) routed(v6 bool) bool { return slices.Contains(e.Routed, familyOf(v6)) }

func familyOf(v6 bool) Family {
	if v6 {
		return 6
	}
	return 4
}

// bound returns a port as it is bound on the host, in the families in which it is. ok is false
// where that is none.
func (e *Endpoint) bound(p Port) (Port, bool) {
	four, six := p.Family(false) && e.binds(false), p.Family(true) && e.binds(true)
	if !p.HostIP.IsValid() && four != six {
		p.HostIP = netip.IPv4Unspecified()
		if six {
			p.HostIP = netip.IPv6Unspecified()
		}
	}
	return p, four || six
}

// Bound returns the ports that are bound on the host: those of a routed network are not.
func (e *Endpoint) Bound() []Port {
	list := make([]Port, 0, len(e.Ports))
	for _, p := range e.Ports {
		if b, ok := e.bound(p); ok {
			list = append(list, b)
		}
	}
	return list
}

// Rebound returns what is to be removed of the endpoint before it binds its ports as another one of the
// same attachment does: those of families of which its network is not the gateway network any
// more. It is nil if nothing is.
func (e *Endpoint) Rebound(after *Endpoint) *Endpoint {
	gone := *e
	gone.Ports, gone.NotGateway, gone.Routed = nil, nil, nil // what is opened in a routed family stays
	for _, f := range Families() {
		if !slices.Contains(after.NotGateway, f) || !e.binds(f == 6) {
			gone.NotGateway = append(gone.NotGateway, f)
		}
	}
	for _, p := range e.Ports {
		if _, binds := gone.bound(p); binds && p.HostPort != 0 {
			gone.Ports = append(gone.Ports, p)
		}
	}
	if len(gone.Ports) == 0 {
		return nil
	}
	return &gone
}

// Shown returns the ports as Docker shows them: one that is opened without a port of the host
// has 0 there, for each family.
func (e *Endpoint) Shown() []Port {
	list := e.Bound()
	for _, d := range e.direct() {
		p := Port{HostIP: netip.IPv4Unspecified(), Protocol: d.Protocol, ContainerPort: d.To.Port()}
		if d.To.Addr().Is6() {
			p.HostIP = netip.IPv6Unspecified()
		}
		if e.routed(d.To.Addr().Is6()) && !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	return list
}

// direct are the ports that are opened at the container's addresses, each once. One that is
// published for the host's own programs, on a loopback address, is not: they reach the container
// anyway.
func (e *Endpoint) direct() []Published {
	var list []Published
	for _, a := range e.Addresses {
		a = a.Unmap()
		if !e.routed(a.Is6()) && !(e.Trusted && e.binds(a.Is6())) {
			continue
		}
		for _, p := range e.Ports {
			one := Published{Protocol: p.Protocol, To: netip.AddrPortFrom(a, p.ContainerPort)}
			same := func(o Published) bool { return o.Protocol == one.Protocol && o.To == one.To }
			if p.Family(a.Is6()) && !p.HostIP.IsLoopback() && !slices.ContainsFunc(list, same) {
				list = append(list, one)
			}
		}
	}
	return list
}

// Opened returns what opens the endpoint's ports at the container's own addresses.
func (e *Endpoint) Opened() []Element {
	var elements []Element
	for _, d := range e.direct() {
		elements = append(elements, Element{
			Set: byFamily(d.To.Addr().Is6(), SetOpen4, SetOpen6), Comment: Comment(e.Owner),
			Key: []fmt.Stringer{IfName(e.Bridge), d.To.Addr(), Proto(d.Protocol), Service(d.To.Port())},
		})
	}
	return elements
}

// openedChain decides what reaches a container by its own address from elsewhere. Containers of
// one network that may not talk don't do so by this way either.
func openedChain() Chain {
	routed, trusted := in(SetRouted, FieldOIf, FieldFamily), in(SetTrusted, FieldIIf, FieldOIf)
	open4, open6 := in(SetOpen4, FieldOIf, FieldDst4, FieldProto, FieldDstSvc), in(SetOpen6, FieldOIf, FieldDst6, FieldProto, FieldDstSvc)
	return Chain{"opened", nil, []Rule{
		rule(Return, in(SetApart, FieldIIf, FieldOIf)),
		rule(Accept, in(SetUnprotected, FieldOIf, FieldFamily)),
		rule(Accept, routed, ICMP),
		rule(Accept, routed, ICMPv6),
		rule(Accept, routed, open4),
		rule(Accept, routed, open6),
		rule(Accept, trusted, open4),
		rule(Accept, trusted, open6),
	}}
}
