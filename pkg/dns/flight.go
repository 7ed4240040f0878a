package dns

import (
	"bytes"
	"time"

	mdns "github.com/miekg/dns"
)

// Limits of what waits for upstreams.
const (
	maxWaiting     = 2048  // queries of an endpoint
	maxAllWaiting  = 16384 // of a server; beyond, an endpoint with less than its share of them may have more
	fewWaiting     = 64    // the least share, with however many endpoints
	maxUpstreamTCP = 64    // connections to the servers of an upstream
)

// keySize is the longest key: upstream, flags, type, name.
const keySize = 4 + 1 + 2 + 254

// A flight is an ordinary query that waits for its turn or is under way to an upstream,
// and the clients that wait for its answer.
type flight struct {
	turn    turn
	waiters []waiter // guarded by Server.mu
}

// A waiter is a query of a client.
type waiter struct {
	client
	form
	head []byte // header and question
}

// key appends everything that may change the answer. Queries with equal keys get
// the same answer.
func (q *query) key(b []byte, u *Upstream) []byte {
	b = be.AppendUint32(b, u.id)
	b = append(b, byte((q.flags&flagRD)>>8|q.flags&(flagAD|flagCD)|bit(q.edns)<<1|bit(q.do)<<2))
	b = be.AppendUint16(b, q.qtype)
	return append(b, q.name...)
}

func bit(b bool) uint16 {
	if b {
		return 1
	}
	return 0
}

// join has a query wait for the flight with its key, or for a new one. It returns
// false if too many queries wait already.
func (s *Server) join(key []byte, u *Upstream, c client, f *form, b []byte) bool {
	if !c.take() {
		return false
	}
	w := waiter{c, *f, bytes.Clone(b[:f.end])}
	s.mu.Lock()
	under := s.flights[string(key)]
	if under == nil {
		under = &flight{}
		name := string(key)
		under.turn.run = func(left time.Duration) { s.fly(name, u, w, left) }
		s.flights[name] = under
	}
	under.waiters = append(under.waiters, w)
	s.mu.Unlock()
	s.turns.enter(&c.endpoint.lane, &under.turn)
	return true
}

// fly asks the upstream, if it is not too late, and answers all waiters.
func (s *Server) fly(key string, u *Upstream, w waiter, left time.Duration) {
	var m *mdns.Msg
	forgotten := s.forgotten.Load()
	if left > 0 {
		m = u.exchange(w.request(), left, &s.stats)
	}
	now := s.now()
	var e *entry
	if m != nil {
		e = newEntry(m, &w.form, now)
	}
	kind := Forwarded
	switch {
	case left == 0:
		e, kind = failure(w.head, now), Late
		e.life = 0 // no server was asked
	case e == nil:
		e, kind = failure(w.head, now), Failed
	}
	e.life = min(e.life, u.longest)
	if e.life > 0 && s.forgotten.Load() == forgotten {
		s.cache.put(key, e, now) // before the flight ends: later queries find one or the other
	}
	s.mu.Lock()
	waiters := s.flights[key].waiters
	delete(s.flights, key)
	s.mu.Unlock()
	for _, w := range waiters {
		s.stats.answers[kind].Add(1)
		w.answer(e, now)
	}
}

// request is the query as it goes to upstreams: the client's flags and
// question, EDNS with what we take if the client has EDNS.
func (w *waiter) request() request {
	r := request{wire: make([]byte, w.end+optSize), end: w.end, size: advertised}
	copy(r.wire, w.head)
	n := w.finish(r.wire, w.end, 0, 0, 0, 0)
	r.wire = r.wire[:n]
	be.PutUint16(r.wire[2:], w.flags)
	return r
}

// answer answers the waiter.
func (w *waiter) answer(e *entry, now time.Duration) {
	limit := w.limit(&w.form)
	b := make([]byte, min(limit, len(e.msg)+optSize))
	copy(b, w.head)
	w.client.send(b[:e.reply(b, &w.form, limit, now)])
}

// pass sends a message upstream unchanged and returns the answer to this client
// alone: with EDNS options, or no ordinary query, it may not suit other clients. It
// returns false if too many queries wait already.
func (s *Server) pass(u *Upstream, c client, m *mdns.Msg) bool {
	if !c.take() {
		return false
	}
	s.turns.enter(&c.endpoint.lane, &turn{run: func(left time.Duration) {
		r, kind := s.passed(u, m, left)
		s.stats.answers[kind].Add(1)
		c.send(packed(m, r, c))
	}})
	return true
}

func (s *Server) passed(u *Upstream, m *mdns.Msg, left time.Duration) (*mdns.Msg, Kind) {
	if left == 0 {
		return new(mdns.Msg).SetRcode(m, mdns.RcodeServerFailure), Late
	}
	r := request{size: minUDP}
	query := m.Copy()
	if opt := query.IsEdns0(); opt != nil {
		opt.SetUDPSize(max(minUDP, min(opt.UDPSize(), maxUDP)))
		r.size = int(opt.UDPSize())
	}
	if wire, err := query.Pack(); err == nil {
		r.wire, r.end = wire, skipName(wire, headerSize)+4
		if answer := u.exchange(r, left, &s.stats); answer != nil {
			answer.Id, answer.Question = m.Id, m.Question
			return answer, Forwarded
		}
	}
	return new(mdns.Msg).SetRcode(m, mdns.RcodeServerFailure), Failed
}
