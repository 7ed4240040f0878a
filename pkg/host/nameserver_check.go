package host

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"dcni/pkg/netns"
)

// CheckNameServer returns as a NameServer two descriptors that somebody else
// opened, or how they differ from what [OpenNameServer] opens. They stay the
// caller's.
func CheckNameServer(udp, tcp int, cookie uint64, six bool) (NameServer, error) {
	s := NameServer{UDP: udp, TCP: tcp}
	for _, want := range []struct {
		fd, kind, protocol, listens int
		name                        string
	}{
		{udp, unix.SOCK_DGRAM, unix.IPPROTO_UDP, 0, "UDP socket"},
		{tcp, unix.SOCK_STREAM, unix.IPPROTO_TCP, 1, "listening TCP socket"},
	} {
		for option, value := range map[int]int{unix.SO_TYPE: want.kind, unix.SO_PROTOCOL: want.protocol, unix.SO_ACCEPTCONN: want.listens} {
			if is, err := unix.GetsockoptInt(want.fd, unix.SOL_SOCKET, option); err != nil || is != value {
				return s, errors.Join(fmt.Errorf("descriptor is no %s", want.name), err)
			}
		}
		at, err := localAddress(want.fd)
		if err != nil {
			return s, err
		}
		if at.Addr() != nameServerAddress(six) {
			return s, fmt.Errorf("%s is at %s: must be at %s", want.name, at, nameServerAddress(six))
		}
		if s.Port == 0 {
			s.Port = at.Port()
		}
		if at.Port() != s.Port || at.Port() == 0 {
			return s, fmt.Errorf("%s is at port %d: must be at that of the UDP socket, %d", want.name, at.Port(), s.Port)
		}
		is, err := unix.GetsockoptUint64(want.fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		if err != nil || is != cookie {
			return s, errors.Join(fmt.Errorf("%s is in namespace %d: must be in %d", want.name, is, cookie), err)
		}
		if err := unix.SetNonblock(want.fd, true); err != nil {
			return s, os.NewSyscallError("fcntl", err)
		}
	}
	return s, nil
}

// A Namespace tells network namespaces apart as long as they live.
type Namespace = nsID

// NamespaceOf returns the network namespace that a socket is in.
func NamespaceOf(fd int) (Namespace, error) {
	ns, err := SocketNamespace(fd)
	if err != nil {
		return Namespace{}, err
	}
	defer ns.Close()
	var st unix.Stat_t
	if err := unix.Fstat(ns.Fd(), &st); err != nil {
		return Namespace{}, os.NewSyscallError("fstat", err)
	}
	return Namespace{st.Dev, st.Ino}, nil
}

// NamespaceAt returns the namespace that a path leads to.
func NamespaceAt(path string) (Namespace, error) { return nsAt(path) }

// Inhabited returns the network namespaces that processes are in.
func Inhabited() map[Namespace]bool {
	found := map[Namespace]bool{}
	for p := range processes() {
		found[p.namespace("net")] = true
	}
	return found
}

// SocketNamespace opens the network namespace that a socket is in.
func SocketNamespace(fd int) (*netns.NS, error) {
	ns, err := unix.IoctlRetInt(fd, unix.SIOCGSKNS)
	if err != nil {
		return nil, fmt.Errorf("namespace of a socket: %w", err)
	}
	return netns.FromFD(ns), nil
}

// OwnCookie returns the cookie of the process's own network namespace.
func OwnCookie() (uint64, error) {
	ns, err := netns.Open(ownNetNS)
	if err != nil {
		return 0, err
	}
	defer ns.Close()
	return ns.Cookie()
}
