package firewall

import (
	"iter"
	"net/netip"
)

// A Relay is a socket of dnetd's on a published port (Docker's userland proxy). It holds
// the port: no other program of the host can bind it. And it passes on what netfilter
// can't: what comes to ::1, which the kernel can't route off lo; what comes from a
// link-local address, which it does not forward; broadcasts; and IPv6 for a container
// that has IPv4 only. All else never reaches the socket, since rules send it to the
// container first.
type Relay struct {
	Protocol string         // tcp, udp or sctp
	Listen   netip.AddrPort // an address of the host; 0.0.0.0 or :: for all of its family
	Target   netip.AddrPort // the container's
}

// Relays returns the relays of the ports that a container's attachments publish, one for
// each family. Where several attachments publish a port on an IPv6 address, one with
// IPv6 gets it.
func Relays(endpoints ...*Endpoint) []Relay {
	type port struct {
		protocol string
		listen   netip.AddrPort
	}
	var list []Relay
	seen := make(map[port]bool)
	for _, first := range []bool{true, false} { // those with IPv6, then the others
		for _, e := range endpoints {
			if _, has6 := e.target(true); has6 != first {
				continue
			}
			for r := range e.relays() {
				if p := (port{r.Protocol, r.Listen}); !seen[p] {
					seen[p] = true
					list = append(list, r)
				}
			}
		}
	}
	return list
}

// relays gives the relays of each port, IPv4 first. Ports not yet chosen are left out.
func (e *Endpoint) relays() iter.Seq[Relay] {
	four, has4 := e.target(false)
	six, has6 := e.target(true)
	if !has6 {
		six, has6 = four, has4 // the host's IPv6 leads to it all the same
	}
	return func(yield func(Relay) bool) {
		for _, p := range e.Bound() {
			if p.HostPort == 0 {
				continue
			}
			if has4 && p.Family(false) && !yield(p.relay(netip.IPv4Unspecified(), four)) {
				return
			}
			if has6 && p.Family(true) && !yield(p.relay(netip.IPv6Unspecified(), six)) {
				return
			}
		}
	}
}

// relay returns the port's relay at its own address of the host, else at any.
func (p Port) relay(any, target netip.Addr) Relay {
	if !p.Any() {
		any = p.HostIP.Unmap()
	}
	return Relay{p.Protocol, netip.AddrPortFrom(any, p.HostPort), netip.AddrPortFrom(target, p.ContainerPort)}
}

// Unbound returns the endpoint with those ports that a runtime that binds the ports
// itself leaves: of one that is published on no address in particular it binds IPv4 alone.
func (e *Endpoint) Unbound() *Endpoint {
	rest := *e
	rest.Ports = nil
	for _, p := range e.Ports {
		if !p.HostIP.IsValid() {
			p.HostIP = netip.IPv6Unspecified()
			rest.Ports = append(rest.Ports, p)
		}
	}
	return &rest
}
