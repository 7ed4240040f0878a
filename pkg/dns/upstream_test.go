package dns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

const example = "example.com. 300 IN A 192.0.2.80"

func TestForward(t *testing.T) {
	f := upstreamServer(t, func(w mdns.ResponseWriter, q *mdns.Msg) {
		answers := map[string]respond{
			"example.com.":  records(example),
			"chain.example": records("chain.example. 300 IN CNAME example.com.\n" + example),
			"big.example.": func(w mdns.ResponseWriter, q *mdns.Msg) {
				m := recordsFor(q, strings.Repeat("big.example. 300 IN TXT \""+strings.Repeat("x", 200)+"\"\n", 20))
				if w.LocalAddr().Network() == "udp" {
					m.Truncate(512)
				}
				_ = w.WriteMsg(m)
			},
			"refused.example.": rcode(mdns.RcodeRefused),
			"notimp.example.":  rcode(mdns.RcodeNotImplemented),
			"full.example.": records(`full.example. 300 IN MX 10 mx.example.
				; authority
				example. 60 IN NS ns.example.
				; additional
				mx.example. 300 IN A 192.0.2.25`),
		}
		if answer := answers[q.Question[0].Name]; answer != nil {
			answer(w, q)
			return
		}
		rcode(mdns.RcodeNameError)(w, q)
	})
	s := NewServer(Config{})
	s.SetUpstream(upstreamOf(f))
	r := serve(t, s, View{Names: table().View("web")})
	big := func(n int) string {
		return strings.Repeat("; big.example. 300 TXT \""+strings.Repeat("x", 200)+"\"", n)
	}
	for _, c := range []struct{ network, question, want string }{
		{"udp", "example.com A", "NOERROR rd ra; example.com. 300 A 192.0.2.80"},
		{"udp", "EXAMPLE.com A", "NOERROR rd ra; EXAMPLE.com. 300 A 192.0.2.80"}, // from the cache
		{"tcp", "example.com A", "NOERROR rd ra; example.com. 300 A 192.0.2.80"},
		{"udp", "example.com A do", "NOERROR rd ra; edns 1232 do=true; example.com. 300 A 192.0.2.80"},
		{"udp", "nosuch.example A", "NXDOMAIN rd ra"},
		{"udp", "refused.example A", "REFUSED rd ra"},
		{"udp", "notimp.example A", "NOTIMP rd ra"},
		{"udp", "full.example MX", "NOERROR rd ra; full.example. 300 MX 10 mx.example.; authority example. 60 NS ns.example.; additional mx.example. 300 A 192.0.2.25"},
		{"udp", "example.com A cookie", "NOERROR rd ra; edns 4096 do=false; example.com. 300 A 192.0.2.80"},
		{"udp", "one A", "NOERROR rd ra; one. 600 A 10.1.0.2"},
		{"tcp", "big.example TXT", "NOERROR rd ra" + big(20)},
		{"udp", "big.example TXT edns=4096", "NOERROR tc rd ra; edns 1232 do=false" + big(19)},
		{"udp", "big.example TXT", "NOERROR tc rd ra" + big(2)},
	} {
		if got := r.exchange(c.network, c.question); got != c.want {
			t.Errorf("%s over %s: %s\nwant %s", c.question, c.network, got, c.want)
		}
	}
	if got := s.Stats(); got.Answers[Local] != 1 || got.Answers[Cached] != 3 || got.Answers[Forwarded] != 9 || got.UpstreamErrors != 0 {
		t.Errorf("counted %+v", got)
	}
}

// TestLocalStaysLocal checks that no query about a local name goes upstream.
func TestLocalStaysLocal(t *testing.T) {
	f := upstreamServer(t, rcode(mdns.RcodeNameError))
	s := NewServer(Config{})
	s.SetUpstream(upstreamOf(f))
	r := serve(t, s, View{Names: table().View("web")})
	for _, question := range []string{
		"one A", "two AAAA", "six A", "one MX", "one TXT", "one HTTPS", "one ANY", "one.web SRV", "_1._tcp.one SRV",
		"_x._tcp.one SRV", "2.0.1.10.in-addr.arpa PTR", "host.docker.internal AAAA", "one AXFR", "one A cookie",
	} {
		r.exchange("udp", question)
	}
	if n := f.asked.Load(); n != 0 {
		t.Errorf("%d queries went upstream", n)
	}
}

