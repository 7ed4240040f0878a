package nft

import (
	"golang.org/x/sys/unix"

	"dcni/pkg/host/nlsock"
)

// MessageType is the netlink type of an nf_tables message.
func MessageType(msg uint16) uint16 { return unix.NFNL_SUBSYS_NFTABLES<<8 | msg }

// Batch collects nf_tables changes that take effect together or not at all.
type Batch struct {
	nlsock.Message
	conn   *nlsock.Conn
	first  uint32
	empty  bool
	Family uint8 // of the table
}

// NewBatch begins a transaction.
func NewBatch(c *nlsock.Conn) *Batch {
	b := &Batch{conn: c, first: c.Seq + 1, empty: true, Family: unix.NFPROTO_INET}
	b.frame(unix.NFNL_MSG_BATCH_BEGIN)
	return b
}

func (b *Batch) frame(typ uint16) {
	at := b.Begin(typ, 0, b.conn.Next())
	b.NFHeader(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	b.End(at)
}

// Change appends one change; body appends its attributes.
func (b *Batch) Change(msg, flags uint16, body func(m *nlsock.Message)) {
	b.empty = false
	at := b.Begin(MessageType(msg), flags, b.conn.Next())
	b.NFHeader(b.Family, 0)
	body(&b.Message)
	b.End(at)
}

// Commit sends the batch. Only failures are answered, so nothing at all is
// success. The error is that of the first change that failed.
func (b *Batch) Commit() error {
	if b.empty {
		return nil
	}
	b.frame(unix.NFNL_MSG_BATCH_END)
	return b.send()
}

// send sends the batch. Without its end the kernel checks it and changes nothing.
func (b *Batch) send() error {
	replies, err := b.conn.RoundTrip(b.B)
	for _, r := range replies {
		if r.Seq >= b.first && r.Err != nil {
			return r.Err
		}
	}
	return err
}
