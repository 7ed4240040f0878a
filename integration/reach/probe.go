package reach

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Times of a round of questions.
const (
	quiet    = 400 * time.Millisecond // silence is what has said nothing for so long
	patience = 15 * time.Second       // for what should answer, on a machine that is busy
	again    = 200 * time.Millisecond // a datagram may be lost while a neighbour is looked up
)

// A question is a socket that asks for one cell.
type question struct {
	cell   Cell
	fd     int
	asking bool   // the connection is not there yet
	said   string // what the server said, or an answer of this package
	done   bool
}

// ask opens a socket in the namespace that the thread is in, and asks there.
func ask(c Cell, to netip.AddrPort) (*question, error) {
	kind, proto := unix.SOCK_STREAM, 0
	switch c.Proto {
	case "udp":
		kind = unix.SOCK_DGRAM
	case "icmp":
		kind, proto = unix.SOCK_DGRAM, unix.IPPROTO_ICMP
		if c.Family == "6" {
			proto = unix.IPPROTO_ICMPV6
		}
	}
	family, addr, err := sockaddr(to)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c, err)
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return nil, fmt.Errorf("%s: socket: %w", c, err)
	}
	q := &question{cell: c, fd: fd, asking: c.Proto == "tcp"}
	if err := unix.Connect(fd, addr); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		q.end(wordOf(err))
	}
	q.send()
	return q, nil
}

// sockaddr is an address for the kernel. Its zone is the index of a link: package net remembers
// which names links have in other namespaces.
func sockaddr(a netip.AddrPort) (family int, addr unix.Sockaddr, err error) {
	if a.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}, nil
	}
	to := &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
	if zone := a.Addr().Zone(); zone != "" {
		link, err := strconv.ParseUint(zone, 10, 32)
		if err != nil {
			return 0, nil, err
		}
		to.ZoneId = uint32(link)
	}
	return unix.AF_INET6, to, nil
}

// send sends a datagram, or an echo request. Where the kernel has no room for another neighbour, of which
// there are so many for all namespaces together, it says EINVAL: the next may be sent.
func (q *question) send() {
	message := []byte("?")
	switch {
	case q.done || q.cell.Proto == "tcp":
		return
	case q.cell.Proto == "icmp" && q.cell.Family == "4":
		message = []byte{8, 0, 0, 0, 0, 0, 0, 1}
	case q.cell.Proto == "icmp":
		message = []byte{128, 0, 0, 0, 0, 0, 0, 1}
	}
	if _, err := unix.Write(q.fd, message); err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINVAL) {
		q.end(wordOf(err))
	}
}

// event takes what has come.
func (q *question) event() {
	if q.asking {
		code, err := unix.GetsockoptInt(q.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code != 0 {
			err = syscall.Errno(code)
		}
		if err != nil {
			q.end(wordOf(err))
			return
		}
		q.asking = false
	}
	buf := make([]byte, 256)
	n, err := unix.Read(q.fd, buf)
	switch {
	case errors.Is(err, unix.EAGAIN):
	case err != nil:
		q.end(wordOf(err))
	case n == 0:
		q.end(Closed)
	case q.cell.Proto == "icmp":
		q.end(Yes)
	default:
		q.end(strings.TrimSpace(string(buf[:n])))
	}
}

func (q *question) end(said string) {
	q.said, q.done = said, true
	_ = unix.Close(q.fd)
}

// wordOf is the answer that an error stands for.
func wordOf(err error) string {
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return Refused
	case errors.Is(err, unix.ENETUNREACH):
		return Unreachable
	case errors.Is(err, unix.EHOSTUNREACH): // the neighbour has been silent for some seconds
		return No
	case errors.Is(err, unix.ECONNRESET):
		return Closed
	}
	return err.Error()
}

// collect waits for answers: for those that should come as long as it takes, for the others
// until all has been quiet. silent are cells that should have none.
func collect(list []*question, silent func(Cell) bool) error {
	begin := time.Now()
	next := begin.Add(again)
	for {
		var fds []unix.PollFd
		var open []*question
		awaited := false
		for _, q := range list {
			if q.done {
				continue
			}
			events := int16(unix.POLLIN)
			if q.asking {
				events = unix.POLLOUT
			}
			fds, open = append(fds, unix.PollFd{Fd: int32(q.fd), Events: events}), append(open, q)
			awaited = awaited || !silent(q.cell)
		}
		if past := time.Since(begin); len(open) == 0 || past > quiet && !awaited || past > patience {
			for _, q := range open {
				q.end(No)
			}
			return nil
		}
		if _, err := unix.Poll(fds, int(max(time.Until(next), 0).Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("poll", err)
		}
		for i, q := range open {
			if fds[i].Revents != 0 {
				q.event()
			}
		}
		if time.Now().After(next) {
			next = time.Now().Add(again)
			for _, q := range open {
				q.send()
			}
		}
	}
}
