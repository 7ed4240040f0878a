package dns

import (
	"bytes"
	"cmp"
	"net"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/net/ipv4"
)

// maxBurst is how many bytes are sent as one datagram: an IP packet without the
// headers of IPv6 and UDP.
const maxBurst = 65535 - 40 - 8

// An outgoing answer.
type outgoing struct {
	to   *net.UDPAddr
	data []byte
}

// order sorts replies by client, and those to one client by length, the longest
// first.
func order(a, b outgoing) int {
	return cmp.Or(
		cmp.Compare(a.to.Port, b.to.Port),
		bytes.Compare(a.to.IP, b.to.IP),
		cmp.Compare(len(b.data), len(a.data)))
}

// bursts are messages that carry replies. A client that has sent several queries
// from one port gets all answers of one size, and one shorter answer behind them, in
// one datagram. The kernel splits it at the client's socket (UDP_SEGMENT, udp(7)):
// most of what a datagram costs is its way through the stack.
type bursts struct {
	messages []ipv4.Message
	parts    [batchSize][]byte
	controls [batchSize]segmentation
}

// pack returns messages that carry all replies, which it puts in order.
func (b *bursts) pack(replies []outgoing) []ipv4.Message {
	b.messages = b.messages[:0]
	slices.SortStableFunc(replies, order)
	for i := range replies {
		b.parts[i] = replies[i].data
	}
	for begin := 0; begin < len(replies); {
		n := burst(replies[begin:])
		m := ipv4.Message{Buffers: b.parts[begin : begin+n], Addr: replies[begin].to}
		if n > 1 {
			m.OOB = b.controls[begin].into(len(replies[begin].data))
		}
		b.messages = append(b.messages, m)
		begin += n
	}
	return b.messages
}

// burst returns how many of the replies, from the first on, can be sent as one.
func burst(replies []outgoing) int {
	first, total := replies[0], 0
	for n, r := range replies {
		total += len(r.data)
		if total > maxBurst || r.to.Port != first.to.Port || !r.to.IP.Equal(first.to.IP) {
			return n
		}
		if len(r.data) < len(first.data) { // only the last segment may be shorter
			return n + 1
		}
	}
	return len(replies)
}

// alone returns messages that carry one answer each.
func alone(answers [][]byte, to net.Addr) []ipv4.Message {
	messages := make([]ipv4.Message, len(answers))
	for i := range answers {
		messages[i] = ipv4.Message{Buffers: answers[i : i+1], Addr: to}
	}
	return messages
}

// A segmentation is the control message that has the kernel split a datagram into
// segments.
type segmentation struct {
	header syscall.Cmsghdr
	size   uint16
	_      [6]byte // rounds up, on 64 bits
}

// udpSegment is UDP_SEGMENT (linux/udp.h).
const udpSegment = 103

// into returns the control message for segments of a size.
func (s *segmentation) into(size int) []byte {
	s.header = syscall.Cmsghdr{Level: syscall.IPPROTO_UDP, Type: udpSegment}
	s.header.SetLen(syscall.CmsgLen(2))
	s.size = uint16(size)
	return unsafe.Slice((*byte)(unsafe.Pointer(s)), syscall.CmsgSpace(2))
}
