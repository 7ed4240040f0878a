package firewall

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Element is one element of a set, or of a map if it has a Value. The parts of
// key and value are an [IfName], [Proto], [Service], [netip.Addr] or
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

// Service is a port.
type Service uint16

func (s Service) String() string { return strconv.Itoa(int(s)) }

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
	for _, subnet := range n.Subnets {
		subnet = subnet.Masked()
		v6 := subnet.Addr().Is6()
		add(byFamily(v6, SetSubnets4, SetSubnets6), bridge, subnet)
		if n.Masquerade && !n.Internal {
			add(byFamily(v6, SetMasquerade4, SetMasquerade6), subnet)
		}
	}
	first := Element{Set: SetBridges, Key: []fmt.Stringer{bridge}, Comment: comment + " " + digest(rest)}
	return append([]Element{first}, rest...)
}

// Elements returns what publishes the endpoint's ports: one element a port and
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
	var elements []Element
	p := e.Ports[i]
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
