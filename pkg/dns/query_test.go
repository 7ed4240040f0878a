package dns

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

// message is a query: a header of one question, the question's name in wire form, type
// and class, and what follows.
func message(name string, more ...byte) []byte {
	b := append([]byte{0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, name...)
	return append(append(b, 0, 1, 0, 1), more...)
}

// opt is an OPT record: its owner, type, size of datagrams, extended code, version, flags,
// and its options behind their length.
func opt(options ...byte) []byte {
	return append([]byte{0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, byte(len(options))}, options...)
}

func changed(b []byte, at int, to byte) []byte {
	b = bytes.Clone(b)
	b[at] = to
	return b
}

// TestOrdinary has queries that are answered in place, and some that are left to
// miekg/dns. A number behind the name is the type, 512 or 4096 the size of datagrams.
func TestOrdinary(t *testing.T) {
	plain := message("\x03one\x00")
	edns := changed(message("\x03one\x00", opt()...), 11, 1)
	end := len(plain)
	long := func(last int) string {
		return strings.Repeat("\x3f"+strings.Repeat("a", 63), 3) + string(rune(last)) + strings.Repeat("b", last) + "\x00"
	}
	for name, c := range map[string]struct {
		query []byte
		want  string
	}{
		"plain":            {plain, "one 1 512"},
		"a type":           {changed(plain, end-3, 33), "one 33 512"},
		"the root":         {message("\x00"), " 1 512"},
		"RD, AD and CD":    {changed(changed(plain, 2, 1), 3, 0x30), "one 1 512"},
		"no RD":            {changed(plain, 2, 0), "one 1 512"},
		"an answer":        {changed(plain, 2, 0x81), ""},
		"another opcode":   {changed(plain, 2, 0x21), ""},
		"AA":               {changed(plain, 2, 5), ""},
		"TC":               {changed(plain, 2, 3), ""},
		"RA":               {changed(plain, 3, 0x80), ""},
		"a reserved bit":   {changed(plain, 3, 0x40), ""},
		"a response code":  {changed(plain, 3, 1), ""},
		"no question":      {changed(plain, 5, 0), ""},
		"two questions":    {changed(plain, 5, 2), ""},
		"256 more":         {changed(plain, 4, 1), ""},
		"an answer record": {changed(plain, 7, 1), ""},
		"an authority":     {changed(plain, 9, 1), ""},
		"no OPT":           {changed(plain, 11, 1), ""},
		"two records":      {changed(edns, 11, 2), ""},
		"uncounted OPT":    {changed(edns, 11, 0), ""},
		"class CH":         {changed(plain, end-1, 3), ""},
		"class 257":        {changed(plain, end-2, 1), ""},
		"trailing":         {append(bytes.Clone(plain), 0), ""},

		"letters":             {message("\x08A@Z[a`z{\x00"), "a@z[a`z{ 1 512"},
		"two labels":          {message("\x03One\x03WEB\x00"), "one.web 1 512"},
		"a dot in a label":    {message("\x03o.e\x00"), ""},
		"a pointer":           {message("\xc0\x0c"), ""},
		"64 letters":          {message("\x40" + strings.Repeat("a", 64) + "\x00"), ""},
		"63 letters":          {message("\x3f" + strings.Repeat("a", 63) + "\x00"), strings.Repeat("a", 63) + " 1 512"},
		"name of 255":         {message(long(61)), strings.Repeat(strings.Repeat("a", 63)+".", 3) + strings.Repeat("b", 61) + " 1 512"},
		"name of 256":         {message(long(62)), ""},
		"longer than message": {plain[:14], ""},

		"EDNS":               {edns, "one 1 4096 edns"},
		"DO":                 {changed(edns, end+7, 0x80), "one 1 4096 edns do"},
		"a small size":       {changed(edns, end+3, 1), "one 1 512 edns"},
		"options":            {changed(message("\x03one\x00", opt(0, 10, 0, 0)...), 11, 1), "one 1 4096 edns options"},
		"owner of the OPT":   {changed(edns, end, 1), ""},
		"TSIG":               {changed(edns, end+2, 250), ""},
		"type 297":           {changed(edns, end+1, 1), ""},
		"extended code":      {changed(edns, end+5, 1), ""},
		"EDNS 1":             {changed(edns, end+6, 1), ""},
		"options are cut":    {changed(edns, end+10, 1), ""},
		"more than options":  {append(bytes.Clone(edns), 0), ""},
		"OPT and a half":     {changed(message("\x03one\x00", append(opt(), 0, 0)...), 11, 1), ""},
		"OPT without length": {edns[:len(edns)-1], ""},
	} {
		var q query
		got := ""
		if q.parse(c.query) {
			got = fmt.Sprintf("%s %d %d", q.name, q.qtype, q.size)
			for _, f := range []struct {
				name string
				set  bool
			}{{" edns", q.edns}, {" do", q.do}, {" options", q.options}} {
				if f.set {
					got += f.name
				}
			}
		}
		if got != c.want {
			t.Errorf("%s: %x is read as %q, want %q", name, c.query, got, c.want)
		}
	}
	for n := range edns {
		if q := new(query); q.parse(edns[:n]) {
			t.Errorf("the first %d bytes of %x are a query", n, edns)
		}
	}
}

// TestQueryForgets: nothing stays of the query before.
func TestQueryForgets(t *testing.T) {
	var q query
	if !q.parse(changed(message("\x03one\x00", append(opt(0, 10, 0, 0), 0)[:15]...), 11, 1)) || !q.options {
		t.Fatal("options were not read")
	}
	if !q.parse(message("\x01a\x00")) || q.edns || q.do || q.options || q.size != minUDP {
		t.Errorf("%+v", q)
	}
}

func TestDerived(t *testing.T) {
	for name, want := range map[string]bool{
		"one A": false, "one SRV": true, "one PTR": true, "1.in-addr.arpa A": true, "x.ip6.arpa. TXT": true, "arpa A": false,
		"_80._tcp.one A": true, "80.tcp.one A": true, "80.udp.one A": true, "_9._sctp.one A": true,
		"tcp.one A": false, "80.tcp A": false, "80.icmp.one A": false, "80.__tcp.one A": false, "a.b.c A": false, ". NS": false,
	} {
		var q query
		if !q.parse(mustPack(ask(name))) {
			t.Fatal(name)
		}
		if got := q.derived(); got != want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestParseReverse(t *testing.T) {
	six := "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.1.2.3.4.ip6.arpa"
	for name, want := range map[string]string{
		"2.0.1.10.in-addr.arpa": "10.1.0.2/32", "0.1.10.in-addr.arpa": "10.1.0.0/24", "10.in-addr.arpa": "10.0.0.0/8",
		"1.2.0.1.10.in-addr.arpa": "10.1.0.2/32 and more", "256.0.1.10.in-addr.arpa": "10.1.0.0/24 and more", "a.0.1.10.in-addr.arpa": "10.1.0.0/24 and more",
		"02.0.1.10.in-addr.arpa": "10.1.0.0/24 and more", "+2.0.1.10.in-addr.arpa": "10.1.0.0/24 and more", ".1.10.in-addr.arpa": "10.1.0.0/16 and more",
		"1::.in-addr.arpa": "", "::1.in-addr.arpa": "", "in-addr.arpa": "", ".in-addr.arpa": "", "x.in-addr.arpa": "", "2.0.1.10": "",
		six: "4321:0:1:2:3:4:567:89ab/128", six[2:]: "4321:0:1:2:3:4:567:89a0/124", six[4:]: "4321:0:1:2:3:4:567:8900/120", "0." + six: "4321:0:1:2:3:4:567:89ab/128 and more",
		"fe80::1%" + strings.Repeat("x", 55) + ".ip6.arpa": "", strings.Replace(six, "b", "g", 1): "4321:0:1:2:3:4:567:89a0/124 and more",
		strings.Replace(six, "b.a.9", "bca.9", 1): "4321:0:1:2:3:4:567:8900/120 and more", "ip6.arpa": "",
		"2.0.0.0.1.0.a.0.f.f.f.f" + strings.Repeat(".0", 20) + ".ip6.arpa": "10.1.0.2/32",
	} {
		got := ""
		if p, rest, ok := parseReverse(name); ok {
			got = p.String()
			if rest {
				got += " and more"
			}
		}
		if got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// TestServiceNames: what is a service's name has no other records, without underscores
// only if it begins with a port or SRV is asked for.
func TestServiceNames(t *testing.T) {
	e := bare(View{Names: table().View("web")})
	for question, want := range map[string]string{
		"_nosuch.tcp.two TXT": "SERVFAIL rd ra", "nosuch._tcp.two TXT": "SERVFAIL rd ra", "_nosuch._tcp.two TXT": "NOERROR rd ra",
		"nosuch.tcp.two SRV": "NOERROR rd ra", "80.tcp.two TXT": "NOERROR rd ra", "0.tcp.two TXT": "SERVFAIL rd ra", "_80._tcp.two PTR": "NOERROR rd ra",
	} {
		if got := show(read(t, direct(e, mustPack(ask(question)), false))); got != want {
			t.Errorf("%s: %s, want %s", question, got, want)
		}
	}
	for _, question := range []string{"_80._tcp.two SRV", "2.0.1.10.in-addr.arpa PTR", "_80._tcp.two ANY", "2.0.1.10.in-addr.arpa ANY"} {
		m := ask(question)
		m.Question[0].Qclass = mdns.ClassCHAOS
		if got := show(read(t, direct(e, mustPack(m), false))); got != "NOERROR rd ra" {
			t.Errorf("%s of class CH: %s", question, got)
		}
	}
}

// TestFormErr: of a message that can't be read comes back its ID alone.
func TestFormErr(t *testing.T) {
	e := bare(View{})
	b := message("\xc0\x0c") // a pointer to itself
	copy(b[6:], []byte{0, 1, 0, 2, 0, 3})
	if got, want := direct(e, b, false), []byte{0, 7, 0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0}; !bytes.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
}

// TestSameQuestion: letters are the same in either case, and nothing else is.
func TestSameQuestion(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"one", "ONE", true}, {"azAZ", "AZaz", true}, {"one", "onf", false},
		{"@", "`", false}, {"[", "{", false}, {"0", "P", false}, {"a", "!", false},
	} {
		if got := sameQuestion([]byte(c.a), []byte(c.b)); got != c.want {
			t.Errorf("%q and %q: %t", c.a, c.b, got)
		}
	}
}

// TestFailed: names that are there, and those that are not, are no failures.
func TestFailed(t *testing.T) {
	for code := range 16 {
		answer := []byte{0, 0, 0x81, 0x80 | byte(code)}
		if got := failed(answer); got != (code != mdns.RcodeSuccess && code != mdns.RcodeNameError) {
			t.Errorf("code %d: %t", code, got)
		}
	}
}

// TestBurstsOfPort has clients of one port on several hosts.
func TestBurstsOfPort(t *testing.T) {
	to := func(last byte) *net.UDPAddr { return &net.UDPAddr{IP: net.IPv4(127, 0, 0, last), Port: 1000} }
	one := func(last byte, size int) outgoing { return outgoing{to(last), make([]byte, size)} }
	for want, replies := range map[int][]outgoing{
		1: {one(1, 50), one(2, 50), one(1, 50)},
		2: {one(1, 50), one(1, 50), one(2, 50)},
		3: {one(1, 50), one(1, 50), one(1, 40)},
	} {
		if got := burst(replies); got != want {
			t.Errorf("a burst of %d, want %d", got, want)
		}
	}
}

// TestCacheFull: an entry of the size of a part is kept, a larger one is not.
func TestCacheFull(t *testing.T) {
	e := &entry{msg: make([]byte, 100), life: time.Hour}
	for less, want := range map[int]bool{0: true, 1: false} {
		c := newCache(cacheParts * (cost("key", e) - less))
		c.put("key", e, 0)
		if got := c.get([]byte("key"), 0) != nil; got != want {
			t.Errorf("%d bytes too large: kept %t", less, got)
		}
	}
}

// TestUpstreamCounted: each answer of an upstream is in one bucket, with its time.
func TestUpstreamCounted(t *testing.T) {
	f := upstreamServer(t, func(w mdns.ResponseWriter, q *mdns.Msg) {
		time.Sleep(time.Millisecond)
		records("a.example. 300 IN A 192.0.2.1")(w, q)
	})
	s := NewServer(Config{})
	s.SetUpstream(upstreamOf(f))
	r := serve(t, s, View{})
	for range 3 {
		r.exchange("udp", "a.example A") // twice from the cache
	}
	got := s.Stats()
	var n uint64
	for _, in := range got.Latency {
		n += in
	}
	if n != 1 || got.LatencySum < time.Millisecond {
		t.Errorf("%d answers in %v, want 1 that took a millisecond", n, got.LatencySum)
	}
}
