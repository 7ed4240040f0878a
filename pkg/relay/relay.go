// Package relay passes on what netfilter can't publish: ports of ::1, and IPv6
// ports of the host for containers that have IPv4 only ([firewall.Relay]).
//
// One [Relay] serves a whole host. All listening sockets are in one epoll
// instance, which one goroutine waits for: a port costs a descriptor and some
// 500 bytes. A TCP (or SCTP) connection has two goroutines while it lives, and a
// buffer only while data passes. UDP has no goroutines: a client has a socket towards
// the container, in the same epoll instance, until it was silent for 90 s (Docker's
// UDPConnTrackTimeout).
//
// Containers see connections come from the host.
//
// # Caveats
//
// SCTP is relayed as one-to-one sockets: messages of up to 64 KiB stay whole,
// streams and payload protocol identifiers are lost. A second Relay on the same
// ports, to which sockets are handed over, begins UDP clients anew: containers
// see them come from another port.
package relay

import (
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"dcni/pkg/firewall"
	"dcni/pkg/poll"
)

// limits bound what a relay serves.
type limits struct {
	connections     int           // at a time; more are reset
	portConnections int           // of a port
	sessions        int           // UDP clients at a time; a new one replaces the one that was silent for longest
	portSessions    int           // of a port
	silence         time.Duration // of a UDP client, until it is forgotten: Docker's UDPConnTrackTimeout
	sweep           time.Duration // how often silent clients are looked for
	retry           time.Duration // how often a port that another program has is tried again
}

var defaultLimits = limits{
	connections: 8192, portConnections: 4096, sessions: 8192, portSessions: 2048,
	silence: 90 * time.Second, sweep: 5 * time.Second, retry: 10 * time.Second,
}

// Config is what a Relay needs.
type Config struct {
	Log *slog.Logger
	// Mark is the mark of the listening sockets (SO_MARK); 0 is none.
	Mark uint32
	// Allowed reports whether clients that come by the link of an index may use
	// the relay; nil is always true. It is called for each client with the relay's
	// lock held, and must not wait for long.
	Allowed func(link int) bool
	// LinkTo returns the index of the link that leads to a client. It is called
	// for SCTP, where the kernel does not tell by which link a client came: the
	// handshake's answers went by that one. If it is nil, Allowed gets 0.
	LinkTo func(client netip.Addr) int
}

// A Relay listens on ports and passes on what comes.
type Relay struct {
	Config
	limits limits
	epoll  *poll.Epoll
	loop   sync.WaitGroup
	live   sync.WaitGroup // goroutines of connections

	mu      sync.Mutex // guards the fields below
	owners  map[string][]*claim
	ports   map[portKey]*port
	watched map[int32]watched // by descriptor
	busy    map[*socket]bool  // those with UDP sessions
	waiting map[portKey]bool  // those that lack a socket
	paused  []*socket         // not watched for a moment
	tick    time.Time         // when the loop calls housekeep; zero is never
	adopted map[Socket]int    // descriptors that no claim uses yet
	stats   Stats
	buffer  [1 << 16]byte // the loop's
}

// Stats are figures of a Relay.
type Stats struct {
	Ports       int    // claimed
	Waiting     int    // without a socket, because another program has the port
	Connections int    // now
	Sessions    int    // UDP clients now
	Accepted    uint64 // connections and UDP sessions ever
	Refused     uint64 // of those, by the container, a limit or Allowed
	Bytes       uint64 // passed on, both ways; of connections once they end
}

// watched is what the epoll instance watches.
type watched interface {
	ready(r *Relay)
}

// portKey is a port of a protocol, on whatever address.
type portKey struct {
	protocol string
	number   uint16
}

// A port has the claims to it, oldest first, and the sockets that they need.
type port struct {
	claims  []*claim
	sockets []*socket
}

// A claim is one [firewall.Relay] of an owner.
type claim struct {
	firewall.Relay
	owner string
	conns map[*conn]bool // nil until there is one
}

func (c *claim) key() portKey { return portKey{c.Protocol, c.Listen.Port()} }

// New starts a relay without ports.
func New(c Config) (*Relay, error) {
	epoll, err := poll.New()
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	r := &Relay{
		Config: c, limits: defaultLimits, epoll: epoll,
		owners: map[string][]*claim{}, ports: map[portKey]*port{}, watched: map[int32]watched{},
		busy: map[*socket]bool{}, waiting: map[portKey]bool{},
	}
	r.loop.Go(r.run)
	return r, nil
}

// Set has the relay serve exactly these for an owner. Those that it serves already
// go on undisturbed, with their connections. If owners claim the same address and
// port, the first has it until it gives up the claim: rivals are the other owners of
// such claims. The error is about ports that could not be opened; the relay tries
// them again from time to time.
func (r *Relay) Set(owner string, relays []firewall.Relay) (rivals []string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	want := make(map[firewall.Relay]bool, len(relays))
	for _, relay := range relays {
		want[relay] = true
	}
	touched := map[portKey]bool{}
	kept := make([]*claim, 0, len(want))
	for _, c := range r.owners[owner] {
		if want[c.Relay] {
			kept = append(kept, c)
			delete(want, c.Relay)
			continue
		}
		r.drop(c)
		touched[c.key()] = true
	}
	for relay := range want {
		c := &claim{Relay: relay, owner: owner}
		r.port(c.key()).claims = append(r.port(c.key()).claims, c)
		kept = append(kept, c)
		touched[c.key()] = true
	}
	r.owners[owner] = kept
	if len(kept) == 0 {
		delete(r.owners, owner)
	}
	err = r.updateAll(maps.Keys(touched))
	return r.rivals(kept), err
}

