package names

import (
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
)

// A Family is a family of addresses.
type Family int

// The families.
const (
	IPv4 Family = iota
	IPv6
)

// A View is what containers on the same networks see of a table. It may be asked by
// any number of them while [View.Show] changes it. A nil View is empty.
type View struct {
	networks []string
	links    map[string][]Link // by network
	now      atomic.Pointer[sight]
}

// A sight is a view of one table.
type sight struct {
	zones     []*zone        // in the order in which they are asked
	qualified []*zone        // the same for name.network: names of networks with fewest dots first
	subnets   []netip.Prefix // of all networks, whether the container is on them or not
	links     map[string]linked
}

// A linked is what an alias stands for: a name of a container of one network.
type linked struct {
	zone *zone
	name []byte
}

// View returns what a container on these networks sees. Docker asks the networks in
// the order of their gateway priorities. A network that is not in the table has no names.
func (t *Table) View(networks ...string) *View { return t.ViewWithLinks(nil, networks...) }

// ViewWithLinks returns what a container sees that has links, by network. Their aliases come
// before all other names, and lead to containers of networks that give no names, too.
func (t *Table) ViewWithLinks(links map[string][]Link, networks ...string) *View {
	v := &View{networks: networks, links: links}
	v.Show(t)
	return v
}

// Show makes the view one of another table.
func (v *View) Show(t *Table) {
	s := &sight{subnets: t.subnets}
	for _, network := range v.networks {
		if z := t.zones[network]; z != nil && !slices.Contains(s.zones, z) {
			s.zones = append(s.zones, z)
		}
	}
	for _, z := range slices.Backward(s.zones) { // of one alias, the network that is asked first counts
		for _, l := range v.links[z.net.Name] {
			if s.links == nil {
				s.links = map[string]linked{}
			}
			target := strings.ToLower(l.Target)
			if len(target) > ShortID && z.names.get(target) == nil {
				target = target[:ShortID] // an ID
			}
			s.links[strings.ToLower(l.Alias)] = linked{z, []byte(target)}
		}
	}
	s.qualified = slices.Clone(s.zones)
	slices.SortStableFunc(s.qualified, func(a, b *zone) int {
		return strings.Count(a.suffix, ".") - strings.Count(b.suffix, ".")
	})
	v.now.Store(s)
}

// OnAny reports whether the view is one of any of these networks.
func (v *View) OnAny(networks map[string]bool) bool {
	return slices.ContainsFunc(v.networks, func(network string) bool { return networks[network] })
}

// An Answer is addresses of one family.
type Answer struct {
	Addresses []netip.Addr // not to be changed
	First     int          // index of the one to begin with
	TTL       uint32       // seconds
}

// Lookup returns the addresses of a name, which is in lower case and without
// the last dot. Known says that the name exists, maybe without an address of that
// family. It does not allocate.
func (v *View) Lookup(name []byte, f Family) (a Answer, known bool) {
	if v == nil {
		return a, false
	}
	s := v.now.Load()
	if l, is := s.links[string(name)]; is {
		if node := l.zone.names.find(l.name); node != nil {
			known = true
			if a, ok := l.zone.answer(node, f); ok {
				return a, true
			}
			return a, known
		}
	}
	for _, z := range s.zones {
		if node := z.find(name); node != nil {
			known = true
			if a, ok := z.answer(node, f); ok {
				return a, true
			}
		}
	}
	for _, z := range s.qualified {
		at := len(name) - len(z.suffix)
		if at <= 0 || string(name[at:]) != z.suffix {
			continue
		}
		if node := z.find(name[:at]); node != nil {
			known = true
			if a, ok := z.answer(node, f); ok {
				return a, true
			}
		}
	}
	return a, known
}

func (z *zone) answer(n *node, f Family) (Answer, bool) {
	addresses, first := n.families[f].next()
	return Answer{addresses, first, z.net.TTL}, len(addresses) > 0
}

// Owns reports whether all addresses of a prefix are of a network of ours: what has no name
// here has none elsewhere.
func (v *View) Owns(p netip.Prefix) bool {
	return v.anySubnet(func(own netip.Prefix) bool { return own.Bits() <= p.Bits() && own.Contains(p.Addr()) })
}

// OwnsBelow reports whether a prefix has a network of ours in it.
func (v *View) OwnsBelow(p netip.Prefix) bool {
	return v.anySubnet(func(own netip.Prefix) bool { return p.Bits() <= own.Bits() && p.Contains(own.Addr()) })
}

func (v *View) anySubnet(is func(netip.Prefix) bool) bool {
	return v != nil && slices.ContainsFunc(v.now.Load().subnets, is)
}

// Pointer returns the name of an address and its time to live in seconds:
// name.network, or the name alone where that is no domain name, as on a network
// whose name has 64 letters. A gateway is gateway.docker.internal.
func (v *View) Pointer(a netip.Addr) (name string, ttl uint32, ok bool) {
	if v == nil {
		return "", 0, false
	}
	a = a.Unmap()
	for _, z := range v.now.Load().zones {
		if slices.Contains(z.net.Gateways, a) && z.owns(a) {
			return gatewayName, z.net.TTL, true
		}
		owners := z.owners.get(a.String())
		if len(owners) == 0 || z.net.NoNames {
			continue
		}
		if last := owners[len(owners)-1]; len(last.Names) > 0 {
			name := last.Names[0] + z.suffix
			if !valid(name) {
				name = last.Names[0]
			}
			return name, z.net.TTL, true
		}
	}
	return "", 0, false
}

func (z *zone) owns(a netip.Addr) bool {
	return slices.ContainsFunc(z.net.Subnets, func(p netip.Prefix) bool { return p.Contains(a) })
}
