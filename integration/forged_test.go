package integration

import (
	"encoding/binary"
	"net/netip"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// What a hostile container sends to its neighbours: packets by which a kernel
// configures itself.

// cmdAdvertise sends one router advertisement to all neighbours on a link: the
// sender is a router, of another prefix and of one route, and the link's MTU is
// 1280.
func cmdAdvertise(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: advertise NS LINK")
	}
	finish(ts, neg, of(ts).In(args[0], func() error { return advertise(args[1]) }))
}

func advertise(link string) error {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.BindToDevice(fd, link); err != nil {
		return err
	}
	const hops = 255 // none but neighbours can send that
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, hops); err != nil {
		return err
	}
	to := netip.MustParseAddr("ff02::1").As16()
	return unix.Sendto(fd, advertisement(), 0, &unix.SockaddrInet6{Addr: to})
}

// advertisement returns a message of RFC 4861, 4.2, without its checksum, which is
// the kernel's to fill in.
func advertisement() []byte {
	b := []byte{134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0} // a router for 1800 s
	b = append(b, 5, 1, 0, 0, 0, 0, 0x05, 0)                             // MTU 1280
	b = append(b, 3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10, 0, 0, 0, 0)
	prefix := netip.MustParseAddr("2001:db8:bad::").As16()
	b = append(b, prefix[:]...) // on the link, and to make addresses of
	b = append(b, 24, 2, 48, 0x08, 0, 0, 0x0e, 0x10)
	route := netip.MustParseAddr("2001:db8:99::").As16()
	return append(b, route[:8]...) // preferred to a default route
}

// cmdRedirect sends an ICMP redirect that seems to be of the gateway: packets of
// VICTIM to DESTINATION are to go by VIA.
func cmdRedirect(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 5 {
		ts.Fatalf("usage: redirect NS GATEWAY VICTIM DESTINATION VIA")
	}
	var a [4][4]byte
	for i, arg := range args[1:] {
		a[i] = netip.MustParseAddr(arg).As4()
	}
	finish(ts, neg, of(ts).In(args[0], func() error { return redirect(a[0], a[1], a[2], a[3]) }))
}

func redirect(gateway, victim, destination, via [4]byte) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// What the victim is said to have sent: for an echo request, Linux would look for the
	// socket, for a reply it takes the redirect.
	echo := []byte{0, 0, 0, 0, 0, 1, 0, 1}
	binary.BigEndian.PutUint16(echo[2:], checksum(echo))
	icmp := append([]byte{5, 1, 0, 0}, via[:]...)
	icmp = append(icmp, ipv4Packet(victim, destination, echo)...)
	binary.BigEndian.PutUint16(icmp[2:], checksum(icmp))
	return unix.Sendto(fd, ipv4Packet(gateway, victim, icmp), 0, &unix.SockaddrInet4{Addr: victim})
}

// ipv4Packet returns an ICMP message with its header.
func ipv4Packet(from, to [4]byte, icmp []byte) []byte {
	const header = 20
	b := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, unix.IPPROTO_ICMP, 0, 0}
	b = append(append(b, from[:]...), to[:]...)
	binary.BigEndian.PutUint16(b[2:], uint16(header+len(icmp)))
	binary.BigEndian.PutUint16(b[10:], checksum(b))
	return append(b, icmp...)
}

// checksum is the Internet's (RFC 1071) of an even number of bytes.
func checksum(b []byte) uint16 {
	sum := uint32(0)
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
