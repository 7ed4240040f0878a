package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"dcni/pkg/host/agent"
	"dcni/pkg/names"
	"dcni/pkg/records"
	"dcni/pkg/relay"
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
	for deadline := time.Now().Add(20 * time.Second); l.answered.Load() < l.sent.Load() && time.Now().Before(deadline); {
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
	if err := d.ends(10 * time.Second); err != nil {
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
		c, err := agent.Dial(r.socket(), 20*time.Second)
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
		if _, err := agent.Call(r.socket(), 20*time.Second, agent.Request{Op: agent.Status}); err != nil {
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
	p := r.begin()
	err = p.ends(5 * pauseTimeout)
	if took := time.Since(start); err == nil || took < 3*pauseTimeout {
		t.Errorf("a successor ends after %s: %v", took, err)
	}
	if out := p.out.String(); !strings.HasSuffix(out, "the dnetd that runs: an earlier request is still served after 1s\n") {
		t.Errorf("its last line is not the error:\n%s", out)
	}
	if _, err := agent.Call(r.socket(), 20*time.Second, agent.Request{Op: agent.Status}); err != nil {
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

// A sentMessage is a message with its descriptors.
type sentMessage struct {
	message
	files []int
}

// receive has a dnetd take over from a predecessor that sends messages, and goes
// away unless the last one says that it is the last.
func (d *dnetd) receive(t *testing.T, messages ...sentMessage) error {
	t.Helper()
	path := filepath.Join(t.TempDir(), "predecessor")
	socket, err := agent.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	l, err := agent.NewListener(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := agent.Dial(path, 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	predecessor, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	var ended sync.WaitGroup
	ended.Go(func() {
		defer predecessor.Close()
		var request agent.Request
		if _, err := predecessor.Receive(&request); err != nil || request.Op != agent.TakeOver {
			t.Error(request, err)
		}
		for _, m := range messages {
			_ = predecessor.Send(m.message, m.files...) // an error: the successor has given up
		}
		if len(messages) > 0 && messages[len(messages)-1].Last {
			_, _ = predecessor.Receive(&ack{}) // an error: there is none
		}
	})
	err = d.takeOverFrom(c)
	_ = c.Close()
	ended.Wait()
	return err
}

// copies returns how many descriptors of this process lead to the socket that fd
// does.
func copies(t *testing.T, fd int) (n int) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	want := inode(t, fd)
	for _, f := range list {
		if link, err := os.Readlink("/proc/self/fd/" + f.Name()); err == nil && link == want {
			n++
		}
	}
	return n
}

// listeningSocket returns the descriptor of a unix socket that listens.
func listeningSocket(t *testing.T, path string) int {
	t.Helper()
	l, err := agent.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return int(file.Fd())
}

// A handover that fails leaves none of its descriptors open.
func TestBadHandover(t *testing.T) {
	r := newFixture(t)
	b := r.netNS()
	resolver, foreign := b.attach("web", "one", "10.0.0.2"), b.attach("web", "two", "10.0.0.3")
	foreign.Cookie++
	four, six := b.sockets(false), b.sockets(true)
	defer four.Close()
	defer six.Close()
	listening := listeningSocket(t, filepath.Join(t.TempDir(), "socket"))
	all := []int{listening, four.UDP, four.TCP, six.UDP, six.TCP}

	v4, v6 := []names.Family{names.IPv4}, []names.Family{names.IPv6}
	both := []names.Family{names.IPv4, names.IPv6}
	good := entry{Resolver: resolver, Families: v4}
	relayed := relay.Socket{Protocol: "tcp", Address: netip.MustParseAddrPort("[::1]:80")}
	first, last := sentMessage{files: []int{listening}}, sentMessage{message: message{Last: true}}
	entries := func(files []int, list ...entry) []sentMessage {
		return []sentMessage{first, {message{Entries: list}, files}, last}
	}
	for _, test := range []struct {
		name     string
		messages []sentMessage
		want     string
	}{
		{"an error", []sentMessage{first, {message{Error: "busy"}, all}}, "the dnetd that runs: busy"},
		{"no listening socket", []sentMessage{{}}, "no listening socket came along"},
		{"another socket", []sentMessage{{files: []int{four.TCP, six.TCP}}}, "none of unix"},
		{"no resolver", entries(all[1:], good, entry{Families: v6}), "an entry without a resolver came"},
		{"no sockets", entries(all[1:4], entry{Resolver: resolver, Families: both}), "came without its sockets"},
		{"a family twice", entries(all[1:], entry{Resolver: resolver, Families: slices.Concat(v4, v4)}), "came without its sockets"},
		{"no such family", entries(all[1:3], entry{Resolver: resolver, Families: []names.Family{2}}), "came without its sockets"},
		{"another sandbox", entries(all[1:], good, entry{Resolver: foreign, Families: v6}), "namespace has cookie"},
		{"the wrong family", entries([]int{four.UDP, four.TCP, four.UDP, four.TCP}, entry{Resolver: resolver, Families: both}), "both must be at one port"},
		{"too many", entries(all[1:], good), "2 descriptors are left for 0 sockets of the relay"},
		{"too few for the relay", []sentMessage{first, {message{Entries: []entry{good}, Relay: []relay.Socket{relayed}}, all[1:3]}}, "0 descriptors are left for 1 sockets of the relay"},
		{"no end", []sentMessage{first, {message{Entries: []entry{good}, Relay: []relay.Socket{relayed, relayed}}, all[1:]}}, "EOF"},
		{"of no use", []sentMessage{first, {message{Relay: []relay.Socket{relayed, relayed}}, all[3:]}, last}, "no such file or directory"},
	} {
		var before []int
		for _, fd := range all {
			before = append(before, copies(t, fd))
		}
		if err := r.newHere().receive(t, test.messages...); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", test.name, err, test.want)
		}
		for i, fd := range all {
			if n := copies(t, fd); n != before[i] {
				t.Errorf("%s: %d descriptors lead to socket %d, want %d", test.name, n, i, before[i])
			}
		}
	}
}

// After a handover, ports are relayed on the sockets that came, as the records say.
// A socket for a port that no record has is closed.
func TestHandoverOfPorts(t *testing.T) {
	r := newFixture(t)
	var sockets []relay.Socket
	var files []int
	for range 2 {
		l, err := net.Listen("tcp6", "[::1]:0")
		if err != nil {
			t.Skip("no IPv6 here: ", err)
		}
		defer l.Close()
		file, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		sockets = append(sockets, relay.Socket{Protocol: "tcp", Address: l.Addr().(*net.TCPAddr).AddrPort()})
		files = append(files, int(file.Fd()))
	}
	publish(t, r.store, "web", "c1", records.Up, sockets[0].Address.Port())
	d := r.newHere()
	defer d.ports.relay.Close()
	first, last := sentMessage{files: []int{listeningSocket(t, r.socket())}}, sentMessage{message: message{Last: true}}
	if err := d.receive(t, first, sentMessage{message{Relay: sockets}, files}, last); err != nil {
		t.Fatal(err)
	}
	defer d.listener.leave()
	if owners, stats := d.ports.relay.Owners(), d.ports.relay.Stats(); fmt.Sprint(owners) != "[c1]" || stats.Waiting != 0 {
		t.Errorf("ports of %v are relayed, %d wait for their socket", owners, stats.Waiting)
	}
	for i, want := range []int{3, 2} { // the test has two of each
		if n := copies(t, files[i]); n != want {
			t.Errorf("%d descriptors lead to socket %d, want %d", n, i, want)
		}
	}
}

// A successor serves although its predecessor went away before it had the ack.
func TestPredecessorDies(t *testing.T) {
	r := newFixture(t)
	l, err := agent.Listen(r.socket())
	if err != nil {
		t.Fatal(err)
	}
	file, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	predecessor, err := agent.NewListener(l)
	if err != nil {
		t.Fatal(err)
	}
	d := r.newHere()
	d.registry.mu.Lock() // what has come is not used until the predecessor is gone
	go func() {
		defer d.registry.mu.Unlock()
		c, err := predecessor.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		_, err = c.Receive(&agent.Request{})
		err = errors.Join(err, c.Send(message{}, int(file.Fd())), c.Send(message{Last: true}))
		if err = errors.Join(err, file.Close(), predecessor.Close(), c.Close()); err != nil {
			t.Error(err)
		}
	}()
	if err := d.begin(); err != nil {
		t.Fatal(err)
	}
	defer d.listener.leave()
	c, err := agent.Dial(r.socket(), 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}
