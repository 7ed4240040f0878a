package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Element is one element of a set, or of a map if it has a Value. The parts of
// key and value are an [IfName], [Proto], [Service], [Family], [Mark], [MAC], [Jump], [netip.Addr] or
// [netip.Prefix], in the order of the set's types.
type Element struct {
	Set     string
	Key     []fmt.Stringer
	Value   []fmt.Stringer // nil in a set
	Comment string         // the owner
}

// IfName is an interface name; it prints in quotes.
type IfName string

func (n IfName) String() string { return strconv.Quote(string(n)) }

// Proto is a transport protocol.
type Proto string

func (p Proto) String() string { return string(p) }

// Mark is a mark of packets and connections.
type Mark uint32

func (m Mark) String() string { return fmt.Sprintf("0x%08x", uint32(m)) }

// Service is a port.
type Service uint16

func (s Service) String() string { return strconv.Itoa(int(s)) }

// Family is an address family, 4 or 6.
type Family int

// Families returns both.
func Families() []Family { return []Family{4, 6} }

func (f Family) String() string { return "ipv" + strconv.Itoa(int(f)) }

// Closed returns the element that closes the host as a router of a family.
func Closed(f Family) Element { return Element{Set: SetClosed, Key: []fmt.Stringer{f}} }

// String returns the element as nft takes it:
//
//	ports4 { tcp . 8080 comment "web c1/eth0" : 10.1.0.2 . 80 }
func (e Element) String() string {
	var b strings.Builder
	b.WriteString(e.Set + " { " + concat(e.Key))
	if e.Comment != "" {
		b.WriteString(" comment " + strconv.Quote(e.Comment))
	}
	if e.Value != nil {
		b.WriteString(" : " + concat(e.Value))
	}
	b.WriteString(" }")
	return b.String()
}

func concat(parts []fmt.Stringer) string {
	words := make([]string, len(parts))
	for i, p := range parts {
		words[i] = p.String()
	}
	return strings.Join(words, " . ")
}

// Elements returns what puts the network into the sets. The first is the
// bridge's own; its comment carries a digest of the others.
func (n *Network) Elements() []Element {
	bridge, comment := IfName(n.Bridge), NetworkComment(n.Name)
	var rest []Element
	add := func(set string, key ...fmt.Stringer) {
		rest = append(rest, Element{Set: set, Key: key, Comment: comment})
	}
	if n.ICC {
		add(SetICC, bridge, bridge)
	}
	if n.Internal {
		add(SetInternal, bridge)
	}
	if n.Overlay {
		add(SetOverlays, bridge)
		for _, a := range n.Self {
			rest = append(rest, Element{
				Set: byFamily(a.Is6(), MapSelf4, MapSelf6), Key: []fmt.Stringer{bridge}, Value: []fmt.Stringer{a}, Comment: comment,
			})
		}
	}
	if n.Hosts {
		add(SetHosts, bridge)
	}
	if n.Adopted && n.Masquerade && !n.Internal {
		add(SetMasqueraded, bridge)
	}
	if n.Masquerade && !n.Internal {
		for _, a := range n.SNAT {
			rest = append(rest, Element{
				Set: byFamily(a.Is6(), MapSNAT4, MapSNAT6), Key: []fmt.Stringer{bridge}, Value: []fmt.Stringer{a}, Comment: comment,
			})
		}
	}
	for _, f := range n.Unprotected {
		add(SetUnprotected, bridge, f)
	}
	for _, f := range n.Routed {
		add(SetRouted, bridge, f)
	}
	for _, name := range n.Trusted {
		add(SetTrusted, IfName(name), bridge)
	}
	if !n.ICC && n.OpenTo() {
		add(SetApart, bridge, bridge)
	}
	for _, subnet := range n.Subnets {
		subnet = subnet.Masked()
		v6 := subnet.Addr().Is6()
		add(byFamily(v6, SetSubnets4, SetSubnets6), bridge, subnet)
		if n.Masquerade && !n.Internal && !n.Adopted && !slices.Contains(n.Routed, familyOf(v6)) {
			add(byFamily(v6, SetMasquerade4, SetMasquerade6), subnet)
		}
	}
	first := Element{Set: SetBridges, Key: []fmt.Stringer{bridge}, Comment: comment + " " + digest(rest)}
	if n.Adopted {
		first.Set, first.Key = SetAdopted, []fmt.Stringer{bridge, bridge}
	}
	return append([]Element{first}, rest...)
}

