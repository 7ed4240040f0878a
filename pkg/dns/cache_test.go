package dns

import (
	"fmt"
	"hash/maphash"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

// TestLife tests how long answers are kept.
func TestLife(t *testing.T) {
	soa := func(ttl, minimum int) string {
		return fmt.Sprintf("\n; authority\nexample. %d IN SOA ns.example. root.example. 1 2 3 4 %d\n", ttl, minimum)
	}
	for _, c := range []struct {
		name, text string
		rcode      int
		want       time.Duration
	}{
		{"one record", "a.example. 300 IN A 192.0.2.1", 0, 300 * time.Second},
		{"the least", "a.example. 300 IN A 192.0.2.1\na.example. 5 IN A 192.0.2.2", 0, 5 * time.Second},
		{"of the chain", "a.example. 7 IN CNAME b.example.\nb.example. 300 IN A 192.0.2.2", 0, 7 * time.Second},
		{"TTL 0", "a.example. 0 IN A 192.0.2.1", 0, 0},
		{"a year", "a.example. 31536000 IN A 192.0.2.1", 0, maxLife},
		{"negative number", "a.example. 4294967295 IN A 192.0.2.1", 0, 0},
		{"no data", soa(900, 60), 0, 60 * time.Second},
		{"no data, TTL", soa(30, 60), 0, 30 * time.Second},
		{"no name", soa(900, 60), mdns.RcodeNameError, 60 * time.Second},
		{"no name, a year", soa(31536000, 31536000), mdns.RcodeNameError, maxNegative},
		{"no name, no SOA", "", mdns.RcodeNameError, 0},
		{"no data, no SOA", "", 0, 0},
		{"chain to nothing", "a.example. 7 IN CNAME b.example." + soa(900, 60), 0, 7 * time.Second},
		{"chain to no name", "a.example. 700 IN CNAME b.example." + soa(900, 60), mdns.RcodeNameError, 60 * time.Second},
		{"failure", "", mdns.RcodeServerFailure, failureLife},
		{"refused", "", mdns.RcodeRefused, 0},
		{"not implemented", soa(900, 60), mdns.RcodeNotImplemented, 0},
	} {
		m := recordsFor(ask("a.example A"), c.text)
		m.Rcode = c.rcode
		if got := life(m, mdns.TypeA); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	m := recordsFor(ask("a.example A"), "a.example. 300 IN A 192.0.2.1")
	m.Truncated = true
	if got := life(m, mdns.TypeA); got != 0 {
		t.Errorf("truncated: %v", got)
	}
}

// TestAging asks at several times: answers come from the cache with the rest of
// their TTL, and from upstream once that is over.
func TestAging(t *testing.T) {
	f := upstreamServer(t, func(w mdns.ResponseWriter, q *mdns.Msg) {
		if q.Question[0].Name == "example.com." {
			records(example+"\nexample.com. 9999 IN A 192.0.2.81")(w, q)
			return
		}
		m := recordsFor(q, "; authority\nexample. 900 IN SOA ns.example. root.example. 1 2 3 4 60")
		m.Rcode = mdns.RcodeNameError
		_ = w.WriteMsg(m)
	})
	s := NewServer(Config{})
	s.SetUpstream(upstreamOf(f))
	var now time.Duration
	var mu sync.Mutex // the clock is read by several goroutines
	s.now = func() time.Duration { mu.Lock(); defer mu.Unlock(); return now }
	r := serve(t, s, View{})
	negative := func(ttl int) string {
		return fmt.Sprintf("NXDOMAIN rd ra; authority example. %d SOA ns.example. root.example. 1 2 3 4 60", ttl)
	}
	for _, c := range []struct {
		at             time.Duration
		question, want string
		asked          int32
	}{
		{0, "example.com A", "NOERROR rd ra; example.com. 300 A 192.0.2.80; example.com. 9999 A 192.0.2.81", 1},
		{0, "no.example A", negative(900), 2},
		{59 * time.Second, "no.example A", negative(841), 2},
		{59999 * time.Millisecond, "example.com A", "NOERROR rd ra; example.com. 241 A 192.0.2.80; example.com. 9940 A 192.0.2.81", 2},
		{60 * time.Second, "no.example A", negative(900), 3},
		{60 * time.Second, "no.example AAAA", negative(900), 4},
		{299 * time.Second, "example.com A", "NOERROR rd ra; example.com. 1 A 192.0.2.80; example.com. 9700 A 192.0.2.81", 4},
		{299 * time.Second, "example.com A cd", "NOERROR rd ra cd; example.com. 300 A 192.0.2.80; example.com. 9999 A 192.0.2.81", 5},
		{300 * time.Second, "example.com A", "NOERROR rd ra; example.com. 300 A 192.0.2.80; example.com. 9999 A 192.0.2.81", 6},
	} {
		mu.Lock()
		now = c.at
		mu.Unlock()
		if got := r.exchange("udp", c.question); got != c.want || f.asked.Load() != c.asked {
			t.Errorf("%v %s: %s\nwant %s; asked %d times, want %d", c.at, c.question, got, c.want, f.asked.Load(), c.asked)
		}
	}
	s.SetUpstream(upstreamOf(f)) // new servers may know better
	if r.exchange("udp", "example.com A"); f.asked.Load() != 7 {
		t.Error("an answer outlived its upstream")
	}
}

// TestCacheBound puts far more into a cache than it may hold. An entry that is used
// all the time should stay.
func TestCacheBound(t *testing.T) {
	const bytes = 256 << 10
	c := newCache(bytes)
	add := func(name string) {
		m := recordsFor(ask(name+" TXT"), name+". 300 IN TXT \""+strings.Repeat("x", 100)+"\"")
		c.put(name, newEntry(m, &form{qtype: mdns.TypeTXT, end: headerSize + len(name) + 2 + 4}, 0), 0)
	}
	add("popular.example")
	for i := range 20000 {
		add(fmt.Sprintf("n%d.example", i))
		c.get([]byte("popular.example"), 0)
	}
	size, entries := 0, 0
	for i := range c.parts {
		counted := 0
		for key, e := range c.parts[i].entries {
			counted += cost(key, e)
			entries++
		}
		if counted != c.parts[i].size {
			t.Errorf("part %d has %d bytes and thinks %d", i, counted, c.parts[i].size)
		}
		size += counted
	}
	if size > bytes || size < bytes/2 || entries == 0 {
		t.Errorf("%d entries of %d bytes in a cache of %d", entries, size, bytes)
	}
	if c.get([]byte("popular.example"), 0) == nil {
		t.Error("what is asked all the time was dropped")
	}
	c.put("huge", &entry{msg: make([]byte, bytes), life: time.Hour}, 0)
	if c.get([]byte("huge"), 0) != nil {
		t.Error("an entry of the cache's size was kept")
	}
	c.put("dated", &entry{msg: make([]byte, 100), life: time.Second}, 0)
	if c.get([]byte("dated"), time.Second) != nil {
		t.Error("an entry outlived its time")
	}
}

// TestNothingAllocated answers the most frequent queries: for local names, and for
// names in the cache.
func TestNothingAllocated(t *testing.T) {
	f := upstreamServer(t, records(example))
	s := NewServer(Config{})
	s.SetUpstream(upstreamOf(f))
	r := serve(t, s, View{Names: table().View("web")})
	r.exchange("udp", "example.com A do")
	for _, question := range []string{"db A", "one.web AAAA do", "many A edns=4096", "one MX", "example.com A do"} {
		query, _ := ask(question).Pack()
		var w scratch
		b := make([]byte, maxUDP)
		c := client{endpoint: r.endpoint, at: r.endpoint}
		n := testing.AllocsPerRun(100, func() {
			if w.answer(b, copy(b, query), c, time.Second) == 0 {
				t.Error("no answer")
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", question, n)
		}
	}
}

func BenchmarkAnswer(b *testing.B) {
	f := upstreamServer(b, records(example))
	s := NewServer(Config{})
	s.SetUpstream(upstreamOf(f))
	r := serve(b, s, View{Names: table().View("web")})
	r.exchange("udp", "example.com A")
	for _, question := range []string{"one A", "db.web AAAA", "example.com A"} {
		b.Run(strings.ReplaceAll(question, " ", "-"), func(b *testing.B) {
			query, _ := ask(question).Pack()
			var w scratch
			buffer := make([]byte, maxUDP)
			c := client{endpoint: r.endpoint, at: r.endpoint}
			for b.Loop() {
				w.answer(buffer, copy(buffer, query), c, time.Second)
			}
		})
	}
}

// sizes returns what the cache's entries take, counted and as it keeps it.
func (c *cache) sizes() (counted, kept int) {
	for i := range c.parts {
		kept += c.parts[i].size
		for key, e := range c.parts[i].entries {
			counted += cost(key, e)
		}
	}
	return counted, kept
}

// TestCacheReplaces has a new answer take the place of an old one, and its size.
func TestCacheReplaces(t *testing.T) {
	c := newCache(1 << 20)
	for _, size := range []int{100, 1000, 10, 500} {
		c.put("a", &entry{msg: make([]byte, size), life: time.Hour}, 0)
		if counted, kept := c.sizes(); counted != kept {
			t.Errorf("%d bytes after %d were put: the cache counts %d", counted, size, kept)
		}
		if e := c.get([]byte("a"), 0); e == nil || len(e.msg) != size {
			t.Errorf("%+v: must have %d bytes", e, size)
		}
	}
}

// TestCacheSpares has which entry makes room for a new one: what is over before
// what was asked for again, and never the new one.
func TestCacheSpares(t *testing.T) {
	for range 20 { // the entries are met in any order
		const now = time.Minute
		c := newCache(cacheParts * 1200) // three entries each
		inOnePart := func() string {     // returns another key each time
			for i := 0; ; i++ {
				key := fmt.Sprint(i)
				p := &c.parts[maphash.String(c.seed, key)%cacheParts]
				if p == &c.parts[0] && p.entries[key] == nil {
					return key
				}
			}
		}
		var keys []string
		for _, life := range []time.Duration{now, time.Hour, time.Hour} {
			key := inOnePart()
			keys = append(keys, key)
			c.put(key, &entry{msg: make([]byte, 100), life: life}, 0)
			c.get([]byte(key), 0)
		}
		dated, used, again := keys[0], keys[1], keys[2]
		one := inOnePart()
		c.put(one, &entry{msg: make([]byte, 100), life: time.Hour}, now)
		for key, want := range map[string]bool{dated: false, used: true, again: true, one: true} {
			if (c.parts[0].entries[key] != nil) != want {
				t.Fatalf("dated, two used and new %q: %s is there: must be %t", append(keys, one), key, want)
			}
		}
	}
}

// TestCacheOfUsed has room made where every entry was asked for again.
func TestCacheOfUsed(t *testing.T) {
	c := newCache(cacheParts * 1000)
	for i := range 1000 {
		key := fmt.Sprint(i)
		c.put(key, &entry{msg: make([]byte, 100), life: time.Hour}, 0)
		if c.get([]byte(key), 0) == nil {
			t.Fatalf("%s was not kept", key)
		}
	}
	if counted, kept := c.sizes(); counted != kept || counted > cacheParts*1000 {
		t.Errorf("%d bytes of %d, and the cache counts %d", counted, cacheParts*1000, kept)
	}
}

// TestTimesEnd has a TTL that is less than an answer's age shown as 0.
func TestTimesEnd(t *testing.T) {
	m := recordsFor(ask("a.example A"), "a.example. 300 IN A 192.0.2.1\n; authority\nexample. 5 IN NS ns.example.")
	var q query
	packed := mustPack(ask("a.example A"))
	if !q.parse(packed) {
		t.Fatal("not parsed")
	}
	e := newEntry(m, &q.form, 0)
	b := make([]byte, maxUDP)
	n := e.reply(b, &q.form, copy(b, packed)+1000, 10*time.Second)
	const want = "NOERROR rd ra; a.example. 290 A 192.0.2.1; authority example. 0 NS ns.example."
	if got := show(read(t, b[:n])); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

// TestReplyFits has answers from the cache within each limit, and marked as cut if
// one of their answers or authorities is missing.
func TestReplyFits(t *testing.T) {
	var text strings.Builder
	for _, section := range []string{"", "; authority", "; additional"} {
		fmt.Fprintln(&text, section)
		for i := range 10 {
			fmt.Fprintf(&text, "example. 300 IN TXT \"%s%d\"\n", strings.Repeat("x", 50), i)
		}
	}
	for _, question := range []string{"example TXT", "example TXT do"} {
		var q query
		packed := mustPack(ask(question))
		if !q.parse(packed) {
			t.Fatal("not parsed")
		}
		e := newEntry(recordsFor(ask(question), text.String()), &q.form, 0)
		for limit := minUDP; limit < 2100; limit += 3 {
			b := make([]byte, maxUDP)
			copy(b, packed)
			n := e.reply(b, &q.form, limit, 0)
			m := read(t, b[:n])
			if n > limit {
				t.Errorf("%s: %d bytes, limit %d", question, n, limit)
			}
			for i, section := range [][]mdns.RR{m.Answer, m.Ns, m.Extra} {
				if said := int(be.Uint16(b[6+2*i:])); said != len(section) {
					t.Errorf("%s, limit %d: section %d has %d records, and the header says %d", question, limit, i, len(section), said)
				}
			}
			if missing := len(m.Answer)+len(m.Ns) < 20; m.Truncated != missing {
				t.Errorf("%s, limit %d: truncated is %t; %d answers, %d authorities", question, limit, m.Truncated, len(m.Answer), len(m.Ns))
			}
		}
	}
}

// TestExtendedCode has an answer whose code needs an OPT record, which is not kept.
func TestExtendedCode(t *testing.T) {
	m := recordsFor(ask("a.example A"), "")
	m.SetEdns0(1232, false)
	m.Rcode = mdns.RcodeBadCookie
	q := mustPack(ask("a.example A"))
	if e := newEntry(m, &form{qtype: mdns.TypeA, end: len(q)}, 0); e == nil || e.flags != rcodeServFail {
		t.Errorf("%+v: must be SERVFAIL", e)
	}
}

// TestKeys has queries share an answer only if everything that may change it is
// the same.
func TestKeys(t *testing.T) {
	seen := map[string]string{}
	one, other := play(nil).Upstream, play(nil).Upstream
	for _, name := range []string{"a.example", "b.example", ""} {
		for _, qtype := range []string{" A", " AAAA", " TXT"} {
			for _, flags := range []string{"", " norec", " ad", " cd", " ad cd", " norec ad cd", " edns=1232", " do", " do ad", " do cd", " do norec"} {
				for which, u := range []*Upstream{one, other} {
					text := name + "." + qtype + flags
					b := mustPack(ask(text))
					var q query
					if !q.parse(b) {
						t.Fatal(text)
					}
					text = fmt.Sprint(text, " of ", which)
					key := string(q.key(nil, u))
					if same := seen[key]; same != "" {
						t.Errorf("%s and %s have one key", same, text)
					}
					seen[key] = text
				}
			}
		}
	}
}

// TestQueriesDropped has more queries wait than an endpoint may have, or a server: they
// do not count as waiting, and get no answer. An endpoint with less than its share is not
// affected by those of others.
func TestQueriesDropped(t *testing.T) {
	e := bare(View{})
	s, c := e.server, client{endpoint: e, at: e, stream: &stream{endpoint: e}}
	for _, n := range []struct {
		own, all, clients int32
		want              bool
	}{
		{maxWaiting, maxWaiting, 1, false}, {maxWaiting - 1, 0, 1, true},
		{fewWaiting, maxAllWaiting, 1 << 20, false}, {fewWaiting - 1, maxAllWaiting, 1 << 20, true},
		{1023, maxAllWaiting, 16, true}, {1024, maxAllWaiting, 16, false}, {1024, maxAllWaiting - 1, 16, true},
	} {
		e.waiting.Store(n.own)
		s.stats.waiting.Store(n.all)
		s.stats.clients.Store(n.clients)
		got := c.take()
		if got {
			c.release()
		}
		if got != n.want || e.waiting.Load() != n.own || s.stats.waiting.Load() != n.all {
			t.Errorf("%+v: %v, then %d and %d wait", n, got, e.waiting.Load(), s.stats.waiting.Load())
		}
	}
	e.waiting.Store(0)
	s.stats.clients.Store(0)
	for range 2 {
		if !c.take() || s.stats.clients.Load() != 1 {
			t.Errorf("%d endpoints have queries that wait", s.stats.clients.Load())
		}
		c.release()
	}
	if s.stats.clients.Load() != 0 {
		t.Errorf("%d endpoints have queries that wait", s.stats.clients.Load())
	}
	e.waiting.Store(maxWaiting)
	if s.join([]byte("key"), nil, c, &form{}, nil) || s.pass(nil, c, ask("a.example A")) {
		t.Error("a query more waits")
	}
	e.pending.Wait() // or it hangs
	c.stream.pending.Wait()
}

// TestLoopbackIsACache has a server on a loopback address, which knows before we do
// what changed: its answers, negative ones too, are kept for a second at most.
func TestLoopbackIsACache(t *testing.T) {
	for server, want := range map[string]time.Duration{
		"127.0.0.53:53": time.Second, "[::1]:53": time.Second, "[::ffff:127.0.0.1]:53": time.Second, "192.0.2.1:53": maxLife,
	} {
		if u := NewUpstream([]netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:53"), netip.MustParseAddrPort(server)}, nil); u.longest != want {
			t.Errorf("%s: answers are kept for %v, want %v", server, u.longest, want)
		}
	}
	f := upstreamServer(t, records(example))
	s := NewServer(Config{})
	s.SetUpstream(NewUpstream([]netip.AddrPort{f.address}, nil))
	var now atomic.Int64
	s.now = func() time.Duration { return time.Duration(now.Load()) }
	r := serve(t, s, View{})
	for i, at := range []time.Duration{0, time.Second - 1, time.Second} {
		now.Store(int64(at))
		r.exchange("udp", "example.com A")
		if got, want := f.asked.Load(), int32(1+i/2); got != want {
			t.Errorf("at %v: asked %d times, want %d", at, got, want)
		}
	}
}

// TestForget drops what is kept, and what was asked before.
func TestForget(t *testing.T) {
	var s *Server
	f := upstreamServer(t, func(w mdns.ResponseWriter, q *mdns.Msg) {
		if s.Stats().Answers[Forwarded] == 0 {
			s.Forget() // while the first answer is under way
		}
		records(example)(w, q)
	})
	s = NewServer(Config{})
	s.SetUpstream(upstreamOf(f))
	r := serve(t, s, View{})
	for i, want := range []int32{1, 2, 2} {
		r.exchange("udp", "example.com A")
		if got := f.asked.Load(); got != want {
			t.Errorf("query %d: asked %d times, want %d", i, got, want)
		}
	}
	s.Forget()
	if r.exchange("udp", "example.com A"); f.asked.Load() != 3 {
		t.Error("an answer was kept")
	}
}
