// Package dnssock is the sockets of a sandbox's name server: those that queries
// arrive at, and those by which it asks others from within the sandbox.
package dnssock

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"dcni/pkg/names"
	"dcni/pkg/netns"
)

// A NameServer is where a sandbox's queries arrive: a UDP socket and a TCP
// listener in its namespace, at one port of 127.0.0.11 or of ::1. Neither
// blocks.
type NameServer struct {
	UDP, TCP int // descriptors
	Port     uint16
}

// Close closes the sockets.
func (s NameServer) Close() {
	_ = unix.Close(s.UDP) // nothing was written
	_ = unix.Close(s.TCP)
}

// ErrNoSandbox says that a sandbox is not at its path any more: nothing is, or
// another namespace.
var ErrNoSandbox = errors.New("the sandbox is gone")

// receiveBuffer is how much of queries a socket keeps, in bytes, while no program
// reads: at 3,000 queries/s some 500 ms of them, enough for a restart.
const receiveBuffer = 4 << 20

// backlog is how many TCP connections wait to be accepted.
const backlog = 128

// Open opens sockets in the sandbox at a path, whose namespace must
// have that cookie: at ::1 if six, else at 127.0.0.11. The port is taken if it
// is free; another one if it is not, or if it is 0. The error is [ErrNoSandbox]
// where the sandbox is gone.
func Open(path string, cookie uint64, port uint16, six bool) (NameServer, error) {
	ns, err := netns.Open(path)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, netns.ErrNotNetNS) {
		return NameServer{}, fmt.Errorf("%w: %w", ErrNoSandbox, err)
	}
	if err != nil {
		return NameServer{}, err
	}
	defer ns.Close()
	var s NameServer
	err = ns.Do(func() (err error) {
		s, err = OpenHere(cookie, port, Address(six))
		return err
	})
	if err != nil {
		return NameServer{}, fmt.Errorf("name server sockets in %s: %w", path, err)
	}
	return s, nil
}

// Address returns where queries arrive: 127.0.0.11, or ::1.
func Address(six bool) netip.Addr {
	if six {
		return netip.IPv6Loopback()
	}
	return names.Address
}

// OpenHere is OpenNameServer in the thread's namespace.
func OpenHere(cookie uint64, port uint16, a netip.Addr) (NameServer, error) {
	const tries = 16 // a port that is free for UDP is hardly ever taken for TCP
	var errs []error
	for range tries {
		s, err := pair(cookie, netip.AddrPortFrom(a, port))
		if !errors.Is(err, unix.EADDRINUSE) {
			return s, err
		}
		errs = append(errs, err)
		port = 0
	}
	return NameServer{}, errors.Join(errs...)
}

// OpenAtGateway opens sockets at port 53 of an address on a link of the thread's namespace, which must have
// that cookie. Only what comes in by the link arrives there. The error is EADDRINUSE where another program has
// the port there, or on all addresses.
func OpenAtGateway(cookie uint64, link string, a netip.Addr) (NameServer, error) {
	return pairOn(cookie, link, netip.AddrPortFrom(a, names.DNSPort))
}

// LinkOf returns the name of the link that a socket is bound to, which fails once that link is gone.
func LinkOf(fd int) (string, error) {
	name, err := unix.GetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE)
	return name, os.NewSyscallError("getsockopt", err)
}

// pair opens both sockets at one port.
func pair(cookie uint64, at netip.AddrPort) (NameServer, error) { return pairOn(cookie, "", at) }

// pairOn opens both sockets at one port, for what comes in by a link; "": by any.
func pairOn(cookie uint64, link string, at netip.AddrPort) (NameServer, error) {
	udp, err := bound(unix.SOCK_DGRAM, link, at)
	if err != nil {
		return NameServer{}, err
	}
	s := NameServer{UDP: udp, TCP: -1}
	if is, err := unix.GetsockoptUint64(udp, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err != nil || is != cookie {
		s.Close()
		return NameServer{}, errors.Join(err, fmt.Errorf("%w: another namespace is at its path", ErrNoSandbox))
	}
	here, err := localAddress(udp)
	if err == nil {
		s.Port = here.Port()
		s.TCP, err = bound(unix.SOCK_STREAM, link, here)
	}
	if err == nil {
		err = os.NewSyscallError("listen", unix.Listen(s.TCP, backlog))
	}
	if err != nil {
		s.Close()
		return NameServer{}, err
	}
	return s, nil
}

// bound opens a socket and binds it. It may be bound while lo is down: after a
// restart another program brings that up again.
func bound(kind int, link string, at netip.AddrPort) (int, error) {
	family, level, free := unix.AF_INET, unix.SOL_IP, unix.IP_FREEBIND
	if at.Addr().Is6() {
		family, level, free = unix.AF_INET6, unix.SOL_IPV6, unix.IPV6_FREEBIND
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	err = unix.SetsockoptInt(fd, level, free, 1)
	if err == nil && link != "" {
		if err = unix.BindToDevice(fd, link); err != nil {
			err = fmt.Errorf("link %s: %w", link, err)
		}
	}
	if err == nil && kind == unix.SOCK_DGRAM {
		err = setReceiveBuffer(fd)
	}
	if err == nil && kind == unix.SOCK_STREAM { // connections of a listener that was killed may linger
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err == nil {
		err = unix.Bind(fd, sockaddr(at))
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("bind %s: %w", at, err)
	}
	return fd, nil
}

// setReceiveBuffer sets the buffer of a socket; in a user namespace, whose root may not go beyond
// net.core.rmem_max, as much as that allows.
func setReceiveBuffer(fd int) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer)
	if errors.Is(err, unix.EPERM) {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	return err
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

// localAddress returns the address that a socket is bound to; the zero one for
// a socket that is not of IP.
func localAddress(fd int) (netip.AddrPort, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, os.NewSyscallError("getsockname", err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port)), nil
	}
	return netip.AddrPort{}, nil
}
