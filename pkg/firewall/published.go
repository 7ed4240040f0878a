package firewall

import "net/netip"

// Who reaches a published port. Containers of the network itself reach the container by its
// own address as well, if the network has icc.
const (
	FromHost     = "host"     // programs on this host
	FromNetworks = "networks" // containers on networks that are not internal
	FromOutside  = "outside"  // other hosts that reach the address
)

// A Published is a port of the host that leads to a container, in one family.
type Published struct {
	Host     netip.AddrPort // 0.0.0.0 and :: stand for all addresses of their family; zero: reached by the container's address
	Protocol string
	To       netip.AddrPort // the container's
	Relayed  bool           // by dnetd, while that runs, and not by rules
	From     []string       // who reaches it, in the order above, or by which interfaces; none: it is not reached
}

// Published says what an endpoint's ports come to, IPv4 first, on its network: what the rules
// and dnetd's relay make of them. A port that is not yet chosen has none. Behind them are those
// that are reached by the container's own address.
func (e *Endpoint) Published(n Network) (list []Published) {
	for _, p := range e.Bound() {
		if p.HostPort == 0 {
			continue
		}
		for _, v6 := range []bool{false, true} {
			if !p.Family(v6) {
				continue
			}
			target, direct := e.target(v6)
			if !direct && v6 {
				target, _ = e.target(false)
			}
			if !target.IsValid() {
				continue // an IPv4 port of a container that has IPv6 only
			}
			host := p.HostIP
			switch {
			case p.Any() && v6:
				host = netip.IPv6Unspecified()
			case p.Any():
				host = netip.IPv4Unspecified()
			}
			one := Published{
				Host: netip.AddrPortFrom(host.Unmap(), p.HostPort), Protocol: p.Protocol, To: netip.AddrPortFrom(target, p.ContainerPort),
				// Nothing is translated for ::1: the kernel routes it on lo only.
				Relayed: !direct || v6 && host.IsLoopback(),
			}
			switch {
			case n.Internal:
			case host.IsLoopback():
				one.From = []string{FromHost}
			default:
				one.From = []string{FromHost, FromNetworks, FromOutside}
			}
			list = append(list, one)
		}
	}
	for _, d := range e.direct() {
		if d.From = []string{FromHost, FromNetworks, FromOutside}; !e.routed(d.To.Addr().Is6()) {
			d.From = append([]string{FromHost}, n.Trusted...)
		}
		list = append(list, d)
	}
	return list
}
