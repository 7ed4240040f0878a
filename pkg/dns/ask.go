package dns

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	mdns "github.com/miekg/dns"
)

// resend is how long a datagram waits for its answer before it goes out again;
// the last is more than the patience that is left.
var resend = []time.Duration{time.Second, 1500 * time.Millisecond, patience}

// Errors of malformed answers.
var (
	errBad = errors.New("malformed answer")
	errCut = errors.New("answer cut short") // within a record, by its sender or by our limit
)

// ask asks one server, and over TCP as well if the answer is truncated. It returns
// nil if there is no well-formed answer in time.
func (u *Upstream) ask(ctx context.Context, server netip.AddrPort, r request, s *stats) *mdns.Msg {
	start := time.Now()
	m, err := u.askUDP(ctx, server, r, s)
	if errors.Is(err, errCut) || err == nil && m.Truncated {
		if whole, failed := u.askTCP(ctx, server, r, s); failed == nil {
			m, err = whole, nil
		}
	}
	if err != nil {
		if !errors.Is(ctx.Err(), context.Canceled) { // Canceled means that another server was faster
			s.upstreamErrors.Add(1)
		}
		return nil
	}
	s.latency.observe(time.Since(start))
	return m
}

func (u *Upstream) askUDP(ctx context.Context, server netip.AddrPort, r request, s *stats) (*mdns.Msg, error) {
	conn, err := u.dial(ctx, "udp", server.String())
	if err != nil {
		return nil, err
	}
	end := func() { _ = conn.Close() } // nothing is lost: all was written
	defer end()
	defer context.AfterFunc(ctx, end)() // ends a read
	query, answer := r.withID(), make([]byte, r.size)
	for _, wait := range resend {
		if _, err := conn.Write(query); err != nil {
			return nil, err
		}
		if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return nil, err
		}
		m, err := r.readUDP(conn, query, answer, s)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return m, err
		}
	}
	return nil, os.ErrDeadlineExceeded
}

// readUDP waits for the answer to a query and skips other messages.
func (r request) readUDP(conn net.Conn, query, b []byte, s *stats) (*mdns.Msg, error) {
	for {
		n, err := conn.Read(b)
		if err != nil {
			return nil, err
		}
		if !r.answeredBy(query, b[:n]) {
			s.strays.Add(1)
			continue
		}
		m := new(mdns.Msg)
		switch {
		case m.Unpack(b[:n]) == nil:
			return m, nil
		case n == len(b) || be.Uint16(b[2:])&flagTC != 0:
			return nil, errCut
		}
		return nil, errBad
	}
}

func (u *Upstream) askTCP(ctx context.Context, server netip.AddrPort, r request, s *stats) (*mdns.Msg, error) {
	select {
	case u.streams <- struct{}{}:
		defer func() { <-u.streams }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	conn, err := u.dial(ctx, "tcp", server.String())
	if err != nil {
		return nil, err
	}
	end := func() { _ = conn.Close() }
	defer end()
	defer context.AfterFunc(ctx, end)()
	query := r.withID()
	if _, err := conn.Write(prefixed(query)); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	answer := make([]byte, be.Uint16(size[:]))
	if _, err := io.ReadFull(conn, answer); err != nil {
		return nil, err
	}
	m := new(mdns.Msg)
	if !r.answeredBy(query, answer) || m.Unpack(answer) != nil {
		s.strays.Add(1)
		return nil, errBad
	}
	return m, nil
}

// prefixed returns a message as it goes over TCP.
func prefixed(msg []byte) []byte {
	return append(be.AppendUint16(make([]byte, 0, 2+len(msg)), uint16(len(msg))), msg...)
}

// withID returns the query with a random ID.
func (r request) withID() []byte {
	query := bytes.Clone(r.wire)
	_, _ = rand.Read(query[:2]) // never fails
	return query
}

// answeredBy reports whether a message is an answer to a query: ID and
// question are the same, but for the case of letters.
func (r request) answeredBy(query, answer []byte) bool {
	const response, opcode = 1 << 7, 0xf << 3
	return len(answer) >= r.end && bytes.Equal(answer[:2], query[:2]) &&
		answer[2]&(response|opcode) == response && be.Uint16(answer[4:]) == 1 &&
		sameQuestion(answer[headerSize:r.end], query[headerSize:r.end])
}

// sameQuestion compares without regard to the case of letters.
func sameQuestion(a, b []byte) bool {
	for i := range a {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
