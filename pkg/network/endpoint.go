package network

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"

	"dcni/pkg/firewall"
	"dcni/pkg/ipam"
	"dcni/pkg/names"
	"dcni/pkg/wire"
)

// An Endpoint is one attachment of a container to a network: everything that a
// plan is made from and that is not configuration.
type Endpoint struct {
	wire.Attachment
	NetNS     string // CNI_NETNS
	Cookie    uint64 // of its namespace, see wire.Sandbox
	Target    uint64 // of the namespace that it is to share, 0: none
	MAC       string // asked for; "": from the address
	MTU       int    // bytes
	Addresses []ipam.Assigned
	Subnets   []ipam.Subnet // all of the network's
	Routes    []ipam.Route  // besides the default ones
	Ports     []firewall.Port
	Names     []string        // of the container
	Info      Info            // of the network, as the plugin says that makes the interface
	Resolver  *names.Resolver // as it was found when it was recorded, or nil
	// Reused says that an address may have been on another MAC not long ago,
	// which neighbours then still believe: it was asked for by value, the MAC
	// was, or addresses are given out again soon.
	Reused bool
}

// Families returns the families, 4 and 6, that the network has subnets of.
func (e Endpoint) Families() []int {
	var list []int
	if e.has(false) {
		list = append(list, 4)
	}
	if e.has(true) {
		list = append(list, 6)
	}
	return list
}

// candidate returns the endpoint's network as it competes for the gateway.
func (e Endpoint) candidate() Candidate {
	return Candidate{
		Name: e.Network, Priority: e.Info.Priority, Internal: e.Info.Internal, IPv4: e.has(false), IPv6: e.has(true),
	}
}

// Has6 reports whether the network has an IPv6 subnet.
func (e Endpoint) Has6() bool { return e.has(true) }

func (e Endpoint) has(v6 bool) bool {
	for _, p := range e.Subnets {
		if p.Prefix.Addr().Is6() == v6 {
			return true
		}
	}
	return false
}

// Prefixes returns the network's subnets.
func (e Endpoint) Prefixes() []netip.Prefix {
	list := make([]netip.Prefix, len(e.Subnets))
	for i, subnet := range e.Subnets {
		list[i] = subnet.Prefix
	}
	return list
}

// IPs returns the sandbox's addresses.
func (e Endpoint) IPs() []netip.Addr {
	list := make([]netip.Addr, len(e.Addresses))
	for i, a := range e.Addresses {
		list[i] = a.Address.Addr()
	}
	return list
}

// Gateway returns the gateway of the sandbox's first address of a family, the
// zero Addr where it has none.
func (e Endpoint) Gateway(v6 bool) netip.Addr {
	for _, a := range e.Addresses {
		if a.Gateway.IsValid() && a.Gateway.Is6() == v6 {
			return a.Gateway
		}
	}
	return netip.Addr{}
}

// Gateways returns the gateways of the sandbox's addresses.
func (e Endpoint) Gateways() []netip.Addr {
	var list []netip.Addr
	for _, a := range e.Addresses {
		if a.Gateway.IsValid() && !slices.Contains(list, a.Gateway) {
			list = append(list, a.Gateway)
		}
	}
	return list
}

// Within reports whether one of the sandbox's own prefixes has an address: a
// gateway elsewhere (a sandbox with a /32) has to be said to be on the link.
func (e Endpoint) Within(a netip.Addr) bool {
	for _, own := range e.Addresses {
		if own.Address.Contains(a) {
			return true
		}
	}
	return false
}

// HasRoute reports whether the IPAM plugin gave a route of a destination.
func (e Endpoint) HasRoute(dst netip.Prefix) bool {
	for _, r := range e.Routes {
		if r.Dst == dst {
			return true
		}
	}
	return false
}

// ipamRoutes returns the routes that the IPAM plugin gave, as objects. One
// without a gateway goes through the network'e.
func (e Endpoint) ipamRoutes() []wire.Object {
	var objects []wire.Object
	for _, r := range e.Routes {
		via := r.GW
		if !via.IsValid() {
			via = e.Gateway(r.Dst.Addr().Is6())
		}
		o := &wire.Route{
			NetNS: e.NetNS, Dev: e.IfName, Dst: r.Dst, Via: via, OnLink: via.IsValid() && !e.Within(via),
			Metric: r.Priority, MTU: r.MTU, AdvMSS: r.AdvMSS,
		}
		if r.Table != nil {
			o.Table = *r.Table
		}
		if r.Scope != nil {
			o.Scope, o.HasScope = *r.Scope, true
		}
		objects = append(objects, o)
	}
	return objects
}

// SandboxMAC returns the MAC of the sandbox's interface: as asked for, else
// Docker's 02:42 and the IPv4 address, else 02:42 and a part of the identity's
// hash.
func (e Endpoint) SandboxMAC() string {
	if e.MAC != "" {
		return e.MAC
	}
	for _, a := range e.Addresses {
		if ip := a.Address.Addr(); ip.Is4() {
			b := ip.As4()
			return localMAC(b[:])
		}
	}
	id, err := hex.DecodeString(e.ID())
	if err != nil {
		panic(err) // hexadecimal by its making
	}
	return localMAC(id[:4])
}

// localMAC returns a locally administered address, 02:42 and four bytes.
func localMAC(tail []byte) string {
	return fmt.Sprintf("02:42:%02x:%02x:%02x:%02x", tail[0], tail[1], tail[2], tail[3])
}

// DefaultRoute is the destination of a default route of a family, 4 or 6.
func DefaultRoute(family int) netip.Prefix {
	if family == 6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}
