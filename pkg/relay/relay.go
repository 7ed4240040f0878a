// Package relay passes on what netfilter can't publish: ports of ::1, and IPv6
// ports of the host for containers that have IPv4 only ([firewall.Relay]).
//
// One [Relay] serves a whole host. All listening sockets are in one epoll
// instance, which one goroutine waits for: a port costs a descriptor and some
// 500 bytes. A TCP (or SCTP) connection has two goroutines while it lives, and
// memory for what it says only while it says it. UDP has no goroutines: a client
// has a socket towards the container, in the same epoll instance, until it is
// silent for 90 s (Docker's UDPConnTrackTimeout).
//
// What a container sees as its client is the host.
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

// limits are a relay's.
type limits struct {
	connections     int           // at a time; more are reset
	portConnections int           // of a port
	sessions        int           // UDP clients at a time; the most silent makes way for a new one
	portSessions    int           // of a port
	silence         time.Duration // of a UDP client, until it is forgotten: Docker's UDPConnTrackTimeout
	sweep           time.Duration // how often those are looked for
	retry           time.Duration // how often a port is tried that another program has
}

var usual = limits{
	connections: 8192, portConnections: 4096, sessions: 8192, portSessions: 2048,
	silence: 90 * time.Second, sweep: 5 * time.Second, retry: 10 * time.Second,
}

// Config is what a Relay needs.
type Config struct {
	Log *slog.Logger
	// Mark is the mark of the listening sockets (SO_MARK), 0: none.
	Mark uint32
	// Admit tells whether clients may use the relay that come by a link, which
	// has that index; nil: all may. It is asked for each client, and must not
	// wait for long.
	Admit func(link int) bool
	// LinkTo tells Admit by which link a client came, where the kernel doesn't
	// say, for SCTP: the one that leads there, which is where the handshake's
	// answers went. nil: Admit is told 0.
	LinkTo func(client netip.Addr) int
}

// A Relay listens on ports and passes on what comes.
type Relay struct {
	Config
	limits limits
	epoll  *poll.Epoll
	loop   sync.WaitGroup
	live   sync.WaitGroup // connections

	mu      sync.Mutex // guards all that follows
	owners  map[string][]*claim
	ports   map[portKey]*port
	watched map[int32]watched // by descriptor
	busy    map[*socket]bool  // those with UDP sessions
	waiting map[portKey]bool  // those with a socket that could not be had
	paused  []*socket         // out of the epoll for a moment
	tick    time.Time         // when the loop looks after all these; zero: never
	adopted map[Socket]int    // descriptors that are not claimed yet
	stats   Stats
	buffer  [1 << 16]byte // the loop's
}

// Stats are figures of a Relay.
type Stats struct {
	Ports       int    // claimed
	Waiting     int    // with a socket that can't be had, because another program has it
	Connections int    // now
	Sessions    int    // UDP clients now
	Accepted    uint64 // connections and UDP sessions ever
	Refused     uint64 // of which the container, a limit or Admit did
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
		Config: c, limits: usual, epoll: epoll,
		owners: map[string][]*claim{}, ports: map[portKey]*port{}, watched: map[int32]watched{},
		busy: map[*socket]bool{}, waiting: map[portKey]bool{},
	}
	r.loop.Go(r.run)
	return r, nil
}

// Set has the relay serve just these for an owner. What is served already goes
// on undisturbed, with its connections. Who has claimed an address and port
// first keeps it while he claims it: rivals are the owners in whose way others
// are, or who are in the way of this one. The error tells of ports that can't be
// had; they are tried again from time to time.
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
	err = r.settleAll(maps.Keys(touched))
	return r.rivals(kept), err
}

// Owners returns who has ports.
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

// drop takes back a claim, with its connections and sessions.
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

// serving returns the claim that gets what is sent to an address of the host:
// one to that very address before one to any.
func (p *port) serving(local netip.Addr) *claim {
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

// addresses returns where a port needs sockets: a socket of any address is of
// all, and two that overlap can't be had.
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

// settleAll settles ports, and says what became of them: of many in one line.
// The error is the first one's, with how many there are.
func (r *Relay) settleAll(ports iter.Seq[portKey]) error {
	var failed, lost, had failures
	for k := range ports {
		err := r.settle(k)
		switch before := r.waiting[k]; {
		case err != nil && !before:
			lost.add(err)
			r.waiting[k] = true
		case err == nil && before:
			delete(r.waiting, k)
			if r.ports[k] != nil { // not given up
				had.add(fmt.Errorf("port %d/%s", k.number, k.protocol))
			}
		}
		failed.add(err)
	}
	if lost.count > 0 {
		r.Log.Warn("ports can't be served, and will be tried again", "err", lost.err())
	}
	if had.count > 0 {
		r.Log.Info("ports can be served again", "which", had.err())
	}
	if failed.count > 0 {
		r.wakeIn(r.limits.retry)
	}
	return failed.err()
}

// failures are the first of errors, and how many there are.
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

// settle opens the sockets that a port needs and lacks, and closes those that it
// needs no more: these first, they may be in the way.
func (r *Relay) settle(k portKey) error {
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
