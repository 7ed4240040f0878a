package dns

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"dcni/pkg/names"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// table has a container "one" with both families, "two" with IPv4 only and
// "six" with IPv6 only; one and two share the alias "db". "many" are 300
// containers with one alias. "other" is a network of its own.
func table() *names.Table {
	web := names.Network{Name: "web", TTL: 600, Gateways: []netip.Addr{addr("10.1.0.1")}}
	t := new(names.Table).
		Add(web, names.Entry{Container: "c1", IfName: "eth0", Names: []string{"one", "db"}, Addresses: []netip.Addr{addr("10.1.0.2"), addr("fd01::2")}}).
		Add(web, names.Entry{Container: "c2", IfName: "eth0", Names: []string{"two", "db"}, Addresses: []netip.Addr{addr("10.1.0.3")}}).
		Add(web, names.Entry{Container: "c3", IfName: "eth0", Names: []string{"six"}, Addresses: []netip.Addr{addr("fd01::4")}}).
		Add(names.Network{Name: "other", TTL: 60}, names.Entry{Container: "c4", IfName: "eth0", Names: []string{"four"}, Addresses: []netip.Addr{addr("10.2.0.5")}})
	for i := range 300 {
		a := netip.AddrFrom4([4]byte{10, 1, byte(1 + i/250), byte(i % 250)})
		t = t.Add(web, names.Entry{Container: fmt.Sprint("m", i), IfName: "eth0", Names: []string{"many"}, Addresses: []netip.Addr{a}})
	}
	return t
}

// ask makes a query of text as dig has it: name, type and options (edns=SIZE,
// do, cd, ad, norec, cookie).
func ask(text string) *mdns.Msg {
	words := strings.Fields(text)
	m := new(mdns.Msg)
	m.SetQuestion(mdns.Fqdn(words[0]), mdns.StringToType[words[1]])
	for _, w := range words[2:] {
		switch word, value, _ := strings.Cut(w, "="); word {
		case "edns":
			size, _ := strconv.Atoi(value)
			m.SetEdns0(uint16(size), false)
		case "do":
			m.SetEdns0(1232, true)
		case "cookie":
			m.SetEdns0(1232, false)
			m.IsEdns0().Option = []mdns.EDNS0{&mdns.EDNS0_COOKIE{Code: mdns.EDNS0COOKIE, Cookie: "0123456789abcdef"}}
		case "cd":
			m.CheckingDisabled = true
		case "ad":
			m.AuthenticatedData = true
		case "norec":
			m.RecursionDesired = false
		default:
			panic("ask: " + w)
		}
	}
	return m
}

// show prints an answer as dig does, on one line: status, flags, records of
// each section, sorted.
func show(m *mdns.Msg) string {
	if m == nil {
		return "nothing"
	}
	out := []string{mdns.RcodeToString[m.Rcode]}
	for _, f := range []struct {
		name string
		set  bool
	}{{"aa", m.Authoritative}, {"tc", m.Truncated}, {"rd", m.RecursionDesired}, {"ra", m.RecursionAvailable}, {"ad", m.AuthenticatedData}, {"cd", m.CheckingDisabled}} {
		if f.set {
			out = append(out, f.name)
		}
	}
	line := strings.Join(out, " ")
	if opt := m.IsEdns0(); opt != nil {
		line += fmt.Sprintf("; edns %d do=%v", opt.UDPSize(), opt.Do())
	}
	for i, section := range [][]mdns.RR{m.Answer, m.Ns, m.Extra} {
		var records []string
		for _, r := range section {
			if r.Header().Rrtype == mdns.TypeOPT {
				continue
			}
			records = append(records, strings.Join(strings.Fields(strings.Replace(r.String(), "\tIN\t", " ", 1)), " "))
		}
		slices.Sort(records)
		for _, r := range records {
			line += [...]string{"; ", "; authority ", "; additional "}[i] + r
		}
	}
	return line
}

// bare returns an endpoint without sockets.
func bare(v View) *Endpoint {
	e := &Endpoint{server: NewServer(Config{})}
	e.SetView(v)
	return e
}

// direct answers a message without sockets, over TCP if it is told so; nil if
// there is no answer.
func direct(e *Endpoint, query []byte, tcp bool) []byte {
	var w scratch
	c := client{endpoint: e, at: e}
	b := make([]byte, maxUDP)
	if tcp {
		c.stream, b = &stream{endpoint: e}, make([]byte, maxMessage)
	}
	n := w.answer(b, copy(b, query), c, e.server.now())
	e.server.stats.add(&w.tally)
	if n == 0 {
		return nil
	}
	return b[:n]
}

// A fixture is a served endpoint on loopback.
type fixture struct {
	t        testing.TB
	server   *Server
	endpoint *Endpoint
	address  string // UDP and TCP
}

