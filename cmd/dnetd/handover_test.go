package main

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"dcni/pkg/host/agent"
)

// A load asks a name server at a steady rate.
type load struct {
	conn     net.Conn
	sent     atomic.Int32
	answered atomic.Int32
	stop     chan struct{}
	done     chan struct{}
}

// load asks for a name 3,000 times a second.
func (b *testNetNS) load(port uint16, name string) *load {
	conn := b.dial("udp", port)
	b.patient(conn)
	l := &load{conn: conn, stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(l.done)
		const rate = 3000
		for start := time.Now(); ; time.Sleep(time.Millisecond) {
			for due := int32(time.Since(start).Seconds() * rate); l.sent.Load() < due; {
				if _, err := l.conn.Write(query(uint16(l.sent.Add(1)), name)); err != nil {
					b.t.Error(err)
				}
			}
			select {
			case <-l.stop:
				return
			default:
			}
		}
	}()
	go func() {
		answer := make([]byte, 512)
		for {
			n, err := l.conn.Read(answer)
			if err != nil {
				return
			}
			if n > 12 && answer[3]&15 == 0 && binary.BigEndian.Uint16(answer[6:]) > 0 {
				l.answered.Add(1)
			}
		}
	}()
	return l
}

// patient gives a socket a large buffer, so that only the server loses queries.
func (b *testNetNS) patient(c net.Conn) {
	b.t.Helper()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err == nil {
		gone := raw.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, 8<<20)
		})
		err = errors.Join(err, gone)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// lost ends the load and returns how many queries had no answer.
func (l *load) lost() int {
	close(l.stop)
	<-l.done
	for deadline := time.Now().Add(2 * time.Second); l.answered.Load() < l.sent.Load() && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	_ = l.conn.Close()
	return int(l.sent.Load() - l.answered.Load())
}

// sandboxes makes sandboxes on one network, each with a container c0, c1 and so on,
// and returns their ports.
func (r *fixture) netNSList(n int) (list []*testNetNS, ports []uint16) {
	r.t.Helper()
	for i := range n {
		b := r.netNS()
		list = append(list, b)
		ports = append(ports, r.serve(b, b.attach("web", containerName(i), containerAddress(i))))
	}
	return list, ports
}

func TestTakeOverUnderLoad(t *testing.T) {
	const n = 150 // more than one message's descriptors
	r := newFixture(t)
	d := r.start()
	sandboxes, ports := r.netNSList(n)
	loads := []*load{sandboxes[0].load(ports[0], containerName(n-1)), sandboxes[n-1].load(ports[n-1], containerName(0))}
	for range 5 {
		time.Sleep(200 * time.Millisecond)
		next := r.start()
		if err := d.ends(10 * time.Second); err != nil {
			t.Fatal(err)
		}
		d = next
	}
	for i, l := range loads {
		if lost := l.lost(); lost > 0 {
			t.Errorf("load %d: %d of %d lost", i, lost, l.sent.Load())
		}
	}
	for i, b := range sandboxes {
		b.in(ports[i], containerName((i+1)%n), containerAddress((i+1)%n))
	}
	d.signal(syscall.SIGTERM)
	if err := d.ends(time.Second); err != nil {
		t.Error(err)
	}
}

// A successor that goes away at any step of the handover changes nothing.
func TestSuccessorDies(t *testing.T) {
	r := newFixture(t)
	r.start()
	sandboxes, ports := r.netNSList(3)
	l := sandboxes[0].load(ports[0], containerName(1))
	for step := range 4 {
		c, err := agent.Dial(r.socket(), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Send(agent.Request{Op: agent.TakeOver}); err != nil {
			t.Fatal(err)
		}
		for range step {
			var m message
			files, err := c.Receive(&m)
			agent.CloseAll(files)
			if err != nil {
				t.Fatal(err)
			}
		}
		c.Close()
		if _, err := agent.Call(r.socket(), 5*time.Second, agent.Request{Op: agent.Status}); err != nil {
			t.Errorf("after step %d: %v", step, err)
		}
	}
	if lost := l.lost(); lost > 0 {
		t.Errorf("%d of %d lost", lost, l.sent.Load())
	}
	sandboxes[2].in(ports[2], containerName(0), containerAddress(0))
	r.start() // this one goes on
	sandboxes[2].in(ports[2], containerName(0), containerAddress(0))
}

// newHere returns a dnetd in this process, with no tasks.
func (r *fixture) newHere() *dnetd {
	r.t.Helper()
	d, err := newDnetd(options{socket: r.socket()}, r.store, slog.New(slog.DiscardHandler))
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

// A successor that comes while a request takes long tries three times, and ends.
// Other requests are served.
func TestTakeOverBusy(t *testing.T) {
	t.Parallel()
	r := newFixture(t)
	d := r.newHere()
	var err error
	if d.listener, err = openListener(r.socket(), nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	d.end = cancel
	go d.listen(ctx)
	d.listener.semaphore <- struct{}{}
	start := time.Now()
	err = r.begin().ends(5 * pauseTimeout)
	if took := time.Since(start); err == nil || took < 3*pauseTimeout {
		t.Errorf("a successor ends after %s: %v", took, err)
	}
	if _, err := agent.Call(r.socket(), time.Second, agent.Request{Op: agent.Status}); err != nil {
		t.Error(err)
	}
	<-d.listener.semaphore
	r.start()
	select {
	case <-ctx.Done():
	case <-time.After(time.Second):
		t.Error("the predecessor does not end")
	}
}
