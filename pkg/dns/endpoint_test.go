package dns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"golang.org/x/net/ipv4"
)

func TestLargeAnswer(t *testing.T) {
	r := serve(t, NewServer(Config{}), View{Names: table().View("web")})
	for network, want := range map[string]int{"udp": 30, "tcp": 300} {
		if n := strings.Count(r.exchange(network, "many A"), "600 A 10.1."); n != want {
			t.Errorf("%s: %d addresses, want %d", network, n, want)
		}
	}
}

// TestPipeline sends many queries on one connection at once. The first waits for a
// slow upstream; the others must not wait for the first.
func TestPipeline(t *testing.T) {
	release := make(chan struct{})
	f := upstreamServer(t, func(w mdns.ResponseWriter, q *mdns.Msg) { <-release; records(example)(w, q) })
	s := NewServer(Config{})
	s.SetUpstream(upstreamOf(f))
	r := serve(t, s, View{Names: table().View("web")})
	conn := r.dial()
	var queries []byte
	for _, question := range append([]string{"example.com A"}, strings.Split(strings.Repeat("one A,", 19)+"two A", ",")...) {
		b, _ := ask(question).Pack()
		queries = append(queries, prefixed(b)...)
	}
	write(t, conn, queries)
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil { // the answers must still come
		t.Fatal(err)
	}
	var answers []string
	for range 20 {
		answers = append(answers, show(r.receive(conn)))
	}
	close(release)
	answers = append(answers, show(r.receive(conn)))
	if answers[19] != "NOERROR rd ra; two. 600 A 10.1.0.3" || !strings.HasSuffix(answers[20], "192.0.2.80") {
		t.Errorf("answers: %q", answers)
	}
	if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after the last answer: %d bytes, %v", n, err)
	}
	await(t, "the connection is counted out", func() bool { return s.Stats().Connections == 0 })
}

func (r *fixture) dial() net.Conn {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.address)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	return conn
}

func write(t testing.TB, conn net.Conn, b []byte) {
	t.Helper()
	if _, err := conn.Write(b); err != nil {
		t.Fatal(err)
	}
}

