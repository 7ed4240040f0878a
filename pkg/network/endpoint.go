package network

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

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
	Source    string // path of that namespace
	MAC       string // asked for; "": from the address
	MTU       int    // bytes
	ParentMAC string // of the link that the interface is made on; "" where there is none, or later than ADD
	Adopted   bool   // the network's bridge is another owner's
	Addresses []ipam.Assigned
	Subnets   []ipam.Subnet // all of the network's
	Routes    []ipam.Route  // besides the default ones
	Ports     []firewall.Port
	// NotGateway has the families in which another network of the container is its gateway network.
	NotGateway []firewall.Family
	Name       string       // of the container, as the runtime calls it
	Names      []string     // of the container
	Links      []names.Link // of the container, on this network
	Services   []string     // that the container is to be a task of, where ADD says
	Exposed    []firewall.Exposed
	Sysctls    []Setting       // of the interface, as they are asked for
	Bandwidth  *Bandwidth      // that the runtime allows the container; nil for no limit
	Info       Info            // of the network, as the plugin says that makes the interface
	Resolver   *names.Resolver // as it was found when it was recorded, or nil
	// Reused says that an address may have been on another MAC not long ago,
	// which neighbours then still believe: it was asked for by value, the MAC
	// was, or addresses are given out again soon.
	Reused bool
	// Routed says that the interface knows no neighbours (an ipvlan of mode l3): it has no
	// gateway, a default route leads to the interface itself, and it announces nothing.
	Routed bool
	// AcceptRA says that router advertisements count: the network's configuration
	// asks for them.
	AcceptRA bool
	// Foreign says that a network of another suite's has a default route in the sandbox.
	Foreign bool
	// OnLAN says that the network is on one of the host's, see [Description.OnLAN].
	OnLAN bool
	// Overlay is what the cluster says of an overlay network; nil for others.
	Overlay *Overlay
	// UpFirst says that the link comes up before its addresses: they are only known, or
	// only known to be free, when it is up.
	UpFirst bool
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
func (e Endpoint) candidate() Candidate { return CandidateOf(e.Network, e.Info, e.Subnets) }

// Has6 reports whether the network has an IPv6 subnet.
func (e Endpoint) Has6() bool { return e.has(true) }

func (e Endpoint) has(v6 bool) bool { return HasFamily(e.Subnets, v6) }

// HasFamily reports whether one of the subnets is of IPv6, or of IPv4.
func HasFamily(subnets []ipam.Subnet, v6 bool) bool {
	return slices.ContainsFunc(subnets, func(s ipam.Subnet) bool { return s.Prefix.Addr().Is6() == v6 })
}

// WithoutIPv6 returns the endpoint in a sandbox where IPv6 is switched off: without
// addresses and routes of IPv6.
func (e Endpoint) WithoutIPv6() Endpoint {
	e.Addresses = slices.DeleteFunc(slices.Clone(e.Addresses), func(a ipam.Assigned) bool { return a.Address.Addr().Is6() })
	e.Routes = slices.DeleteFunc(slices.Clone(e.Routes), func(r ipam.Route) bool { return r.Dst.Addr().Is6() })
	return e
}

// HasAddress6 reports whether the sandbox has an IPv6 address.
func (e Endpoint) HasAddress6() bool { return e.hasAddress(true) }

func (e Endpoint) hasAddress(v6 bool) bool {
	return slices.ContainsFunc(e.Addresses, func(a ipam.Assigned) bool { return a.Address.Addr().Is6() == v6 })
}

// LinksOn returns what the attachment has to do with links on a bridge. What is published is
// exposed as well.
func (e Endpoint) LinksOn(bridge string) *firewall.Links {
	l := &firewall.Links{
		Owner: e.Attachment, NetNS: e.NetNS, Cookie: e.Cookie, Bridge: bridge, Name: e.Name, Addresses: e.IPs(), Gateways: e.Gateways(),
		Exposed: firewall.ExposedPorts(e.Exposed, e.Ports),
	}
	for _, link := range e.Links {
		l.Targets = append(l.Targets, link.Target)
	}
	return l
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
		if a.Gateway.IsValid() && a.Gateway.Is6() == v6 && !e.Routed {
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
// without a gateway goes through the network's. A default route without a metric or a table
// of its own counts as any network's does.
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
		} else if r.Dst.Bits() == 0 && r.Priority == 0 { // like one of ours, beside those of other networks
			o.Metric, o.Rank, o.Owner = e.candidate().Metric(), e.candidate().Rank(), e.Attachment
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
//
// On a LAN it is 02:42 and a part of the hash of the parent's MAC and that address. Two hosts
// there that give one address to their containers would otherwise give them one MAC as
// well: a switch never delivers the answer of one to the other, and neither learns of
// the conflict. An address that is kept for a name has its MAC kept with it.
func (e Endpoint) SandboxMAC() string {
	if e.MAC != "" {
		return e.MAC
	}
	first := slices.IndexFunc(e.Addresses, func(a ipam.Assigned) bool { return a.Address.Addr().Is4() })
	switch onLAN := e.OnLAN && e.ParentMAC != "" && len(e.Addresses) > 0; {
	case onLAN:
		sum := sha256.Sum256([]byte(e.ParentMAC + " " + e.Addresses[max(first, 0)].Address.Addr().String()))
		return localMAC(sum[:4])
	case first >= 0:
		return localMAC(e.Addresses[first].Address.Addr().AsSlice())
	}
	id, err := hex.DecodeString(e.ID())
	if err != nil {
		panic(err) // hexadecimal by its making
	}
	return localMAC(id[:4])
}

// LinkLocal returns the IPv6 link-local address that the sandbox's interface makes of
// its MAC (RFC 4291, appendix A).
func (e Endpoint) LinkLocal() netip.Addr {
	mac, err := hex.DecodeString(strings.ReplaceAll(e.SandboxMAC(), ":", ""))
	if err != nil || len(mac) != 6 {
		return netip.Addr{}
	}
	return netip.AddrFrom16([16]byte{
		0: 0xfe, 1: 0x80,
		8: mac[0] ^ 0x02, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5],
	})
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
