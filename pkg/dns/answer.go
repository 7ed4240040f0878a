package dns

import (
	"net"
	"time"

	mdns "github.com/miekg/dns"
)

// A client is where a query came from: an address on an endpoint's UDP socket, or
// a connection.
type client struct {
	endpoint *Endpoint // that it is answered as; nil: it is refused
	at       *Endpoint // whose sockets it came to: the same, unless clients share them
	address  net.Addr
	stream   *stream // nil: UDP
}

// limit returns how long an answer may be.
func (c client) limit(f *form) int {
	if c.stream != nil {
		return maxMessage
	}
	return f.datagram()
}

// send sends an answer that the client waited for; none if b is nil. It doesn't
// wait for slow clients.
func (c client) send(b []byte) {
	switch {
	case b == nil:
		c.release()
	case c.stream == nil:
		c.at.udp.write(c.at.packets, b, c.address)
		c.release()
	default:
		go func() {
			_ = c.stream.write(b) // it closes a connection that fails
			c.release()
		}()
	}
}

// take counts one more waiting query, unless the endpoint or the server has too many.
// Each must be followed by send or release.
func (c client) take() bool {
	e, stats := c.endpoint, &c.endpoint.server.stats
	own, all := e.waiting.Add(1), stats.waiting.Add(1)
	if own == 1 {
		stats.clients.Add(1)
	}
	if own > maxWaiting || all > maxAllWaiting && own > share(stats.clients.Load()) {
		c.untake()
		return false
	}
	e.pending.Add(1)
	if c.at != e {
		c.at.pending.Add(1)
	}
	if c.stream != nil {
		c.stream.pending.Add(1)
	}
	return true
}

// share returns how many queries an endpoint may have waiting where n endpoints have some,
// and a server has as many as it may. Those that came first have more, and get no further
// ones until they have less than their share.
func share(n int32) int32 { return max(fewWaiting, maxAllWaiting/max(n, 1)) }

func (c client) untake() {
	stats := &c.endpoint.server.stats
	if c.endpoint.waiting.Add(-1) == 0 {
		stats.clients.Add(-1)
	}
	stats.waiting.Add(-1)
}

func (c client) release() {
	c.untake()
	c.endpoint.pending.Done()
	if c.at != c.endpoint {
		c.at.pending.Done()
	}
	if c.stream != nil {
		c.stream.pending.Done()
	}
}

// A scratch is the memory to answer one query after the other.
type scratch struct {
	query query
	key   [keySize]byte
	tally tally
}

// answer answers the query b[:n] in place, where there is room for the longest
// answer that the client takes. It returns the length of the answer, or 0 if
// there is none, or none yet.
func (w *scratch) answer(b []byte, n int, c client, now time.Duration) int {
	q, e := &w.query, c.endpoint
	if e == nil || !q.parse(b[:n]) {
		return w.unusual(b, n, c)
	}
	view := e.view.Load()
	limit := c.limit(&q.form)
	if size := q.local(b, limit, view.Names); size > 0 {
		w.tally[Local]++
		return size
	}
	if q.derived() || meta(q.qtype) || q.options {
		return w.unusual(b, n, c)
	}
	return w.forward(b, c, view, now)
}

// forward answers an ordinary query from the cache, or sends it upstream.
func (w *scratch) forward(b []byte, c client, view *View, now time.Duration) int {
	q, e := &w.query, c.endpoint
	u := e.upstream(view)
	if u == nil {
		w.tally[Failed]++
		return q.fail(b, rcodeServFail)
	}
	key := q.key(w.key[:0], u)
	if entry := e.server.cache.get(key, now); entry != nil {
		w.tally[Cached]++
		return entry.reply(b, &q.form, c.limit(&q.form), now)
	}
	if !e.server.join(key, u, c, &q.form, b) {
		w.tally[Dropped]++ // the client asks again; it would take REFUSED for an answer
	}
	return 0
}

// unusual answers queries that [query.parse] refuses, and those of rare types, with
// miekg/dns.
func (w *scratch) unusual(b []byte, n int, c client) int {
	if n < headerSize || b[2]&(1<<7) != 0 {
		w.tally[Dropped]++ // an answer to an answer would be a loop
		return 0
	}
	m := new(mdns.Msg)
	if err := m.Unpack(b[:n]); err != nil {
		w.tally[Malformed]++
		return formErr(b)
	}
	rcode := invalid(m)
	if c.endpoint == nil {
		rcode = mdns.RcodeRefused
	}
	if rcode != mdns.RcodeSuccess {
		kind := Malformed
		if rcode == mdns.RcodeRefused {
			kind = Refused
		}
		return w.pack(b, m, new(mdns.Msg).SetRcode(m, rcode), c, kind)
	}
	view := c.endpoint.view.Load()
	if r := answerLocal(m, view.Names); r != nil {
		return w.pack(b, m, r, c, Local)
	}
	if w.query.parse(b[:n]) && !w.query.options {
		return w.forward(b, c, view, c.endpoint.server.now())
	}
	u := c.endpoint.upstream(view)
	if u == nil {
		return w.pack(b, m, new(mdns.Msg).SetRcode(m, mdns.RcodeServerFailure), c, Failed)
	}
	if !c.endpoint.server.pass(u, c, m) {
		w.tally[Dropped]++
	}
	return 0
}

// invalid returns what is wrong with a query that could be read.
func invalid(m *mdns.Msg) int {
	opt := m.IsEdns0()
	switch {
	case m.Opcode != mdns.OpcodeQuery:
		return mdns.RcodeNotImplemented
	case len(m.Question) != 1:
		return mdns.RcodeFormatError
	case opt != nil && opt.Version() != 0:
		return mdns.RcodeBadVers
	case meta(m.Question[0].Qtype) && m.Question[0].Qtype != mdns.TypeANY:
		return mdns.RcodeRefused // transfers
	}
	return mdns.RcodeSuccess
}

// formErr answers a malformed query with a header alone.
func formErr(b []byte) int {
	const opcode, rd, ra = 0xf << 3, 1, 1 << 7
	b[2] = 1<<7 | b[2]&(opcode|rd)
	b[3] = ra | rcodeFormErr
	clear(b[4:headerSize])
	return headerSize
}

// pack writes an answer of miekg/dns to b.
func (w *scratch) pack(b []byte, query, r *mdns.Msg, c client, kind Kind) int {
	msg := packed(query, r, c)
	if msg == nil {
		w.tally[Dropped]++
		return 0
	}
	w.tally[kind]++
	return copy(b, msg)
}

// packed returns an answer as it goes to a client: with an OPT if the query had
// one, and cut to what the client takes. It is nil if it can't be written.
func packed(query, r *mdns.Msg, c client) []byte {
	r.RecursionAvailable = true
	f := form{size: minUDP}
	if opt := query.IsEdns0(); opt != nil {
		f.size = max(minUDP, int(opt.UDPSize()))
		if r.IsEdns0() == nil {
			r.SetEdns0(advertised, opt.Do())
		}
	}
	r.Compress = true
	r.Truncate(c.limit(&f))
	msg, err := r.Pack()
	if err != nil {
		return nil
	}
	return msg
}
