package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"dcni/pkg/wire"
)

// Port is one published port.
type Port struct {
	// HostIP is the host's address to publish on. Zero: any, both families;
	// 0.0.0.0: any IPv4; ::: any IPv6.
	HostIP netip.Addr `json:"hostIP,omitzero"`
	// HostPort is the port on the host. 0: the host chooses one when the endpoint
	// is ensured, and writes it here.
	HostPort      uint16 `json:"hostPort"`
	Protocol      string `json:"protocol"` // tcp, udp or sctp
	ContainerPort uint16 `json:"containerPort"`
}

// String returns the port as docker ps shows it: "0.0.0.0:8080->80/tcp".
func (p Port) String() string {
	return fmt.Sprintf("%s->%d/%s", p.HostAddr(false), p.ContainerPort, p.Protocol)
}

// HostAddr returns the host's side as it was asked for, "0.0.0.0:8080" for any
// address. A binding to any address of both families is named by its IPv6 half
// if v6 is set.
func (p Port) HostAddr(v6 bool) string {
	ip := p.HostIP.Unmap()
	switch {
	case ip.IsValid():
	case v6:
		ip = netip.IPv6Unspecified()
	default:
		ip = netip.IPv4Unspecified()
	}
	return netip.AddrPortFrom(ip, p.HostPort).String()
}

// Any reports whether the port is published on any address (of its family).
func (p Port) Any() bool { return !p.HostIP.IsValid() || p.HostIP.Unmap().IsUnspecified() }

// Family reports whether the port is to be published for IPv6 (or IPv4).
func (p Port) Family(v6 bool) bool {
	return !p.HostIP.IsValid() || p.HostIP.Unmap().Is6() == v6
}

// Validate tells whether the endpoint can be ensured at all, on any host.
func (e *Endpoint) Validate() error {
	all := make(taken, len(e.Ports))
	for i, p := range e.Ports {
		if err := p.validate(i); err != nil {
			return err
		}
		if all.overlaps(p) {
			return wire.Invalid("portMappings["+strconv.Itoa(i)+"].hostPort", int(p.HostPort),
				"must not be published twice on "+p.HostAddr(p.HostIP.Is6())+"/"+p.Protocol)
		}
		all.add(p)
	}
	return nil
}

func (p Port) validate(i int) error {
	field := "portMappings[" + strconv.Itoa(i) + "]."
	if !slices.Contains(Protocols(), p.Protocol) {
		return wire.Invalid(field+"protocol", p.Protocol, "must be tcp, udp or sctp")
	}
	if p.ContainerPort == 0 {
		return wire.Invalid(field+"containerPort", 0, "must be 1 to 65535")
	}
	if p.HostIP.Zone() != "" || p.HostIP.IsMulticast() {
		return wire.Invalid(field+"hostIP", p.HostIP.String(), "must be an address of this host, without a zone")
	}
	return nil
}

// Numbered returns ports with the host ports of others of the same container for those that have
// none yet.
func Numbered(ports, others []Port) []Port {
	out := slices.Clone(ports)
	for i, p := range out {
		for _, o := range others {
			same := o.Protocol == p.Protocol && o.ContainerPort == p.ContainerPort && o.HostPort != 0
			p.HostPort = o.HostPort
			taken := func(q Port) bool { return q.Protocol == p.Protocol && q.HostPort == p.HostPort && q.Overlaps(p) }
			if out[i].HostPort == 0 && same && !slices.ContainsFunc(out, taken) {
				out[i] = p
			}
		}
	}
	return out
}

// Overlaps reports whether some packet could be meant for both host addresses:
// any takes what one address takes. Protocol and port are not looked at.
func (p Port) Overlaps(q Port) bool {
	for _, v6 := range []bool{false, true} {
		if p.Family(v6) && q.Family(v6) && (p.Any() || q.Any() || p.HostIP.Unmap() == q.HostIP.Unmap()) {
			return true
		}
	}
	return false
}

// Protocols returns the protocols that can be published.
func Protocols() []string { return []string{"tcp", "udp", "sctp"} }
