package cni

import (
	"encoding/hex"
	"net"
	"net/netip"
	"slices"

	"dcni/pkg/firewall"
	"dcni/pkg/ipam"
	"dcni/pkg/names"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// Site is where an attachment is to be: everything a plan is made from that is
// not configuration.
type Site struct {
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
	Traits    network.Traits  // as the plugins before say
	Resolver  *names.Resolver // as it was found when it was recorded, or nil
	// Reused says that an address may have been on another MAC not long ago,
	// which neighbours then still believe: it was asked for by value, the MAC
	// was, or addresses are given out again soon.
	Reused bool
}

// Families returns the families, 4 and 6, that the network has subnets of.
func (s Site) Families() []int {
	var list []int
	if s.has(false) {
		list = append(list, 4)
	}
	if s.has(true) {
		list = append(list, 6)
	}
	return list
}

// Has6 reports whether the network has an IPv6 subnet.
func (s Site) Has6() bool { return s.has(true) }

func (s Site) has(v6 bool) bool {
	for _, p := range s.Subnets {
		if p.Prefix.Addr().Is6() == v6 {
			return true
		}
	}
	return false
}

// Prefixes returns the network's subnets.
func (s Site) Prefixes() []netip.Prefix {
	list := make([]netip.Prefix, len(s.Subnets))
	for i, subnet := range s.Subnets {
		list[i] = subnet.Prefix
	}
	return list
}

// IPs returns the sandbox's addresses.
func (s Site) IPs() []netip.Addr {
	list := make([]netip.Addr, len(s.Addresses))
	for i, a := range s.Addresses {
		list[i] = a.Address.Addr()
	}
	return list
}

// Gateway returns the gateway of the sandbox's first address of a family, the
// zero Addr where it has none.
func (s Site) Gateway(v6 bool) netip.Addr {
	for _, a := range s.Addresses {
		if a.Gateway.IsValid() && a.Gateway.Is6() == v6 {
			return a.Gateway
		}
	}
	return netip.Addr{}
}

// Gateways returns the gateways of the sandbox's addresses.
func (s Site) Gateways() []netip.Addr {
	var list []netip.Addr
	for _, a := range s.Addresses {
		if a.Gateway.IsValid() && !slices.Contains(list, a.Gateway) {
			list = append(list, a.Gateway)
		}
	}
	return list
}

// Within reports whether one of the sandbox's own prefixes has an address: a
// gateway elsewhere (a sandbox with a /32) has to be said to be on the link.
func (s Site) Within(a netip.Addr) bool {
	for _, own := range s.Addresses {
		if own.Address.Contains(a) {
			return true
		}
	}
	return false
}

// HasRoute reports whether the IPAM plugin gave a route of a destination.
func (s Site) HasRoute(dst netip.Prefix) bool {
	for _, r := range s.Routes {
		if r.Dst == dst {
			return true
		}
	}
	return false
}

// IPAMRoutes returns the routes that the IPAM plugin gave, as objects. One
// without a gateway goes through the network's.
func (s Site) IPAMRoutes() []wire.Object {
	var objects []wire.Object
	for _, r := range s.Routes {
		via := r.GW
		if !via.IsValid() {
			via = s.Gateway(r.Dst.Addr().Is6())
		}
		o := &wire.Route{
			NetNS: s.NetNS, Dev: s.IfName, Dst: r.Dst, Via: via, OnLink: via.IsValid() && !s.Within(via),
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
func (s Site) SandboxMAC() string {
	if s.MAC != "" {
		return s.MAC
	}
	for _, a := range s.Addresses {
		if ip := a.Address.Addr(); ip.Is4() {
			b := ip.As4()
			return LocalMAC(b[:])
		}
	}
	id, err := hex.DecodeString(s.ID())
	if err != nil {
		panic(err) // hexadecimal by its making
	}
	return LocalMAC(id[:4])
}

// LocalMAC returns a locally administered address, 02:42 and four bytes.
func LocalMAC(tail []byte) string {
	return net.HardwareAddr(append([]byte{0x02, 0x42}, tail...)).String()
}

// Everywhere is the destination of a default route of a family, 4 or 6.
func Everywhere(family int) netip.Prefix {
	if family == 6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}
