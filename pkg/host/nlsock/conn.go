// Package nlsock is the netlink transport: messages, and sockets for those kernel
// interfaces that answer before sendmsg returns. What messages say is for the
// packages of each interface: rtnl, nft and conntrack.
package nlsock

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Conn is a netlink socket for kernel interfaces that answer before sendmsg
// returns, as rtnetlink, nf_tables and sock_diag do: everything a request yields
// can be read without waiting. google/nftables reads one answer for each message,
// can't ask for EXCL and needs a round trip for each element that it looks up.
// Therefore messages are sent from here, and the library only encodes expressions.
type Conn struct {
	FD  int
	Seq uint32 // of the last message
}

// SocketBuffer holds the answers to a full batch: they are all queued before
// the first can be read.
const SocketBuffer = 8 << 20

// Dial opens a socket in the network namespace of the calling thread.
func Dial(protocol int) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	for _, force := range [][2]int{{unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}, {unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}} {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force[0], SocketBuffer) != nil {
			// Without CAP_NET_ADMIN over the namespace: as much as the host allows.
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, force[1], SocketBuffer)
		}
	}
	// Errors needn't carry the request back.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	return &Conn{FD: fd}, nil
}

// Next returns the sequence number of the next message.
func (c *Conn) Next() uint32 {
	c.Seq++
	return c.Seq
}

// Close gives the socket back. There is nothing to be done about an error.
func (c *Conn) Close() { _ = unix.Close(c.FD) }

// Reply is one message of an answer.
type Reply struct {
	Seq   uint32
	Type  uint16
	Flags uint16 // NLM_F_*
	Err   error  // what an error message says; nil in an acknowledgement
	Data  []byte // behind the netlink header
}

// errInterrupted says that what was dumped changed during the dump.
var errInterrupted = errors.New("dump interrupted")

// RoundTrip sends messages and reads all that they yield.
func (c *Conn) RoundTrip(messages []byte) ([]Reply, error) {
	if err := c.drain(); err != nil {
		return nil, err
	}
	err := c.send(messages)
	if errors.Is(err, unix.EMSGSIZE) { // a message may be as long as the buffer
		_ = unix.SetsockoptInt(c.FD, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, len(messages))
		err = c.send(messages)
	}
	if err != nil {
		return nil, os.NewSyscallError("sendto netlink", err)
	}
	return c.receive()
}

func (c *Conn) send(messages []byte) error {
	return RetryEINTR(func() error {
		return unix.Sendto(c.FD, messages, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	})
}

// drain drops what an earlier, failed exchange may have left.
func (c *Conn) drain() error {
	for {
		_, err := c.read(nil) // a datagram that finds no room is dropped
		if errors.Is(err, unix.EAGAIN) {
			return nil
		}
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return os.NewSyscallError("recvfrom netlink", err)
		}
	}
}

// read reads a datagram, as far as there is room.
func (c *Conn) read(room []byte) (n int, err error) {
	err = RetryEINTR(func() error {
		n, _, err = unix.Recvfrom(c.FD, room, unix.MSG_DONTWAIT)
		return err
	})
	return n, err
}

// rooms are for datagrams to be read to, each as long as one may be. They are used
// again: in dnetd, which carries out thousands of ADDs, making a new one takes
// 27 µs, and each opens three sockets.
var rooms = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// receive reads until nothing is left. Lost answers (ENOBUFS) are reported only
// after all others: the kernel says so first.
func (c *Conn) receive() ([]Reply, error) {
	var replies []Reply
	var lost, interrupted error
	room := rooms.Get().(*[64 << 10]byte)
	defer rooms.Put(room)
	for {
		n, err := c.read(room[:])
		switch {
		case errors.Is(err, unix.EAGAIN):
			return replies, errors.Join(lost, interrupted)
		case errors.Is(err, unix.ENOBUFS):
			lost = os.NewSyscallError("recvfrom netlink", err)
			continue
		case err != nil:
			return replies, os.NewSyscallError("recvfrom netlink", err)
		}
		more, intr := ParseReplies(bytes.Clone(room[:n]))
		replies = append(replies, more...)
		if intr {
			interrupted = errInterrupted
		}
	}
}

// ParseReplies splits a datagram. It keeps slices of b.
func ParseReplies(b []byte) (replies []Reply, interrupted bool) {
	for len(b) >= unix.SizeofNlMsghdr {
		length := int(binary.NativeEndian.Uint32(b))
		if length < unix.SizeofNlMsghdr || length > len(b) {
			break
		}
		flags := binary.NativeEndian.Uint16(b[6:])
		r := Reply{Type: binary.NativeEndian.Uint16(b[4:]), Flags: flags, Seq: binary.NativeEndian.Uint32(b[8:]),
			Data: b[unix.SizeofNlMsghdr:length]}
		if (r.Type == unix.NLMSG_ERROR || r.Type == unix.NLMSG_DONE) && len(r.Data) >= 4 {
			if errno := int32(binary.NativeEndian.Uint32(r.Data)); errno < 0 {
				r.Err = unix.Errno(-errno)
			}
		}
		interrupted = interrupted || flags&unix.NLM_F_DUMP_INTR != 0
		replies = append(replies, r)
		b = b[min(len(b), Align4(length)):]
	}
	return replies, interrupted
}

// dumpTries bounds how often a dump is begun again because what it lists
// changed during the dump.
const dumpTries = 20

// Dump sends one request and returns the answers' payloads.
func (c *Conn) Dump(request []byte) ([][]byte, error) {
	for try := 1; ; try++ {
		replies, err := c.RoundTrip(request)
		if errors.Is(err, errInterrupted) && try < dumpTries {
			continue
		}
		if err != nil {
			return nil, err
		}
		var payloads [][]byte
		for _, r := range replies {
			if r.Err != nil {
				return nil, r.Err
			}
			if r.Type != unix.NLMSG_DONE && r.Type != unix.NLMSG_ERROR {
				payloads = append(payloads, r.Data)
			}
		}
		return payloads, nil
	}
}

// Join subscribes to the messages of a multicast group.
func (c *Conn) Join(group int) error {
	return os.NewSyscallError("bind", unix.Bind(c.FD, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (group - 1)}))
}

// Wait waits until something can be read, and drops it.
func (c *Conn) Wait() error {
	err := RetryEINTR(func() error {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(c.FD), Events: unix.POLLIN}}, -1)
		return err
	})
	if err != nil {
		return err
	}
	return c.drain()
}

// RetryEINTR calls f until no signal interrupts it.
func RetryEINTR(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Align4 rounds up to the length that an attribute takes.
func Align4(n int) int { return (n + 3) &^ 3 }
