package dns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"

	"dcni/pkg/names"
)

// DefaultCache is the memory for answers of upstreams, in bytes.
const DefaultCache = 8 << 20

// Config is what can be chosen of a server.
type Config struct {
	Cache int // bytes for answers of upstreams; 0: DefaultCache
}

// A Server answers on any number of endpoints. Its methods may be called at
// any time from any goroutine, and so may those of its endpoints.
type Server struct {
	host  atomic.Pointer[Upstream]
	cache *cache
	now   func() time.Duration // since the server began

	mu      sync.Mutex
	poller  *poller            // nil before the first endpoint
	flights map[string]*flight // by key

	turns     turns
	places    places
	forgotten atomic.Uint32 // times
	stats     stats
}

// NewServer returns a server without endpoints and without an upstream.
func NewServer(c Config) *Server {
	if c.Cache == 0 {
		c.Cache = DefaultCache
	}
	s := &Server{cache: newCache(c.Cache), flights: map[string]*flight{}, now: stopwatch()}
	s.turns.now = func() time.Duration { return s.now() }
	return s
}

// stopwatch returns a clock that begins now. It is the monotonic one: setting the host's clock
// does not move it.
func stopwatch() func() time.Duration {
	start := time.Now()
	return func() time.Duration { return time.Since(start) }
}

// Forget drops all answers of upstreams, those that are under way too: they may be
// others by now.
func (s *Server) Forget() {
	s.forgotten.Add(1)
	s.cache.clear()
}

// SetUpstream sets the host's servers. They are asked for names that are not local,
// for views that are not internal and have no servers of their own. Nil is none.
func (s *Server) SetUpstream(u *Upstream) { s.host.Store(u) }

// A View is what one endpoint answers from.
type View struct {
	Names    *names.View // nil is no local names
	Own      *Upstream   // servers of the container or its networks, asked in place of the host's; nil is none
	Internal bool        // the host's servers are not asked
}

// An Endpoint is a pair of sockets that a server answers on.
type Endpoint struct {
	server   *Server
	owner    func(netip.Addr) *Endpoint // of a query, by its source; nil: the endpoint itself
	udp      *socket
	packets  *ipv4.PacketConn // the same
	tcp      *descriptor      // nil: none
	view     atomic.Pointer[View]
	lane     lane         // its queries to upstreams
	waiting  atomic.Int32 // clients' queries that wait for them
	draining atomic.Bool  // connections end once they are idle
	held     int          // places of its connections; guarded by places.mu
	crowded  atomic.Bool  // connections wait for a place: others end once they are idle

	datagrams, connections *source // of udp and tcp; nil: not watched

	reading          sync.Mutex // held while datagrams are read
	stoppedReading   bool       // no datagram is read any more; guarded by reading
	accepting        sync.Mutex // held while a connection is taken
	stoppedAccepting bool       // no connection is taken any more; guarded by accepting

	readers sync.WaitGroup // goroutines that read connections
	pending sync.WaitGroup // queries that wait

	mu      sync.Mutex
	streams map[*stream]bool // connections of clients
}

// start returns the poller. The first call starts it.
func (s *Server) start() (p *poller, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.poller == nil {
		s.poller, err = newPoller()
	}
	return s.poller, err
}

// Close ends the server's goroutines. Its endpoints must be closed before.
func (s *Server) Close() error {
	s.mu.Lock()
	p := s.poller
	s.poller = nil
	s.mu.Unlock()
	if p == nil {
		return nil
	}
	return p.close()
}

// Serve answers on a UDP socket and a TCP listener until they are closed. It owns
// the descriptors from now on, also after an error; tcp may be -1, for none. They
// must be non-blocking (O_NONBLOCK) all the time, since another process may be
// reading from them.
func (s *Server) Serve(udp, tcp int, v View) (*Endpoint, error) { return s.serve(udp, tcp, v, nil) }

// ServeOwners is Serve for sockets that several clients share. The owner of a query is the endpoint of the
// client that has its source address: it is answered as a query on the owner's sockets is, and
// counts as one. A query without an owner (nil) is refused.
func (s *Server) ServeOwners(udp, tcp int, owner func(netip.Addr) *Endpoint) (*Endpoint, error) {
	return s.serve(udp, tcp, View{}, owner)
}

