// Package gateways answers names at the gateway addresses of bridges, for virtual machines behind containers'
// interfaces, which have nothing of the sandbox that the name server is in: dnetd's.
package gateways

import (
	"log/slog"
	"net/netip"
	"sync"

	"dcni/pkg/dns"
	"dcni/pkg/host/dnssock"
	"dcni/pkg/host/nameserver"
	"dcni/pkg/names"
	"dcni/pkg/wire"
)

// A Place is where virtual machines ask: a gateway address on a network's bridge.
type Place struct {
	Link    string     `json:"link"`
	Address netip.Addr `json:"address"`
}

// A Guest is a sandbox, or the machine behind its interface.
type Guest interface {
	// Endpoint returns one of the sandbox's own, nil if it has none.
	Endpoint() *dns.Endpoint
}

// Gateways are the sockets at such places. All containers of a network share them: a query is one of the
// container that has its source address.
type Gateways struct {
	server *dns.Server
	log    *slog.Logger

	mu     sync.Mutex
	places map[Place]*gateway
	given  map[Place]dnssock.NameServer // a predecessor's sockets that are not served yet
}

// A gateway is one place.
type gateway struct {
	owners   map[wire.Attachment]asker // what asks there
	guests   sync.Map                  // their sandboxes, by address
	endpoint *dns.Endpoint             // nil: the sockets can't be had
	err      error                     // why not
}

// An asker is a guest and its addresses.
type asker struct {
	guest     Guest
	addresses []netip.Addr
}

// New returns none.
func New(s *dns.Server, log *slog.Logger) *Gateways {
	return &Gateways{server: s, log: log, places: map[Place]*gateway{}, given: map[Place]dnssock.NameServer{}}
}

func placesOf(r *names.Resolver) (list []Place) {
	for _, a := range r.Listen {
		list = append(list, Place{Link: r.Bridge, Address: a})
	}
	return list
}

// Put answers an attachment at its places, in place of those that it had before. Places
// whose sockets can't be had are tried again by [Gateways.Sync].
func (g *Gateways) Put(s Guest, r *names.Resolver) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forget(r.Owner)
	for _, p := range placesOf(r) {
		at := g.places[p]
		if at == nil {
			at = &gateway{owners: map[wire.Attachment]asker{}}
			g.places[p] = at
		}
		at.owners[r.Owner] = asker{s, r.Addresses}
		for _, a := range r.Addresses {
			at.guests.Store(a, s)
		}
		g.open(p, at)
	}
	g.prune()
}

// Drop ends that for an attachment. The sockets of a place go with its last one.
func (g *Gateways) Drop(owner wire.Attachment) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forget(owner)
	g.prune()
}

// forget takes an attachment from all places. An address that another one has got since is that one's.
func (g *Gateways) forget(owner wire.Attachment) {
	for _, at := range g.places {
		was := at.owners[owner]
		for _, a := range was.addresses {
			at.guests.CompareAndDelete(a, was.guest)
		}
		delete(at.owners, owner)
	}
}

func (g *Gateways) prune() {
	for p, at := range g.places {
		if len(at.owners) == 0 {
			at.close()
			delete(g.places, p)
		}
	}
}

// Sync opens what could not be opened before, and again what is bound to a bridge that is gone: another one has its name.
func (g *Gateways) Sync() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for p, at := range g.places {
		g.open(p, at)
	}
}

// Check returns why an attachment is not answered at its places, or nil.
func (g *Gateways) Check(r *names.Resolver) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range placesOf(r) {
		switch at := g.places[p]; {
		case at == nil:
			return wire.Errorf(wire.CodeInternal, "names at %s: no sockets", p.Address)
		case at.err != nil:
			return at.err
		case !at.on(p.Link):
			return wire.Errorf(wire.CodeInternal, "names at %s: the sockets are on a bridge %s that is gone", p.Address, p.Link)
		}
	}
	return nil
}

// open opens a place's sockets, unless they are on its link.
func (g *Gateways) open(p Place, at *gateway) {
	if at.endpoint != nil && at.on(p.Link) {
		return
	}
	before := at.err
	at.close()
	if at.err = g.serve(p, at); at.err != nil && (before == nil || before.Error() != at.err.Error()) {
		g.log.Warn("names are not answered at a gateway", "link", p.Link, "address", p.Address, "error", at.err)
	}
	if at.err == nil {
		g.log.Info("names are answered at a gateway", "link", p.Link, "address", p.Address)
	}
}

// serve answers at a place, by the sockets of a predecessor if there are some.
func (g *Gateways) serve(p Place, at *gateway) error {
	s, given := g.given[p]
	delete(g.given, p)
	if !given {
		var err error
		if s, err = nameserver.OpenAtGateway(p.Link, p.Address); err != nil {
			return err
		}
	}
	endpoint, err := g.server.ServeOwners(s.UDP, s.TCP, at.owner)
	at.endpoint = endpoint
	return err
}

// owner returns the endpoint that a query from an address is answered as.
func (at *gateway) owner(a netip.Addr) *dns.Endpoint {
	if s, known := at.guests.Load(a); known {
		return s.(Guest).Endpoint()
	}
	return nil
}

func (at *gateway) close() {
	if at.endpoint != nil {
		_ = at.endpoint.Close() // an error changes nothing: nothing is served there any more
	}
	at.endpoint = nil
}

// on reports whether the sockets are bound to the link that has a name now.
func (at *gateway) on(link string) bool {
	if at.endpoint == nil {
		return false
	}
	bound := ""
	gone := at.endpoint.Control(func(udp, _ int) { bound, _ = dnssock.LinkOf(udp) })
	return gone == nil && bound == link
}

// Adopt has a predecessor's sockets served once an attachment asks at their place.
func (g *Gateways) Adopt(given map[Place]dnssock.NameServer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.given = given
}

// CloseGiven closes what is left of them.
func (g *Gateways) CloseGiven() {
	g.mu.Lock()
	defer g.mu.Unlock()
	CloseAll(g.given)
}

// CloseAll closes sockets that nothing serves.
func CloseAll(given map[Place]dnssock.NameServer) {
	for p, s := range given {
		s.Close()
		delete(given, p)
	}
}

// Endpoints returns the endpoints by place.
func (g *Gateways) Endpoints() map[Place]*dns.Endpoint {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := map[Place]*dns.Endpoint{}
	for p, at := range g.places {
		if at.endpoint != nil {
			list[p] = at.endpoint
		}
	}
	return list
}