// TestWhatUpstreamSees checks that EDNS is passed on, and that IDs and ports differ.
func TestWhatUpstreamSees(t *testing.T) {
	f := upstreamServer(t, rcode(mdns.RcodeNameError))
	s := NewServer(Config{})
	s.SetUpstream(upstreamOf(f))
	r := serve(t, s, View{})
	for question, want := range map[string]string{
		"a.example A":             "rd",
		"b.example A edns=4096":   "rd edns=1232",
		"c.example A do":          "rd edns=1232 do",
		"d.example A cookie":      "rd edns=1232 options=1",
		"e.example A norec":       "",
		"f.example A cd ad":       "rd ad cd",
		"g.example A edns=100 ad": "rd ad edns=1232",
	} {
		r.exchange("udp", question)
		last := f.seen()
		var got []string
		for _, w := range []struct {
			word string
			is   bool
		}{{"rd", last.RecursionDesired}, {"ad", last.AuthenticatedData}, {"cd", last.CheckingDisabled}} {
			if w.is {
				got = append(got, w.word)
			}
		}
		if opt := last.IsEdns0(); opt != nil {
			got = append(got, fmt.Sprint("edns=", opt.UDPSize()))
			if opt.Do() {
				got = append(got, "do")
			}
			if len(opt.Option) > 0 {
				got = append(got, fmt.Sprint("options=", len(opt.Option)))
			}
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%s: upstream saw %q, want %q", question, text, want)
		}
	}
	for i := range 40 {
		r.exchange("udp", fmt.Sprintf("n%d.example A", i))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	// Of 47 random numbers of 16 bits, five that are alike are no chance.
	if len(f.ids) < 43 || len(f.sources) < 30 {
		t.Errorf("%d IDs and %d ports for %d queries", len(f.ids), len(f.sources), f.asked.Load())
	}
}

// TestFaults has a first server that fails and a second one that works: the answer
// must come, and soon.
func TestFaults(t *testing.T) {
	other, _ := listen(t)
	defer other.Close()
	works := upstreamServer(t, records(example))
	// twice sends a forged answer first, and the right one later.
	twice := func(lie func(m *mdns.Msg)) respond {
		return func(w mdns.ResponseWriter, q *mdns.Msg) {
			m := recordsFor(q, strings.Replace(example, "192.0.2.80", "192.0.2.66", 1))
			lie(m)
			_ = w.WriteMsg(m)
			time.Sleep(30 * time.Millisecond)
			records(example)(w, q)
		}
	}
	raw := func(b []byte) respond {
		return func(w mdns.ResponseWriter, q *mdns.Msg) {
			answer, _ := new(mdns.Msg).SetReply(q).Pack()
			answer[7] = 1 // a record, it says
			_, _ = w.Write(append(answer, b...))
		}
	}
	for name, c := range map[string]struct {
		f    respond
		most time.Duration
	}{
		"works":          {records(example), headStart},
		"silent":         {silent, 5 * headStart},
		"slow":           {func(w mdns.ResponseWriter, q *mdns.Msg) { time.Sleep(time.Second); records(example)(w, q) }, 5 * headStart},
		"SERVFAIL":       {rcode(mdns.RcodeServerFailure), headStart},
		"REFUSED":        {rcode(mdns.RcodeRefused), headStart},
		"FORMERR":        {rcode(mdns.RcodeFormatError), headStart},
		"wrong ID":       {twice(func(m *mdns.Msg) { m.Id++ }), headStart},
		"wrong name":     {twice(func(m *mdns.Msg) { m.Question[0].Name = "example.org." }), headStart},
		"wrong type":     {twice(func(m *mdns.Msg) { m.Question[0].Qtype = mdns.TypeAAAA }), headStart},
		"no question":    {twice(func(m *mdns.Msg) { m.Question = nil }), headStart},
		"a query":        {twice(func(m *mdns.Msg) { m.Response = false }), headStart},
		"another opcode": {twice(func(m *mdns.Msg) { m.Opcode = mdns.OpcodeNotify }), headStart},
		"wrong port": {func(w mdns.ResponseWriter, q *mdns.Msg) {
			b, _ := recordsFor(q, strings.Replace(example, "192.0.2.80", "192.0.2.66", 1)).Pack()
			_, _ = other.WriteTo(b, w.RemoteAddr())
			time.Sleep(30 * time.Millisecond)
			records(example)(w, q)
		}, headStart},
		"garbage": {raw([]byte("garbage")), headStart},
		"huge":    {raw(bytes.Repeat([]byte{0xff}, 60000)), headStart},
		"cut": {func(w mdns.ResponseWriter, q *mdns.Msg) {
			b, _ := recordsFor(q, example).Pack()
			_, _ = w.Write(b[:len(b)-2])
		}, headStart},
		"truncated, TCP": {func(w mdns.ResponseWriter, q *mdns.Msg) {
			m := recordsFor(q, example)
			if w.LocalAddr().Network() == "udp" {
				m.Answer, m.Truncated = nil, true
			}
			_ = w.WriteMsg(m)
		}, headStart},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewServer(Config{})
			s.SetUpstream(upstreamOf(upstreamServer(t, c.f), works))
			r := serve(t, s, View{})
			start := time.Now()
			if got := r.exchange("udp", "example.com A"); got != "NOERROR rd ra; example.com. 300 A 192.0.2.80" {
				t.Error(got)
			}
			// Generous, for the machine may be busy; serial servers would take 4 s.
			if took := time.Since(start); took > c.most+time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// TestCut has a server that cuts answers over UDP within a record and marks them as
// truncated, or sends more than fits. Over TCP it sends whole ones.
func TestCut(t *testing.T) {
	const count = 100
	whole := func(q *mdns.Msg) *mdns.Msg {
		return recordsFor(q, strings.Repeat("example.com. 300 IN TXT \"x\"\n", count))
	}
	for name, respond := range map[string]respond{
		"cut": func(w mdns.ResponseWriter, q *mdns.Msg) {
			m := whole(q)
			m.Truncated = true
			_, _ = w.Write(mustPack(m)[:500])
		},
		"too long": func(w mdns.ResponseWriter, q *mdns.Msg) { _ = w.WriteMsg(whole(q)) },
	} {
		t.Run(name, func(t *testing.T) {
			f := upstreamServer(t, func(w mdns.ResponseWriter, q *mdns.Msg) {
				if w.LocalAddr().Network() == "udp" {
					respond(w, q)
				} else {
					_ = w.WriteMsg(whole(q))
				}
			})
			s := NewServer(Config{})
			s.SetUpstream(upstreamOf(f))
			r := serve(t, s, View{})
			for _, question := range []string{"example.com TXT", "example.com TXT cookie"} {
				if n := strings.Count(r.exchange("tcp", question), " TXT "); n != count {
					t.Errorf("%s: %d records", question, n)
				}
			}
			if n := s.Stats().UpstreamErrors; n > 0 {
				t.Errorf("%d errors are counted", n)
			}
		})
	}
}

// TestTruncatedWithoutTCP has a truncated answer and no TCP: the client gets it,
// marked as truncated, and the cache does not.
func TestTruncatedWithoutTCP(t *testing.T) {
	f := upstreamServer(t, func(w mdns.ResponseWriter, q *mdns.Msg) {
		if w.LocalAddr().Network() == "tcp" {
			_ = w.Close()
			return
		}
		m := recordsFor(q, example)
		m.Truncated = true
		_ = w.WriteMsg(m)
	})
	s := NewServer(Config{})
	s.SetUpstream(upstreamOf(f))
	r := serve(t, s, View{})
	for range 2 {
		if got := r.exchange("udp", "example.com A"); got != "NOERROR tc rd ra; example.com. 300 A 192.0.2.80" {
			t.Error(got)
		}
	}
	if got := s.Stats().Answers; got[Forwarded] != 2 {
		t.Errorf("counted %v", got)
	}
}

// TestNoAnswer has servers that are silent, refuse the packet, or do not exist.
// Clients must get a failure before they give up after 5 s.
func TestNoAnswer(t *testing.T) {
	free, tcp := listen(t)
	closed := netip.MustParseAddrPort(free.LocalAddr().String())
	_ = errors.Join(free.Close(), tcp.Close())
	for name, c := range map[string]struct {
		servers []netip.AddrPort
		most    time.Duration
	}{
		"none":   {nil, time.Second},
		"closed": {[]netip.AddrPort{closed}, time.Second},
		"silent": {[]netip.AddrPort{upstreamServer(t, silent).address}, patience + time.Second/2},
		"both":   {[]netip.AddrPort{closed, upstreamServer(t, silent).address}, patience + time.Second/2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := NewServer(Config{})
			s.SetUpstream(NewUpstream(c.servers, nil))
			r := serve(t, s, View{})
			for _, question := range []string{"example.com A", "example.com A cookie"} {
				start := time.Now()
				got := r.exchange("udp", question)
				if !strings.HasPrefix(got, "SERVFAIL rd ra") || time.Since(start) > c.most {
					t.Errorf("%s: %s after %v", question, got, time.Since(start))
				}
			}
			await(t, "nothing waits", func() bool { return s.Stats().Waiting == 0 })
		})
	}
}

// TestViews checks that internal networks reach no server of the host, and that a
// network's own servers are asked through its dialer in place of the host's.
func TestViews(t *testing.T) {
	hosts := upstreamServer(t, records("example.com. 300 IN A 192.0.2.1"))
	owns := upstreamServer(t, records("example.com. 300 IN A 192.0.2.2"))
	var dialled atomic.Int32
	own := NewUpstream([]netip.AddrPort{owns.address}, func(ctx context.Context, network, address string) (net.Conn, error) {
		dialled.Add(1)
		return new(net.Dialer).DialContext(ctx, network, address)
	})
	s := NewServer(Config{})
	s.SetUpstream(upstreamOf(hosts))
	r := serve(t, s, View{})
	for _, c := range []struct {
		view View
		want string
	}{
		{View{}, "NOERROR rd ra; example.com. 300 A 192.0.2.1"},
		{View{Internal: true}, "SERVFAIL rd ra"},
		{View{Own: own}, "NOERROR rd ra; example.com. 300 A 192.0.2.2"},
		{View{Own: own, Internal: true}, "NOERROR rd ra; example.com. 300 A 192.0.2.2"},
		{View{Own: NewUpstream(nil, nil)}, "SERVFAIL rd ra"},
		{View{}, "NOERROR rd ra; example.com. 300 A 192.0.2.1"},
	} {
		r.endpoint.SetView(c.view)
		if got := r.exchange("udp", "example.com A"); got != c.want {
			t.Errorf("%+v: %s, want %s", c.view, got, c.want)
		}
	}
	if hosts.asked.Load() != 1 || owns.asked.Load() != 1 || dialled.Load() != 1 {
		t.Errorf("the host's server was asked %d times, the own one %d times through %d dials", hosts.asked.Load(), owns.asked.Load(), dialled.Load())
	}
	s.SetUpstream(nil)
	if got := r.exchange("udp", "example.com A"); got != "SERVFAIL rd ra" {
		t.Error("without an upstream:", got)
	}
}

func TestNewUpstream(t *testing.T) {
	var servers []netip.AddrPort
	for _, text := range []string{"127.0.0.11:53", "192.0.2.1:53", "[::ffff:192.0.2.1]:53", "192.0.2.1:5353", "[fe80::1%eth0]:53"} {
		servers = append(servers, netip.MustParseAddrPort(text))
	}
	u := NewUpstream(servers, nil, Address)
	if got := fmt.Sprint(u.servers); got != "[192.0.2.1:53 192.0.2.1:5353 [fe80::1%eth0]:53]" {
		t.Error(got)
	}
	for port := range uint16(20) {
		servers = append(servers, netip.AddrPortFrom(addr("192.0.2.2"), port))
	}
	if n := len(NewUpstream(servers, nil).servers); n != maxServers {
		t.Errorf("%d servers, want %d", n, maxServers)
	}
}

// TestLoop has an upstream that is the server itself: one query goes round,
// not a storm, and the client hears SERVFAIL.
func TestLoop(t *testing.T) {
	t.Parallel()
	s := NewServer(Config{})
	r := serve(t, s, View{})
	s.SetUpstream(NewUpstream([]netip.AddrPort{netip.MustParseAddrPort(r.address)}, nil))
	if got := r.exchange("udp", "example.com A"); got != "SERVFAIL rd ra" {
		t.Error(got)
	}
	if n := s.Stats().Answers; n[Failed] > 5 {
		t.Errorf("counted %v", n)
	}
}

// TestPreference checks that the server that answered is asked first afterwards.
func TestPreference(t *testing.T) {
	dead, works := upstreamServer(t, silent), upstreamServer(t, rcode(mdns.RcodeNameError))
	u := upstreamOf(dead, works)
	s := NewServer(Config{})
	s.SetUpstream(u)
	r := serve(t, s, View{})
	for i := range 20 {
		r.exchange("udp", fmt.Sprintf("n%d.example A", i))
	}
	// A busy machine may make the second one seem slow, too.
	if n := dead.asked.Load(); n > 10 {
		t.Errorf("the dead server was asked %d times of 20", n)
	}
	u.prefer(0)
	if got := fmt.Sprint(u.order()); got != "[0 1]" {
		t.Errorf("order after the first is back: %s", got)
	}
}

// TestEqualQueries asks the same at once, on two endpoints, over both protocols.
func TestEqualQueries(t *testing.T) {
	release := make(chan struct{})
	f := upstreamServer(t, func(w mdns.ResponseWriter, q *mdns.Msg) {
		<-release
		records(example)(w, q)
	})
	s := NewServer(Config{})
	s.SetUpstream(upstreamOf(f))
	fixtures := []*fixture{serve(t, s, View{}), serve(t, s, View{})}
	var clients sync.WaitGroup
	for i := range 40 {
		clients.Go(func() {
			question := []string{"example.com A", "EXAMPLE.com A"}[i%2]
			if got := fixtures[i%2].exchange([]string{"udp", "tcp"}[i/2%2], question); !strings.HasSuffix(got, " 300 A 192.0.2.80") {
				t.Error(got)
			}
		})
	}
	await(t, "40 queries wait", func() bool {
		return fixtures[0].endpoint.waiting.Load()+fixtures[1].endpoint.waiting.Load() == 40 || f.asked.Load() > 1
	})
	close(release)
	clients.Wait()
	if n := f.asked.Load(); n != 1 {
		t.Errorf("upstream was asked %d times", n)
	}
}

// await waits for a condition, for at most 5 s.
func await(t testing.TB, what string, f func() bool) {
	t.Helper()
	for range 500 {
		if f() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("not so after 5 s: ", what)
}

// TestLater has more queries than an endpoint may have under way: those wait for their
// turn, and are answered. Local names and other endpoints do not wait.
func TestLater(t *testing.T) {
	t.Parallel()
	ctx, answer := context.WithCancel(t.Context())
	f := upstreamServer(t, func(w mdns.ResponseWriter, q *mdns.Msg) {
		if q.Question[0].Name != "example.com." {
			<-ctx.Done()
		}
		records(example)(w, q)
	})
	s := NewServer(Config{})
	s.SetUpstream(upstreamOf(f))
	busy, other := serve(t, s, View{Names: table().View("web")}), serve(t, s, View{})
	const more = 100
	answers := make(chan string, maxFlights+more)
	for i := range maxFlights + more {
		go func() { answers <- busy.exchange("udp", fmt.Sprintf("n%d.example A", i)) }()
		if i%50 == 0 { // the socket's buffer is small
			await(t, "all wait", func() bool { return s.Stats().Waiting == i+1 })
		}
	}
	await(t, "all wait", func() bool { return s.Stats().Waiting == maxFlights+more })
	if n := s.Stats().UnderWay; n != maxFlights {
		t.Errorf("%d are under way", n)
	}
	for r, question := range map[*fixture]string{busy: "one A", other: "example.com A"} {
		if got := r.exchange("udp", question); !strings.HasPrefix(got, "NOERROR") {
			t.Errorf("%s: %s", question, got)
		}
	}
	answer()
	for range maxFlights + more {
		if got := <-answers; !strings.HasPrefix(got, "NOERROR") {
			t.Fatal(got)
		}
	}
	await(t, "nothing waits", func() bool { return s.Stats().Waiting == 0 && busy.endpoint.waiting.Load() == 0 })
}

// TestCrowd has as many queries under way as a server may have, of a few endpoints
// whose servers are silent. Other endpoints still get answers.
func TestCrowd(t *testing.T) {
	t.Parallel()
	s := NewServer(Config{})
	s.SetUpstream(upstreamOf(upstreamServer(t, records(example))))
	dead := upstreamOf(upstreamServer(t, silent))
	for i := range maxAllFlights / maxFlights {
		conn, err := net.Dial("udp", serve(t, s, View{Own: dead}).address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for j := 0; s.Stats().UnderWay < (i+1)*maxFlights && j < 10*maxFlights; j++ {
			if _, err := conn.Write(mustPack(ask(fmt.Sprintf("n%d-%d.example A", i, j)))); err != nil {
				t.Fatal(err)
			}
			if j%20 == 0 {
				time.Sleep(time.Millisecond) // the socket's buffer is small
			}
		}
	}
	if n := s.Stats().UnderWay; n != maxAllFlights {
		t.Fatalf("%d queries are under way, want %d", n, maxAllFlights)
	}
	for _, question := range []string{"example.com A", "example.com A cookie"} {
		got := serve(t, s, View{}).exchange("udp", question)
		if !strings.Contains(got, "example.com. 300 A 192.0.2.80") {
			t.Errorf("%s: %s", question, got)
		}
	}
}

// TestHungTCP has a container's own server truncate its answers and then hang over
// TCP, for as many queries as may use TCP at a time. Truncated answers of other
// servers are fetched over TCP without delay.
func TestHungTCP(t *testing.T) {
	t.Parallel()
	truncated := func(hangs bool) respond {
		return func(w mdns.ResponseWriter, q *mdns.Msg) {
			m := recordsFor(q, example)
			if w.LocalAddr().Network() == "udp" {
				m.Answer, m.Truncated = nil, true
			} else if hangs {
				return
			}
			_ = w.WriteMsg(m)
		}
	}
	s := NewServer(Config{})
	s.SetUpstream(upstreamOf(upstreamServer(t, truncated(false))))
	hung := upstreamServer(t, truncated(true))
	bad := serve(t, s, View{Own: upstreamOf(hung)})
	for i := range maxUpstreamTCP {
		go bad.exchange("udp", fmt.Sprintf("n%d.example A", i))
	}
	await(t, "all hang", func() bool { return hung.asked.Load() >= 2*maxUpstreamTCP })
	start := time.Now()
	got := serve(t, s, View{}).exchange("udp", "example.com A")
	if got != "NOERROR rd ra; example.com. 300 A 192.0.2.80" || time.Since(start) > time.Second {
		t.Errorf("%s after %v", got, time.Since(start))
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	for _, d := range []time.Duration{0, time.Millisecond, time.Millisecond + 1, 2048 * time.Millisecond, time.Hour} {
		h.observe(d)
	}
	var got []uint64
	for i := range h.counts {
		got = append(got, h.counts[i].Load())
	}
	if want := []uint64{2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
