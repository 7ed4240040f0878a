package host

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// message is a buffer of netlink messages, attributes nested by open and close.
type message struct{ b []byte }

func (m *message) raw(typ uint16, data []byte) {
	m.b = binary.NativeEndian.AppendUint16(m.b, uint16(4+len(data)))
	m.b = binary.NativeEndian.AppendUint16(m.b, typ)
	m.b = append(m.b, data...)
	m.pad()
}

func (m *message) str(typ uint16, s string) {
	m.b = binary.NativeEndian.AppendUint16(m.b, uint16(4+len(s)+1))
	m.b = binary.NativeEndian.AppendUint16(m.b, typ)
	m.b = append(append(m.b, s...), 0)
	m.pad()
}

func (m *message) u32(typ uint16, v uint32) {
	m.b = binary.NativeEndian.AppendUint16(m.b, 8)
	m.b = binary.NativeEndian.AppendUint16(m.b, typ)
	m.b = binary.BigEndian.AppendUint32(m.b, v)
}

// open begins a nested attribute and returns what close takes.
func (m *message) open(typ uint16) int {
	m.b = append(m.b, 0, 0, 0, 0)
	at := len(m.b) - 4
	binary.NativeEndian.PutUint16(m.b[at+2:], typ|unix.NLA_F_NESTED)
	return at
}

func (m *message) close(at int) { binary.NativeEndian.PutUint16(m.b[at:], uint16(len(m.b)-at)) }

func (m *message) pad() {
	for len(m.b)%4 != 0 {
		m.b = append(m.b, 0)
	}
}

// begin starts a message behind a netlink header and returns where.
func (m *message) begin(typ, flags uint16, seq uint32) int {
	at := len(m.b)
	m.b = binary.NativeEndian.AppendUint32(m.b, 0)
	m.b = binary.NativeEndian.AppendUint16(m.b, typ)
	m.b = binary.NativeEndian.AppendUint16(m.b, flags|unix.NLM_F_REQUEST)
	m.b = binary.NativeEndian.AppendUint32(m.b, seq)
	m.b = binary.NativeEndian.AppendUint32(m.b, 0)
	return at
}

func (m *message) end(at int) { binary.NativeEndian.PutUint32(m.b[at:], uint32(len(m.b)-at)) }

// nfHeader appends the header of a netfilter message: family and resource.
func (m *message) nfHeader(family uint8, resource uint16) {
	m.b = append(m.b, family, 0)
	m.b = binary.BigEndian.AppendUint16(m.b, resource)
}

// native appends a number in the host's byte order, as rtnetlink has them.
func (m *message) native(typ uint16, v uint32) {
	m.raw(typ, native32(v))
}

// native32 returns a number in the host's byte order.
func native32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// attrTypeMask leaves the flags out of an attribute's type.
const attrTypeMask = 0x3fff

// attributes calls f for each attribute of b, without its flags.
func attributes(b []byte, f func(typ uint16, data []byte)) {
	for len(b) >= 4 {
		length := int(binary.NativeEndian.Uint16(b))
		if length < 4 || length > len(b) {
			return
		}
		f(binary.NativeEndian.Uint16(b[2:])&attrTypeMask, b[4:length])
		b = b[min(len(b), align4(length)):]
	}
}

// cString returns the text before the first zero byte.
func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
