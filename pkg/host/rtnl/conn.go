// Package rtnl speaks rtnetlink: the handful of messages about links, addresses and
// routes that every ADD and DEL sends. vishvananda/netlink does what is rare.
package rtnl

import (
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/nlsock"
)

// Conn speaks rtnetlink with one network namespace: the handful of messages
// that every ADD and DEL sends. vishvananda/netlink, which does all else here,
// reads each answer into a new buffer of 64 KiB and describes a link with all
// its counters; in a process that lives four milliseconds that is a tenth.
type Conn struct {
	mu   sync.Mutex // one exchange at a time
	conn *nlsock.Conn
}

// Dial opens a socket in the network namespace of the calling thread.
func Dial() (*Conn, error) {
	conn, err := nlsock.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	// Dumps then look at what was asked for only. A kernel that does not know
	// it lists all, which readers sort out.
	_ = unix.SetsockoptInt(conn.FD, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	return &Conn{conn: conn}, nil
}

// Cookie returns the namespace's, see [netns.NS.Cookie].
func (r *Conn) Cookie() (uint64, error) {
	cookie, err := unix.GetsockoptUint64(r.conn.FD, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	return cookie, os.NewSyscallError("getsockopt", err)
}

// Close waits for the exchange that is under way; later ones fail.
func (r *Conn) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conn.Close()
	r.conn.FD = -1
}

// Request builds a message and returns what it yields.
func (r *Conn) Request(typ, flags uint16, body func(m *Message)) ([][]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var m Message
	at := m.Begin(typ, flags, r.conn.Next())
	body(&m)
	m.End(at)
	return r.conn.Dump(m.B)
}

// Change sends a message that changes something, and waits for it.
func (r *Conn) Change(typ, flags uint16, body func(m *Message)) error {
	_, err := r.Request(typ, flags|unix.NLM_F_ACK, body)
	return err
}

// A Message is a message of rtnetlink.
type Message struct{ nlsock.Message }

// IfInfo appends a struct ifinfomsg.
func (m *Message) IfInfo(index int, flags, change uint32) {
	m.B = append(m.B, unix.AF_UNSPEC, 0, 0, 0)
	for _, v := range []uint32{uint32(index), flags, change} {
		m.B = binary.NativeEndian.AppendUint32(m.B, v)
	}
}

// A Request is one message of an exchange.
type Request struct {
	Type, Flags uint16
	Body        func(m *Message)
}

// Exchange sends messages at once. Of their errors it returns those that are
// none of the expected ones.
func (r *Conn) Exchange(steps []Request, expected ...error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var m Message
	for _, s := range steps {
		at := m.Begin(s.Type, s.Flags|unix.NLM_F_ACK, r.conn.Next())
		s.Body(&m)
		m.End(at)
	}
	replies, err := r.conn.RoundTrip(m.B)
	errs := []error{err}
	for _, r := range replies {
		if !slices.ContainsFunc(expected, func(e error) bool { return errors.Is(r.Err, e) }) {
			errs = append(errs, r.Err)
		}
	}
	return errors.Join(errs...)
}