// Elements returns what publishes the endpoint's ports on the host: one element a port and
// family. A port not yet chosen has none; nor has one of an IPv4 address for a
// container that has IPv6 only.
func (e *Endpoint) Elements() []Element {
	elements := make([]Element, 0, 2*len(e.Ports))
	for i := range e.Ports {
		if e.Ports[i].HostPort != 0 {
			elements = append(elements, e.PortElements(i)...)
		}
	}
	return elements
}

// PortElements returns the elements of the endpoint's port i, IPv4 first, also
// if it is not yet chosen.
func (e *Endpoint) PortElements(i int) []Element {
	p, ok := e.bound(e.Ports[i])
	if !ok {
		return nil
	}
	var elements []Element
	for _, v6 := range []bool{false, true} {
		if target, ok := e.target(v6); ok && p.Family(v6) {
			elements = append(elements, p.element(v6, target, Comment(e.Owner)))
		}
	}
	_, has4 := e.target(false)
	// A port of both families is claimed by its IPv4 element: with one more for
	// each of 1,000 ports an ADD took nearly twice as long.
	if _, has6 := e.target(true); has4 && !has6 && p.HostIP.IsValid() && p.Family(true) {
		elements = append(elements, p.relayedElement(Comment(e.Owner)))
	}
	return elements
}

// Guards returns what keeps invalid segments to published ports from the host.
func (e *Endpoint) Guards() []Element {
	var guards []Element
	for _, published := range e.Elements() {
		if guard, ok := guardOf(published); ok {
			guards = append(guards, guard)
		}
	}
	return guards
}

// guardOf returns the guard of an element that publishes a port.
func guardOf(e Element) (Element, bool) {
	set := GuardSet(e.Set)
	return Element{Set: set, Key: e.Key, Comment: e.Comment}, set != "" && !slices.Contains(e.Key, fmt.Stringer(Proto("udp")))
}

// GuardSet returns the set in which the guards of a map's ports are, "" for none.
func GuardSet(ports string) string {
	switch ports {
	case MapPorts4:
		return SetGuarded4
	case MapPorts4Addr:
		return SetGuarded4Addr
	case MapPorts6:
		return SetGuarded6
	case MapPorts6Addr:
		return SetGuarded6Addr
	}
	return ""
}

// GuardSets returns the sets that guards are in.
func GuardSets() []string {
	return []string{SetGuarded4, SetGuarded4Addr, SetGuarded6, SetGuarded6Addr}
}

// relayedElement claims a port of IPv6 for a container that lacks it.
func (p Port) relayedElement(comment string) Element {
	if p.Any() {
		return Element{Set: SetRelayed6, Key: p.AnyKey(), Comment: comment}
	}
	key := append([]fmt.Stringer{p.HostIP.Unmap()}, p.AnyKey()...)
	return Element{Set: SetRelayed6Addr, Key: key, Comment: comment}
}

func (p Port) element(v6 bool, target netip.Addr, comment string) Element {
	value := []fmt.Stringer{target, Service(p.ContainerPort)}
	key := p.AnyKey()
	if p.Any() {
		return Element{byFamily(v6, MapPorts4, MapPorts6), key, value, comment}
	}
	key = append([]fmt.Stringer{p.HostIP.Unmap()}, key...)
	return Element{byFamily(v6, MapPorts4Addr, MapPorts6Addr), key, value, comment}
}

// AnyKey returns the key that a binding of this port to any address has.
func (p Port) AnyKey() []fmt.Stringer {
	return []fmt.Stringer{Proto(p.Protocol), Service(p.HostPort)}
}

// target is the first address of a family.
func (e *Endpoint) target(v6 bool) (netip.Addr, bool) {
	for _, a := range e.Addresses {
		if a = a.Unmap(); a.IsValid() && a.Is6() == v6 {
			return a, true
		}
	}
	return netip.Addr{}, false
}

func byFamily(v6 bool, four, six string) string {
	if v6 {
		return six
	}
	return four
}
