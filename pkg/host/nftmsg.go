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

// nftType is the netlink type of an nf_tables message.
func nftType(msg uint16) uint16 { return unix.NFNL_SUBSYS_NFTABLES<<8 | msg }

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

// batch collects nf_tables changes that take effect together or not at all.
type batch struct {
	message
	conn   *netlinkConn
	first  uint32
	empty  bool
	family uint8 // of the table
}

func (c *netlinkConn) newBatch() *batch {
	b := &batch{conn: c, first: c.seq + 1, empty: true, family: unix.NFPROTO_INET}
	b.frame(unix.NFNL_MSG_BATCH_BEGIN)
	return b
}

func (b *batch) frame(typ uint16) {
	b.conn.seq++
	at := b.begin(typ, 0, b.conn.seq)
	b.nfHeader(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	b.end(at)
}

// change appends one change; body appends its attributes.
func (b *batch) change(msg, flags uint16, body func(m *message)) {
	b.empty = false
	b.conn.seq++
	at := b.begin(nftType(msg), flags, b.conn.seq)
	b.nfHeader(b.family, 0)
	body(&b.message)
	b.end(at)
}

// commit sends the batch. Only failures are answered, so nothing at all is
// success. The error is that of the first change that failed.
func (b *batch) commit() error {
	if b.empty {
		return nil
	}
	b.frame(unix.NFNL_MSG_BATCH_END)
	return b.send()
}

// send sends the batch. Without its end the kernel checks it and changes nothing.
func (b *batch) send() error {
	replies, err := b.conn.roundTrip(b.b)
	for _, r := range replies {
		if r.seq >= b.first && r.err != nil {
			return r.err
		}
	}
	return err
}
