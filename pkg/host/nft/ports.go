package nft

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"dcni/pkg/firewall"
	"dcni/pkg/host/hostports"
	"dcni/pkg/wire"
)

// allocator is what one ensureEndpoint must know about the host's ports. Each
// part is looked at once, when first needed.
type allocator struct {
	f         *Firewall
	endpoint  *firewall.Endpoint
	listeners map[string][]hostports.Listener // by protocol
	single    map[string]map[uint64]string    // by set: bindings to one address, their owner
	local     map[netip.Addr]bool             // host addresses found to be the host's
	siblings  map[string]bool                 // comments of the container's other attachments
}

// free tells whether a binding that is not there may be added: nil, or who has
// the port.
func (s *allocator) free(b binding) error {
	if err := s.hostAddress(b); err != nil {
		return err
	}
	if b.rule != nil && b.rule.comment != b.comment && !s.sharedBySibling(b, b.rule) {
		return allocated(b)
	}
	if b.port.Any() {
		single, err := s.singles(b.portSet)
		if err != nil {
			return err
		}
		if owner, taken := single[portWord(*b.port)]; taken && owner != b.comment && !s.isSibling(owner) {
			return allocated(b)
		}
	}
	if err := errors.Join(s.unrelayed(b), s.unpublished(b)); err != nil {
		return err
	}
	listeners, err := s.listening(b.port.Protocol)
	if err != nil {
		return err
	}
	for _, l := range listeners {
		if l.Port == b.port.HostPort && l.Takes(*b.port, b.v6) && !hostports.Reserved(l, s.endpoint.Owner.Container) {
			return wire.Errorf(wire.CodePortTaken, "failed to bind host port %s/%s: address already in use",
				b.port.HostAddr(b.v6), b.port.Protocol)
		}
	}
	return nil
}

// unrelayed tells whether a port of both families, which a container with IPv4
// only has relayed for IPv6, is relayed to no other container: nil, or that it is.
func (s *allocator) unrelayed(b binding) error {
	if b.v6 || b.port.HostIP.IsValid() || slices.ContainsFunc(s.endpoint.Addresses, netip.Addr.Is6) {
		return nil
	}
	for _, set := range []string{relayed.wide, relayed.single} {
		owners, err := s.singles(portSet{single: set})
		if err != nil {
			return err
		}
		if owner, taken := owners[portWord(*b.port)]; taken && owner != b.comment && !s.isSibling(owner) {
			return wire.Errorf(wire.CodePortTaken, "Bind for %s failed: port is already allocated", b.port.HostAddr(true))
		}
	}
	return nil
}

// unpublished tells whether a port of IPv6 alone, which a container with IPv4 only
// has relayed, is no other container's port of both families that is relayed as well: nil, or
// that it is. That one is claimed by its IPv4 element alone, which an IPv4 port has
// too; its owner's record tells.
func (s *allocator) unpublished(b binding) error {
	if b.portSet != relayed || s.f.EndpointOf == nil {
		return nil
	}
	found, err := s.f.get([]element{encode(firewall.Element{Set: firewall.MapPorts4, Key: b.port.AnyKey()})[0]})
	if err != nil || found[0] == nil || found[0].comment == b.comment || s.isSibling(found[0].comment) {
		return err
	}
	owner := s.f.EndpointOf(found[0].comment)
	if owner == nil || slices.ContainsFunc(owner.Addresses, netip.Addr.Is6) {
		return nil
	}
	for _, p := range owner.Ports {
		if portWord(p) == portWord(*b.port) && !p.HostIP.IsValid() {
			return allocated(b)
		}
	}
	return nil
}

// hostAddress refuses a host address that is not the host's: packets to it
// would never be looked up.
func (s *allocator) hostAddress(b binding) error {
	if b.port.Any() {
		return nil
	}
	ip := b.port.HostIP.Unmap()
	if s.local == nil {
		s.local = make(map[netip.Addr]bool)
	}
	if !hostports.IsLocal(s.local, ip) {
		return wire.Invalid("hostIP", ip.String(), "must be an address of this host, or empty for any")
	}
	return nil
}

// portWord is protocol and port as one number.
func portWord(p firewall.Port) uint64 {
	return uint64(hostports.Protocols[p.Protocol])<<16 | uint64(p.HostPort)
}

// singles lists the bindings to single addresses.
func (s *allocator) singles(of portSet) (map[uint64]string, error) {
	if single, ok := s.single[of.single]; ok {
		return single, nil
	}
	all, err := s.f.list(of.single)
	if err != nil {
		return nil, err
	}
	single := make(map[uint64]string, len(all))
	for _, e := range all {
		// The key ends in protocol and port, four bytes each.
		if n := len(e.key); n >= 8 {
			word := uint64(e.key[n-8])<<16 | uint64(binary.BigEndian.Uint16(e.key[n-4:]))
			single[word] = e.comment
		}
	}
	if s.single == nil {
		s.single = make(map[string]map[uint64]string)
	}
	s.single[of.single] = single
	return single, nil
}

