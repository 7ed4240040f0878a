package iptables

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"dcni/pkg/firewall"
	"dcni/pkg/host/hostports"
	"dcni/pkg/wire"
)

// isCode reports whether an error has a code.
func isCode(err error, code wire.Code) bool {
	we, is := errors.AsType[*wire.Error](err)
	return is && we.Code == code
}

// An allocator looks up for one endpoint what package firewall decides from: the claims of
// others, and the host's listeners and addresses.
type allocator struct {
	f                      *Firewall
	endpoint               *firewall.Endpoint
	claims                 map[uint16][]firewall.Claim // of all, by either backend, by port
	listeners, connections hostports.Sockets
	local                  map[netip.Addr]bool // the host's addresses
	siblings               []string            // comments of the container's other attachments
}

// claim makes sure that an endpoint can have its ports. Those that are 0 are chosen and written
// into it. The caller holds the lock of the firewall, by which that holds until it has them.
func (f *Firewall) claim(e *firewall.Endpoint) (err error) {
	if err := e.Validate(); err != nil {
		return err
	}
	asked := slices.Clone(e.Ports)
	defer func() {
		if err != nil {
			copy(e.Ports, asked) // nothing was published: no port is chosen either
		}
	}()
	a := &allocator{f: f, endpoint: e, local: map[netip.Addr]bool{}}
	own, err := f.Claims()
	if err != nil {
		return err
	}
	others, err := f.Others()
	if err != nil {
		return err
	}
	a.claims = firewall.ByPort(append(own, others...))
	for _, s := range f.Siblings(e.Owner) {
		a.siblings = append(a.siblings, firewall.Comment(s))
	}
	if err := a.allocate(); err != nil {
		return err
	}
	for i := range e.Ports {
		if err := a.free(e, i); err != nil {
			return err
		}
	}
	return nil
}

// free returns nil if an endpoint can have its port i, or an error that names the port.
func (a *allocator) free(e *firewall.Endpoint, i int) error {
	p := e.Ports[i]
	if relay, ok := e.ImpliedRelay(p); ok {
		if err := relay.Allocated(a.claims[relay.Port], a.isSibling); err != nil {
			return err
		}
	}
	for _, el := range e.PortElements(i) {
		c := el.Claim()
		if slices.Contains(a.claims[c.Port], c) {
			continue // it has it
		}
		if err := a.hostAddress(p); err != nil {
			return err
		}
		others := a.claims[c.Port]
		if c.Relayed {
			others = append(slices.Clone(others), a.implied(c)...)
		}
		if err := c.Allocated(others, a.isSibling); err != nil {
			return err
		}
		if err := a.unused(p, c.Addr.Is6()); err != nil {
			return err
		}
	}
	return nil
}

// implied returns the relays of the ports that have the number of a relayed one: those of both
// families, of containers that have IPv4 only, have no rule.
func (a *allocator) implied(c firewall.Claim) (list []firewall.Claim) {
	for _, o := range a.claims[c.Port] {
		if o.Protocol != c.Protocol || o.Owner == c.Owner {
			continue
		}
		if owner := a.f.EndpointOf(o.Owner); owner != nil {
			for _, p := range owner.Ports {
				if relay, ok := owner.ImpliedRelay(p); ok {
					list = append(list, relay)
				}
			}
		}
	}
	return list
}

func (a *allocator) isSibling(comment string) bool { return slices.Contains(a.siblings, comment) }

// hostAddress refuses an address that is not the host's.
func (a *allocator) hostAddress(p firewall.Port) error {
	if p.Any() {
		return nil
	}
	ip := p.HostIP.Unmap()
	local, err := hostports.IsLocal(a.local, ip)
	if err == nil && !local {
		err = wire.Invalid("hostIP", ip.String(), "must be an address of this host, or empty for any")
	}
	return err
}

// unused returns Docker's error where a program of the host listens at a port, or, at a new one,
// has a connection: where conntrack does not know that, what its peer sends would be translated.
func (a *allocator) unused(p firewall.Port, v6 bool) error {
	listeners, err := a.listeners.Of(p.Protocol, hostports.Listeners)
	if err != nil {
		return fmt.Errorf("list %s listeners: %w", p.Protocol, err)
	}
	kept := false // for the container: what is connected is connected to that
	for _, l := range listeners[p.HostPort] {
		if !l.Takes(p, v6) {
			continue
		}
		if kept = hostports.Reserved(l, a.endpoint.Owner.Container); !kept {
			return hostports.Taken(l, p, v6)
		}
	}
	if kept || a.f.looked.Load() || hostports.Bindable(p, v6) {
		return nil
	}
	connections, err := a.connections.Of(p.Protocol, hostports.Connections)
	if err != nil {
		return fmt.Errorf("list %s connections: %w", p.Protocol, err)
	}
	for _, c := range connections[p.HostPort] {
		if c.Takes(p, v6) {
			return hostports.Connected(c, p, v6)
		}
	}
	return nil
}

// allocate writes a host port into every port that is 0: the first free ones from a random start.
func (a *allocator) allocate() error {
	choices := a.endpoint.Choices()
	if len(choices) == 0 {
		return nil
	}
	candidates, err := hostports.Ephemeral()
	if err != nil {
		return err
	}
	if len(candidates) > 0 {
		start := rand.IntN(len(candidates))
		candidates = append(slices.Clone(candidates[start:]), candidates[:start]...)
	}
	for _, c := range choices {
		for _, port := range candidates {
			if c.Left() == 0 {
				break
			}
			proposal := c.Propose([]uint16{port})
			free, err := a.allFree(proposal)
			if err != nil {
				return err
			}
			if free && len(proposal.Ports) > 0 {
				c.Take(port)
			}
		}
		if c.Left() > 0 {
			return wire.Errorf(wire.CodePortTaken, "all ports are allocated: portMappings with hostPort 0: %d more than are free in net.ipv4.ip_local_port_range", c.Left())
		}
	}
	return nil
}

// allFree reports whether an endpoint's ports are free, also of its siblings: a chosen port is a
// new one.
func (a *allocator) allFree(e *firewall.Endpoint) (bool, error) {
	for i, p := range e.Ports {
		for _, el := range e.PortElements(i) {
			c := el.Claim()
			if slices.ContainsFunc(a.claims[c.Port], c.Excludes) || !hostports.Bindable(p, c.Addr.Is6()) {
				return false, nil
			}
		}
		if err := a.free(e, i); err != nil {
			if !isCode(err, wire.CodePortTaken) {
				return false, err
			}
			return false, nil
		}
	}
	return true, nil
}
