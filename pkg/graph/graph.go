// Package graph draws the networks of a host: as text, SVG, Mermaid
// (https://mermaid.js.org) and DOT (https://graphviz.org). It is pure: what is drawn is what
// `dnet inspect` shows.
package graph

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"dcni/pkg/network/catalog"
)

// A Graph is what is drawn.
type Graph struct {
	Host       string // its name
	Uplink     string // the link that leads out; "" if none does
	Networks   []Network
	Containers []Container
}

// A Network is one with the places of its containers.
type Network struct {
	Name, Driver string
	Internal     bool
	Modes        []string // gateway modes besides nat: "IPv6 routed"
	Link         string   // its bridge, or the parent of its interfaces; "" if it has none
	Subnets      []string // with the gateway: "172.18.0.0/16, gateway 172.18.0.1"
	Nodes        []string // other nodes that have containers on it
	Services     []string // as "service web: 2/2 ready, 10.88.0.100, *:8080->80/tcp"
}

// A Container is one with its places on networks, the gateway network's first.
type Container struct {
	ID, Name string
	Places   []Place
}

// A Place is a container's on one network.
type Place struct {
	Network   string
	Addresses []string
	// Ports are published, "8080 to 80/tcp", or "80/tcp" without a port of the host. All of a container's
	// networks may have them; they are those of the first place.
	Ports   []string
	Gateway bool // the container's default route leads by this network
}

// Of returns the graph of networks as they are inspected. links are the networks' bridges
// or parents by network, gateways the gateway networks by container's key in Containers.
func Of(list []*catalog.Inspection, links map[string]string, gateways map[string][]string) Graph {
	var g Graph
	at := map[string]*Container{}
	for _, n := range list {
		g.Networks = append(g.Networks, networkOf(n, links[n.Name]))
		for _, key := range slices.Sorted(maps.Keys(n.Containers)) {
			e := n.Containers[key]
			c := at[key]
			if c == nil {
				c = &Container{ID: key, Name: cmp.Or(e.Name, key)}
				at[key] = c
			}
			c.Places = append(c.Places, placeOf(n.Name, e, slices.Contains(gateways[key], n.Name)))
		}
	}
	slices.SortFunc(g.Networks, func(a, b Network) int { return catalog.Natural(a.Name, b.Name) })
	for _, key := range slices.Sorted(maps.Keys(at)) {
		c := at[key]
		slices.SortStableFunc(c.Places, func(a, b Place) int {
			return cmp.Or(before(a.Gateway, b.Gateway), catalog.Natural(a.Network, b.Network))
		})
		c.sharePorts()
		g.Containers = append(g.Containers, *c)
	}
	slices.SortStableFunc(g.Containers, func(a, b Container) int { return catalog.Natural(a.Name, b.Name) })
	return g
}

// sharePorts leaves a port that several places have to the first of them.
func (c *Container) sharePorts() {
	seen := map[string]bool{}
	for i := range c.Places {
		p := &c.Places[i]
		p.Ports = slices.DeleteFunc(p.Ports, func(port string) bool { return seen[port] })
		for _, port := range p.Ports {
			seen[port] = true
		}
	}
}

// before orders what is before what is not.
func before(a, b bool) int {
	switch {
	case a && !b:
		return -1
	case b && !a:
		return 1
	}
	return 0
}

func networkOf(n *catalog.Inspection, link string) Network {
	out := Network{Name: n.Name, Driver: n.Driver, Internal: n.Internal, Link: link}
	for _, family := range []string{"4", "6"} {
		// Docker's name: so dnet inspect shows the mode, however the network's file says it.
		if mode := n.Options["com.docker.network.bridge.gateway_mode_ipv"+family]; mode != "" && mode != "nat" {
			out.Modes = append(out.Modes, "IPv"+family+" "+mode)
		}
	}
	for _, s := range n.IPAM.Config {
		if !s.Subnet.IsValid() {
			continue
		}
		text := s.Subnet.String()
		if s.Gateway.IsValid() {
			text += ", gateway " + s.Gateway.String()
		}
		out.Subnets = append(out.Subnets, text)
	}
	for _, p := range n.Peers {
		out.Nodes = append(out.Nodes, p.Name)
	}
	return out
}

func placeOf(name string, e catalog.InspectedEndpoint, gateway bool) Place {
	p := Place{Network: name, Gateway: gateway}
	for _, a := range []netip.Prefix{e.IPv4Address.Prefix, e.IPv6Address.Prefix} {
		if a.IsValid() {
			p.Addresses = append(p.Addresses, a.Addr().String())
		}
	}
	for _, inside := range slices.SortedFunc(maps.Keys(e.Ports), catalog.Natural) {
		for _, host := range e.Ports[inside] {
			text := hostPort(host) + " to " + inside
			if host.HostPort == "" { // reached by the container's address
				text = inside
			}
			if !slices.Contains(p.Ports, text) { // 0.0.0.0 and :: are one
				p.Ports = append(p.Ports, text)
			}
		}
	}
	return p
}

// hostPort is a port of the host, with its address if that is a single one.
func hostPort(p catalog.InspectedPort) string {
	if a, err := netip.ParseAddr(p.HostIP); err != nil || a.IsUnspecified() {
		return p.HostPort
	}
	if strings.Contains(p.HostIP, ":") {
		return "[" + p.HostIP + "]:" + p.HostPort
	}
	return p.HostIP + ":" + p.HostPort
}

// on returns a network's containers with their places there.
func (g Graph) on(name string) (list []Container, places []Place) {
	for _, c := range g.Containers {
		for _, p := range c.Places {
			if p.Network == name {
				list, places = append(list, c), append(places, p)
			}
		}
	}
	return list, places
}

// kind says what a network is in a few words: "bridge, internal".
func (n Network) kind() string {
	words := []string{n.Driver}
	if n.Internal {
		words = append(words, "internal")
	}
	return strings.Join(append(words, n.Modes...), ", ")
}

// others names the networks of a container but one.
func (c Container) others(name string) (list []string) {
	for _, p := range c.Places {
		if p.Network != name {
			list = append(list, p.Network)
		}
	}
	return list
}

// many is "1 container", "3 containers".
func many(n int, word string) string {
	if n != 1 {
		word += "s"
	}
	return strconv.Itoa(n) + " " + word
}