func (s *Server) serve(udp, tcp int, v View, owner func(netip.Addr) *Endpoint) (*Endpoint, error) {
	e := &Endpoint{server: s, owner: owner, udp: newSocket(udp), streams: map[*stream]bool{}}
	if tcp >= 0 {
		e.tcp = &descriptor{fd: tcp}
	}
	e.packets = ipv4.NewPacketConn(e.udp)
	e.SetView(v)
	if err := e.begin(); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// begin has the sockets read.
func (e *Endpoint) begin() error {
	p, err := e.server.start()
	if err != nil {
		return err
	}
	if err := e.udp.check(syscall.SOCK_DGRAM); err != nil {
		return err
	}
	if e.tcp != nil {
		if err := e.tcp.check(syscall.SOCK_STREAM); err != nil {
			return err
		}
		e.connections = p.newSource(e.tcp, e.accept)
		if err := e.connections.start(); err != nil {
			return err
		}
	}
	e.datagrams = p.newSource(&e.udp.descriptor, e.serveUDP)
	return e.datagrams.start()
}

// stopReading returns once no datagram is read and no connection taken any more.
func (e *Endpoint) stopReading() {
	for _, s := range []*source{e.datagrams, e.connections} {
		if s != nil {
			s.stop()
		}
	}
	e.reading.Lock()
	e.stoppedReading = true
	e.reading.Unlock()
	e.accepting.Lock()
	e.stoppedAccepting = true
	e.accepting.Unlock()
}

// Control calls f with the descriptors of the sockets, for f to hand them to
// another process. They belong to the endpoint and stay open until f returns.
func (e *Endpoint) Control(f func(udp, tcp int)) error {
	if e.tcp == nil {
		return errors.New("name server: the endpoint has no TCP listener")
	}
	var closed error
	err := e.tcp.use(func(tcp int) {
		closed = e.udp.use(func(udp int) { f(udp, tcp) })
	})
	return errors.Join(err, closed)
}

// from returns the owner of a query; nil: there is none.
func (e *Endpoint) from(source net.Addr) *Endpoint {
	if e.owner == nil {
		return e
	}
	var a netip.AddrPort
	switch source := source.(type) {
	case *net.UDPAddr:
		a = source.AddrPort()
	case *net.TCPAddr:
		a = source.AddrPort()
	}
	return e.owner(a.Addr().Unmap().WithZone(""))
}

// SetView has the endpoint answer from another view.
func (e *Endpoint) SetView(v View) { e.view.Store(&v) }

// upstream returns the servers for names that are not local, or nil.
func (e *Endpoint) upstream(v *View) *Upstream {
	u := v.Own
	if u == nil && !v.Internal {
		u = e.server.host.Load()
	}
	if u == nil || len(u.servers) == 0 {
		return nil
	}
	return u
}

// Drain stops reading, answers what has been read, and closes the sockets. Queries
// that stay unread are for the process that the sockets were handed to: nothing is
// lost if it reads already. Connections are served until they are idle for a
// second. When the context ends, queries that still wait are dropped.
func (e *Endpoint) Drain(ctx context.Context) error {
	e.draining.Store(true)
	e.stopReading()
	var errs []error
	e.eachStream((*stream).closeWhenIdle)
	done := make(chan struct{})
	go func() {
		e.readers.Wait()
		e.pending.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		errs = append(errs, ctx.Err())
	}
	return errors.Join(append(errs, e.Close())...)
}

// Close closes the sockets and connections and waits until nothing reads them.
// Queries that wait for upstreams are dropped.
func (e *Endpoint) Close() error {
	e.stopReading()
	err := e.udp.Close()
	if e.tcp != nil {
		err = errors.Join(err, e.tcp.Close())
	}
	e.eachStream(func(t *stream) { _ = t.conn.Close() }) // an error changes nothing
	e.readers.Wait()
	return err
}

func (e *Endpoint) eachStream(f func(*stream)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for t := range e.streams {
		f(t)
	}
}
