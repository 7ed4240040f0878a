package dnssock

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"dcni/pkg/netns"
	"dcni/pkg/poll"
)

// DialFrom connects to an address, which is a literal with a port, from the
// network namespace that another socket is in. The network is "udp" or "tcp".
// The packets carry a mark (SO_MARK).
func DialFrom(ctx context.Context, sibling int, network, address string, mark int) (net.Conn, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	kind := unix.SOCK_DGRAM
	if network == "tcp" {
		kind = unix.SOCK_STREAM
	}
	ns, err := netns.OfSocket(sibling)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	var fd int
	var peer unix.Sockaddr
	err = ns.Do(func() (err error) {
		if peer, err = remote(to); err == nil {
			fd, err = marked(peer, kind, mark)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return connect(ctx, fd, peer)
}

// remote returns an address as the kernel takes it. A zone is a link of the
// thread's namespace.
func remote(a netip.AddrPort) (unix.Sockaddr, error) {
	zone := a.Addr().Zone()
	if zone == "" {
		return sockaddr(a), nil
	}
	link, err := net.InterfaceByName(zone)
	if err != nil {
		return nil, err
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port()), ZoneId: uint32(link.Index)}, nil
}

// marked opens a socket in the thread's namespace.
func marked(peer unix.Sockaddr, kind, mark int) (int, error) {
	family := unix.AF_INET
	if _, six := peer.(*unix.SockaddrInet6); six {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, mark); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("setsockopt", err)
	}
	return fd, nil
}

// connect connects a socket, which it owns, and waits until that is done.
func connect(ctx context.Context, fd int, peer unix.Sockaddr) (net.Conn, error) {
	err := unix.Connect(fd, peer)
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	if errors.Is(err, unix.EINPROGRESS) {
		err = poll.Connected(ctx, f)
	} else {
		err = os.NewSyscallError("connect", err)
	}
	if err != nil {
		return nil, err
	}
	return net.FileConn(f)
}
