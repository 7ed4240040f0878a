// Package agent is the unix socket between the plugins and dnetd, the node
// agent: messages of JSON, each a packet (SOCK_SEQPACKET), some with
// descriptors.
//
// A plugin sends a [Request] and reads a [Reply]. dnetd's records are those of package records: what a message says is in a record
// before, or right after, so that a restarted agent knows as much.
// Only root is served.
package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"dcni/pkg/jsonenc"
	"dcni/pkg/names"
	"dcni/pkg/wire"
)

// DefaultSocket is where dnetd listens.
const DefaultSocket = "/run/dcni/dnetd.sock"

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
	// the sandbox's sockets if another attachment needs them, of whatever container,
	// and says of which sandbox it was the last one, if it was.
	Forget Op = "forget"
	// Know asks whether dnetd answers as Resolver says, whatever its ports are; an
	// error says how not. The reply has the ports of the sockets that dnetd reads.
	Know Op = "know"
	// Refresh has dnetd read Attachment's records again: it publishes ports that
	// want the relay, or does no more.
	Refresh Op = "refresh"
	// Sync has dnetd put in what containers of an overlay network need to reach those on
	// other nodes, as Peers says where, and keep it so. The reply comes when that is
	// there. With Peers, Forget ends it, and Know asks whether dnetd is at it.
	Sync Op = "sync"
	// Services has dnetd make the services of Attachment's network as they are to be, in all
	// their clients. The reply comes when that is done.
	Services Op = "services"
	// Cluster has dnetd start dclusterd, where none answers and the host is a node of a
	// cluster. The reply comes when one answers.
	Cluster Op = "cluster"
	// Ingress has dnetd make the node's own attachment to a network as Attachment says, with Conf for the plugin's
	// configuration, or end it where there is no Conf. The reply comes when that is done.
	Ingress Op = "ingress"
	// Events asks for what dnetd has put back since After, the oldest first: as much as one
	// reply takes. It remembers some hundred.
	Events Op = "events"
	// Status asks whether dnetd is well, and which it is.
	Status Op = "status"
	// TakeOver asks for all that dnetd has open, for another one that takes its
	// place.
	TakeOver Op = "take over"
)

// A Request is what dnetd is asked.
type Request struct {
	Op         Op               `json:"op"`
	Resolver   *names.Resolver  `json:"resolver,omitempty"`
	Attachment *wire.Attachment `json:"attachment,omitempty"`
	Peers      *wire.Peers      `json:"peers,omitempty"`
	Conf       json.RawMessage  `json:"conf,omitempty"`
	After      int64            `json:"after,omitempty"` // nanoseconds since 1970
}

// An Event is one thing that dnetd put back, or could not.
type Event struct {
	Time      int64  `json:"time"` // nanoseconds since 1970; no two have the same
	Network   string `json:"network"`
	Container string `json:"container,omitempty"` // "": it is the network's, or the host's
	IfName    string `json:"ifName,omitempty"`
	Object    string `json:"object"` // as ip or nft would print it
	Was       string `json:"was,omitempty"`
	Error     string `json:"error,omitempty"` // why it could not be put back
}

// Bytes is about how many bytes of a reply the event takes.
func (e Event) Bytes() int {
	const keys = 160 // and the time
	return keys + len(e.Network) + len(e.Container) + len(e.IfName) + len(e.Object) + len(e.Was) + len(e.Error)
}

// MaxEvents is how many bytes of events a reply may have: it leaves room for the rest of it.
const MaxEvents = maxReply - 1<<10

// A Reply is dnetd's answer.
type Reply struct {
	Error   string    `json:"error,omitempty"`
	Code    wire.Code `json:"code,omitempty"` // the error's, as plugins report it
	Port    uint16    `json:"port,omitempty"`
	Port6   uint16    `json:"port6,omitempty"`
	Last    uint64    `json:"last,omitempty"` // cookie of the sandbox that no attachment is left in
	PID     int       `json:"pid,omitempty"`
	Version string    `json:"version,omitempty"`
	Events  []Event   `json:"events,omitempty"`
}

// Err returns the error that a reply tells of, or nil.
func (r Reply) Err() error {
	if r.Error == "" {
		return nil
	}
	return wire.Errorf(r.Code, "dnetd: %s", r.Error)
}

// ErrAbsent says that no program listens at the socket.
var ErrAbsent = errors.New("no dnetd is running")

