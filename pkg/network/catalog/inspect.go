package catalog

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"dcni/pkg/firewall"
	"dcni/pkg/ipam"
	"dcni/pkg/wire"
)

// An Inspection is a network as `docker network inspect` shows it, with Docker's names
// in Docker's order. Only the ports of an endpoint and the routes are not in Docker's
// output.
type Inspection struct {
	Name       string
	ID         string       `json:"Id"`
	Created    fmt.Stringer // a time.Time
	Scope      string
	Driver     string
	EnableIPv4 bool
	EnableIPv6 bool
	IPAM       InspectedIPAM
	Internal   bool
	Attachable bool
	Ingress    bool
	ConfigFrom struct{ Network string }
	ConfigOnly bool
	Containers map[string]InspectedEndpoint
	Options    map[string]string
	Labels     map[string]string
	Peers      []InspectedPeer `json:",omitempty"` // of an overlay network
	// Endpoints are those of all nodes on an overlay network; told if asked for.
	Endpoints []InspectedRemote `json:",omitempty"`
	Routes    []string          `json:",omitempty"` // see [Facts.Routes]
	Status    *InspectedStatus  `json:",omitempty"`
}

// InspectedPeer is a node that has containers on an overlay network, or has had some and
// has addresses of its own there.
type InspectedPeer struct {
	Name      string
	IP        netip.Addr
	Addresses []netip.Addr `json:",omitempty"` // its own on the network
}

// InspectedRemote is an attachment to an overlay network on whichever node.
type InspectedRemote struct {
	Node      string
	Container string // ID
	Name      string
	Addresses []netip.Addr
}

// InspectedIPAM says where a network's addresses come from.
type InspectedIPAM struct {
	Driver  string
	Options map[string]string
	Config  []InspectedSubnet
}

// InspectedSubnet is one subnet.
type InspectedSubnet struct {
	Subnet             ShownPrefix           `json:",omitzero"`
	IPRange            ShownPrefix           `json:",omitzero"`
	Gateway            ShownAddr             `json:",omitzero"`
	AuxiliaryAddresses map[string]netip.Addr `json:",omitempty"`
}

// A ShownPrefix is a prefix, or none, which a template prints as nothing.
type ShownPrefix struct{ netip.Prefix }

// String returns the prefix, or "" for none.
func (p ShownPrefix) String() string {
	if !p.IsValid() {
		return ""
	}
	return p.Prefix.String()
}

// A ShownAddr is an address, or none, which a template prints as nothing.
type ShownAddr struct{ netip.Addr }

// String returns the address, or "" for none.
func (a ShownAddr) String() string {
	if !a.IsValid() {
		return ""
	}
	return a.Addr.String()
}

// InspectedEndpoint is one attachment.
type InspectedEndpoint struct {
	Name        string
	EndpointID  string
	MacAddress  string
	IPv4Address ShownPrefix
	IPv6Address ShownPrefix
	Ports       map[string][]InspectedPort `json:",omitempty"` // by container port, "80/tcp"
}

// InspectedPort is a published port, as docker inspect shows a container's.
type InspectedPort struct {
	HostIP   string `json:"HostIp"`
	HostPort string
}

// InspectedStatus counts addresses.
type InspectedStatus struct {
	IPAM struct {
		Subnets map[netip.Prefix]InspectedUsage `json:",omitempty"`
	}
}

// InspectedUsage counts the addresses of one subnet, see [ipam.Subnet.Usage].
type InspectedUsage struct {
	IPsInUse            uint64
	DynamicIPsAvailable uint64
}

// A ShownEndpoint is an attachment as an inspection is given it.
type ShownEndpoint struct {
	wire.Attachment
	Name      string // the container's
	MAC       string
	Addresses []ipam.Assigned
	Ports     []firewall.Port
}