// Owners returns the owners that have ports.
func (r *Relay) Owners() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]string, 0, len(r.owners))
	for owner := range r.owners {
		list = append(list, owner)
	}
	slices.Sort(list)
	return list
}

// Stats returns the relay's figures.
func (r *Relay) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.Waiting = len(r.waiting)
	for _, claims := range r.owners {
		s.Ports += len(claims)
	}
	return s
}

func (r *Relay) port(k portKey) *port {
	p := r.ports[k]
	if p == nil {
		p = &port{}
		r.ports[k] = p
	}
	return p
}

// drop removes a claim, with its connections and sessions.
func (r *Relay) drop(c *claim) {
	p := r.ports[c.key()]
	p.claims = slices.DeleteFunc(p.claims, func(other *claim) bool { return other == c })
	for conn := range c.conns {
		conn.abort()
	}
	for _, s := range p.sockets {
		s.closeSessions(r, func(session *session) bool { return session.claim == c })
	}
}

// rivals returns the owners of other claims to the same addresses and ports.
func (r *Relay) rivals(claims []*claim) []string {
	var list []string
	for _, c := range claims {
		for _, other := range r.ports[c.key()].claims {
			if other.owner != c.owner && other.Listen == c.Listen && !slices.Contains(list, other.owner) {
				list = append(list, other.owner)
			}
		}
	}
	return list
}

// claimAt returns the claim for an address of the host: one to that very address,
// else one to any address.
func (p *port) claimAt(local netip.Addr) *claim {
	var any *claim
	for _, c := range p.claims {
		switch at := c.Listen.Addr(); {
		case at == local:
			return c
		case at.IsUnspecified() && any == nil:
			any = c
		}
	}
	return any
}

// addresses returns where a port needs sockets. A socket of any address serves all
// addresses, and the kernel refuses others beside it.
func (p *port) addresses() []netip.Addr {
	var list []netip.Addr
	for _, c := range p.claims {
		switch at := c.Listen.Addr(); {
		case at.IsUnspecified():
			return []netip.Addr{at}
		case !slices.Contains(list, at):
			list = append(list, at)
		}
	}
	return list
}

// updateAll updates ports and logs which failed or work again, in one line each. The
// error is the first one, with the number of the others.
func (r *Relay) updateAll(ports iter.Seq[portKey]) error {
	var failed, lost, restored failures
	for k := range ports {
		err := r.update(k)
		switch before := r.waiting[k]; {
		case err != nil && !before:
			lost.add(err)
			r.waiting[k] = true
		case err == nil && before:
			delete(r.waiting, k)
			if r.ports[k] != nil { // it is still claimed
				restored.add(fmt.Errorf("port %d/%s", k.number, k.protocol))
			}
		}
		failed.add(err)
	}
	if lost.count > 0 {
		r.Log.Warn("ports can't be served, and will be tried again", "err", lost.err())
	}
	if restored.count > 0 {
		r.Log.Info("ports can be served again", "which", restored.err())
	}
	if failed.count > 0 {
		r.wakeIn(r.limits.retry)
	}
	return failed.err()
}

// failures count errors and keep the first.
type failures struct {
	first error
	count int
}

func (f *failures) add(err error) {
	if err == nil {
		return
	}
	if f.count == 0 {
		f.first = err
	}
	f.count++
}

func (f *failures) err() error {
	if f.count > 1 {
		return fmt.Errorf("%w, and %d more", f.first, f.count-1)
	}
	return f.first
}

// update closes the sockets that a port no longer needs, and opens those that it
// lacks. It closes first, since a socket of any address excludes the others.
func (r *Relay) update(k portKey) error {
	p := r.port(k)
	need := p.addresses()
	p.sockets = slices.DeleteFunc(p.sockets, func(s *socket) bool {
		keep := slices.Contains(need, s.at.Addr())
		if !keep {
			s.close(r)
		}
		return !keep
	})
	var failed failures
	for _, at := range need {
		if slices.ContainsFunc(p.sockets, func(s *socket) bool { return s.at.Addr() == at }) {
			continue
		}
		s, err := r.open(k.protocol, netip.AddrPortFrom(at, k.number))
		if err == nil {
			p.sockets = append(p.sockets, s)
		} else if !unsupported(err) {
			failed.add(err)
		}
	}
	if len(p.claims) == 0 {
		delete(r.ports, k)
	}
	return failed.err()
}

// Close ends the relay, with all connections.
func (r *Relay) Close() error {
	r.mu.Lock()
	for owner := range r.owners {
		for _, c := range r.owners[owner] {
			r.drop(c)
		}
	}
	for _, p := range r.ports {
		for _, s := range p.sockets {
			s.close(r)
		}
	}
	clear(r.owners)
	clear(r.ports)
	r.mu.Unlock()
	r.live.Wait()
	err := r.epoll.Close()
	r.loop.Wait()
	return err
}
