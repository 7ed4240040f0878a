package hostports

import (
	"errors"

	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
)

// Bindable reports whether a program could bind a port of the host now. A connection
// may have it for its own end, which is in no list of listeners: such a port is not to
// be chosen, since dnetd could not hold it. Where the kernel lacks the protocol or the
// family it is true.
func Bindable(p firewall.Port, v6 bool) bool {
	family, kind := unix.AF_INET, unix.SOCK_STREAM
	if v6 {
		family = unix.AF_INET6
	}
	if p.Protocol == "udp" {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, int(Protocols[p.Protocol]))
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	if v6 {
		err = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err == nil && kind == unix.SOCK_STREAM { // connections that have ended may linger
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err != nil {
		return true
	}
	return !errors.Is(unix.Bind(fd, address(p, v6)), unix.EADDRINUSE)
}

// address returns what a port is bound to in one family.
func address(p firewall.Port, v6 bool) unix.Sockaddr {
	if v6 {
		at := &unix.SockaddrInet6{Port: int(p.HostPort)}
		if !p.Any() {
			at.Addr = p.HostIP.As16()
		}
		return at
	}
	at := &unix.SockaddrInet4{Port: int(p.HostPort)}
	if !p.Any() {
		at.Addr = p.HostIP.Unmap().As4()
	}
	return at
}
