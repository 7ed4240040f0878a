package integration

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestInvalidSegments sends what conntrack calls invalid, and so does not translate: it
// must neither meet the host in the container's place, nor leave with the container's
// own address. What the host has open itself is answered as ever.
func TestInvalidSegments(t *testing.T) {
	r := newFixture(t)
	r.netns("c1")
	r.ok(r.plugin("ADD", "dbridge", `{"cniVersion": "1.0.0", "name": "web", "type": "dbridge",
		"ipam": {"type": "dipam", "subnets": [{"subnet": "10.88.0.0/24"}, {"subnet": "fd00:88::/64"}]},
		"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
			{"hostPort": 8081, "containerPort": 80, "protocol": "tcp", "hostIP": "192.0.2.1"}]}}`))
	for _, network := range []string{"tcp4", "tcp6"} {
		r.serve("c1", network, ":80")
		r.serve("host", network, ":90")
	}
	for _, c := range []struct{ host, outside, container string }{
		{"192.0.2.1", "192.0.2.2", "10.88.0.2"},
		{"2001:db8::1", "2001:db8::2", "fd00:88::2"},
	} {
		host, outside, container := netip.MustParseAddr(c.host), netip.MustParseAddr(c.outside), netip.MustParseAddr(c.container)
		ports := []uint16{8080, 8081}
		if host.Is6() {
			ports = ports[:1]
		}
		for _, port := range ports {
			published := netip.AddrPortFrom(host, port)
			r.outOfWindow("outside", published)
			stray := netip.AddrPortFrom(outside, 4000)
			r.heard("FIN of no connection to "+published.String(), "outside", stray, published, tcpFin|tcpAck, published, false)
		}
		// The host's own: a port that is open, and one that is closed.
		own, closed := netip.AddrPortFrom(host, 90), netip.AddrPortFrom(host, 91)
		r.outOfWindow("outside", own)
		for i, to := range []netip.AddrPort{own, closed} {
			from := netip.AddrPortFrom(outside, 4001+uint16(i))
			r.heard("FIN of no connection to "+to.String(), "outside", from, to, tcpFin|tcpAck, to, true)
		}
		// From the container.
		inside := netip.AddrPortFrom(container, 4003)
		there := netip.AddrPortFrom(outside, 95)
		for _, flags := range []byte{tcpRst, tcpFin | tcpAck, tcpSyn | tcpAck} {
			r.leaks("c1", inside, there, flags)
		}
	}
	r.ok(r.plugin("DEL", "dbridge", `{"cniVersion": "1.0.0", "name": "web", "type": "dbridge", "ipam": {"type": "dipam"}}`))
	if sets := r.run("nft", "list", "sets"); strings.Contains(sets, "web c1/eth0") {
		t.Errorf("DEL leaves %s", sets)
	}
}

// TestInvalidAnswers sends what conntrack calls invalid as answers to connections that
// containers made, or the host made to a published port: no reset ends them.
func TestInvalidAnswers(t *testing.T) {
	r := newFixture(t)
	r.netns("c1")
	r.ok(r.plugin("ADD", "dbridge", `{"cniVersion": "1.0.0", "name": "web", "type": "dbridge",
		"ipam": {"type": "dipam", "subnets": [{"subnet": "10.88.0.0/24"}, {"subnet": "fd00:88::/64"}]},
		"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}}`))
	for _, network := range []string{"tcp4", "tcp6"} {
		r.serve("outside", network, ":95")
		r.serve("c1", network, ":80")
	}
	for _, c := range []struct{ host, outside, container string }{
		{"192.0.2.1", "192.0.2.2", "10.88.0.2"},
		{"2001:db8::1", "2001:db8::2", "fd00:88::2"},
	} {
		host, outside, container := netip.MustParseAddr(c.host), netip.MustParseAddr(c.outside), netip.MustParseAddr(c.container)
		server := netip.AddrPortFrom(outside, 95)
		r.answered("c1", server, "outside", server, host)
		r.answered("host", netip.AddrPortFrom(host, 8080), "c1", netip.AddrPortFrom(container, 80), netip.Addr{})
		// What answers no connection of a container's is the host's.
		closed := netip.AddrPortFrom(host, 41999)
		r.heard("FIN of no connection to "+closed.String(), "outside", server, closed, tcpFin|tcpAck, closed, true)
	}
}

