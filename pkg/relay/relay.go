// Package relay holds published ports, so that no other program of the host can bind
// them, and passes on what netfilter can't publish: what comes to ::1, from link-local
// addresses or as a broadcast, and IPv6 for containers that have IPv4 only
// ([firewall.Relay]).
//
// The sockets of TCP and SCTP listen although rules take most connections before they
// reach one. A socket that is bound and does not listen appears in no list of
// listeners, and gives way to any program that sets SO_REUSEADDR.
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
// ports, to which sockets are handed over, opens new sockets for UDP clients: containers
// see them come from another port.
package relay

import (
	"errors"
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
	// Turn returns where a client of a target is passed on to, as a task of a service; the zero
	// AddrPort: nowhere, it is refused. nil: to the target. It is called for each connection, and each
	// client of UDP, as Allowed is.
	Turn func(target netip.AddrPort) netip.AddrPort
}

// turn returns where a client of a target is passed on to.
func (r *Relay) turn(target netip.AddrPort) netip.AddrPort {
	if r.Turn == nil {
		return target
	}
	return r.Turn(target)
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

// portKey is a port of a protocol, on whatever address. There are thousands in maps,
// so it is small.
type portKey struct {
	number uint16
	proto  byte
}

// protocols are the numbers of the protocols in a [portKey].
var protocols = []string{"tcp", "udp", "sctp"}

func (k portKey) protocol() string { return protocols[k.proto] }

func keyOf(protocol string, number uint16) portKey {
	proto := max(0, slices.Index(protocols, protocol)) // firewall.Port.Validate allows no other
	return portKey{number, byte(proto)}
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

func (c *claim) key() portKey { return keyOf(c.Protocol, c.Listen.Port()) }

// oneFamily reports whether the container is reached by the family of the host's address,
// so that rules lead there, too. A container that has IPv6 may have an IPv6 port beside
// one that has IPv4 only.
func (c *claim) oneFamily() bool { return c.Listen.Addr().Is4() == c.Target.Addr().Is4() }

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

// Set has the relay serve exactly these, which all differ, for an owner. Those that it serves already
// go on undisturbed, with their connections. If owners claim the same address and
// port, the first has it until it gives up the claim: rivals are the other owners of
// such claims. The error is about ports that could not be opened; the relay tries
// them again from time to time. It is not about ports of IPv4 that another program has.
func (r *Relay) Set(owner string, relays []firewall.Relay) (rivals []string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	had := make(map[firewall.Relay]*claim, len(r.owners[owner]))
	for _, c := range r.owners[owner] {
		had[c.Relay] = c
	}
	touched := map[portKey]bool{}
	kept := make([]*claim, 0, len(relays))
	for _, relay := range relays {
		c := had[relay]
		if delete(had, relay); c == nil {
			c = &claim{Relay: relay, owner: owner}
			c.Protocol = c.key().protocol() // not a string of its own for each
			p := r.port(c.key())
			p.claims = append(p.claims, c)
			touched[c.key()] = true
		}
		kept = append(kept, c)
	}
	for _, c := range had {
		r.drop(c)
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

// Owner returns who claims a port at an address; "" if no owner does.
func (r *Relay) Owner(protocol string, at netip.AddrPort) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.ports[keyOf(protocol, at.Port())]
	if p == nil {
		return ""
	}
	if c := p.claimAt(at.Addr()); c != nil {
		return c.owner
	}
	return ""
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
			if other.owner != c.owner && other.Listen == c.Listen && other.oneFamily() == c.oneFamily() && !slices.Contains(list, other.owner) {
				list = append(list, other.owner)
			}
		}
	}
	return list
}

// claimAt returns the claim for an address of the host: one to that very address,
// else one to any address of its family. Of two that are no rivals it is the one that
// rules lead to the container as well.
func (p *port) claimAt(local netip.Addr) *claim {
	var best *claim
	rank := 0
	for _, c := range p.claims {
		at, r := c.Listen.Addr(), 0
		switch {
		case at == local:
			r = 3
		case at.IsUnspecified() && at.Is4() == local.Is4():
			r = 1
		default:
			continue
		}
		if c.oneFamily() {
			r++
		}
		if r > rank {
			best, rank = c, r
		}
	}
	return best
}

// addresses returns where a port needs sockets. A socket of any address of a family serves
// all of it, and the kernel refuses others beside it.
func (p *port) addresses() []netip.Addr {
	var list []netip.Addr
	for _, any := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		first := len(list)
		for _, c := range p.claims {
			at := c.Listen.Addr()
			if at == any {
				list = append(list[:first], any)
				break
			}
			if at.Is4() == any.Is4() && !slices.Contains(list, at) {
				list = append(list, at)
			}
		}
	}
	return list
}

