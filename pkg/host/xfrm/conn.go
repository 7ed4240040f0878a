// Package xfrm speaks to the kernel's IPsec: it makes, compares and removes the states
// and policies of encrypted networks, and reads back which states there are.
//
// vishvananda/netlink has the messages' layouts. Messages are sent from here: the library
// does not read back whether a state has 64-bit sequence numbers, nor when it was used.
package xfrm

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"dcni/pkg/host/nlsock"
	"dcni/pkg/wire"
)

// Conn speaks to the IPsec of one network namespace.
type Conn struct {
	mu   sync.Mutex // one exchange at a time
	conn *nlsock.Conn
}

// Dial opens a socket in the network namespace of the calling thread.
func Dial() (*Conn, error) {
	conn, err := nlsock.Dial(unix.NETLINK_XFRM)
	if err != nil {
		return nil, unsupported(err)
	}
	return &Conn{conn: conn}, nil
}

// Close gives the socket back.
func (c *Conn) Close() { c.conn.Close() }

// request sends one message and returns what it yields.
func (c *Conn) request(typ nl.XfrmMsgType, flags uint16, body ...[]byte) ([][]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var m nlsock.Message
	at := m.Begin(uint16(typ), flags, c.conn.Next())
	for _, part := range body {
		m.B = append(m.B, part...)
	}
	m.End(at)
	return c.conn.Dump(m.B)
}

// change sends a message that changes something, and waits for it.
func (c *Conn) change(typ nl.XfrmMsgType, flags uint16, body ...[]byte) error {
	_, err := c.request(typ, flags|unix.NLM_F_ACK, body...)
	return unsupported(err)
}

// attribute returns an attribute of a message.
func attribute(typ uint16, data []byte) []byte {
	var m nlsock.Message
	m.Raw(typ, data)
	return m.B
}

// unsupported says what errors mean that a kernel gives which has no ESP, or not the
// algorithm. Without the whole of IPsec there is no such socket.
func unsupported(err error) error {
	for _, no := range []error{unix.ENOSYS, unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT} {
		if errors.Is(err, no) {
			return &wire.Error{Code: wire.CodeUnavailable, Err: err, Msg: "encrypted networks need ESP with " + wire.ESPAlgorithm +
				" of the kernel (modules esp4 and esp6), and this one has none"}
		}
	}
	return err
}

// address returns an address as messages have it.
func address(a netip.Addr) (x nl.XfrmAddress) {
	copy(x[:], a.Unmap().AsSlice())
	return x
}

// addressOf reads an address of a family.
func addressOf(x nl.XfrmAddress, family uint16) netip.Addr {
	if family == unix.AF_INET {
		return netip.AddrFrom4([4]byte(x[:4]))
	}
	return netip.AddrFrom16(x)
}

func family(a netip.Addr) uint16 {
	if a.Unmap().Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// onePort is the mask of a selector in which the port counts.
const onePort = 0xffff

// selector matches UDP packets to a port.
func selector(src, dst netip.Prefix, port int) nl.XfrmSelector {
	return nl.XfrmSelector{
		Saddr: address(src.Addr()), PrefixlenS: uint8(src.Bits()), Daddr: address(dst.Addr()), PrefixlenD: uint8(dst.Bits()),
		Family: family(dst.Addr()), Proto: unix.IPPROTO_UDP, Dport: nl.Swap16(uint16(port)), DportMask: onePort,
	}
}

// forever is a lifetime without end.
func forever() nl.XfrmLifetimeCfg {
	return nl.XfrmLifetimeCfg{
		SoftByteLimit: nl.XFRM_INF, HardByteLimit: nl.XFRM_INF, SoftPacketLimit: nl.XFRM_INF, HardPacketLimit: nl.XFRM_INF,
	}
}

// Probe tells whether states can be made: nil, or what the kernel lacks. It makes one
// from this host to itself, and removes it.
func (c *Conn) Probe(six bool) error {
	self := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if six {
		self = netip.IPv6Loopback()
	}
	s := &wire.XfrmState{Src: self, Dst: self, Port: 1}
	var spi [4]byte
	for _, b := range [][]byte{spi[:], s.Secret[:]} {
		if _, err := rand.Read(b); err != nil {
			return fmt.Errorf("random bytes: %w", err)
		}
	}
	const reserved = 1 << 8
	s.SPI = binary.NativeEndian.Uint32(spi[:]) | reserved
	if err := c.add(s); err != nil {
		return err
	}
	return c.RemoveState(s)
}
