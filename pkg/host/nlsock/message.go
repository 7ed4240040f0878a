package nlsock

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Message is a buffer of netlink messages. Open and Close nest attributes.
type Message struct{ B []byte }

// Raw appends an attribute.
func (m *Message) Raw(typ uint16, data []byte) {
	m.B = binary.NativeEndian.AppendUint16(m.B, uint16(4+len(data)))
	m.B = binary.NativeEndian.AppendUint16(m.B, typ)
	m.B = append(m.B, data...)
	m.pad()
}

// Str appends a text that ends in a zero byte.
func (m *Message) Str(typ uint16, s string) {
	m.B = binary.NativeEndian.AppendUint16(m.B, uint16(4+len(s)+1))
	m.B = binary.NativeEndian.AppendUint16(m.B, typ)
	m.B = append(append(m.B, s...), 0)
	m.pad()
}

// U32 appends a number in network byte order, as nf_tables has them.
func (m *Message) U32(typ uint16, v uint32) {
	m.B = binary.NativeEndian.AppendUint16(m.B, 8)
	m.B = binary.NativeEndian.AppendUint16(m.B, typ)
	m.B = binary.BigEndian.AppendUint32(m.B, v)
}

// Open begins a nested attribute and returns what Close takes.
func (m *Message) Open(typ uint16) int {
	m.B = append(m.B, 0, 0, 0, 0)
	at := len(m.B) - 4
	binary.NativeEndian.PutUint16(m.B[at+2:], typ|unix.NLA_F_NESTED)
	return at
}

// Close ends a nested attribute.
func (m *Message) Close(at int) { binary.NativeEndian.PutUint16(m.B[at:], uint16(len(m.B)-at)) }

func (m *Message) pad() {
	for len(m.B)%4 != 0 {
		m.B = append(m.B, 0)
	}
}

// Begin starts a message with its netlink header, and returns what End takes.
func (m *Message) Begin(typ, flags uint16, seq uint32) int {
	at := len(m.B)
	m.B = binary.NativeEndian.AppendUint32(m.B, 0)
	m.B = binary.NativeEndian.AppendUint16(m.B, typ)
	m.B = binary.NativeEndian.AppendUint16(m.B, flags|unix.NLM_F_REQUEST)
	m.B = binary.NativeEndian.AppendUint32(m.B, seq)
	m.B = binary.NativeEndian.AppendUint32(m.B, 0)
	return at
}

// End ends a message.
func (m *Message) End(at int) { binary.NativeEndian.PutUint32(m.B[at:], uint32(len(m.B)-at)) }

// NFHeader appends the header of a netfilter message: family and resource.
func (m *Message) NFHeader(family uint8, resource uint16) {
	m.B = append(m.B, family, 0)
	m.B = binary.BigEndian.AppendUint16(m.B, resource)
}

// Native appends a number in the host's byte order, as rtnetlink has them.
func (m *Message) Native(typ uint16, v uint32) {
	m.Raw(typ, Native32(v))
}

// Native16 appends a number of 16 bits in the host's byte order.
func (m *Message) Native16(typ, v uint16) {
	m.Raw(typ, binary.NativeEndian.AppendUint16(nil, v))
}

// Native32 returns a number in the host's byte order.
func Native32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// attrTypeMask leaves the flags out of an attribute's type.
const attrTypeMask = 0x3fff

// Attributes calls f for each attribute of b, without its flags.
func Attributes(b []byte, f func(typ uint16, data []byte)) {
	for len(b) >= 4 {
		length := int(binary.NativeEndian.Uint16(b))
		if length < 4 || length > len(b) {
			return
		}
		f(binary.NativeEndian.Uint16(b[2:])&attrTypeMask, b[4:length])
		b = b[min(len(b), Align4(length)):]
	}
}

// CString returns the text before the first zero byte.
func CString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
