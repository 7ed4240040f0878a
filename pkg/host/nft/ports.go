package nft

import (
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

// allocator looks up for one ensureEndpoint what package firewall decides from: the
// claims of others, and the host's listeners and addresses. Each is looked at once,
// when first needed.
type allocator struct {
	f           *Firewall
	endpoint    *firewall.Endpoint
	fresh       bool   // the ports are new, and not to be put back
	from        string // comment of the attachment whose ports it takes over, "" for none
	listeners   hostports.Sockets
	connections hostports.Sockets
	single      map[string]map[uint16][]firewall.Claim // by set and port: claims to one address
	local       map[netip.Addr]bool                    // host addresses found to be the host's
	siblings    map[string]bool                        // comments of the container's other attachments
	others      map[uint16][]firewall.Claim            // of another backend, by port
	asked       bool                                   // others are known
}

// free returns nil if a binding that is not there may be added, or an error that
// names the port. Attachments that are siblings by their comments may share it.
func (s *allocator) free(b binding, sibling func(comment string) bool) error {
	if err := s.hostAddress(b); err != nil {
		return err
	}
	others, err := s.claimsOf(b)
	if err != nil {
		return err
	}
	if err := b.claim().Allocated(others, sibling); err != nil {
		return err
	}
	if err := s.relayFree(b, sibling); err != nil {
		return err
	}
	listeners, err := s.listeners.Of(b.port.Protocol, hostports.Listeners)
	if err != nil {
		return fmt.Errorf("list %s listeners: %w", b.port.Protocol, err)
	}
	kept := false // for the container: what is connected is connected to that
	for _, l := range listeners[b.port.HostPort] {
		if !l.Takes(*b.port, b.v6) {
			continue
		}
		if kept = hostports.Reserved(l, s.endpoint.Owner.Container); !kept {
			return hostports.Taken(l, *b.port, b.v6)
		}
	}
	if kept {
		return nil
	}
	return s.unconnected(b)
}

// fewPorts is how many ports are tried one by one. A list of a host's connections is long.
const fewPorts = 32

// unconnected refuses a new port that a connection of the host has at its own end, as Docker
// does, which binds it. Where conntrack does not know the connection, as before the first rules,
// what comes from its peer would be translated.
func (s *allocator) unconnected(b binding) error {
	if !s.fresh || len(s.endpoint.Ports) <= fewPorts && hostports.Bindable(*b.port, b.v6) {
		return nil
	}
	connections, err := s.connections.Of(b.port.Protocol, hostports.Connections)
	if err != nil {
		return fmt.Errorf("list %s connections: %w", b.port.Protocol, err)
	}
	for _, c := range connections[b.port.HostPort] {
		if c.Takes(*b.port, b.v6) && !hostports.Bindable(*b.port, b.v6) {
			return hostports.Connected(c, *b.port, b.v6)
		}
	}
	return nil
}

// claimsOf looks up what could exclude a binding: the one to any address, or all to
// single ones; and for what is relayed, ports of both families, whose relay has no
// element: the owner's record tells.
func (s *allocator) claimsOf(b binding) (claims []firewall.Claim, err error) {
	defer func() { claims = slices.Concat(claims, s.others[b.port.HostPort]) }()
	if err := s.askOthers(); err != nil {
		return nil, err
	}
	if b.rule != nil {
		claims = append(claims, b.rule.claim())
	}
	if b.port.Any() {
		single, err := s.singles(b.portSet.single)
		if err != nil {
			return nil, err
		}
		claims = single[b.port.HostPort]
	}
	if b.portSet != relayed || s.f.EndpointOf == nil {
		return claims, nil
	}
	found, err := s.f.get([]element{encode(firewall.Element{Set: firewall.MapPorts4, Key: b.port.AnyKey()})[0]})
	if err != nil || found[0] == nil {
		return claims, err
	}
	if owner := s.f.EndpointOf(found[0].comment); owner != nil {
		for _, p := range owner.Ports {
			if c, ok := owner.ImpliedRelay(p); ok {
				claims = append(slices.Clone(claims), c)
			}
		}
	}
	return claims, nil
}

// askOthers finds out what another backend publishes.
func (s *allocator) askOthers() (err error) {
	if s.f.Others == nil || s.asked {
		return nil
	}
	list, err := s.f.Others()
	s.others, s.asked = firewall.ByPort(list), err == nil
	return err
}

// relayFree tells whether the relay that a port of both families implies can be had.
// The port's IPv4 binding stands for it.
func (s *allocator) relayFree(b binding, sibling func(comment string) bool) error {
	c, ok := s.endpoint.ImpliedRelay(*b.port)
	if b.v6 || !ok {
		return nil
	}
	for _, set := range []string{relayed.wide, relayed.single} {
		others, err := s.singles(set)
		if err != nil {
			return err
		}
		if err := c.Allocated(others[c.Port], sibling); err != nil {
			return err
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
	local, err := hostports.IsLocal(s.local, ip)
	if err == nil && !local {
		err = wire.Invalid("hostIP", ip.String(), "must be an address of this host, or empty for any")
	}
	return err
}

// singles lists the claims of a set that is short, by port.
func (s *allocator) singles(set string) (map[uint16][]firewall.Claim, error) {
	if single, ok := s.single[set]; ok {
		return single, nil
	}
	all, err := s.f.list(set)
	if err != nil {
		return nil, err
	}
	single := make(map[uint16][]firewall.Claim, len(all))
	for _, e := range all {
		c := e.claim()
		single[c.Port] = append(single[c.Port], c)
	}
	if s.single == nil {
		s.single = make(map[string]map[uint16][]firewall.Claim)
	}
	s.single[set] = single
	return single, nil
}

// Claims lists the ports that are published.
func (f *Firewall) Claims() (claims []firewall.Claim, err error) {
	all, err := f.list(portSetNames()...)
	for _, e := range all {
		claims = append(claims, e.claim())
	}
	return claims, err
}

// claim reads an element of a port set: the address unless it is any, protocol and
// port; behind them, in a map, the container's address and port.
func (e element) claim() firewall.Claim {
	const word = 4 // what protocol and port take, each
	c := firewall.Claim{Owner: e.comment, Relayed: e.set == relayed.wide || e.set == relayed.single}
	c.Addr = netip.IPv4Unspecified()
	if portSetOf(e.set).v6 {
		c.Addr = netip.IPv6Unspecified()
	}
	n := len(e.key) - 2*word
	if n < 0 {
		return c
	}
	if addr, ok := netip.AddrFromSlice(e.key[:n]); ok {
		c.Addr = addr
	}
	for name, number := range hostports.Protocols {
		if number == e.key[n] {
			c.Protocol = name
		}
	}
	c.Port = binary.BigEndian.Uint16(e.key[n+word:])
	if n := len(e.data) - word; n >= 0 {
		c.ContainerPort = binary.BigEndian.Uint16(e.data[n:])
	}
	return c
}

// candidatesAtOnce is how many ports are looked at in one exchange where few are chosen.
const candidatesAtOnce = 32

// allocate writes a host port into every port that is 0: the first free ones from a random
// start. Where that many are not free it is an error 102.
func (s *allocator) allocate() error {
	choices := s.endpoint.Choices()
	if len(choices) == 0 {
		return nil
	}
	candidates, err := hostports.Ephemeral()
	if err != nil {
		return err
	}
	for _, c := range choices {
		if c.Left() > len(candidates) {
			return wire.Errorf(wire.CodePortTaken, "all ports are allocated: portMappings with hostPort 0: must be at most %d, which are in net.ipv4.ip_local_port_range; they are %d",
				len(candidates), c.Left())
		}
	}
	start := rand.IntN(len(candidates))
	candidates = append(slices.Clone(candidates[start:]), candidates[:start]...)
	for _, c := range choices {
		if err := s.choose(c, candidates); err != nil {
			return err
		}
	}
	return nil
}

// choose looks at as many candidates at once as are to be chosen.
func (s *allocator) choose(c *firewall.Choice, candidates []uint16) error {
	for c.Left() > 0 {
		n := min(max(c.Left(), candidatesAtOnce), len(candidates))
		if n == 0 {
			return wire.Errorf(wire.CodePortTaken, "all ports are allocated")
		}
		if err := s.takeFree(c, candidates[:n]); err != nil {
			return err
		}
		candidates = candidates[n:]
	}
	return nil
}

// takeFree takes those of the candidates that can be had, and no more than are to be chosen.
func (s *allocator) takeFree(c *firewall.Choice, candidates []uint16) error {
	proposal := c.Propose(candidates)
	list := bindings(proposal)
	if err := s.f.getBindings(list, getAll); err != nil {
		return err
	}
	for at := 0; at < len(proposal.Ports) && c.Left() > 0; {
		port := proposal.Ports[at].HostPort
		for at < len(proposal.Ports) && proposal.Ports[at].HostPort == port {
			at++
		}
		n := 0 // none where the container has no address of that family
		for n < len(list) && list[n].port.HostPort == port {
			n++
		}
		err := s.canHave(list[:n])
		if err == nil {
			c.Take(port)
		} else if !isTaken(err) {
			return err
		}
		list = list[n:]
	}
	return nil
}

// canHave returns nil if bindings can be added and nothing is there in their place,
// not even of a sibling: a chosen port is a new one.
func (s *allocator) canHave(list []binding) error {
	for _, b := range list {
		if b.have != nil || b.rule != nil {
			return allocated(b)
		}
		if err := s.free(b, func(string) bool { return false }); err != nil {
			return err
		}
		if !hostports.Bindable(*b.port, b.v6) {
			return allocated(b)
		}
	}
	return nil
}

// sharedBySibling reports whether another attachment of the same container has what is
// there under a binding's key, and leads to the same port of the container.
func (s *allocator) sharedBySibling(b binding) bool {
	return b.have.claim().SamePort(b.claim()) && s.isSibling(b.have.comment)
}

// isSibling reports whether a comment is that of another attachment of the same
// container.
func (s *allocator) isSibling(comment string) bool {
	if s.from != "" && comment == s.from {
		return true // its record may be gone
	}
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

// isTaken reports whether err says that a port is taken.
func isTaken(err error) bool {
	var we *wire.Error
	return errors.As(err, &we) && we.Code == wire.CodePortTaken
}
