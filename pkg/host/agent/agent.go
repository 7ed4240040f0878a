// Package agent is the unix socket between the plugins and dnetd, the node
// agent: messages of JSON, each a packet (SOCK_SEQPACKET), some with
// descriptors.
//
// A plugin sends a [Request] and reads a [Reply], or it has dnetd run an [Errand].
// dnetd's records are those of
// package records: what a message says is in a record before, or right after,
// so that an agent that is started anew knows as much. Nobody but root is
// listened to.
package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/early"
	"dcni/pkg/names"
	"dcni/pkg/oncejson"
	"dcni/pkg/wire"
)

// DefaultSocket is where dnetd listens.
const DefaultSocket = early.Socket

// MaxFiles is how many descriptors one message may carry (SCM_MAX_FD in the
// kernel's net/scm.h).
const MaxFiles = 253

// maxMessage is the limit of a message in bytes. A packet is sent whole or not
// at all, and a socket takes 212,992 bytes (net.core.wmem_default).
const maxMessage = 128 << 10

// An Op is what dnetd is asked for.
type Op string

// The requests.
const (
	// Serve has dnetd answer a sandbox: Resolver says what, the descriptors are
	// its sockets, UDP and TCP at 127.0.0.11, and with Port6 the same at ::1.
	// Where dnetd has sockets in that namespace already it closes these. The
	// reply has the ports of those that it reads.
	Serve Op = "serve"
	// Forget has dnetd let go of what Attachment brought. The reply has the ports of
	// the sandbox's sockets if another attachment needs them, of whatever container.
	Forget Op = "forget"
	// Know asks whether dnetd answers as Resolver says, whatever its ports are; an
	// error says how not. The reply has the ports of the sockets that dnetd reads.
	Know Op = "know"
	// Refresh has dnetd read Attachment's records again: it publishes ports that
	// want the relay, or does no more.
	Refresh Op = "refresh"
	// Status asks whether dnetd is well, and which it is.
	Status Op = "status"
	// Run has dnetd carry out Errand. It is answered by [Conn.Answer].
	Run Op = "run"
	// TakeOver asks for all that dnetd has open, for another one that takes its
	// place.
	TakeOver Op = "take over"
)

// A Request is what dnetd is asked.
type Request struct {
	Op         Op               `json:"op"`
	Resolver   *names.Resolver  `json:"resolver,omitempty"`
	Attachment *wire.Attachment `json:"attachment,omitempty"`
	Errand     *Errand          `json:"-"` // is no JSON
}

// unpack reads a request off a message.
func (r *Request) unpack(data []byte) (err error) {
	if !isErrand(data) {
		return json.Unmarshal(data, r)
	}
	r.Op = Run
	r.Errand, err = parseErrand(data)
	return err
}

// A Reply is dnetd's answer.
type Reply struct {
	Error   string    `json:"error,omitempty"`
	Code    wire.Code `json:"code,omitempty"` // the error's, as plugins report it
	Port    uint16    `json:"port,omitempty"`
	Port6   uint16    `json:"port6,omitempty"`
	PID     int       `json:"pid,omitempty"`
	Version string    `json:"version,omitempty"`
}

// Err returns the error that a reply tells of, or nil.
func (r Reply) Err() error {
	if r.Error == "" {
		return nil
	}
	return wire.Errorf(r.Code, "dnetd: %s", r.Error)
}

// ErrAbsent says that nobody listens at the socket.
var ErrAbsent = errors.New("no dnetd is running")

// A Conn is a connection between a plugin, or another dnetd, and dnetd.
type Conn struct{ unix *net.UnixConn }

// Dial connects to the dnetd that listens at a path; ErrAbsent where there is
// none.
func Dial(path string, timeout time.Duration) (*Conn, error) {
	d := net.Dialer{Timeout: timeout}
	c, err := d.Dial("unixpacket", path)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, fmt.Errorf("%w at %s", ErrAbsent, path)
	}
	if err != nil {
		return nil, err
	}
	return NewConn(c.(*net.UnixConn)), nil
}

// NewConn returns a connection that was accepted.
func NewConn(c *net.UnixConn) *Conn { return &Conn{c} }

// Close ends the connection.
func (c *Conn) Close() error { return c.unix.Close() }

// SetDeadline limits how long messages may take from now on.
func (c *Conn) SetDeadline(t time.Time) error { return c.unix.SetDeadline(t) }

// Ready reports whether a message is there.
func (c *Conn) Ready() bool {
	raw, err := c.unix.SyscallConn()
	if err != nil {
		return false
	}
	ready := false
	gone := raw.Control(func(fd uintptr) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		ready = n == 1 && err == nil
	})
	return gone == nil && ready
}

// Send sends a message with descriptors, at most [MaxFiles], which stay the
// caller's.
func (c *Conn) Send(v any, fds ...int) error {
	data, err := oncejson.Marshal(v, "") // a plugin sends one message in its life
	if err != nil {
		return err
	}
	if len(data) > maxMessage {
		return fmt.Errorf("message of %d bytes: at most %d", len(data), maxMessage)
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	_, _, err = c.unix.WriteMsgUnix(data, rights, nil)
	return err
}

// Receive reads a message into v and returns the descriptors that came with it,
// which are the caller's, also with an error. The error is io.EOF when the other
// end is closed.
func (c *Conn) Receive(v any) ([]int, error) {
	data := takeBuffer()
	defer returnBuffer(data)
	rights := make([]byte, unix.CmsgSpace(4*MaxFiles))
	n, m, flags, _, err := c.unix.ReadMsgUnix(data, rights)
	if err != nil {
		return nil, err
	}
	fds, err := received(rights[:m])
	switch {
	case err != nil:
		return fds, err
	case flags&unix.MSG_CTRUNC != 0: // the kernel does not say which limit that was
		return fds, fmt.Errorf("not all descriptors came: %w", unix.EMFILE)
	case flags&unix.MSG_TRUNC != 0 || n > maxMessage:
		return fds, fmt.Errorf("message is longer than %d bytes", maxMessage)
	}
	if r, ok := v.(*Request); ok {
		return fds, r.unpack(data[:n])
	}
	return fds, json.Unmarshal(data[:n], v)
}

// buffers have room for messages, which are short: most of one that is made is
// zeroed and never read. Some are kept; a sync.Pool forgets them with the garbage.
var buffers = make(chan []byte, 4)

func takeBuffer() []byte {
	select {
	case b := <-buffers:
		return b
	default:
		return make([]byte, maxMessage+1)
	}
}

func returnBuffer(b []byte) {
	select {
	case buffers <- b:
	default:
	}
}

// received returns the descriptors of a control message. The runtime has set
// close-on-exec.
func received(rights []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	var fds []int
	for i := range messages {
		list, e := unix.ParseUnixRights(&messages[i])
		fds, err = append(fds, list...), errors.Join(err, e)
	}
	return fds, err
}

// CloseAll closes descriptors.
func CloseAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd) // nothing was written
	}
}

// Peer returns who is at the other end (SO_PEERCRED).
func (c *Conn) Peer() (*unix.Ucred, error) { return credentials(c.unix) }

// credentials returns who connected a socket, or listens at it.
func credentials(c syscall.Conn) (*unix.Ucred, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) {
		cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	return cred, errors.Join(err, failed)
}

// Mark is the mark of the packets of dnetd's own sockets (SO_MARK), "dcni" in
// ASCII: rules tell its queries from a container's by it, and plugins tell the
// ports that it holds for published ones from those of other programs.
const Mark = 0x64636e69
