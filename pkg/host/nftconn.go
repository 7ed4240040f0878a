package host

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// netlinkConn is a netlink socket for kernel interfaces that answer before
// sendmsg returns, as nf_tables and sock_diag do: everything a request yields
// can be read without waiting. google/nftables reads an answer per message,
// can't ask for EXCL and needs a round trip per element looked up; that is why
// messages go out from here, and the library encodes expressions only.
type netlinkConn struct {
	fd  int
	seq uint32
}

// socketBuffer holds the answers to a full batch: they are all queued before
// the first can be read.
const socketBuffer = 8 << 20

// dialNetlink opens a socket in the network namespace of the calling thread.
func dialNetlink(protocol int) (*netlinkConn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	for _, force := range [][2]int{{unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}, {unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}} {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force[0], socketBuffer) != nil {
			// Without CAP_NET_ADMIN over the namespace: as much as the host allows.
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, force[1], socketBuffer)
		}
	}
	// Errors needn't carry the request back.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	return &netlinkConn{fd: fd}, nil
}

// next returns the sequence number of the next message.
func (c *netlinkConn) next() uint32 {
	c.seq++
	return c.seq
}

// close gives the socket back. There is nothing to be done about an error.
func (c *netlinkConn) close() { _ = unix.Close(c.fd) }

// reply is one message of an answer.
type reply struct {
	seq  uint32
	typ  uint16
	flag uint16 // NLM_F_*
	err  error  // what an error message says; nil in an acknowledgement
	data []byte // behind the netlink header
}

// errInterrupted says that what was dumped changed meanwhile.
var errInterrupted = errors.New("dump interrupted")

// roundTrip sends messages and reads all that they yield.
func (c *netlinkConn) roundTrip(messages []byte) ([]reply, error) {
	if err := c.drain(); err != nil {
		return nil, err
	}
	err := retryEINTR(func() error {
		return unix.Sendto(c.fd, messages, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	})
	if err != nil {
		return nil, os.NewSyscallError("sendto netlink", err)
	}
	return c.receive()
}

// drain drops what an earlier, failed exchange may have left.
func (c *netlinkConn) drain() error {
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
func (c *netlinkConn) read(room []byte) (n int, err error) {
	err = retryEINTR(func() error {
		n, _, err = unix.Recvfrom(c.fd, room, unix.MSG_DONTWAIT)
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
func (c *netlinkConn) receive() ([]reply, error) {
	var replies []reply
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
		more, intr := parseReplies(bytes.Clone(room[:n]))
		replies = append(replies, more...)
		if intr {
			interrupted = errInterrupted
		}
	}
}

// parseReplies splits a datagram. It keeps slices of b.
func parseReplies(b []byte) (replies []reply, interrupted bool) {
	for len(b) >= unix.SizeofNlMsghdr {
		length := int(binary.NativeEndian.Uint32(b))
		if length < unix.SizeofNlMsghdr || length > len(b) {
			break
		}
		flags := binary.NativeEndian.Uint16(b[6:])
		r := reply{typ: binary.NativeEndian.Uint16(b[4:]), flag: flags, seq: binary.NativeEndian.Uint32(b[8:]),
			data: b[unix.SizeofNlMsghdr:length]}
		if (r.typ == unix.NLMSG_ERROR || r.typ == unix.NLMSG_DONE) && len(r.data) >= 4 {
			if errno := int32(binary.NativeEndian.Uint32(r.data)); errno < 0 {
				r.err = unix.Errno(-errno)
			}
		}
		interrupted = interrupted || flags&unix.NLM_F_DUMP_INTR != 0
		replies = append(replies, r)
		b = b[min(len(b), align4(length)):]
	}
	return replies, interrupted
}

// dumpTries bounds how often a dump is begun again because what it lists
// changed meanwhile.
const dumpTries = 20

// dump sends one request and returns the answers' payloads.
func (c *netlinkConn) dump(request []byte) ([][]byte, error) {
	for try := 1; ; try++ {
		replies, err := c.roundTrip(request)
		if errors.Is(err, errInterrupted) && try < dumpTries {
			continue
		}
		if err != nil {
			return nil, err
		}
		var payloads [][]byte
		for _, r := range replies {
			if r.err != nil {
				return nil, r.err
			}
			if r.typ != unix.NLMSG_DONE && r.typ != unix.NLMSG_ERROR {
				payloads = append(payloads, r.data)
			}
		}
		return payloads, nil
	}
}

// join subscribes to the messages of a multicast group.
func (c *netlinkConn) join(group int) error {
	return os.NewSyscallError("bind", unix.Bind(c.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (group - 1)}))
}

// await waits until something can be read, and drops it.
func (c *netlinkConn) await() error {
	err := retryEINTR(func() error {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}, -1)
		return err
	})
	if err != nil {
		return err
	}
	return c.drain()
}

func retryEINTR(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func align4(n int) int { return (n + 3) &^ 3 }
