package relay

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// A socket is one that listens on a port of the host.
type socket struct {
	protocol string
	at       netip.AddrPort
	fd       int
	udp      *sessions // nil for other protocols
}

// open opens a listening socket of a port and has it watched.
func (r *Relay) open(k portKey, p *port, addr netip.Addr) error {
	protocol, at := k.protocol(), netip.AddrPortFrom(addr, k.number)
	fd, err := r.listen(protocol, at)
	if err == nil && tooHigh(fd) {
		_ = unix.Close(fd)
		err = unix.EMFILE
	}
	if err != nil {
		if errors.Is(err, unix.EPROTONOSUPPORT) {
			r.Log.Info("a port is not served: the kernel lacks the protocol", "port", at.Port(), "protocol", protocol)
		}
		if at.Addr().Is4() && errors.Is(err, unix.EADDRINUSE) {
			err = fmt.Errorf("%w: %w", errHeld, err)
		}
		return fmt.Errorf("listen on %s/%s: %w", at, protocol, err)
	}
	s := &socket{protocol: protocol, at: at, fd: fd}
	if protocol == "udp" {
		s.udp = &sessions{}
	}
	if err := r.add(fd, s); err != nil {
		_ = unix.Close(fd)
		return err
	}
	p.sockets = append(p.sockets, s)
	return nil
}

// listen returns a listening socket: an adopted one, or a new one.
func (r *Relay) listen(protocol string, at netip.AddrPort) (int, error) {
	if fd, ok := r.adopted[Socket{protocol, at}]; ok {
		delete(r.adopted, Socket{protocol, at})
		return fd, nil
	}
	return listen(protocol, at, r.Mark)
}

// tooHigh reports whether a descriptor is one of the last eighth that the process
// may have. Those are reserved for other parts of the program.
func tooHigh(fd int) bool {
	var limit unix.Rlimit
	return unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil && uint64(fd) >= limit.Cur-limit.Cur/8
}

// unsupported reports whether an error says that the kernel lacks IPv6 or a
// protocol. Then it is no use to try again.
func unsupported(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EPROTONOSUPPORT)
}

// listen returns a socket that listens at an address, at one of IPv6 without IPv4, or at
// [anyAddress]. The host need not have the address yet: it may be tentative, or IPv6 may be switched on
// later.
func listen(protocol string, at netip.AddrPort, mark uint32) (fd int, err error) {
	const typeFlags = unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	family, options := unix.AF_INET, [][3]int{{unix.SOL_IP, unix.IP_FREEBIND, 1}, {unix.SOL_IP, unix.IP_PKTINFO, 1}}
	if at.Addr().Is6() {
		family, options = unix.AF_INET6, [][3]int{
			{unix.SOL_IPV6, unix.IPV6_V6ONLY, 1}, {unix.SOL_IPV6, unix.IPV6_FREEBIND, 1}, {unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1},
		}
	}
	if at.Addr() == anyAddress() {
		at = netip.AddrPortFrom(netip.IPv6Unspecified(), at.Port())
		options[0][2] = 0
		options = append(options, [3]int{unix.SOL_IP, unix.IP_PKTINFO, 1})
	}
	switch protocol {
	case "tcp":
		fd, err = unix.Socket(family, unix.SOCK_STREAM|typeFlags, unix.IPPROTO_TCP)
	case "sctp":
		fd, err = unix.Socket(family, unix.SOCK_STREAM|typeFlags, unix.IPPROTO_SCTP)
	default:
		fd, err = unix.Socket(family, unix.SOCK_DGRAM|typeFlags, unix.IPPROTO_UDP)
	}
	if err != nil {
		return -1, err
	}
	if protocol != "udp" { // two UDP sockets with this option may share a port
		options = append(options, [3]int{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1})
	}
	if mark != 0 {
		options = append(options, [3]int{unix.SOL_SOCKET, unix.SO_MARK, int(mark)})
	}
	for _, o := range options {
		if err == nil {
			err = unix.SetsockoptInt(fd, o[0], o[1], o[2])
		}
	}
	if err == nil {
		err = unix.Bind(fd, sockaddr(at))
	}
	if err == nil && protocol != "udp" {
		err = unix.Listen(fd, unix.SOMAXCONN)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// allowed reports whether a client that came by a link may use the relay.
func (r *Relay) allowed(s *socket, link int) bool {
	return r.Allowed == nil || s.at.Addr().IsLoopback() || r.Allowed(link)
}

// watch changes what a socket is watched for; 0 is nothing.
func (s *socket) watch(r *Relay, events uint32) {
	if r.watched[int32(s.fd)] == s { // it is still open
		_ = r.epoll.Change(s.fd, int32(s.fd), events)
	}
}

// ready serves some of the clients that wait, so that other sockets get their turn.
func (s *socket) ready(r *Relay) {
	for range readsAtOnce {
		if s.udp != nil && !s.receive(r) || s.udp == nil && !s.accept(r) {
			return
		}
	}
}

// close closes a socket, with its sessions.
func (s *socket) close(r *Relay) {
	s.closeSessions(r, func(*session) bool { return true })
	r.remove(s.fd)
}
