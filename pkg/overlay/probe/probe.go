// Package probe is the packets by which a node finds out what passes between it and
// another one: VXLAN, which is UDP to one port, and ESP, a protocol of its own. Firewalls
// and clouds drop both without a word.
//
// A probe is a packet that looks like the real ones to whatever is on the way, and that
// no receiver takes for one: VXLAN of a VNI that no network has, with a frame that no bridge
// takes; ESP with an SPI that no state has. Behind the headers all have the same body, of 32
// bytes in network order:
//
//	 0  "DCNI"
//	 4  kind: 1 asks, 2 answers, 3 asks to look at checksums
//	 5  three zero bytes
//	 8  number: of the question, a random one for each
//	16  sum: the first 16 bytes of HMAC-SHA256 over path, kind, number and the names of
//	    the sender and of the one it is for; the key is the cluster's ID
//
// A question may be followed by zeros, up to the size of packet that it asks about. An
// answer has the question's number, comes by the same path, and has no zeros: it is never
// longer than the question.
package probe

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"

	"dcni/pkg/overlay"
)

// A Path is what a probe looks like.
type Path int

// The paths.
const (
	VXLAN Path = iota
	ESP
	Checksum // of packets in VXLAN, see [Frame]
)

func (p Path) String() string {
	switch p {
	case ESP:
		return "ESP"
	case Checksum:
		return "checksum"
	}
	return "VXLAN"
}

// Protocol is the path's number of IP.
func (p Path) Protocol() int {
	if p == ESP {
		return 50 // RFC 4303
	}
	return protocolUDP
}

const protocolUDP = 17

// What the headers of probes have, which others' packets have not.
const (
	VNI = overlay.MinVNI - 1 // no network's
	SPI = 255                // RFC 4303, section 2.1: 1 to 255 are reserved
)

// Sizes in bytes.
const (
	sizeIPv4     = 20
	sizeIPv6     = 40
	sizeUDP      = 8
	sizeVXLAN    = 8
	sizeEthernet = 14
	sizeESP      = 8
	sizeBody     = 32
	sizeSum      = 16
)

// header is how many bytes are between the IP header and the body.
func (p Path) header() int {
	switch p {
	case ESP:
		return sizeESP
	case Checksum:
		return sizeUDP + sizeVXLAN + sizeEthernet + sizeIPv4 + sizeUDP
	}
	return sizeUDP + sizeVXLAN + sizeEthernet
}

// etherType is for local experiments (IEEE 802). The frame's MACs are zero: bridges drop
// what comes from such a one.
const etherType = 0x88b5

// vniFlag says that there is a VNI (RFC 7348, section 5).
const vniFlag = 0x08

var magic = []byte("DCNI")

// A Word is four bytes that all packets of a path have, as for a socket's filter.
type Word struct {
	Offset uint32 // bytes behind the IP header
	Value  uint32 // big-endian
}

// Words returns what tells a path's probes from all other packets.
func (p Path) Words() []Word {
	body := Word{uint32(p.header()), binary.BigEndian.Uint32(magic)}
	if p == ESP {
		return []Word{{0, SPI}, body}
	}
	return []Word{{sizeUDP + 4, VNI << 8}, body}
}

// Kinds of messages.
const (
	kindAsk    = 1
	kindAnswer = 2
	kindLook   = 3
)

// A Message is a question, or an answer to one.
type Message struct {
	Answer bool
	Look   bool // it asks to look at questions of [Checksum]
	Number uint64
	sum    [sizeSum]byte
}

// A Link is the two nodes of a packet: sender and receiver.
type Link struct {
	Cluster  string // ID
	From, To string // names of nodes
}

// signed returns the sum of a message that node From of the cluster sends to node To.
func (m Message) signed(p Path, l Link) [sizeSum]byte {
	mac := hmac.New(sha256.New, []byte(l.Cluster))
	fmt.Fprintf(mac, "%s\x00%t\x00%d\x00%s\x00%s", p, m.Answer, m.Number, l.From, l.To)
	if m.Look {
		fmt.Fprint(mac, "\x00look")
	}
	return [sizeSum]byte(mac.Sum(nil))
}

// Of reports whether the message was made for a link.
func (m Message) Of(p Path, l Link) bool {
	want := m.signed(p, l)
	return hmac.Equal(m.sum[:], want[:])
}

// A Route is where a packet goes.
type Route struct {
	From, To netip.Addr
	Port     uint16 // UDP, that the packet has as its source; VXLAN has a hash of the frame there
}

// Encode returns a packet as it is behind the IP header. size is how long it is to be with
// that, in bytes; no packet is shorter than what it has to say.
func (p Path) Encode(m Message, l Link, r Route, size int) []byte {
	size -= sizeIPv4
	if r.To.Is6() {
		size += sizeIPv4 - sizeIPv6
	}
	b := make([]byte, max(size, p.header()+sizeBody))
	p.body(b[p.header():], m, l)
	if p == ESP {
		binary.BigEndian.PutUint32(b, SPI)
		binary.BigEndian.PutUint32(b[4:], uint32(m.Number)) // the sequence number, which no receiver of a probe looks at
		return b
	}
	binary.BigEndian.PutUint16(b, r.Port)
	binary.BigEndian.PutUint16(b[2:], overlay.Port)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	b[sizeUDP] = vniFlag
	binary.BigEndian.PutUint32(b[sizeUDP+4:], VNI<<8)
	binary.BigEndian.PutUint16(b[sizeUDP+sizeVXLAN+12:], etherType)
	binary.BigEndian.PutUint16(b[6:], checksum(r, b))
	return b
}

// body writes what all packets have.
func (p Path) body(b []byte, m Message, l Link) {
	copy(b, magic)
	switch {
	case m.Answer:
		b[4] = kindAnswer
	case m.Look:
		b[4] = kindLook
	default:
		b[4] = kindAsk
	}
	binary.BigEndian.PutUint64(b[8:], m.Number)
	sum := m.signed(p, l)
	copy(b[16:], sum[:])
}

// checksum is UDP's, over the packet with zero in its place.
func checksum(r Route, b []byte) uint16 {
	sum := add(pseudo(r.From, r.To, len(b)), b)
	if sum == 0xffff {
		return 0xffff // zero says that there is none
	}
	return ^sum
}

// Decode reads a packet as it is behind the IP header. Which node made it, [Message.Of] tells.
func (p Path) Decode(b []byte) (Message, error) {
	var m Message
	if len(b) < p.header()+sizeBody {
		return m, fmt.Errorf("a probe of %s: %d bytes, must have at least %d", p, len(b), p.header()+sizeBody)
	}
	for _, w := range p.Words() {
		if have := binary.BigEndian.Uint32(b[w.Offset:]); have != w.Value {
			return m, fmt.Errorf("a probe of %s: %#x at byte %d, must be %#x", p, have, w.Offset, w.Value)
		}
	}
	if port := binary.BigEndian.Uint16(b[2:]); p == VXLAN && port != overlay.Port {
		return m, fmt.Errorf("a probe of VXLAN: port %d, must be %d", port, overlay.Port)
	}
	body := b[p.header():]
	if kind := body[4]; kind < kindAsk || kind > kindLook || !bytes.Equal(body[5:8], []byte{0, 0, 0}) {
		return m, fmt.Errorf("a probe of %s: kind %#x, must be %#x to %#x", p, body[4:8], kindAsk, kindLook)
	}
	m.Answer, m.Look = body[4] == kindAnswer, body[4] == kindLook
	m.Number = binary.BigEndian.Uint64(body[8:])
	m.sum = [sizeSum]byte(body[16:])
	return m, nil
}