func (s *allocator) listening(proto string) ([]hostports.Listener, error) {
	if l, ok := s.listeners[proto]; ok {
		return l, nil
	}
	l, err := hostports.Listeners(proto)
	if err != nil {
		return nil, fmt.Errorf("list %s listeners: %w", proto, err)
	}
	if s.listeners == nil {
		s.listeners = make(map[string][]hostports.Listener)
	}
	s.listeners[proto] = l
	return l, nil
}

// allocate writes a host port into every port that is 0. Ports that differ in
// their host address only get the same one.
func (s *allocator) allocate() error {
	ports := s.endpoint.Ports
	for i := range ports {
		if ports[i].HostPort != 0 {
			continue
		}
		group := []int{i}
		for j := i + 1; j < len(ports); j++ {
			if sameButAddress(ports, group, j) {
				group = append(group, j)
			}
		}
		if err := s.allocateGroup(group); err != nil {
			return err
		}
	}
	return nil
}

// sameButAddress reports whether port j can share the host port of a group.
func sameButAddress(ports []firewall.Port, group []int, j int) bool {
	p, first := ports[j], ports[group[0]]
	if p.HostPort != 0 || p.Protocol != first.Protocol || p.ContainerPort != first.ContainerPort {
		return false
	}
	return !slices.ContainsFunc(group, func(i int) bool { return ports[i].Overlaps(p) })
}

// candidatesAtOnce is how many ports are looked at in one exchange.
const candidatesAtOnce = 32

// allocateGroup chooses one host port for a group: the first free one from a
// random start. Finding any port of the range taken is an error 102.
func (s *allocator) allocateGroup(group []int) error {
	candidates, err := hostports.Ephemeral()
	if err != nil {
		return err
	}
	if len(candidates) > 0 {
		start := rand.IntN(len(candidates))
		candidates = append(slices.Clone(candidates[start:]), candidates[:start]...)
	}
	for some := range slices.Chunk(candidates, candidatesAtOnce) {
		port, err := s.firstFree(group, some)
		if err != nil {
			return err
		}
		if port != 0 {
			for _, i := range group {
				s.endpoint.Ports[i].HostPort = port
			}
			return nil
		}
	}
	return wire.Errorf(wire.CodePortTaken, "all ports are allocated")
}

// firstFree returns the first of the candidates that the whole group can have,
// 0 if there is none.
func (s *allocator) firstFree(group []int, candidates []uint16) (uint16, error) {
	var list []binding
	for _, port := range candidates {
		list = append(list, s.proposal(group, port)...)
	}
	if err := s.f.getBindings(list, getAll); err != nil {
		return 0, err
	}
	for len(candidates) > 0 {
		n := len(list) / len(candidates)
		free, err := s.canHave(list[:n], candidates[0])
		if err != nil {
			return 0, err
		}
		if free {
			return candidates[0], nil
		}
		list, candidates = list[n:], candidates[1:]
	}
	return 0, nil
}

// proposal returns the bindings of a group if it had the port.
func (s *allocator) proposal(group []int, port uint16) []binding {
	e := firewall.Endpoint{Owner: s.endpoint.Owner, Addresses: s.endpoint.Addresses}
	for _, i := range group {
		p := s.endpoint.Ports[i]
		p.HostPort = port
		e.Ports = append(e.Ports, p)
	}
	return bindings(&e)
}

func (s *allocator) canHave(list []binding, port uint16) (bool, error) {
	for _, b := range list {
		ownOther := func(p firewall.Port) bool {
			return p.HostPort == port && p.Protocol == b.port.Protocol && p.Overlaps(*b.port)
		}
		if b.have != nil || b.rule != nil || slices.ContainsFunc(s.endpoint.Ports, ownOther) {
			return false, nil
		}
		if err := s.free(b); isTaken(err) {
			return false, nil
		} else if err != nil {
			return false, err
		}
	}
	return true, nil
}

// sharedBySibling reports whether another attachment of the same container has what is
// there under a binding's key, and leads to the same port of the container.
func (s *allocator) sharedBySibling(b binding, have *element) bool {
	const portLen = 4 // the port lies behind the address
	port := func(data []byte) []byte { return data[max(0, len(data)-portLen):] }
	return bytes.Equal(port(have.data), port(b.data)) && s.isSibling(have.comment)
}

// isSibling reports whether a comment is that of another attachment of the same
// container.
func (s *allocator) isSibling(comment string) bool {
	if s.siblings == nil {
		s.siblings = make(map[string]bool)
		if s.f.Siblings != nil {
			for _, a := range s.f.Siblings(s.endpoint.Owner) {
				s.siblings[firewall.Comment(a)] = true
			}
		}
	}
	return s.siblings[comment]
}
