package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
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

	stats stats
}

// NewServer returns a server without endpoints and without an upstream.
func NewServer(c Config) *Server {
	if c.Cache == 0 {
		c.Cache = DefaultCache
	}
	start := time.Now()
	return &Server{
		cache: newCache(c.Cache), flights: map[string]*flight{},
		now: func() time.Duration { return time.Since(start) },
	}
}

// SetUpstream says which servers know what is not local: the host's. They are
// for views that are not internal and have no servers of their own. Nil: none.
func (s *Server) SetUpstream(u *Upstream) { s.host.Store(u) }

// A View is what one endpoint answers from.
type View struct {
	Names    *names.View // nil: no local names
	Own      *Upstream   // servers of the container or its networks, in place of the host's; nil: none
	Internal bool        // the host's servers are not asked
}

// An Endpoint is a pair of sockets that a server answers on.
type Endpoint struct {
	server   *Server
	poller   *poller
	id       int32 // by which the poller knows it
	udp      *socket
	packets  *ipv4.PacketConn // the same
	tcp      net.Listener
	view     atomic.Pointer[View]
	waiting  atomic.Int32 // queries that wait for upstreams
	draining atomic.Bool  // connections are to end soon
	closing  atomic.Bool  // and now

	reading sync.Mutex // held while datagrams are read
	deaf    bool       // none are read any more; guarded by reading

	readers sync.WaitGroup // goroutines that read connections
	pending sync.WaitGroup // queries that wait

	mu      sync.Mutex
	streams map[*stream]bool // connections of clients
}

// start returns what reads datagrams, started once.
func (s *Server) start() (p *poller, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.poller == nil {
		s.poller, err = newPoller()
	}
	return s.poller, err
}

// Close ends the server's goroutines, once its endpoints are closed.
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

// Serve answers on a UDP socket and a TCP listener, which it owns from now on,
// until they are closed. The listener may be nil. The socket is a *net.UDPConn, or
// one of [Sockets].
func (s *Server) Serve(udp net.PacketConn, tcp net.Listener, v View) (*Endpoint, error) {
	p, err := s.start()
	if err != nil {
		return nil, err
	}
	own, err := detach(udp)
	if err != nil {
		return nil, err
	}
	e := &Endpoint{server: s, poller: p, udp: own, packets: ipv4.NewPacketConn(own), tcp: tcp, streams: map[*stream]bool{}}
	e.SetView(v)
	if err := p.add(e); err != nil {
		return nil, errors.Join(err, own.Close())
	}
	if tcp != nil {
		e.readers.Go(e.accept)
	}
	return e, nil
}

// Sockets makes of two open descriptors, a UDP socket's and a TCP listener's,
// what [Server.Serve] takes. The descriptors are no longer the caller's, also after
// an error. They must not block (O_NONBLOCK), and never do on the way: another
// process may be reading from them.
func Sockets(udp, tcp int) (net.PacketConn, net.Listener, error) {
	u, err := newSocket(udp)
	t := os.NewFile(uintptr(tcp), "tcp")
	defer t.Close()
	if err != nil {
		return nil, nil, err
	}
	listener, err := net.FileListener(t)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("name server: descriptor %d is no TCP listener: %w", tcp, err), u.Close())
	}
	return u, listener, nil
}

// Control calls f with the descriptors of the sockets, which stay open meanwhile:
// to hand them to another process. They belong to the endpoint.
func (e *Endpoint) Control(f func(udp, tcp uintptr)) error {
	l, ok := e.tcp.(syscall.Conn)
	if !ok {
		return errors.New("name server: the endpoint has no TCP listener with a descriptor")
	}
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	var closed error
	err = raw.Control(func(tcp uintptr) {
		closed = e.udp.use(func(udp uintptr) { f(udp, tcp) })
	})
	return errors.Join(err, closed)
}

// SetView has the endpoint answer from another view.
func (e *Endpoint) SetView(v View) { e.view.Store(&v) }

// upstream returns who is asked for what is not local, or nil.
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

// Drain stops reading, answers what has been read, and closes the sockets. What
// stays unread is for who has the same sockets: nothing is lost if that one
// reads already. Connections are served until they are silent for a second.
// When the context ends, queries still waiting are dropped.
func (e *Endpoint) Drain(ctx context.Context) error {
	e.draining.Store(true)
	past := time.Unix(1, 0)
	e.hush()
	var errs []error
	if l, ok := e.tcp.(*net.TCPListener); ok {
		errs = append(errs, l.SetDeadline(past))
	} else if e.tcp != nil {
		errs = append(errs, e.tcp.Close())
	}
	e.eachStream((*stream).part)
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
	e.closing.Store(true)
	e.hush()
	err := e.udp.Close()
	if e.tcp != nil {
		err = errors.Join(err, closed(e.tcp))
	}
	e.eachStream(func(t *stream) { _ = t.conn.Close() }) // nobody is left to be told
	e.readers.Wait()
	return err
}

// closed closes what may be closed already.
func closed(c interface{ Close() error }) error {
	if err := c.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

func (e *Endpoint) eachStream(f func(*stream)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for t := range e.streams {
		f(t)
	}
}
