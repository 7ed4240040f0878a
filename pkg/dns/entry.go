package dns

import (
	"sync/atomic"
	"time"

	mdns "github.com/miekg/dns"
)

// How long answers are kept at most.
const (
	maxLife     = 24 * time.Hour
	maxNegative = 3 * time.Hour // RFC 2308, section 5
	failureLife = time.Second   // RFC 9520, section 3.2
)

// An entry is an answer from upstream, ready to be copied.
type entry struct {
	msg      []byte   // without OPT
	end      int      // where the question ends
	records  []record // all of them
	sections [3]int   // how many are answers, authorities, additionals
	flags    uint16   // AD, TC and the response code
	born     time.Duration
	life     time.Duration // 0: not to be kept
	used     atomic.Bool
}

// A record is where in the message its TTL is, and where it ends.
type record struct{ ttl, end uint16 }

// newEntry makes an entry of an answer to a query. It returns nil if the message
// can't be packed.
func newEntry(m *mdns.Msg, f *form, now time.Duration) *entry {
	m.Extra = withoutOPT(m.Extra)
	if m.Rcode > 0xf {
		m.Rcode = mdns.RcodeServerFailure // the upper bits of an extended code were in the OPT
	}
	m.Compress = true
	msg, err := m.Pack()
	if err != nil || len(msg) > maxMessage {
		return nil
	}
	e := &entry{msg: msg, end: f.end, born: now, life: life(m, f.qtype)}
	e.sections = [3]int{len(m.Answer), len(m.Ns), len(m.Extra)}
	e.flags = be.Uint16(msg[2:])&(flagAD|flagTC) | uint16(m.Rcode)
	at := f.end
	for range e.sections[0] + e.sections[1] + e.sections[2] {
		ttl := skipName(msg, at) + 4
		at = ttl + 6 + int(be.Uint16(msg[ttl+4:]))
		e.records = append(e.records, record{uint16(ttl), uint16(at)})
	}
	return e
}

// failure is the entry of a query that no server answered; head is its header and
// question.
func failure(head []byte, now time.Duration) *entry {
	return &entry{msg: head, end: len(head), flags: rcodeServFail, born: now, life: failureLife}
}

func withoutOPT(records []mdns.RR) []mdns.RR {
	var out []mdns.RR
	for _, r := range records {
		if r.Header().Rrtype != mdns.TypeOPT {
			out = append(out, r)
		}
	}
	return out
}

// skipName returns where a name ends, in a message that miekg/dns wrote.
func skipName(b []byte, at int) int {
	for {
		switch size := int(b[at]); {
		case size == 0:
			return at + 1
		case size >= 0xc0:
			return at + 2
		default:
			at += 1 + size
		}
	}
}

// life says how long an answer may be kept.
func life(m *mdns.Msg, qtype uint16) time.Duration {
	switch {
	case m.Truncated:
		return 0
	case m.Rcode == mdns.RcodeServerFailure:
		return failureLife
	case !good(m):
		return 0
	}
	least, answers := maxLife, false
	for _, r := range m.Answer {
		least = min(least, seconds(r.Header().Ttl))
		answers = answers || r.Header().Rrtype == qtype || qtype == mdns.TypeANY
	}
	if answers && m.Rcode == mdns.RcodeSuccess {
		return least
	}
	for _, r := range m.Ns {
		if soa, ok := r.(*mdns.SOA); ok {
			return min(least, maxNegative, seconds(min(soa.Hdr.Ttl, soa.Minttl)))
		}
	}
	return 0
}

// seconds reads a TTL: a value with the highest bit set means 0 (RFC 2181,
// section 8).
func seconds(ttl uint32) time.Duration {
	if ttl > 1<<31-1 {
		return 0
	}
	return time.Duration(ttl) * time.Second
}

// reply writes the answer over a query at the beginning of b and returns its
// length: limit at most, records that don't fit are left out.
func (e *entry) reply(b []byte, f *form, limit int, now time.Duration) int {
	n := len(e.records)
	for n > 0 && int(e.records[n-1].end) > f.room(limit) {
		n--
	}
	at := e.end
	if n > 0 {
		at = int(e.records[n-1].end)
	}
	copy(b[f.end:at], e.msg[e.end:at])
	age := uint32((now - e.born) / time.Second)
	for _, r := range e.records[:n] {
		ttl := be.Uint32(b[r.ttl:])
		be.PutUint32(b[r.ttl:], ttl-min(ttl, age))
	}
	answers := min(n, e.sections[0])
	authorities := min(n-answers, e.sections[1])
	flags := e.flags
	if answers+authorities < e.sections[0]+e.sections[1] {
		flags |= flagTC
	}
	return f.finish(b, at, flags, answers, authorities, n-answers-authorities)
}
