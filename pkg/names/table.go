package names

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// A Network is what a network's configuration says about names. Each attachment
// brings one along, and that of the newest attachment counts.
type Network struct {
	Name     string
	Gateways []netip.Addr   // what host.docker.internal and gateway.docker.internal stand for
	Subnets  []netip.Prefix // where only attachments of this network and its gateways are
	Hosts    []HostEntry    // extra ones
	NoNames  bool           // its containers have no names
	TTL      uint32         // of its answers, in seconds
}

// equal reports whether two networks say the same.
func (n Network) equal(o Network) bool {
	same := func(a, b HostEntry) bool { return a.Name == b.Name && slices.Equal(a.Addresses, b.Addresses) }
	return n.Name == o.Name && n.NoNames == o.NoNames && n.TTL == o.TTL &&
		slices.Equal(n.Gateways, o.Gateways) && slices.Equal(n.Subnets, o.Subnets) && slices.EqualFunc(n.Hosts, o.Hosts, same)
}

// An Entry is what one attachment answers to.
type Entry struct {
	Container string // ID
	IfName    string
	Names     []string     // see [Identity.Names]
	Addresses []netip.Addr // of the interface
}

func key(container, ifname string) string { return container + "/" + ifname }

// A Table has the names of all networks. The zero Table is empty.
type Table struct {
	zones    map[string]*zone            // by the network's name
	subnets  []netip.Prefix              // of all of them
	services map[string]map[string]*node // of networks, by name; also of those without a zone
}

// Add returns a table with an attachment more. One of the same container and
// interface on that network is replaced.
func (t *Table) Add(n Network, e Entry) *Table {
	return t.with(n.Name, t.zone(n).add(e))
}

// AddRemote returns a table with an attachment of another node more, or in place of the
// one with its container and interface. What the network says of names is what its
// attachments on this node say.
func (t *Table) AddRemote(network string, e Entry) *Table {
	z := t.zones[network]
	if z == nil {
		z = newZone(Network{Name: network})
	}
	return t.with(network, z.add(e))
}

// Remove returns a table without an attachment, and without its network if that was
// the last attachment there. It returns the same table if there is no such attachment.
func (t *Table) Remove(network, container, ifname string) *Table {
	z := t.zones[network]
	if z == nil || z.entries.get(key(container, ifname)) == nil {
		return t
	}
	return t.with(network, z.remove(key(container, ifname)))
}

// WithServices returns a table with these names of services on a network, and no others: they
// come before names of containers.
func (t *Table) WithServices(network string, hosts []HostEntry) *Table {
	out := *t
	out.services = maps.Clone(t.services)
	if out.services == nil {
		out.services = map[string]map[string]*node{}
	}
	delete(out.services, network)
	if len(hosts) > 0 {
		nodes := make(map[string]*node, len(hosts))
		for _, h := range hosts {
			nodes[strings.ToLower(h.Name)] = newNode(nil, h.Addresses)
		}
		out.services[network] = nodes
	}
	if z := t.zones[network]; z != nil {
		same := *z
		return out.with(network, &same)
	}
	return &out
}

// zone returns that of a network, as the network is now.
func (t *Table) zone(n Network) *zone {
	z := t.zones[n.Name]
	if z == nil {
		return newZone(n)
	}
	if z.net.equal(n) {
		return z
	}
	fresh := newZone(n)
	fresh.entries, fresh.names, fresh.owners = z.entries, z.names, z.owners
	return fresh
}

func (t *Table) with(network string, z *zone) *Table {
	zones := maps.Clone(t.zones)
	if zones == nil {
		zones = map[string]*zone{}
	}
	zones[network] = z
	z.services = t.services[network]
	if z.entries.n == 0 {
		delete(zones, network)
	}
	return &Table{zones, subnetsOf(zones, t, network), t.services}
}

// subnetsOf returns the subnets of all zones. They are those of the table before unless
// the zone of a network has others.
func subnetsOf(zones map[string]*zone, before *Table, network string) []netip.Prefix {
	was, is := before.zones[network], zones[network]
	if was != nil && is != nil && slices.Equal(was.net.Subnets, is.net.Subnets) {
		return before.subnets
	}
	var all []netip.Prefix
	for _, z := range zones {
		all = append(all, z.net.Subnets...)
	}
	return all
}

// SameSubnets reports whether two tables have the same subnets, so that their views own
// the same addresses. It may report false where only the order differs.
func (t *Table) SameSubnets(o *Table) bool { return slices.Equal(t.subnets, o.subnets) }

// gatewayName is what Docker calls the gateway of a container.
const gatewayName = "gateway.docker.internal"

// A zone is one network's names.
type zone struct {
	net    Network
	suffix string           // "." and the network's name, in lower case
	fixed  map[string]*node // names that are no container's
	// services are names of the network's services; nil: none
	services map[string]*node
	entries  shards[*Entry]   // by key
	names    shards[*node]    // of containers
	owners   shards[[]*Entry] // by address; the newest owner is the last
}

func newZone(n Network) *zone {
	z := &zone{net: n, suffix: "." + strings.ToLower(n.Name), fixed: map[string]*node{}}
	for _, name := range []string{"host.docker.internal", gatewayName} {
		z.fixed[name] = newNode(nil, n.Gateways)
	}
	for _, h := range n.Hosts {
		z.fixed[strings.ToLower(h.Name)] = newNode(nil, h.Addresses)
	}
	return z
}

// add returns the zone with an entry in place of the one with its key.
func (z *zone) add(e Entry) *zone {
	own := Entry{Container: e.Container, IfName: e.IfName}
	for _, name := range e.Names {
		own.Names = append(own.Names, strings.ToLower(name))
	}
	for _, a := range e.Addresses {
		own.Addresses = append(own.Addresses, a.Unmap().WithZone(""))
	}
	out := z.remove(key(e.Container, e.IfName))
	out.entries = out.entries.with(key(e.Container, e.IfName), &own)
	for _, name := range own.Names {
		out.names = out.names.with(name, out.names.get(name).and(&own))
	}
	for _, a := range own.Addresses {
		owners := out.owners.get(a.String())
		out.owners = out.owners.with(a.String(), append(slices.Clone(owners), &own))
	}
	return out
}

// remove returns the zone without an entry, which may be missing.
func (z *zone) remove(key string) *zone {
	out := *z
	e := z.entries.get(key)
	if e == nil {
		return &out
	}
	out.entries = out.entries.without(key)
	for _, name := range e.Names {
		if node := out.names.get(name).without(e); node != nil {
			out.names = out.names.with(name, node)
		} else {
			out.names = out.names.without(name)
		}
	}
	for _, a := range e.Addresses {
		others := slices.DeleteFunc(slices.Clone(out.owners.get(a.String())), func(o *Entry) bool { return o == e })
		if len(others) > 0 {
			out.owners = out.owners.with(a.String(), others)
		} else {
			out.owners = out.owners.without(a.String())
		}
	}
	return &out
}

// find returns what a name means in this network, or nil.
func (z *zone) find(name []byte) *node {
	if node := z.fixed[string(name)]; node != nil {
		return node
	}
	if node := z.services[string(name)]; node != nil {
		return node
	}
	if z.net.NoNames {
		return nil
	}
	return z.names.find(name)
}
