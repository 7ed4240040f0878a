package dns

import (
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
)

// batchSize is how many datagrams one system call reads or writes. The kernel
// takes no more answers as one burst (UDP_MAX_SEGMENTS; newer kernels take more).
const batchSize = 64

// slotSize is larger than a datagram: slots at a distance of a page would all map to
// the same lines of the processor's cache.
const slotSize = maxUDP + 64

// faultPause is how long an endpoint is not read after a batch, for each answer of
// the batch that was a failure. Failures are the cheapest answers: a client that
// asked again at once kept a processor busy, with 150,000 queries a second, and the
// answers to other containers were late.
const faultPause = 100 * time.Microsecond

// A batch is the memory to answer batchSize datagrams. Only an endpoint that is being
// read holds one.
type batch struct {
	scratch
	bursts bursts
	in     []ipv4.Message
	out    []outgoing
	slots  [batchSize][slotSize]byte // each with a query, and then with its answer
}

var batches = sync.Pool{New: func() any {
	b := &batch{in: make([]ipv4.Message, batchSize), out: make([]outgoing, 0, batchSize)}
	for i := range b.in {
		b.in[i].Buffers = [][]byte{b.slots[i][:maxUDP]}
	}
	return b
}}

// serveUDP answers one batch of datagrams and has the socket watched again.
func (e *Endpoint) serveUDP(s *source) {
	e.reading.Lock()
	defer e.reading.Unlock()
	if e.stoppedReading {
		return
	}
	b := batches.Get().(*batch)
	faults, err := b.serve(e)
	batches.Put(b)
	pause := time.Duration(faults) * faultPause
	if err != nil {
		pause = 10 * time.Millisecond // most likely there is no memory
	}
	if pause > 0 {
		time.AfterFunc(pause, s.rearm)
		return
	}
	s.rearm()
}

// serve answers one batch of datagrams at most: if a flood got several batches in a
// row, other endpoints would wait for milliseconds. It returns how many answers were
// failures.
func (b *batch) serve(e *Endpoint) (faults int, err error) {
	n, err := e.packets.ReadBatch(b.in, syscall.MSG_DONTWAIT)
	switch {
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, net.ErrClosed):
		return 0, nil
	case err != nil:
		return 0, err
	}
	faults = b.answer(e, b.in[:n])
	e.server.stats.add(&b.tally)
	b.send(e)
	return faults, nil
}

// answer collects the answers to messages, and counts those that are failures.
func (b *batch) answer(e *Endpoint, messages []ipv4.Message) (faults int) {
	now := e.server.now()
	b.out = b.out[:0]
	for i := range messages {
		m, slot := &messages[i], b.slots[i][:maxUDP]
		if m.Flags&syscall.MSG_TRUNC != 0 {
			m.N = headerSize - 1 // no query is that long
		}
		size := b.scratch.answer(slot, m.N, client{endpoint: e.from(m.Addr), at: e, address: m.Addr}, now)
		if size > 0 {
			b.out = append(b.out, outgoing{m.Addr.(*net.UDPAddr), slot[:size]})
			if failed(slot) {
				faults++
			}
		}
	}
	return faults
}

// failed reports whether the response code of an answer is a failure: neither
// NOERROR nor NXDOMAIN.
func failed(answer []byte) bool {
	const codes, noError, noName = 0xf, 0, 3
	code := answer[3] & codes
	return code != noError && code != noName
}

// send sends the answers. If a burst can't be sent, its answers are sent one by one.
// A single answer that can't be sent is left out: its client is gone.
func (b *batch) send(e *Endpoint) {
	for left := b.bursts.pack(b.out); len(left) > 0; {
		n, err := e.packets.WriteBatch(left, syscall.MSG_DONTWAIT)
		switch parts := left[0].Buffers; {
		case err == nil:
			left = left[n:]
		case len(parts) > 1:
			left = append(alone(parts, left[0].Addr), left[1:]...)
		default:
			left = left[1:]
		}
	}
}

// write sends one answer, if it can be sent.
func (s *socket) write(packets *ipv4.PacketConn, b []byte, to net.Addr) {
	_, _ = packets.WriteBatch([]ipv4.Message{{Buffers: [][]byte{b}, Addr: to}}, syscall.MSG_DONTWAIT)
}
