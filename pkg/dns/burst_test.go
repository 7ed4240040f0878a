package dns

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

func TestBursts(t *testing.T) {
	for name, c := range map[string]struct{ replies, want string }{ // client:size
		"nothing":               {"", ""},
		"one":                   {"a:50", "50"},
		"of one size":           {"a:50 a:50 a:50", "50+50+50"},
		"one shorter, last":     {"a:40 a:50 a:50", "50+50+40"},
		"several shorter":       {"a:50 a:40 a:50 a:40", "50+50+40 40"},
		"of several clients":    {"b:50 a:50 b:50 a:60", "60+50 50+50"},
		"of one host":           {"a:50 c:50 a:50", "50+50 50"},
		"longer than a packet":  {strings.Repeat("a:4096 ", 16), strings.Repeat("4096+", 14) + "4096 4096"},
		"as long as one may be": {strings.Repeat("a:4096 ", 15) + "a:4047", strings.Repeat("4096+", 15) + "4047"},
	} {
		clients := map[string]*net.UDPAddr{
			"a": {IP: net.IPv4(127, 0, 0, 1), Port: 1000},
			"b": {IP: net.IPv4(127, 0, 0, 2), Port: 1000},
			"c": {IP: net.IPv4(127, 0, 0, 1), Port: 1001},
		}
		var replies []outgoing
		for _, word := range strings.Fields(c.replies) {
			client, text, _ := strings.Cut(word, ":")
			var size int
			if _, err := fmt.Sscan(text, &size); err != nil {
				t.Fatal(err)
			}
			replies = append(replies, outgoing{clients[client], make([]byte, size)})
		}
		var got []string
		for _, m := range new(bursts).pack(replies) {
			var sizes []string
			for _, part := range m.Buffers {
				sizes = append(sizes, fmt.Sprint(len(part)))
			}
			if (len(m.OOB) > 0) != (len(sizes) > 1) {
				t.Errorf("%s: %d answers, control message %x", name, len(sizes), m.OOB)
			}
			got = append(got, strings.Join(sizes, "+"))
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %s, want %s", name, s, c.want)
		}
	}
}

// TestManyQuestions has two clients that send many queries before they read. One
// server's socket is without checksums, so that the kernel sends no bursts from it.
func TestManyQuestions(t *testing.T) {
	for name, c := range map[string]struct {
		address   string
		checksums bool
	}{"IPv4": {"127.0.0.1:0", true}, "IPv6": {"[::1]:0", true}, "no bursts": {"127.0.0.1:0", false}} {
		t.Run(name, func(t *testing.T) {
			udp := listenUDP(t, c.address, c.checksums)
			clients := []*asker{newAsker(t, udp), newAsker(t, udp)}
			for i := range batchSize / 2 { // before the server starts, so that it reads all at once
				for _, client := range clients {
					client.ask(i)
				}
			}
			e, err := NewServer(Config{}).Serve(detach(t, udp), -1, View{Names: table().View("web")})
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			for _, client := range clients {
				client.readAll()
			}
		})
	}
}

func listenUDP(t *testing.T, address string, checksums bool) *net.UDPConn {
	t.Helper()
	c := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		if checksums {
			return nil
		}
		gone := raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_NO_CHECK, 1) })
		return errors.Join(gone, err)
	}}
	udp, err := c.ListenPacket(t.Context(), "udp", address)
	if err != nil {
		t.Fatal(err)
	}
	return udp.(*net.UDPConn)
}

// An asker is a client that keeps the answers it expects.
type asker struct {
	t    *testing.T
	conn net.Conn
	want map[uint16]string
}

func newAsker(t *testing.T, server *net.UDPConn) *asker {
	t.Helper()
	conn, err := net.Dial("udp", server.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &asker{t, conn, map[uint16]string{}}
}

// ask asks the i-th of some questions.
func (a *asker) ask(i int) {
	questions := [][2]string{
		{"one A", "NOERROR rd ra; one. 600 A 10.1.0.2"}, {"two A", "NOERROR rd ra; two. 600 A 10.1.0.3"},
		{"six A", "NOERROR rd ra"}, {"six AAAA", "NOERROR rd ra; six. 600 AAAA fd01::4"}, {"none A", "SERVFAIL rd ra"},
	}
	question := questions[i%len(questions)]
	q := ask(question[0])
	q.Id = uint16(i) // a random one may come twice
	a.want[q.Id] = question[1]
	write(a.t, a.conn, mustPack(q))
}

func (a *asker) readAll() {
	a.t.Helper()
	if err := a.conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		a.t.Fatal(err)
	}
	b := make([]byte, maxUDP)
	for len(a.want) > 0 {
		n, err := a.conn.Read(b)
		var m mdns.Msg
		if err == nil {
			err = m.Unpack(b[:n])
		}
		if err != nil {
			a.t.Fatal(err)
		}
		if got := show(&m); got != a.want[m.Id] {
			a.t.Errorf("query %d: %s, want %s", m.Id, got, a.want[m.Id])
		}
		delete(a.want, m.Id)
	}
}
