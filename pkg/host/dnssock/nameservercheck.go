package dnssock

import (
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Check returns as a NameServer two descriptors that another process
// opened, or how they differ from what [OpenNameServer] opens. They stay the
// caller's.
func Check(udp, tcp int, cookie uint64, six bool) (NameServer, error) {
	return CheckAt(udp, tcp, cookie, Address(six))
}

// CheckAt is Check for sockets at any one address.
func CheckAt(udp, tcp int, cookie uint64, a netip.Addr) (NameServer, error) {
	at, err := checkSocket(udp, unix.SOCK_DGRAM, cookie)
	if err != nil {
		return NameServer{}, fmt.Errorf("UDP socket: %w", err)
	}
	listener, err := checkSocket(tcp, unix.SOCK_STREAM, cookie)
	if err != nil {
		return NameServer{}, fmt.Errorf("TCP listener: %w", err)
	}
	if at.Addr() != a || at.Port() == 0 || at != listener {
		return NameServer{}, fmt.Errorf("UDP socket at %s and TCP listener at %s: both must be at one port of %s", at, listener, a)
	}
	return NameServer{UDP: udp, TCP: tcp, Port: at.Port()}, nil
}

// checkSocket returns where a socket listens, which must be of a kind and in a
// namespace. From now on it does not block.
func checkSocket(fd, kind int, cookie uint64) (netip.AddrPort, error) {
	protocol, listens := unix.IPPROTO_UDP, 0
	if kind == unix.SOCK_STREAM {
		protocol, listens = unix.IPPROTO_TCP, 1
	}
	for _, want := range []struct {
		option, value int
		name          string
	}{
		{unix.SO_TYPE, kind, "type"}, {unix.SO_PROTOCOL, protocol, "protocol"}, {unix.SO_ACCEPTCONN, listens, "state"},
	} {
		is, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, want.option)
		if err != nil {
			return netip.AddrPort{}, os.NewSyscallError("getsockopt", err)
		}
		if is != want.value {
			return netip.AddrPort{}, fmt.Errorf("%s is %d: must be %d", want.name, is, want.value)
		}
	}
	is, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return netip.AddrPort{}, os.NewSyscallError("getsockopt", err)
	}
	if is != cookie {
		return netip.AddrPort{}, fmt.Errorf("namespace has cookie %d: must be %d", is, cookie)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return netip.AddrPort{}, os.NewSyscallError("fcntl", err)
	}
	return localAddress(fd)
}
