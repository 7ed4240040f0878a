package host

import (
	"golang.org/x/sys/unix"

	"dcni/pkg/host/nlsock"
)

// nftType is the netlink type of an nf_tables message.
func nftType(msg uint16) uint16 { return unix.NFNL_SUBSYS_NFTABLES<<8 | msg }

// batch collects nf_tables changes that take effect together or not at all.
type batch struct {
	nlsock.Message
	conn   *nlsock.Conn
	first  uint32
	empty  bool
	family uint8 // of the table
}

// newBatch begins a transaction.
func newBatch(c *nlsock.Conn) *batch {
	b := &batch{conn: c, first: c.Seq + 1, empty: true, family: unix.NFPROTO_INET}
	b.frame(unix.NFNL_MSG_BATCH_BEGIN)
	return b
}

func (b *batch) frame(typ uint16) {
	at := b.Begin(typ, 0, b.conn.Next())
	b.NFHeader(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	b.End(at)
}

// change appends one change; body appends its attributes.
func (b *batch) change(msg, flags uint16, body func(m *nlsock.Message)) {
	b.empty = false
	at := b.Begin(nftType(msg), flags, b.conn.Next())
	b.NFHeader(b.family, 0)
	body(&b.Message)
	b.End(at)
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
	replies, err := b.conn.RoundTrip(b.B)
	for _, r := range replies {
		if r.Seq >= b.first && r.Err != nil {
			return r.Err
		}
	}
	return err
}
