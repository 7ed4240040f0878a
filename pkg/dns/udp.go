package dns

import (
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
)

// batchSize is how many datagrams one system call reads or writes.
const batchSize = 64

// slotSize is more than a datagram, for slots a page apart would all want the
// same lines of the processor's cache.
const slotSize = maxUDP + 64

// fairness is how many full batches an endpoint answers before others have
// their turn: with the scheduler between each and the next, a third of the time
// went there.
const fairness = 8

// A batch is the memory to answer that many datagrams: only endpoints that have
// something to read hold one.
type batch struct {
	scratch
	in, out []ipv4.Message
	slots   [batchSize][slotSize]byte // each with a query, and then with its answer
	answers [batchSize][1][]byte
}

var batches = sync.Pool{New: func() any {
	b := &batch{in: make([]ipv4.Message, batchSize), out: make([]ipv4.Message, 0, batchSize)}
	for i := range b.in {
		b.in[i].Buffers = [][]byte{b.slots[i][:maxUDP]}
	}
	return b
}}

// serveUDP answers datagrams until the socket is closed or its deadline is over.
func (e *Endpoint) serveUDP() {
	readable := e.readable()
	for {
		err := e.raw.Read(readable)
		if err == nil {
			b := batches.Get().(*batch)
			err = b.serve(e)
			batches.Put(b)
		}
		switch {
		case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
			return
		case err != nil:
			time.Sleep(10 * time.Millisecond) // no memory, most likely: others need the processor
		}
	}
}

// readable returns a function for [syscall.RawConn.Read] that waits until there
// is a datagram, and leaves it: so nothing is held while waiting.
func (e *Endpoint) readable() func(fd uintptr) bool {
	return func(fd uintptr) bool {
		_, _, err := syscall.Recvfrom(int(fd), nil, syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return !errors.Is(err, syscall.EAGAIN) // other errors are read with the datagrams
	}
}

// serve answers what is there.
func (b *batch) serve(e *Endpoint) error {
	for turn := 1; ; turn++ {
		n, err := e.packets.ReadBatch(b.in, syscall.MSG_DONTWAIT)
		switch {
		case errors.Is(err, syscall.EAGAIN):
			return nil
		case err != nil:
			return err
		}
		b.answer(e, b.in[:n])
		e.server.stats.add(&b.tally)
		err = b.send(e)
		if err != nil || n < batchSize {
			return err
		}
		if turn%fairness == 0 {
			runtime.Gosched() // a flood must not keep others from their turn
		}
	}
}

// answer collects the answers to messages.
func (b *batch) answer(e *Endpoint, messages []ipv4.Message) {
	now := e.server.now()
	b.out = b.out[:0]
	for i := range messages {
		m, slot := &messages[i], b.slots[i][:maxUDP]
		if m.Flags&syscall.MSG_TRUNC != 0 {
			m.N = headerSize - 1 // no query is that long
		}
		size := b.scratch.answer(slot, m.N, client{endpoint: e, address: m.Addr}, now)
		if size > 0 {
			b.answers[i][0] = slot[:size]
			b.out = append(b.out, ipv4.Message{Buffers: b.answers[i][:], Addr: m.Addr})
		}
	}
}

// send sends the answers. One that can't be sent is left out: its client is gone.
func (b *batch) send(e *Endpoint) error {
	for left := b.out; len(left) > 0; {
		n, err := e.packets.WriteBatch(left, 0)
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			n = 1
		}
		left = left[n:]
	}
	return nil
}
