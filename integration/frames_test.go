package integration

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// A frame is one Ethernet frame from a container to a neighbour on its bridge.
type frame struct {
	kind     string
	from, to station
	ip       netip.Addr       // that it claims; zero: the sender's own
	mac      net.HardwareAddr // of its sender
	all      bool             // to all on the bridge
}

// A station is the eth0 of a container.
type station struct {
	index int
	mac   net.HardwareAddr
	addrs []netip.Addr // IPv4, IPv6, link-local, as far as there are
}

// cmdFrame sends a frame out of a container's eth0, and looks whether another's receives it.
func cmdFrame(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: frame NS NS raw|tagged|arp|ns|dad|na|ra|ip|ip6 [all] [ip=ADDR] [mac=MAC]")
	}
	f := &frame{kind: args[2]}
	ts.Check(f.words(args[3:]))
	host := of(ts)
	var sniffer int
	ts.Check(host.In(args[0], func() (err error) { f.from, err = stationHere(); return err }))
	ts.Check(host.In(args[1], func() (err error) {
		if f.to, err = stationHere(); err == nil {
			sniffer, err = packetSocket(f.to.index)
		}
		return err
	}))
	defer unix.Close(sniffer)
	if f.mac == nil {
		f.mac = f.from.mac
	}
	b, err := f.bytes()
	ts.Check(err)
	ts.Check(host.In(args[0], func() error {
		fd, err := packetSocket(f.from.index)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, b, 0, &unix.SockaddrLinklayer{Ifindex: f.from.index})
	}))
	wait := 5 * time.Second
	if neg {
		wait = time.Second / 4
	}
	finish(ts, neg, arrives(sniffer, b[len(b)-f.unique():], wait))
}

// words reads the words behind a frame's kind.
func (f *frame) words(list []string) (err error) {
	for _, word := range list {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "all":
			f.all = true
		case "ip":
			f.ip, err = netip.ParseAddr(value)
		case "mac":
			f.mac, err = net.ParseMAC(value)
		default:
			err = fmt.Errorf("unknown word %q", word)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// stationHere returns the eth0 of the thread's network namespace.
func stationHere() (station, error) {
	l, err := net.InterfaceByName("eth0")
	if err != nil {
		return station{}, err
	}
	s := station{index: l.Index, mac: l.HardwareAddr}
	addrs, err := l.Addrs()
	for _, a := range addrs {
		p, e := netip.ParsePrefix(a.String())
		err = errors.Join(err, e)
		s.addrs = append(s.addrs, p.Addr())
	}
	return s, err
}

// address returns the first address of a kind.
func (s station) address(is func(netip.Addr) bool) (netip.Addr, error) {
	i := slices.IndexFunc(s.addrs, is)
	if i < 0 {
		return netip.Addr{}, fmt.Errorf("no such address among %v", s.addrs)
	}
	return s.addrs[i], nil
}

// packetSocket opens a socket for all frames of a link.
func packetSocket(index int) (int, error) {
	const all = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // in network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
	if err != nil {
		return -1, err
	}
	return fd, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index})
}

// arrives waits for a frame that ends so, but for what was put behind it.
func arrives(fd int, end []byte, wait time.Duration) error {
	until := time.Now().Add(wait)
	buf := make([]byte, 2048)
	for {
		left := time.Until(until)
		if left <= 0 {
			return errors.New("the frame does not arrive")
		}
		timeout := unix.NsecToTimeval(int64(left))
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
			return err
		}
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		l, ok := from.(*unix.SockaddrLinklayer)
		if ok && l.Pkttype != unix.PACKET_OUTGOING && bytes.Contains(buf[:n], end) {
			return nil
		}
	}
}

// The kinds' numbers in a frame.
const (
	etherIPv4, etherARP, etherTag, etherIPv6 = 0x0800, 0x0806, 0x8100, 0x86dd
	etherTest                                = 0x88b5 // IEEE's, for experiments on one link
)

// unique is how many bytes at a frame's end tell it from others.
func (f *frame) unique() int {
	if f.kind == "arp" {
		return 28 // all of ARP
	}
	return 16
}