// anyAddress returns what stands for any address of both families. One socket serves
// both where it can: that takes half the descriptors.
func anyAddress() netip.Addr { return netip.AddrFrom16(netip.IPv4Unspecified().As16()) }

// covers reports whether a socket serves an address that a port needs one for.
func (s *socket) covers(at netip.Addr) bool {
	return s.at.Addr() == at || s.at.Addr() == anyAddress() && at.IsUnspecified()
}

// needed reports whether a port needs a socket for all that it serves.
func (s *socket) needed(need []netip.Addr) bool {
	if s.at.Addr() != anyAddress() {
		return slices.Contains(need, s.at.Addr())
	}
	return slices.Contains(need, netip.IPv4Unspecified()) && slices.Contains(need, netip.IPv6Unspecified())
}

// updateAll updates ports and logs which failed or work again, in one line each. The
// error is the first one, with the number of the others.
func (r *Relay) updateAll(ports iter.Seq[portKey]) error {
	var failed, lost, restored failures
	retry := false
	for k := range ports {
		now := r.update(k)
		switch before := r.waiting[k]; {
		case now.count > 0 && !before:
			lost.add(now.first)
			r.waiting[k] = true
		case now.count == 0 && before:
			delete(r.waiting, k)
			if r.ports[k] != nil { // it is still claimed
				restored.add(fmt.Errorf("port %d/%s", k.number, k.protocol()))
			}
		}
		retry = retry || now.count > 0
		failed.add(now.serious)
	}
	if lost.count > 0 {
		r.Log.Warn("ports can't be served, and will be tried again", "err", lost.err())
	}
	if restored.count > 0 {
		r.Log.Info("ports can be served again", "which", restored.err())
	}
	if retry {
		r.wakeIn(r.limits.retry)
	}
	return failed.err()
}

// failures count errors and keep the first.
type failures struct {
	first, serious error
	count          int
}

// errHeld says that another program has a port of IPv4, as a runtime may for its
// container. That is not serious: rules lead to the container all but broadcasts.
var errHeld = errors.New("another program has the port")

func (f *failures) add(err error) {
	if err == nil {
		return
	}
	if f.count == 0 {
		f.first = err
	}
	if f.serious == nil && !errors.Is(err, errHeld) {
		f.serious = err
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
func (r *Relay) update(k portKey) (failed failures) {
	p := r.port(k)
	need := p.addresses()
	p.sockets = slices.DeleteFunc(p.sockets, func(s *socket) bool {
		keep := s.needed(need)
		if !keep {
			s.close(r)
		}
		return !keep
	})
	lacks := slices.DeleteFunc(need, func(at netip.Addr) bool {
		return slices.ContainsFunc(p.sockets, func(s *socket) bool { return s.covers(at) })
	})
	if len(lacks) == 2 && lacks[0].IsUnspecified() && lacks[1].IsUnspecified() && r.open(k, p, anyAddress()) == nil {
		lacks = nil
	}
	for _, at := range lacks { // each alone: another program may have one
		if err := r.open(k, p, at); err != nil && !unsupported(err) {
			failed.add(err)
		}
	}
	if len(p.claims) == 0 {
		delete(r.ports, k)
	}
	return failed
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
