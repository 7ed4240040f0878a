package integration

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// An endpoint is ADDR:PORT/PROTO as scripts write it; tcp may be left out.
type endpoint struct {
	addr  netip.AddrPort
	proto string // tcp, udp or sctp
}

func parseEndpoint(s string) (endpoint, error) {
	s, proto, found := strings.Cut(s, "/")
	if !found {
		proto = "tcp"
	}
	if proto != "tcp" && proto != "udp" && proto != "sctp" {
		return endpoint{}, fmt.Errorf("protocol %q: want tcp, udp or sctp", proto)
	}
	addr, err := netip.ParseAddrPort(s)
	return endpoint{addr, proto}, err
}

// network is the name that package net knows the protocol and family by. The
// family is said because "tcp" on [::] would answer IPv4 as well.
func (e endpoint) network() string {
	if e.addr.Addr().Is4() {
		return e.proto + "4"
	}
	return e.proto + "6"
}

// Sockets belong to the namespace they are made in, whichever thread uses them
// afterwards: listen and dial make theirs on the calling thread.

// listen answers each peer with text and the peer's address. What it returns
// ends the answering.
func listen(e endpoint, text string) (io.Closer, error) {
	if e.proto == "udp" {
		conn, err := net.ListenUDP(e.network(), net.UDPAddrFromAddrPort(e.addr))
		if err != nil {
			return nil, err
		}
		go answerPackets(conn, text)
		return conn, nil
	}
	l, err := listenStream(e)
	if err != nil {
		return nil, err
	}
	go answerStreams(l, text)
	return l, nil
}

func answerPackets(conn *net.UDPConn, text string) {
	buf := make([]byte, 64)
	for {
		_, peer, err := conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, _ = conn.WriteToUDPAddrPort([]byte(answer(text, peer.Addr())), peer)
		}
	}
}

func answerStreams(l net.Listener, text string) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		peer, err := netip.ParseAddrPort(conn.RemoteAddr().String())
		if err == nil {
			_, _ = io.WriteString(conn, answer(text, peer.Addr()))
		}
		_ = conn.Close()
	}
}

func answer(text string, peer netip.Addr) string {
	return fmt.Sprintf("%s from %s\n", text, peer.Unmap())
}

func listenStream(e endpoint) (net.Listener, error) {
	if e.proto == "tcp" {
		return net.Listen(e.network(), e.addr.String())
	}
	f, err := socket(e.proto, e.addr.Addr().Is6())
	if err != nil {
		return nil, err
	}
	defer f.Close() // FileListener has its own copy
	fd := int(f.Fd())
	if err := errors.Join(unix.Bind(fd, sockaddr(e.addr)), unix.Listen(fd, 16)); err != nil {
		return nil, err
	}
	return net.FileListener(f)
}

// ask connects to an endpoint and returns the first line of the answer.
func ask(e endpoint, wait time.Duration) (string, error) {
	conn, err := dial(e, wait)
	if err != nil {
		return "", err
	}
	defer conn.Close() // only read from
	deadline := time.Now().Add(wait)
	for e.proto == "udp" && time.Now().Before(deadline) {
		line, err := askPacket(conn)
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return line, err
		}
	}
	if err := conn.SetReadDeadline(deadline); err != nil {
		return "", err
	}
	return bufio.NewReader(conn).ReadString('\n')
}

// askPacket asks once: a datagram may be lost while a neighbour is looked up.
func askPacket(conn net.Conn) (string, error) {
	if _, err := conn.Write([]byte("?")); err != nil {
		return "", err
	}
	if err := conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		return "", err
	}
	buf := make([]byte, 256)
	n, err := conn.Read(buf)
	return string(buf[:n]), err
}

func dial(e endpoint, wait time.Duration) (net.Conn, error) {
	if zone := e.addr.Addr().Zone(); zone != "" {
		link, err := net.InterfaceByName(zone) // package net keeps what it found in another namespace
		if err != nil {
			return nil, err
		}
		e.addr = netip.AddrPortFrom(e.addr.Addr().WithZone(strconv.Itoa(link.Index)), e.addr.Port())
	}
	if e.proto == "udp" && e.toMany() {
		conn, err := net.ListenUDP(e.network(), nil)
		return &shout{conn, e.addr}, err
	}
	if e.proto != "sctp" {
		return net.DialTimeout(e.network(), e.addr.String(), wait)
	}
	f, err := socket(e.proto, e.addr.Addr().Is6())
	if err != nil {
		return nil, err
	}
	defer f.Close() // FileConn has its own copy
	timeout := unix.NsecToTimeval(wait.Nanoseconds())
	if err := unix.SetsockoptTimeval(int(f.Fd()), unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout); err != nil {
		return nil, err
	}
	if err := unix.Connect(int(f.Fd()), sockaddr(e.addr)); err != nil {
		return nil, err
	}
	return net.FileConn(f)
}

// toMany reports whether an address is a broadcast or multicast one, as those of the
// scenarios are written.
func (e endpoint) toMany() bool {
	a := e.addr.Addr()
	return a.IsMulticast() || a.Is4() && a.As4()[3] == 255
}

// A shout is a socket that sends to many, and hears any one's answer.
type shout struct {
	*net.UDPConn
	to netip.AddrPort
}

// Write sends a datagram.
func (s *shout) Write(b []byte) (int, error) { return s.WriteToUDPAddrPort(b, s.to) }

// socket makes a stream socket that package net can't make by name.
func socket(proto string, v6 bool) (*os.File, error) {
	family := unix.AF_INET
	if v6 {
		family = unix.AF_INET6
	}
	protocol := unix.IPPROTO_TCP
	if proto == "sctp" {
		protocol = unix.IPPROTO_SCTP
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, os.NewSyscallError("socket "+proto, err)
	}
	if v6 { // alone, as package net has it
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("IPV6_V6ONLY", err)
	}
	return os.NewFile(uintptr(fd), proto), nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}