// TestInvalidSegmentsManyPorts is about the last of many published ports.
func TestInvalidSegmentsManyPorts(t *testing.T) {
	r := newFixture(t)
	r.netns("c1")
	var ports []string
	for i := range 300 {
		ports = append(ports, fmt.Sprintf(`{"hostPort": %d, "containerPort": 80, "protocol": "tcp"}`, 8000+i))
	}
	r.ok(r.plugin("ADD", "dbridge", `{"cniVersion": "1.0.0", "name": "web", "type": "dbridge", "ipam": {"type": "dipam", "subnet": "10.88.0.0/24"},
		"runtimeConfig": {"portMappings": [`+strings.Join(ports, ",")+`]}}`))
	r.serve("c1", "tcp4", ":80")
	host, stray := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddrPort("192.0.2.2:4000")
	for _, port := range []uint16{8000, 8150, 8299} {
		published := netip.AddrPortFrom(host, port)
		r.outOfWindow("outside", published)
		r.heard("FIN of no connection to "+published.String(), "outside", stray, published, tcpFin|tcpAck, published, false)
	}
	next := netip.AddrPortFrom(host, 8300)
	r.heard("FIN of no connection to "+next.String(), "outside", stray, next, tcpFin|tcpAck, next, true)
	r.ok(r.plugin("DEL", "dbridge", `{"cniVersion": "1.0.0", "name": "web", "type": "dbridge", "ipam": {"type": "dipam"}}`))
	published := netip.AddrPortFrom(host, 8299)
	r.heard("FIN to a port that was published", "outside", stray, published, tcpFin|tcpAck, published, true)
}

// answered makes a connection, of which the server knows the client by an address, its
// own if that is not valid. It has the server's side send segments out of the window:
// no reset comes, and the connection goes on.
func (r *fixture) answered(client string, to netip.AddrPort, server string, from netip.AddrPort, known netip.Addr) {
	r.t.Helper()
	conn := r.dial(client, to)
	defer conn.Close()
	if err := say(conn); err != nil {
		r.t.Fatal(err)
	}
	back := netip.MustParseAddrPort(conn.LocalAddr().String())
	if known.IsValid() {
		back = netip.AddrPortFrom(known, back.Port())
	}
	for _, flags := range []byte{tcpPsh | tcpAck, tcpFin | tcpAck, tcpSyn | tcpAck} {
		r.heard(fmt.Sprintf("answer %#x out of the window from %s to %s", flags, from, back), server, from, back, flags, back, false)
	}
	if err := say(conn); err != nil {
		r.t.Errorf("connection from %s to %s after an answer out of its window: %v", client, to, err)
	}
}

