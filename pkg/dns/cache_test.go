package dns

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

// TestLife has how long answers are kept.
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

// TestAging has answers come from the cache with what is left of their TTL,
// and from upstream again when it is over.
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

// TestCacheBound puts far more into a cache than it may hold. What is used all
// the time should stay.
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

// TestNothingAllocated is about what is asked most: local names, and names that
// were asked before.
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
		c := client{endpoint: r.endpoint}
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
			c := client{endpoint: r.endpoint}
			for b.Loop() {
				w.answer(buffer, copy(buffer, query), c, time.Second)
			}
		})
	}
}
