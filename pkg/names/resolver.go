package names

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"dcni/pkg/wire"
)

// Address is where a sandbox finds its name server, at port 53: Docker's.
var Address = netip.AddrFrom4([4]byte{127, 0, 0, 11})

// A Resolver is what one attachment brings to the name server of its sandbox:
// what the container is called on that network, and how it is answered there.
// A sandbox has one name server, whatever number of networks it is on.
//
// It is an object of the plan: Ensure opens sockets in the sandbox, on which dnetd
// answers, and redirects port 53 to them.
type Resolver struct {
	Owner  wire.Attachment `json:"owner"`
	NetNS  string          `json:"netns"`  // path of the sandbox, see wire.Veth
	Cookie uint64          `json:"cookie"` // of its namespace, see wire.Sandbox

	Names     []string       `json:"names,omitempty"`     // of the container, see [Identity.Names]
	Addresses []netip.Addr   `json:"addresses,omitempty"` // of its interface
	Gateways  []netip.Addr   `json:"gateways,omitempty"`  // what host.docker.internal stands for
	Subnets   []netip.Prefix `json:"subnets,omitempty"`   // of the network, where they are no other's: no other server is asked about them
	Hosts     []HostEntry    `json:"hosts,omitempty"`     // extra ones of the network
	Links     []Link         `json:"links,omitempty"`     // of the container on the network, for this sandbox alone
	TTL       uint32         `json:"ttl"`                 // of the network's answers, in seconds
	NoNames   bool           `json:"quiet,omitempty"`     // the network's containers have no names
	Internal  bool           `json:"internal,omitempty"`  // the network leads nowhere: the host's servers are not asked
	Priority  int            `json:"priority,omitempty"`  // the network of the highest is asked first, then the first by name

	Servers   []netip.AddrPort `json:"servers,omitempty"`   // asked from within the sandbox, in place of the host's
	Intercept bool             `json:"intercept,omitempty"` // queries to any other server are answered, too
	Local     []netip.Addr     `json:"local,omitempty"`     // with Intercept: loopback addresses where no server of the container's own is meant

	// Bridge and Listen are where a virtual machine behind the interface asks, which has no part of the sandbox but
	// its address: gateway addresses on the network's bridge, at port 53; none: nowhere. Servers are then asked
	// from the host, since what they answer would be the machine's.
	Bridge string       `json:"bridge,omitempty"`
	Listen []netip.Addr `json:"listen,omitempty"`

	Port  uint16 `json:"port,omitempty"`  // of the sockets at 127.0.0.11; 0: not yet known
	Port6 uint16 `json:"port6,omitempty"` // of those at ::1, where IPv6 is intercepted; 0: none
}

// UsualPort is where a sandbox's name server listens, unless another program does. It
// is not assigned (IANA's registry of ports), and outside the range that the kernel
// chooses from (net.ipv4.ip_local_port_range). So it is free after a restart of dnetd,
// and the rules that redirect to it still hold. No program of the container's can have it
// on all addresses: it is above that range, where hardly any program listens.
const UsualPort = 64053

// PortBeside returns a port for the name server that is none of those that the container
// is known to listen on; 0 stands for [UsualPort].
func PortBeside(taken []uint16) uint16 {
	port := uint16(UsualPort)
	for slices.Contains(taken, port) {
		port--
	}
	if port == UsualPort {
		return 0
	}
	return port
}

// Key names the attachment.
func (r *Resolver) Key() string { return "resolver " + r.Owner.String() }

// Refers names the link that the name server's address is on.
func (r *Resolver) Refers() []string { return []string{"link lo netns " + r.NetNS} }

// Root marks the resolver as what DEL removes: dnetd must let go of the sandbox.
func (r *Resolver) Root() {}

func (r *Resolver) String() string {
	s := fmt.Sprintf("nameserver %s names %s", Address, strings.Join(r.Names, ","))
	if r.NoNames {
		s = fmt.Sprintf("nameserver %s", Address)
	}
	if r.Intercept {
		s += " intercept"
	}
	if len(r.Listen) > 0 {
		s += fmt.Sprintf(" at %v of %s", r.Listen, r.Bridge)
	}
	return s + " in sandbox"
}

// Network returns what the resolver says of its network.
func (r *Resolver) Network() Network {
	return Network{Name: r.Owner.Network, Gateways: r.Gateways, Subnets: r.Subnets, Hosts: r.Hosts, NoNames: r.NoNames, TTL: r.TTL}
}

// Entry returns what its attachment answers to.
func (r *Resolver) Entry() Entry {
	return Entry{Container: r.Owner.Container, IfName: r.Owner.IfName, Names: r.Names, Addresses: r.Addresses}
}

// Outside returns nil: all of it is in the sandbox, or for it.
func (r *Resolver) Outside() wire.Object { return nil }
