// Package rawip is sockets for packets of one protocol above IP. They get a copy of each
// packet that their filter passes, after the firewall's input and before the kernel's own
// handler of the protocol: also where that has no socket for it, and where there is none.
// They need CAP_NET_RAW.
package rawip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Word is what a packet must have somewhere to be passed by a socket's filter.
type Word struct {
	Offset uint32 // bytes behind the IP header
	Value  uint32 // of four bytes there, big-endian
}

// A Socket sends and receives packets, without their IP headers. What it sends is never
// fragmented.
type Socket struct{ conn *net.IPConn }

// bufferSize is how many bytes of packets may wait to be read, unless net.core.rmem_max is
// less. The kernel counts some 800 for a small one.
const bufferSize = 4 << 20

// Listen opens a socket at an address of the host, for a protocol's packets that have all
// the words. The filter is the kernel's: what does not pass wakes no process.
func Listen(ctx context.Context, protocol int, local netip.Addr, words ...Word) (*Socket, error) {
	family := "ip4"
	if local.Is6() {
		family = "ip6"
	}
	program := filter(local.Is6(), words)
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		failed := c.Control(func(fd uintptr) { err = prepare(int(fd), local.Is6(), program) })
		return errors.Join(failed, err)
	}}
	conn, err := config.ListenPacket(ctx, fmt.Sprintf("%s:%d", family, protocol), local.String())
	if err != nil {
		return nil, err
	}
	s := &Socket{conn.(*net.IPConn)}
	if err := s.conn.SetReadBuffer(bufferSize); err != nil {
		return nil, errors.Join(err, s.conn.Close())
	}
	return s, nil
}

// prepare sets what a socket is to have before it is bound.
func prepare(fd int, v6 bool, program []unix.SockFilter) error {
	err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	if err == nil && v6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
	} else if err == nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
	}
	return os.NewSyscallError("setsockopt", err)
}

// filter returns a program that passes packets with all the words. Sockets of IPv4 see the
// IP header, those of IPv6 do not.
func filter(v6 bool, words []Word) []unix.SockFilter {
	var p []unix.SockFilter
	mode := uint16(unix.BPF_ABS)
	if !v6 {
		mode = unix.BPF_IND
		p = append(p, unix.SockFilter{Code: unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH}) // the header's length
	}
	for i, w := range words {
		p = append(p,
			unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | mode, K: w.Offset},
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: w.Value, Jf: uint8(2*(len(words)-1-i) + 1)})
	}
	const whole, drop = 1 << 17, 0 // no packet has as many bytes
	return append(p, unix.SockFilter{Code: unix.BPF_RET, K: whole}, unix.SockFilter{Code: unix.BPF_RET, K: drop})
}

// PacketFilter returns the same for a packet socket, which sees the IP headers of both
// families, and all protocols.
func PacketFilter(v6 bool, protocol uint32, words []Word) []unix.SockFilter {
	at, header := uint32(9), uint32(0) // of the protocol, and of what is behind a header of fixed length
	if v6 {
		at, header = 6, 40
	}
	behind := make([]Word, len(words))
	for i, w := range words {
		behind[i] = Word{w.Offset + header, w.Value}
	}
	rest := filter(v6, behind)
	return append([]unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: at},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: protocol, Jf: uint8(len(rest) - 1)},
	}, rest...)
}

// Send sends a packet. One that is longer than the link takes is an error.
func (s *Socket) Send(to netip.Addr, packet []byte) error {
	_, err := s.conn.WriteToIP(packet, &net.IPAddr{IP: to.AsSlice()})
	return err
}

// Receive waits for a packet, and returns what it has behind the IP header. One that is
// longer than the buffer is cut.
func (s *Socket) Receive(buffer []byte) (packet []byte, from netip.Addr, err error) {
	n, a, err := s.conn.ReadFromIP(buffer)
	if err != nil {
		return nil, from, err
	}
	from, _ = netip.AddrFromSlice(a.IP)
	return buffer[:n], from.Unmap(), nil
}

// Close ends the socket, and a Receive that waits.
func (s *Socket) Close() error { return s.conn.Close() }
