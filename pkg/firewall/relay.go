package firewall

import (
	"iter"
	"net/netip"
)

// A Relay publishes what netfilter can't: a port on ::1, which the kernel can't route
// off lo, and a port on an IPv6 address of the host for a container that has IPv4
// only. dnetd listens there and copies the data (Docker's userland proxy).
type Relay struct {
	Protocol string         // tcp, udp or sctp
	Listen   netip.AddrPort // ::1, one other IPv6 address of the host, or :: for all of them
	Target   netip.AddrPort // the container's
}

// Relays returns the relays that the ports of a container's attachments need. Where
// several attachments publish a port on all addresses, one with IPv6 gets it.
func Relays(endpoints ...*Endpoint) []Relay {
	type port struct {
		protocol string
		listen   netip.AddrPort
	}
	var list []Relay
	seen := make(map[port]Relay)
	for _, v6 := range []bool{true, false} {
		for _, e := range endpoints {
			target, ok := e.target(v6)
			if _, has6 := e.target(true); !ok || v6 != has6 {
				continue
			}
			for r := range e.relays(target) {
				loopback := netip.AddrPortFrom(netip.IPv6Loopback(), r.Listen.Port())
				if r.Listen.Addr().IsUnspecified() && seen[port{r.Protocol, loopback}].Target.Addr().Is6() {
					continue // netfilter serves the other addresses
				}
				if _, twice := seen[port{r.Protocol, r.Listen}]; !twice {
					seen[port{r.Protocol, r.Listen}] = r
					list = append(list, r)
				}
			}
		}
	}
	return list
}

// relays gives each port that has to be relayed to an address of the container.
// Ports not yet chosen are left out.
func (e *Endpoint) relays(target netip.Addr) iter.Seq[Relay] {
	return func(yield func(Relay) bool) {
		for _, p := range e.Ports {
			listen, ok := p.relayed(target.Is4())
			if !ok || p.HostPort == 0 {
				continue
			}
			r := Relay{p.Protocol, netip.AddrPortFrom(listen, p.HostPort), netip.AddrPortFrom(target, p.ContainerPort)}
			if !yield(r) {
				return
			}
		}
	}
}

// relayed returns where to listen for a port of a container that has IPv4 only,
// or IPv6 as well.
func (p Port) relayed(only4 bool) (listen netip.Addr, ok bool) {
	switch {
	case !p.Family(true):
		return netip.Addr{}, false
	case only4 && p.Any():
		return netip.IPv6Unspecified(), true
	case only4:
		return p.HostIP, true
	default:
		return netip.IPv6Loopback(), p.Any() || p.HostIP == netip.IPv6Loopback()
	}
}