// dial connects from a namespace.
func (r *fixture) dial(ns string, to netip.AddrPort) (conn net.Conn) {
	r.t.Helper()
	err := r.In(ns, func() (err error) {
		conn, err = net.DialTimeout("tcp", to.String(), 5*time.Second)
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return conn
}

// say has a server say the same.
func say(conn net.Conn) error {
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Write([]byte("hello\n")); err != nil {
		return err
	}
	_, err := conn.Read(make([]byte, 64))
	return err
}

// Flags of a segment.
const (
	tcpFin, tcpSyn, tcpRst, tcpPsh, tcpAck = 1, 2, 4, 8, 16
)

// serve answers each line of a connection with the same line.
func (r *fixture) serve(ns, network, addr string) {
	r.t.Helper()
	err := r.In(ns, func() error {
		l, err := net.Listen(network, addr)
		if err != nil {
			return err
		}
		r.t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					buf := make([]byte, 64)
					for {
						n, err := conn.Read(buf)
						if err != nil {
							_ = conn.Close()
							return
						}
						_, _ = conn.Write(buf[:n])
					}
				}()
			}
		}()
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// outOfWindow sends a segment far out of the window of a connection: no reset comes,
// and the connection goes on.
func (r *fixture) outOfWindow(ns string, to netip.AddrPort) {
	r.t.Helper()
	conn := r.dial(ns, to)
	defer conn.Close()
	if err := say(conn); err != nil {
		r.t.Fatal(err)
	}
	from := netip.MustParseAddrPort(conn.LocalAddr().String())
	for _, flags := range []byte{tcpPsh | tcpAck, tcpFin | tcpAck} {
		r.heard(fmt.Sprintf("segment %#x out of the window to %s", flags, to), ns, from, to, flags, to, false)
	}
	if err := say(conn); err != nil {
		r.t.Errorf("connection to %s after a segment out of its window: %v", to, err)
	}
}

// heard sends a segment and wants a reset from an address, or none.
func (r *fixture) heard(what, ns string, from, to netip.AddrPort, flags byte, reset netip.AddrPort, want bool) {
	r.t.Helper()
	err := r.In(ns, func() error {
		found, err := sniff(from.Addr().Is6(), func() error { return sendSegment(from, to, flags) }, func(p segment) bool {
			return p.flags&tcpRst != 0 && p.from == reset.Port() && p.to == from.Port()
		})
		if err == nil && found != want {
			r.t.Errorf("%s: reset heard: %t, want %t", what, found, want)
		}
		return err
	})
	if err != nil {
		r.t.Error(err)
	}
}

// leaks sends a segment out of a container and wants outside to hear none of it.
func (r *fixture) leaks(ns string, from, to netip.AddrPort, flags byte) {
	r.t.Helper()
	err := r.In("outside", func() error {
		send := func() error {
			done := make(chan error)
			go func() { done <- r.inThread(ns, func() error { return sendSegment(from, to, flags) }) }()
			return <-done
		}
		found, err := sniff(from.Addr().Is6(), send, func(p segment) bool { return p.to == to.Port() })
		if err == nil && found {
			r.t.Errorf("segment %#x of no connection leaves %s", flags, from)
		}
		return err
	})
	if err != nil {
		r.t.Error(err)
	}
}

// inThread is In for another goroutine.
func (r *fixture) inThread(ns string, f func() error) error {
	if err := r.Thread(); err != nil {
		return err
	}
	return r.In(ns, f)
}

// A segment is what is looked at of one that came.
type segment struct {
	from, to uint16
	flags    byte
}

// sniff calls send and reports whether a segment that matches comes within a while.
func sniff(v6 bool, send func() error, match func(segment) bool) (bool, error) {
	family := unix.AF_INET
	if v6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	const wait = 300 * time.Millisecond
	step := unix.NsecToTimeval(int64(wait / 4))
	if err := errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &step), send()); err != nil {
		return false, err
	}
	buf := make([]byte, 2048)
	for end := time.Now().Add(wait); time.Now().Before(end); {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			continue // nothing came
		}
		b := buf[:n]
		if !v6 {
			b = b[int(b[0]&0xf)*4:]
		}
		if match(segment{binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]), b[13]}) {
			return true, nil
		}
	}
	return false, nil
}

// sendSegment sends one TCP segment, with a number that is of no window.
func sendSegment(from, to netip.AddrPort, flags byte) error {
	const number, window = 0x7a000000, 1000
	b := binary.BigEndian.AppendUint16(nil, from.Port())
	b = binary.BigEndian.AppendUint16(b, to.Port())
	b = binary.BigEndian.AppendUint32(b, number)
	b = binary.BigEndian.AppendUint32(b, number)
	b = append(b, 5<<4, flags, window>>8, window&0xff, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(b[16:], checksum(append(pseudoHeader(from.Addr(), to.Addr(), len(b)), b...)))
	family, packet := unix.AF_INET, []byte(nil)
	var address unix.Sockaddr
	if from.Addr().Is6() {
		family, packet, address = unix.AF_INET6, ipv6Segment(from.Addr(), to.Addr(), b), &unix.SockaddrInet6{Addr: to.Addr().As16()}
	} else {
		packet, address = ipv4Packet(from.Addr().As4(), to.Addr().As4(), b), &unix.SockaddrInet4{Addr: to.Addr().As4()}
		packet[9], packet[10], packet[11] = unix.IPPROTO_TCP, 0, 0 // the kernel fills the sum in
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return os.NewSyscallError("sendto", unix.Sendto(fd, packet, 0, address))
}

// pseudoHeader is what a segment's checksum covers besides.
func pseudoHeader(from, to netip.Addr, length int) []byte {
	b := append(from.AsSlice(), to.AsSlice()...)
	b = binary.BigEndian.AppendUint32(b, uint32(length))
	return binary.BigEndian.AppendUint32(b, unix.IPPROTO_TCP)
}

func ipv6Segment(from, to netip.Addr, payload []byte) []byte {
	b := []byte{0x60, 0, 0, 0}
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	b = append(b, unix.IPPROTO_TCP, 64)
	b = append(append(b, from.AsSlice()...), to.AsSlice()...)
	return append(b, payload...)
}