// receive reads an answer over TCP.
func (r *fixture) receive(conn net.Conn) *mdns.Msg {
	r.t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(8 * time.Second))
	m, err := (&mdns.Conn{Conn: conn}).ReadMsg()
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// TestBadStreams sends what is no query: that connection is closed, and the others
// go on.
func TestBadStreams(t *testing.T) {
	r := serve(t, NewServer(Config{}), View{Names: table().View("web")})
	good := r.dial()
	for name, b := range map[string][]byte{
		"length 0": {0, 0},
		"short":    {0, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11},
		"long":     {0xff, 0xff, 1, 2, 3},
		"HTTP":     []byte("GET / HTTP/1.1\r\n\r\n"),
	} {
		conn := r.dial()
		write(t, conn, b)
		_ = conn.SetReadDeadline(time.Now().Add(3 * time.Second))
		if n, err := conn.Read(make([]byte, 1)); n > 0 || errors.Is(err, syscall.EAGAIN) || isTimeout(err) {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
	}
	b, _ := ask("one A").Pack()
	write(t, good, prefixed(b))
	if got := show(r.receive(good)); got != "NOERROR rd ra; one. 600 A 10.1.0.2" {
		t.Error(got)
	}
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// TestSlowClients fills an endpoint with connections that send nothing or half a
// query, or read no answers. UDP and other endpoints go on, and the slow connections
// are closed in the end.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	s := NewServer(Config{})
	r, other := serve(t, s, View{Names: table().View("web")}), serve(t, s, View{Names: table().View("web")})
	b, _ := ask("one A").Pack()
	many, _ := ask("many A").Pack()
	for i := range maxEndpointTCP {
		conn := r.dial()
		switch i % 4 {
		case 1:
			write(t, conn, []byte{0})
		case 2:
			write(t, conn, prefixed(b)[:10])
		case 3: // answers of 5 KB, until both buffers are full
			go func() {
				for range 5000 {
					if _, err := conn.Write(prefixed(many)); err != nil {
						return
					}
				}
			}()
		}
	}
	await(t, "all are connected", func() bool { return s.Stats().Connections == maxEndpointTCP })
	for _, c := range []struct {
		r       *fixture
		network string
	}{{r, "udp"}, {other, "udp"}, {other, "tcp"}, {r, "tcp"}} { // the last waits until one is closed
		start := time.Now()
		if got := c.r.exchange(c.network, "one A"); got != "NOERROR rd ra; one. 600 A 10.1.0.2" || time.Since(start) > 2*time.Second {
			t.Errorf("%s: %s after %v", c.network, got, time.Since(start))
		}
	}
	deadline := time.Now().Add(idle + slow + 5*time.Second)
	for s.Stats().Connections > 0 && time.Now().Before(deadline) {
		time.Sleep(50 * time.Millisecond)
	}
	if n := s.Stats().Connections; n > 0 {
		t.Errorf("%d connections are still open", n)
	}
}

// TestManySlowClients opens as many connections as a server may have, to a few
// endpoints that send nothing. Other endpoints still take connections.
func TestManySlowClients(t *testing.T) {
	t.Parallel()
	s := NewServer(Config{})
	for range maxTCP / maxEndpointTCP {
		r := serve(t, s, View{})
		for range maxEndpointTCP {
			r.dial()
		}
	}
	await(t, "all are connected", func() bool { return s.Stats().Connections == maxTCP })
	other := serve(t, s, View{Names: table().View("web")})
	for range fewTCP + 1 { // the last one waits for its turn
		if got := other.exchange("tcp", "one A"); got != "NOERROR rd ra; one. 600 A 10.1.0.2" {
			t.Error(got)
		}
		other.dial()
	}
}

// TestManyStreams has more connections than an endpoint may have ask a slow server:
// all are answered, the last ones when the first have ended.
func TestManyStreams(t *testing.T) {
	t.Parallel()
	s := NewServer(Config{})
	s.SetUpstream(upstreamOf(upstreamServer(t, after(300*time.Millisecond, rcode(mdns.RcodeNameError)))))
	r := serve(t, s, View{})
	var clients sync.WaitGroup
	for i := range 3 * maxEndpointTCP {
		clients.Go(func() {
			if got := r.exchange("tcp", fmt.Sprintf("n%d.example A", i)); !strings.HasPrefix(got, "NXDOMAIN") {
				t.Errorf("%d: %s", i, got)
			}
		})
	}
	await(t, "as many are connected as may be", func() bool { return s.Stats().Connections == maxEndpointTCP })
	clients.Wait()
	await(t, "all have ended", func() bool { return s.Stats().Connections == 0 })
	if n := s.Stats().Delayed; n == 0 || n > 2*maxEndpointTCP {
		t.Errorf("%d connections waited", n)
	}
}

// TestHandOver serves the same sockets with one server after the other, during
// queries over both protocols. Some of them wait for an upstream. None may be lost.
func TestHandOver(t *testing.T) {
	f := upstreamServer(t, func(w mdns.ResponseWriter, q *mdns.Msg) {
		time.Sleep(20 * time.Millisecond)
		records("x.example. 0 IN A 192.0.2.80")(w, q)
	})
	view := View{Names: table().View("web")}
	server := func() *Server { s := NewServer(Config{}); s.SetUpstream(upstreamOf(f)); return s }
	s := server()
	udp, tcp := listen(t)
	address := tcp.Addr().String()
	e, err := s.Serve(detach(t, udp), detach(t, tcp), view)
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var clients sync.WaitGroup
	var asked atomic.Int32
	for i := range 8 {
		clients.Go(func() {
			c := mdns.Client{Net: []string{"udp", "tcp"}[i%2], Timeout: 3 * time.Second}
			for {
				select {
				case <-stop:
					return
				default:
				}
				m := ask([]string{"one A", "x.example A"}[i/2%2])
				answer, _, err := c.Exchange(m, address)
				if err != nil || len(answer.Answer) != 1 {
					t.Errorf("%s over %s: %v, %v", m.Question[0].Name, c.Net, answer, err)
					return
				}
				asked.Add(1)
				time.Sleep(time.Millisecond)
			}
		})
	}
	for range 5 {
		time.Sleep(50 * time.Millisecond)
		var newUDP, newTCP int
		if err := e.Control(func(udp, tcp int) { newUDP, newTCP = dup(t, udp), dup(t, tcp) }); err != nil {
			t.Fatal(err)
		}
		next, err := server().Serve(newUDP, newTCP, view)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		if err := e.Drain(ctx); err != nil {
			t.Error("drain:", err)
		}
		cancel()
		e = next
	}
	close(stop)
	clients.Wait()
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if asked.Load() < 100 {
		t.Errorf("only %d queries", asked.Load())
	}
}

// duplicate returns another descriptor of a socket, as SCM_RIGHTS would.
func duplicate(t testing.TB, c syscall.Conn) int {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var fd int
	if err := raw.Control(func(old uintptr) { fd = dup(t, int(old)) }); err != nil {
		t.Fatal(err)
	}
	return fd
}

func dup(t testing.TB, fd int) int {
	t.Helper()
	other, err := syscall.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	return other
}

// TestNoSockets serves descriptors that are no such sockets: none stays open.
func TestNoSockets(t *testing.T) {
	udp, tcp := listen(t)
	defer udp.Close()
	defer tcp.Close()
	client, err := net.Dial("tcp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	s := NewServer(Config{})
	if _, err := s.start(); err != nil { // has descriptors of its own
		t.Fatal(err)
	}
	defer s.Close()
	for _, c := range [][2]syscall.Conn{{tcp, udp}, {tcp, tcp}, {udp, udp}, {udp, client.(*net.TCPConn)}} {
		before := openFiles(t)
		if _, err := s.Serve(duplicate(t, c[0]), duplicate(t, c[1]), View{}); err == nil {
			t.Errorf("%T as UDP, %T as TCP: no error", c[0], c[1])
		} else if after := openFiles(t); after > before {
			t.Errorf("%v; %d descriptors before, %d after", err, before, after)
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	n := 0
	for fd := range 256 {
		var stat syscall.Stat_t
		if syscall.Fstat(fd, &stat) == nil {
			n++
		}
	}
	return n
}

// TestDrainEnds has a silent upstream: Drain gives up when its context ends.
func TestDrainEnds(t *testing.T) {
	s := NewServer(Config{})
	s.SetUpstream(upstreamOf(upstreamServer(t, silent)))
	udp, tcp := listen(t)
	address := udp.LocalAddr().String()
	e, err := s.Serve(detach(t, udp), detach(t, tcp), View{})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	b, _ := ask("example.com A").Pack()
	write(t, conn, b)
	await(t, "a query waits", func() bool { return e.waiting.Load() == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := e.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if err := e.Close(); err != nil {
		t.Error("closed twice:", err)
	}
}

// TestNothingStays closes an endpoint: no goroutine and no connection is left.
func TestNothingStays(t *testing.T) {
	f := upstreamServer(t, rcode(mdns.RcodeNameError))
	s := NewServer(Config{})
	s.SetUpstream(upstreamOf(f))
	before := runtime.NumGoroutine()
	for i := range 20 {
		udp, tcp := listen(t)
		address := tcp.Addr().String()
		e, err := s.Serve(detach(t, udp), detach(t, tcp), View{Names: table().View("web")})
		if err != nil {
			t.Fatal(err)
		}
		r := &fixture{t, s, e, address}
		r.dial()
		r.exchange("udp", "one A")
		r.exchange("tcp", fmt.Sprintf("n%d.example A", i))
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	await(t, "all goroutines have ended", func() bool { return runtime.NumGoroutine() <= before })
	if got := s.Stats(); got.Waiting != 0 || got.Connections != 0 {
		t.Errorf("%+v", got)
	}
}

// TestIdleEndpoints measures a thousand idle endpoints that were asked once. In
// dnetd they share 64 MB with everything else.
func TestIdleEndpoints(t *testing.T) {
	s := NewServer(Config{})
	view := View{Names: table().View("web")}
	before := held()
	const many = 200
	for range many {
		r := serve(t, s, view)
		r.exchange("udp", "many A")
	}
	each := (held() - before) / many
	t.Logf("%d bytes each", each)
	if each > 24<<10 {
		t.Errorf("an idle endpoint holds %d bytes, want at most 24 KiB", each)
	}
}

// held returns the memory in use, with stacks.
func held() int {
	runtime.GC()
	runtime.GC() // the second one empties pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapInuse + m.StackInuse)
}

// TestFlood has a client send queries and rubbish as fast as it can. Other clients
// must still get answers.
func TestFlood(t *testing.T) {
	s := NewServer(Config{})
	flooded, other := serve(t, s, View{Names: table().View("web")}), serve(t, s, View{Names: table().View("web")})
	stop := make(chan struct{})
	var floods sync.WaitGroup
	for _, b := range [][]byte{mustPack(ask("many A edns=4096")), mustPack(ask("one A"))[:20]} {
		conn, err := net.Dial("udp", flooded.address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		floods.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_, _ = conn.Write(b) // a full buffer is what a flood makes
				}
			}
		})
	}
	begin := time.Now()
	asked := 0
	for ; asked < 40 || time.Since(begin) < 300*time.Millisecond; asked++ {
		network := []string{"udp", "tcp"}[asked%2]
		start := time.Now()
		if got := other.exchange(network, "one A"); got != "NOERROR rd ra; one. 600 A 10.1.0.2" || time.Since(start) > time.Second {
			t.Errorf("%s: %s after %v", network, got, time.Since(start))
		}
	}
	close(stop)
	floods.Wait()
	n, most := s.Stats().Answers, uint64(time.Since(begin)/faultPause)+2*batchSize
	if n[Local] < uint64(asked)+20 || n[Malformed] < 100 {
		t.Errorf("that was no flood: %v", n)
	}
	if n[Malformed] > most {
		t.Errorf("%d failures answered, want %d at most", n[Malformed], most)
	}
}

// TestTurn has a turn of an endpoint end after one batch, with more queries there.
func TestTurn(t *testing.T) {
	udp, tcp := listen(t)
	defer tcp.Close()
	conn, err := net.Dial("udp", udp.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	own := newSocket(detach(t, udp))
	defer own.Close()
	e := bare(View{Names: table().View("web")})
	e.udp, e.packets = own, ipv4.NewPacketConn(own)
	for range 2 * batchSize {
		if _, err := conn.Write(mustPack(ask("one A"))); err != nil {
			t.Fatal(err)
		}
	}
	b := batches.Get().(*batch)
	defer batches.Put(b)
	for turn := range 2 {
		if _, err := b.serve(e); err != nil {
			t.Fatal(err)
		}
		if n := e.server.Stats().Answers[Local]; n != uint64(turn+1)*batchSize {
			t.Errorf("%d answers after %d turns", n, turn+1)
		}
	}
}

func mustPack(m *mdns.Msg) []byte {
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}