// bytes returns the frame.
func (f *frame) bytes() ([]byte, error) {
	token := fmt.Appendf(nil, "%016x", time.Now().UnixNano())
	dst := f.to.mac
	if f.all {
		dst = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	}
	typ, body, err := uint16(etherTest), token, error(nil)
	switch f.kind {
	case "raw":
	case "tagged", "ip":
		typ = etherIPv4
		body, err = f.ipv4(token)
	case "arp":
		typ = etherARP
		body, err = f.arp()
	case "ns", "dad", "na", "ra", "ip6":
		typ = etherIPv6
		if f.all {
			dst = net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
		}
		body, err = f.ipv6(token)
	default:
		err = fmt.Errorf("unknown kind of frame %q", f.kind)
	}
	b := append(slices.Clone(dst), f.mac...)
	if f.kind == "tagged" {
		b = append(binary.BigEndian.AppendUint16(b, etherTag), 0, 5) // VLAN 5
	}
	return append(binary.BigEndian.AppendUint16(b, typ), body...), err
}

// claimed returns the address that the frame claims.
func (f *frame) claimed(is func(netip.Addr) bool) (netip.Addr, error) {
	if f.ip.IsValid() {
		return f.ip, nil
	}
	return f.from.address(is)
}

func is4(a netip.Addr) bool       { return a.Is4() }
func isGlobal6(a netip.Addr) bool { return a.Is6() && !a.IsLinkLocalUnicast() }

// arp returns an announcement of the address (RFC 5227): a request for it, from it.
func (f *frame) arp() ([]byte, error) {
	a, err := f.claimed(is4)
	if err != nil {
		return nil, err
	}
	b := append([]byte{0, 1, 8, 0, 6, 4, 0, 1}, f.mac...)
	b = append(b, a.AsSlice()...)
	return append(append(b, make([]byte, 6)...), a.AsSlice()...), nil
}

// ipv4 returns a UDP packet.
func (f *frame) ipv4(token []byte) ([]byte, error) {
	src, err := f.claimed(is4)
	if err != nil {
		return nil, err
	}
	dst, err := f.to.address(is4)
	if f.all {
		dst = netip.AddrFrom4([4]byte{224, 0, 0, 1})
	}
	udp := binary.BigEndian.AppendUint16([]byte{0, 68, 0, 67}, uint16(8+len(token))) // as of DHCP
	udp = append(append(udp, 0, 0), token...)
	b := ipv4Packet(src.As4(), dst.As4(), udp)
	b[9] = unix.IPPROTO_UDP
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], checksum(b[:20]))
	return b, err
}

// ipv6 returns a UDP packet, or a message of RFC 4861 with an option at its end that nothing knows.
func (f *frame) ipv6(token []byte) ([]byte, error) {
	own, err := f.claimed(isGlobal6)
	if err != nil {
		return nil, err
	}
	dst, err := f.to.address(isGlobal6)
	if f.all {
		dst = netip.MustParseAddr("ff02::1")
	}
	src, target, next, body := own, own.As16(), byte(unix.IPPROTO_ICMPV6), []byte(nil)
	option := append(append([]byte{253, 3, 0, 0, 0, 0, 0, 0}, token[:0]...), token...) // 3 times 8 bytes, RFC 4727
	switch f.kind {
	case "ip6":
		next, body = unix.IPPROTO_UDP, append([]byte{0, 9, 0, 9, 0, byte(8 + len(token)), 0, 0}, token...)
	case "ns", "dad":
		if f.kind == "dad" {
			src = netip.IPv6Unspecified()
		} else {
			to := dst.As16()
			target = to
		}
		body = append(append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, target[:]...), option...)
	case "na":
		if src, err = f.from.address(isGlobal6); err != nil {
			return nil, err
		}
		body = append(append([]byte{136, 0, 0, 0, 0x20, 0, 0, 0}, target[:]...), option...)
	case "ra":
		if src, err = f.from.address(netip.Addr.IsLinkLocalUnicast); err != nil {
			return nil, err
		}
		body = append([]byte{134, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, option...)
	}
	b := append([]byte{0x60, 0, 0, 0, 0, byte(len(body)), next, 255}, src.AsSlice()...)
	b = append(b, dst.AsSlice()...)
	binary.BigEndian.PutUint16(body[checksumAt(next):], checksum6(b, body, next))
	return append(b, body...), err
}

// checksumAt returns where a checksum is: UDP's or ICMPv6's.
func checksumAt(next byte) int {
	if next == unix.IPPROTO_UDP {
		return 6
	}
	return 2
}

// checksum6 is the checksum of a body behind an IPv6 header (RFC 8200, 8.1).
func checksum6(header, body []byte, next byte) uint16 {
	pseudo := append(slices.Clone(header[8:40]), 0, 0, 0, byte(len(body)), 0, 0, 0, next)
	return checksum(append(pseudo, body...))
}
