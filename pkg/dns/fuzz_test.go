package dns

import (
	"bytes"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

// FuzzQuery answers any bytes as a query.
func FuzzQuery(f *testing.F) {
	for _, question := range []string{
		"one A", "db.WEB AAAA do", "many A edns=4096", "one ANY", "2.0.1.10.in-addr.arpa PTR", "_80._tcp.two SRV",
		"example.com A", "example.com TXT cookie", ". NS", "one AXFR", `a\.b A`, `\000 A`,
	} {
		b, _ := ask(question).Pack()
		f.Add(b, false)
		f.Add(b, true)
	}
	// Options of an EDNS record that can't be read.
	f.Add([]byte("00\x010\x00\x01\x00\x00\x00\x00\x00\x01\x0000\x00\x01\x00\x00)00\x00\x0000\x00\b00000000"), false)
	e := bare(View{Names: table().View("web")})
	f.Fuzz(func(t *testing.T, b []byte, tcp bool) {
		if len(b) > maxUDP {
			return // does not fit into the buffer for queries
		}
		answer := direct(e, b, tcp)
		var q query
		ordinary := q.parse(b) && !q.options
		switch {
		case answer != nil && ordinary:
			checkAnswer(t, b, answer, &q)
			if !tcp && len(answer) > q.datagram() {
				t.Fatalf("query %x: answer of %d bytes", b, len(answer))
			}
		case answer != nil:
			checkAnswer(t, b, answer, nil)
		case ordinary:
			t.Fatalf("no answer to an ordinary query %x", b)
		}
	})
}

// checkAnswer checks that an answer is well-formed and belongs to the query, and has
// its question if that was an ordinary query.
func checkAnswer(t *testing.T, asked, answer []byte, q *query) {
	m := new(mdns.Msg)
	if err := m.Unpack(answer); err != nil {
		t.Fatalf("query %x: answer %x: %v", asked, answer, err)
	}
	if !m.Response || !bytes.Equal(answer[:2], asked[:2]) {
		t.Fatalf("query %x: %x is no answer to it", asked, answer)
	}
	if q != nil && !bytes.HasPrefix(answer[headerSize:], asked[headerSize:q.end]) {
		t.Fatalf("query %x: answer %x lacks the question", asked, answer)
	}
}

// FuzzParse compares query.parse with miekg/dns.
func FuzzParse(f *testing.F) {
	for _, question := range []string{"one A", "db.WEB AAAA do", "example.com TXT cookie", ". NS cd ad", "norec A norec"} {
		b, _ := ask(question).Pack()
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var q query
		if !q.parse(b) {
			return
		}
		m := new(mdns.Msg)
		if err := m.Unpack(b); err != nil {
			if !q.options {
				t.Fatalf("%x: miekg/dns says %v", b, err)
			}
			return // query.parse skips options
		}
		opt := m.IsEdns0()
		if len(m.Question) != 1 || m.Question[0].Qtype != q.qtype || m.Question[0].Qclass != mdns.ClassINET ||
			(opt != nil) != q.edns || opt != nil && (opt.Do() != q.do || max(minUDP, int(opt.UDPSize())) != q.size) {
			t.Fatalf("%x: read as %+v, miekg/dns reads %v", b, q, m)
		}
		wire := make([]byte, 256)
		if n, err := mdns.PackDomainName(m.Question[0].Name, wire, 0, nil, false); err != nil || n+headerSize+4 != q.end {
			t.Fatalf("%x: the question ends at %d, miekg/dns has a name of %d bytes, %v", b, q.end, n, err)
		}
	})
}

// FuzzUpstream has an upstream answer with any bytes.
func FuzzUpstream(f *testing.F) {
	question := ask("example.com A edns=1232")
	asked, _ := question.Pack()
	for _, text := range []string{
		example, "", "; authority\nexample. 900 IN SOA ns.example. root.example. 1 2 3 4 60",
		"example.com. 5 IN CNAME a.example.\na.example. 5 IN A 192.0.2.1\n; additional\nx. 5 IN TXT \"x\"",
	} {
		b, _ := recordsFor(question, text).Pack()
		f.Add(b, 512, uint32(0))
		f.Add(b, 100, uint32(1<<31))
	}
	f.Fuzz(func(t *testing.T, b []byte, limit int, age uint32) {
		var q query
		q.parse(asked)
		r := request{wire: asked, end: q.end}
		m := new(mdns.Msg)
		if !r.answeredBy(asked, b) || m.Unpack(b) != nil {
			return
		}
		e := newEntry(m, &q.form, 0)
		if e == nil {
			return
		}
		limit = min(max(limit, minUDP), maxMessage)
		answer := make([]byte, limit)
		copy(answer, asked)
		n := e.reply(answer, &q.form, limit, time.Duration(age)*time.Second)
		checkAnswer(t, asked, answer[:n], &q)
	})
}