// A Conn is a connection between a plugin, or another dnetd, and dnetd. It is for
// one goroutine, whose thread it blocks: a message that is awaited mostly comes at
// once, and to have the Go runtime's poller look for it takes longer.
type Conn struct {
	fd    int
	limit time.Time // until when messages may take; zero: for ever
}

// Dial connects to the dnetd that listens at a path; ErrAbsent where there is
// none.
func Dial(path string, timeout time.Duration) (*Conn, error) {
	fd, err := dialBlocking(path, timeout)
	if err != nil {
		return nil, err
	}
	c := &Conn{fd: fd}
	if err := limitEach(fd, unix.Timeval{}); err != nil { // from now on SetDeadline says
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Close ends the connection.
func (c *Conn) Close() error { return unix.Close(c.fd) }

// SetDeadline says until when messages may take; zero: for ever. What comes later
// is os.ErrDeadlineExceeded.
func (c *Conn) SetDeadline(t time.Time) { c.limit = t }

// within makes a system call for which there is a limit of time (SO_RCVTIMEO,
// SO_SNDTIMEO).
func (c *Conn) within(option int, call func() error) error {
	if c.limit.IsZero() {
		return again(call)
	}
	return again(func() error {
		left := unix.NsecToTimeval(max(time.Until(c.limit), time.Microsecond).Nanoseconds()) // 0 would be for ever
		if err := unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, option, &left); err != nil {
			return err
		}
		return call()
	})
}

// Send sends a message with descriptors, at most [MaxFiles], which stay the
// caller's.
func (c *Conn) Send(v any, fds ...int) error {
	data, err := pack(v)
	if err != nil {
		return err
	}
	return c.send(data, fds)
}

// pack returns a message as it is sent.
func pack(v any) ([]byte, error) {
	data, err := jsonenc.Marshal(v, "") // a plugin sends one message in its life
	if err == nil && len(data) > maxMessage {
		err = tooLong(len(data))
	}
	return data, err
}

// send sends a packet.
func (c *Conn) send(data []byte, fds []int) error {
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	return c.within(unix.SO_SNDTIMEO, func() error { return unix.Sendmsg(c.fd, data, rights, nil, unix.MSG_NOSIGNAL) })
}

// Receive reads a message into v and returns the descriptors that came with it,
// which are the caller's, also with an error. The error is io.EOF when the other
// end is closed.
func (c *Conn) Receive(v any) ([]int, error) {
	data := takeBuffer()
	defer returnBuffer(data)
	n, fds, err := c.receive(data)
	if err != nil {
		return fds, err
	}
	return fds, json.Unmarshal(data[:n], v)
}

// receive reads a packet, which is shorter than the buffer.
func (c *Conn) receive(data []byte) (n int, fds []int, err error) {
	rights := make([]byte, unix.CmsgSpace(4*MaxFiles))
	var m, flags int
	err = c.within(unix.SO_RCVTIMEO, func() (err error) {
		n, m, flags, _, err = unix.Recvmsg(c.fd, data, rights, unix.MSG_CMSG_CLOEXEC)
		return err
	})
	if err != nil {
		return 0, nil, err
	}
	fds, err = received(rights[:m])
	switch {
	case err != nil:
		return 0, fds, err
	case flags&unix.MSG_CTRUNC != 0: // the kernel does not say which limit that was
		return 0, fds, fmt.Errorf("not all descriptors came: %w", unix.EMFILE)
	case flags&unix.MSG_TRUNC != 0 || n == len(data):
		return 0, fds, fmt.Errorf("message is longer than %d bytes", len(data)-1)
	case n == 0:
		return 0, fds, io.EOF
	}
	return n, fds, nil
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

// CallerAlive reports whether the other end is still open. Once its process was
// killed it is not: the kernel closes sockets before it reports the death.
func (c *Conn) CallerAlive() bool {
	var b [1]byte
	_, _, err := unix.Recvfrom(c.fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return errors.Is(err, unix.EAGAIN)
}

// Peer returns who is at the other end (SO_PEERCRED).
func (c *Conn) Peer() (*unix.Ucred, error) { return credentials(c.fd) }

// credentials returns who connected a socket, or listens at it.
func credentials(fd int) (*unix.Ucred, error) {
	return unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
}

// Mark is the mark of the packets of dnetd's own sockets (SO_MARK), "dcni" in
// ASCII: rules tell its queries from a container's by it, and plugins tell the
// ports that it holds for published ones from those of other programs.
const Mark = 0x64636e69