// serve serves a view on a port that is free for UDP and TCP.
func serve(t testing.TB, s *Server, v View) *fixture {
	t.Helper()
	udp, tcp := listen(t)
	address := tcp.Addr().String()
	e, err := s.Serve(detach(t, udp), detach(t, tcp), v)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return &fixture{t, s, e, address}
}

// detach takes a socket's descriptor from the Go runtime.
func detach(t testing.TB, c interface {
	syscall.Conn
	Close() error
}) int {
	t.Helper()
	fd := duplicate(t, c)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return fd
}

func listen(t testing.TB) (*net.UDPConn, *net.TCPListener) {
	t.Helper()
	for range 100 {
		tcp, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: tcp.Addr().(*net.TCPAddr).Port})
		if err == nil {
			return udp, tcp
		}
		_ = tcp.Close()
	}
	t.Fatal("no port is free for UDP and TCP")
	return nil, nil
}

// exchange asks over "udp" or "tcp", for at most 8 s.
func (r *fixture) exchange(network, question string) string {
	r.t.Helper()
	c := mdns.Client{Net: network, Timeout: 8 * time.Second, UDPSize: maxMessage}
	m := ask(question)
	id := m.Id
	answer, _, err := c.Exchange(m, r.address)
	if err != nil {
		return err.Error()
	}
	if answer.Id != id || !answer.Response || len(answer.Question) != 1 || answer.Question[0] != m.Question[0] {
		r.t.Errorf("%s: answers another question: %v", question, answer)
	}
	return show(answer)
}

// A fake is an upstream on loopback. What it does with a query is up to each
// test.
type fake struct {
	address netip.AddrPort
	asked   atomic.Int32 // queries, over UDP and TCP
	mu      sync.Mutex
	last    *mdns.Msg
	sources map[string]bool // addresses that asked
	ids     map[uint16]bool
}

// seen returns the last query.
func (f *fake) seen() *mdns.Msg {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// A respond function answers a query, or does not. It may be called by several
// goroutines.
type respond func(w mdns.ResponseWriter, q *mdns.Msg)

func upstreamServer(t testing.TB, f respond) *fake {
	t.Helper()
	udp, tcp := listen(t)
	u := &fake{address: udp.LocalAddr().(*net.UDPAddr).AddrPort(), sources: map[string]bool{}, ids: map[uint16]bool{}}
	handler := mdns.HandlerFunc(func(w mdns.ResponseWriter, q *mdns.Msg) {
		u.asked.Add(1)
		u.mu.Lock()
		u.last = q.Copy()
		u.sources[w.RemoteAddr().String()] = true
		u.ids[q.Id] = true
		u.mu.Unlock()
		f(w, q)
	})
	for _, server := range []*mdns.Server{{PacketConn: udp, Handler: handler}, {Listener: tcp, Handler: handler}} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go func() { _ = server.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = server.Shutdown() })
	}
	return u
}

// records answers with these records, written as in a zone file; "; authority"
// and "; additional" begin the other sections.
func records(text string) respond {
	return func(w mdns.ResponseWriter, q *mdns.Msg) { _ = w.WriteMsg(recordsFor(q, text)) }
}

func recordsFor(q *mdns.Msg, text string) *mdns.Msg {
	m := new(mdns.Msg).SetReply(q)
	m.RecursionAvailable = true
	section := &m.Answer
	for line := range strings.Lines(text) {
		switch line = strings.TrimSpace(line); line {
		case "":
		case "; authority":
			section = &m.Ns
		case "; additional":
			section = &m.Extra
		default:
			r, err := mdns.NewRR(line)
			if err != nil {
				panic(err)
			}
			*section = append(*section, r)
		}
	}
	if q.IsEdns0() != nil {
		m.SetEdns0(4096, q.IsEdns0().Do())
	}
	return m
}

// rcode answers with a response code.
func rcode(code int) respond {
	return func(w mdns.ResponseWriter, q *mdns.Msg) { _ = w.WriteMsg(new(mdns.Msg).SetRcode(q, code)) }
}

// silent does not answer.
func silent(mdns.ResponseWriter, *mdns.Msg) {}

// after answers late.
func after(d time.Duration, f respond) respond {
	return func(w mdns.ResponseWriter, q *mdns.Msg) { time.Sleep(d); f(w, q) }
}

// upstreamOf is an Upstream of some fakes. They stand for servers that are no caches of
// this host, though they listen on loopback addresses.
func upstreamOf(fakes ...*fake) *Upstream {
	var servers []netip.AddrPort
	for _, f := range fakes {
		servers = append(servers, f.address)
	}
	u := NewUpstream(servers, nil)
	u.longest = maxLife
	return u
}
