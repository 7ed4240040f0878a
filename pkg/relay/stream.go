package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"dcni/pkg/poll"
)

// dialTimeout is how long a container may take to accept a connection.
const dialTimeout = 10 * time.Second

// keepAlive detects a peer that vanished: after 15 s of silence and 9 probes, as
// with Docker.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 9}

// A conn is a client's connection and the one to the container, of TCP or SCTP.
type conn struct {
	relay  *Relay
	claim  *claim
	ctx    context.Context // done when both are to be reset
	abort  context.CancelFunc
	client stream
	target stream
	stop   func() bool  // undoes what abort would do
	ended  atomic.Int32 // how many of the two have sent their end
	bytes  atomic.Uint64
}

// stream is what both ends are: a *net.TCPConn, which Go also takes an SCTP
// socket for.
type stream = *net.TCPConn

// accept takes a connection. It returns false if there is none, or none can be taken
// now. The lock must be held.
func (s *socket) accept(r *Relay) bool {
	fd, client, err := unix.Accept4(s.fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	switch {
	case err == nil:
	case errors.Is(err, unix.EAGAIN):
		return false
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOMEM):
		r.pause(s)
		return false
	default:
		return true // that client has given up
	}
	r.stats.Accepted++
	c := r.claimFor(s, fd)
	if c == nil || !r.allowed(s, r.arrivalLink(fd, client)) || !r.hasRoom(c, fd) {
		r.stats.Refused++
		reset(fd)
		return true
	}
	r.serve(c, fd)
	return true
}

// claimFor returns the claim that a connection is for, or nil.
func (r *Relay) claimFor(s *socket, fd int) *claim {
	p := r.ports[keyOf(s.protocol, s.at.Port())]
	if p == nil {
		return nil
	}
	local := s.at.Addr()
	if any := local.IsUnspecified() || local == anyAddress(); any && len(p.claims) > 1 {
		if sa, err := unix.Getsockname(fd); err == nil {
			local = addressOf(sa)
		}
	}
	return p.claimAt(local)
}

// arrivalLink returns the index of the link that a client's connection came by; 0 if
// it is unknown. For TCP that is IPV6_RECVPKTINFO (RFC 2292, section 4.1, which Linux
// keeps) or IP_PKTINFO, else the scope of a link-local address, else the link that leads
// there.
func (r *Relay) arrivalLink(fd int, client unix.Sockaddr) int {
	level, option := unix.SOL_IP, unix.IP_PKTOPTIONS
	c6, is6 := client.(*unix.SockaddrInet6)
	if is6 {
		level, option = unix.SOL_IPV6, unix.IPV6_2292PKTOPTIONS
	}
	var b [64]byte
	size := uint32(len(b))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&b)), uintptr(unsafe.Pointer(&size)), 0)
	if errno == 0 {
		if _, link := packetInfo(b[:size]); link != 0 {
			return link
		}
	}
	switch {
	case is6 && c6.ZoneId != 0:
		return int(c6.ZoneId)
	case r.LinkTo != nil:
		return r.LinkTo(addressOf(client))
	}
	return 0
}

// hasRoom reports whether there may be one more connection, with that descriptor.
func (r *Relay) hasRoom(c *claim, fd int) bool {
	return !tooHigh(fd) && r.stats.Connections < r.limits.connections && len(c.conns) < r.limits.portConnections
}

// reset closes a connection so that the client sees that it was not served.
func reset(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) // without it, close sends an end
	_ = unix.Close(fd)
}

// serve passes on a connection until it ends.
func (r *Relay) serve(cl *claim, fd int) {
	c := &conn{relay: r, claim: cl}
	c.ctx, c.abort = context.WithCancel(context.Background())
	if cl.conns == nil {
		cl.conns = map[*conn]bool{}
	}
	cl.conns[c] = true
	r.stats.Connections++
	r.live.Go(func() {
		refused := c.run(fd)
		c.abort()
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(cl.conns, c)
		r.stats.Connections--
		r.stats.Bytes += c.bytes.Load()
		if refused {
			r.stats.Refused++
		}
	})
}

