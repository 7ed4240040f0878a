package main

import (
	"encoding/binary"
	"net"
	"sync"
	"time"
)

// Load at which latencies are compared: a quarter of what Docker's name server
// answers on two cores.
const (
	askRate = 20000 // queries a second
	askTime = 2 * time.Second
	askTick = time.Millisecond
	askWait = time.Second // what has no answer by then took so long
)

// latencies asks a server for a name at a steady rate and returns how long each
// answer took; one that never came took askWait. It dials on this thread, which
// is in the client's namespace.
func latencies(server, name string, rate int) (samples, error) {
	to, err := net.ResolveUDPAddr("udp", server)
	if err != nil {
		return nil, err
	}
	conn, err := net.DialUDP("udp", nil, to)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	const room = 4 << 20 // bytes: what waits for a reader that has no turn
	if err := conn.SetReadBuffer(room); err != nil {
		return nil, err
	}
	a := &asker{conn: conn, rate: rate, query: question(name)}
	var reading sync.WaitGroup
	reading.Go(a.read)
	asked, err := a.ask()
	if err != nil {
		return nil, err
	}
	if err := conn.SetReadDeadline(time.Now().Add(askWait)); err != nil {
		return nil, err
	}
	reading.Wait()
	for range asked - len(a.took) {
		a.took = append(a.took, askWait)
	}
	return a.took, nil
}

// An asker has queries under way, by their IDs.
type asker struct {
	conn  net.Conn
	rate  int // queries a second
	query []byte
	mu    sync.Mutex
	sent  [1 << 16]time.Time
	took  samples
}

// ask sends queries, some each tick.
func (a *asker) ask() (asked int, err error) {
	ticker := time.NewTicker(askTick)
	defer ticker.Stop()
	for begin := time.Now(); time.Since(begin) < askTime; <-ticker.C {
		for due := int(time.Since(begin).Seconds() * float64(a.rate)); asked < due; asked++ {
			binary.BigEndian.PutUint16(a.query, uint16(asked))
			a.mu.Lock()
			a.sent[uint16(asked)] = time.Now()
			a.mu.Unlock()
			if _, err := a.conn.Write(a.query); err != nil {
				return asked, err
			}
		}
	}
	return asked, nil
}

// read takes answers until there are no more.
func (a *asker) read() {
	buf := make([]byte, 1500)
	for {
		n, err := a.conn.Read(buf)
		if err != nil || n < 2 {
			return
		}
		id := binary.BigEndian.Uint16(buf)
		a.mu.Lock()
		a.took = append(a.took, time.Since(a.sent[id]))
		a.mu.Unlock()
	}
}

// question is a query for the IPv4 address of a name of one label; its ID is the
// first two bytes.
func question(name string) []byte {
	q := []byte("id\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00")
	q = append(append(q, byte(len(name))), name...)
	return append(q, "\x00\x00\x01\x00\x01"...)
}