// Inspect shows a network with its facts and its attachments. leased are the addresses
// that dipam has leased.
func (c *Conflist) Inspect(created fmt.Stringer, f Facts, attached []ShownEndpoint, leased []netip.Addr) *Inspection {
	out := &Inspection{
		Name: c.Name, ID: c.ID(), Created: created, Scope: ScopeOf(c.Driver), Driver: c.Driver,
		EnableIPv4: f.IPv4, EnableIPv6: f.IPv6, Internal: f.Internal, Attachable: c.Attachable,
		IPAM:       InspectedIPAM{Driver: f.IPAM, Options: f.IPAMOptions, Config: []InspectedSubnet{}},
		Containers: inspectEndpoints(attached), Options: f.Options, Labels: c.Labels,
	}
	out.ConfigOnly, out.ConfigFrom.Network = c.Configuration != nil, c.ConfigFrom
	for _, s := range f.Subnets {
		shown := InspectedSubnet{Subnet: ShownPrefix{s.Prefix}, Gateway: ShownAddr{s.Gateway}, AuxiliaryAddresses: s.Aux}
		if s.Range != s.Prefix {
			shown.IPRange = ShownPrefix{s.Range}
		}
		out.IPAM.Config = append(out.IPAM.Config, shown)
		if f.IPAM != "default" || out.ConfigOnly {
			continue // another IPAM plugin counts its addresses, and a configuration network has none
		}
		if out.Status == nil {
			out.Status = &InspectedStatus{}
			out.Status.IPAM.Subnets = map[netip.Prefix]InspectedUsage{}
		}
		inUse, available := s.Usage(leased)
		out.Status.IPAM.Subnets[s.Prefix] = InspectedUsage{inUse, available}
	}
	return out
}

// inspectEndpoints shows attachments by container. In Docker a container has one
// attachment to a network. Where it has more, the others get the key that Docker gives
// endpoints without a container.
func inspectEndpoints(attached []ShownEndpoint) map[string]InspectedEndpoint {
	out := map[string]InspectedEndpoint{}
	slices.SortStableFunc(attached, func(a, b ShownEndpoint) int { return cmp.Compare(a.IfName, b.IfName) })
	for _, e := range attached {
		key := e.Container
		if _, taken := out[key]; taken {
			key = "ep-" + e.EndpointID()
		}
		out[key] = e.Inspect()
	}
	return out
}

// Inspect shows the endpoint.
func (e ShownEndpoint) Inspect() InspectedEndpoint {
	out := InspectedEndpoint{Name: e.Name, EndpointID: e.EndpointID(), MacAddress: e.MAC}
	for _, a := range e.Addresses {
		switch {
		case a.Address.Addr().IsLoopback(): // of the network none
		case a.Address.Addr().Is6() && !out.IPv6Address.IsValid():
			out.IPv6Address = ShownPrefix{a.Address}
		case a.Address.Addr().Is4() && !out.IPv4Address.IsValid():
			out.IPv4Address = ShownPrefix{a.Address}
		}
	}
	for _, p := range e.Ports {
		if out.Ports == nil {
			out.Ports = map[string][]InspectedPort{}
		}
		key := fmt.Sprintf("%d/%s", p.ContainerPort, p.Protocol)
		out.Ports[key] = append(out.Ports[key], out.hostSide(p)...)
	}
	return out
}

// hostSide returns the host's addresses of a port. A port on any address is listed
// once for each family that the container has. One that is reached by the container's
// own address has no number there.
func (e InspectedEndpoint) hostSide(p firewall.Port) []InspectedPort {
	number := ""
	if p.HostPort != 0 {
		number = strconv.Itoa(int(p.HostPort))
	}
	if p.HostIP.IsValid() {
		return []InspectedPort{{p.HostIP.String(), number}}
	}
	var out []InspectedPort
	if e.IPv4Address.IsValid() {
		out = append(out, InspectedPort{netip.IPv4Unspecified().String(), number})
	}
	if e.IPv6Address.IsValid() {
		out = append(out, InspectedPort{netip.IPv6Unspecified().String(), number})
	}
	return out
}