// run connects to the container and passes on. It reports whether the container
// could not be reached: the client's connection is reset then.
func (c *conn) run(fd int) (refused bool) {
	target, err := dial(c.ctx, c.claim.Protocol, c.relay.turn(c.claim.Target))
	if err != nil {
		reset(fd)
		return true
	}
	c.target = target
	if c.client, err = wrap(fd); err != nil {
		resetStream(target)
		return false
	}
	_ = c.client.SetKeepAliveConfig(keepAlive) // a client that is gone shows later
	c.stop = context.AfterFunc(c.ctx, func() {
		resetStream(c.client)
		resetStream(c.target)
	})
	there := make(chan struct{})
	go func() {
		defer close(there)
		c.pass(c.target, c.client)
	}()
	c.pass(c.client, c.target)
	<-there
	return false
}

// pass copies from one end to the other until the first sends its end, and then
// sends an end to the other. An error ends both.
func (c *conn) pass(to, from stream) {
	n, err := copyStream(to, from)
	c.bytes.Add(uint64(n))
	if err == nil {
		err = to.CloseWrite()
	}
	switch {
	case err != nil:
		c.abort()
	case c.ended.Add(1) < 2:
		c.watch(from)
	case c.stop():
		_ = c.client.Close() // both have sent their end
		_ = c.target.Close()
	}
}

// buffers are for data on its way. A connection that waits holds none, so thousands
// of silent connections take no memory. splice(2) would take a pipe for each
// direction. A message of SCTP is one read and one write.
var buffers = sync.Pool{New: func() any { return new([1 << 16]byte) }}

// copyStream copies until the sender's end.
func copyStream(to, from stream) (total int64, err error) {
	raw, err := from.SyscallConn()
	if err != nil {
		return 0, err
	}
	for {
		n, b, err := receive(raw)
		if err != nil {
			return total, err
		}
		if n > 0 {
			_, err = to.Write(b[:n])
			total += int64(n)
		}
		buffers.Put(b)
		if n == 0 || err != nil {
			return total, err
		}
	}
}

// receive waits until there is something to read, and reads it into a buffer,
// which is nil with an error.
func receive(raw syscall.RawConn) (n int, b *[1 << 16]byte, err error) {
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		b = buffers.Get().(*[1 << 16]byte)
		for {
			n, failed = unix.Read(int(fd), b[:])
			if !errors.Is(failed, unix.EINTR) {
				break
			}
		}
		if failed != nil {
			buffers.Put(b)
			b = nil
		}
		return !errors.Is(failed, unix.EAGAIN)
	})
	if err != nil {
		return 0, nil, err
	}
	return n, b, failed
}

// watch waits until a connection that has sent its end breaks, and then ends both:
// the other end may never send anything again. Keep-alive detects a client that
// vanished.
func (c *conn) watch(s stream) {
	raw, err := s.SyscallConn()
	if err != nil {
		return
	}
	broken := false
	_ = raw.Read(func(fd uintptr) bool { // fails once it is closed
		code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		broken = err == nil && code != 0
		return broken || c.ctx.Err() != nil
	})
	if broken {
		c.abort()
	}
}

// resetStream closes a connection with a reset.
func resetStream(s stream) {
	_ = s.SetLinger(0) // without it, Close sends an end
	_ = s.Close()
}

// wrap returns a descriptor as a connection, and closes the descriptor.
func wrap(fd int) (stream, error) {
	f := os.NewFile(uintptr(fd), "relay")
	defer f.Close() // the connection has its own
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	s, ok := c.(stream)
	if !ok {
		_ = c.Close()
		return nil, errors.ErrUnsupported
	}
	return s, nil
}

// dial connects to a container.
func dial(ctx context.Context, protocol string, target netip.AddrPort) (stream, error) {
	probe, err := connect(target)
	if err != nil {
		return nil, err
	}
	_ = unix.Close(probe) // nothing was sent: it only proves that there is a route, and that the target is not the host itself
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if protocol == "sctp" {
		return dialSCTP(ctx, target)
	}
	c, err := (&net.Dialer{KeepAliveConfig: keepAlive}).DialContext(ctx, "tcp", target.String())
	if err != nil {
		return nil, err
	}
	return c.(stream), nil
}

// dialSCTP connects a one-to-one SCTP socket, which package net can't.
func dialSCTP(ctx context.Context, target netip.AddrPort) (stream, error) {
	family := unix.AF_INET
	if target.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_SCTP)
	if err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, sockaddr(target)); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		_ = unix.Close(fd)
		return nil, err
	}
	s, err := wrap(fd)
	if err != nil {
		return nil, err
	}
	if err := poll.Connected(ctx, s); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}
