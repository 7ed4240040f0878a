package dns

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Limits of clients over TCP.
const (
	maxEndpointTCP = 64   // connections of an endpoint
	maxTCP         = 512  // of a server
	spareTCP       = 512  // more, for endpoints with few
	fewTCP         = 4    // fewer connections than this
	maxTCPQuery    = 4096 // bytes
	idle           = 10 * time.Second
	drainIdle      = time.Second     // like idle, once the endpoint drains or connections wait for a place
	slow           = 5 * time.Second // for a query once its length is read, and for an answer
)

// A stream is a connection of a client. Queries on it are answered as the
// answers come (RFC 7766, section 6.2.1.1).
type stream struct {
	endpoint *Endpoint
	conn     net.Conn
	writing  sync.Mutex
	pending  sync.WaitGroup // queries that wait for upstreams
}

// accept takes a connection and has the listener watched again. If there is no place for
// one, that is done once there is.
func (e *Endpoint) accept(s *source) {
	e.accepting.Lock()
	defer e.accepting.Unlock()
	if e.stoppedAccepting {
		e.server.places.next() // it may have been this endpoint's turn
		return
	}
	if !e.server.places.take(e) {
		e.eachStream((*stream).closeWhenIdle)
		e.server.stats.delayed.Add(1)
		return
	}
	conn, err := e.tcp.accept()
	if err == nil {
		e.handle(conn)
		s.rearm()
		return
	}
	e.server.places.give(e)
	switch {
	case errors.Is(err, net.ErrClosed):
	case !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EINTR) && !errors.Is(err, syscall.ECONNABORTED):
		time.AfterFunc(10*time.Millisecond, s.rearm) // most likely no descriptors are left: some will be closed
	default:
		s.rearm()
	}
}

// accept takes a connection. Go's poller watches its socket.
func (d *descriptor) accept() (net.Conn, error) {
	fd, err := -1, error(nil)
	closed := d.use(func(listener int) {
		fd, _, err = syscall.Accept4(listener, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
	})
	if closed != nil || err != nil {
		return nil, cmp.Or(closed, err)
	}
	file := os.NewFile(uintptr(fd), "tcp")
	defer file.Close() // the connection has another descriptor
	return net.FileConn(file)
}

// handle serves a connection. The endpoint does not close until accept returns.
func (e *Endpoint) handle(conn net.Conn) {
	t := &stream{endpoint: e, conn: conn}
	e.mu.Lock()
	e.streams[t] = true
	e.mu.Unlock()
	e.readers.Go(func() {
		t.serve()
		go t.finish() // Drain waits for readers, and for pending queries by itself
	})
}

// finish closes the connection once all its queries are answered.
func (t *stream) finish() {
	t.pending.Wait()
	_ = t.conn.Close()
	t.endpoint.mu.Lock()
	delete(t.endpoint.streams, t)
	t.endpoint.mu.Unlock()
	t.endpoint.server.places.give(t.endpoint)
}

// serve answers queries until the client is idle for too long, too slow, or sends
// something that is no query.
func (t *stream) serve() {
	small := make([]byte, minUDP)
	for {
		query := t.read(small)
		if query == nil {
			return
		}
		answer := t.answer(query)
		if answer == nil {
			continue
		}
		if t.write(answer) != nil {
			return
		}
		if failed(answer) {
			time.Sleep(maxEndpointTCP * faultPause) // all connections together get no more failures than datagrams do
		}
	}
}

// closeWhenIdle has the connection end once it is idle for a second.
func (t *stream) closeWhenIdle() { _ = t.conn.SetReadDeadline(time.Now().Add(drainIdle)) }

// read returns a query, in b if it fits there, or nil.
func (t *stream) read(b []byte) []byte {
	_ = t.conn.SetReadDeadline(time.Now().Add(idle)) // fails if it is closed, and so does Read
	// Read after the deadline is set: they are set before closeWhenIdle is called.
	if t.endpoint.draining.Load() || t.endpoint.crowded.Load() {
		t.closeWhenIdle()
	}
	if _, err := io.ReadFull(t.conn, b[:2]); err != nil {
		return nil
	}
	n := int(be.Uint16(b))
	if n < headerSize || n > maxTCPQuery {
		return nil
	}
	if n > len(b) {
		b = make([]byte, n)
	}
	_ = t.conn.SetReadDeadline(time.Now().Add(slow))
	if _, err := io.ReadFull(t.conn, b[:n]); err != nil {
		return nil
	}
	return b[:n]
}

// long is the memory to answer a query over TCP.
type long struct {
	scratch
	b [maxMessage]byte
}

var longs = sync.Pool{New: func() any { return new(long) }}

// answer returns the answer to a query, or nil if there is none yet.
func (t *stream) answer(query []byte) []byte {
	w := longs.Get().(*long)
	defer longs.Put(w)
	n := copy(w.b[:], query)
	server := t.endpoint.server
	size := w.scratch.answer(w.b[:], n, client{endpoint: t.endpoint.from(t.conn.RemoteAddr()), at: t.endpoint, stream: t}, server.now())
	server.stats.add(&w.tally)
	if size == 0 {
		return nil
	}
	return bytes.Clone(w.b[:size]) // a slow client holds only that
}

// write writes an answer. A connection that takes too long is closed: the client
// would read the next answer as the rest of this one.
func (t *stream) write(b []byte) error {
	t.writing.Lock()
	defer t.writing.Unlock()
	_ = t.conn.SetWriteDeadline(time.Now().Add(slow)) // fails if it is closed, and so does Write
	_, err := t.conn.Write(prefixed(b))
	if err != nil {
		_ = t.conn.Close()
	}
	return err
}
