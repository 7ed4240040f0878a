package dns

import (
	"sync/atomic"
	"time"
)

// A Kind is how a query was answered.
type Kind int

// The kinds.
const (
	Local     Kind = iota // from the view
	Cached                // from an earlier answer of an upstream
	Forwarded             // by an upstream
	Failed                // SERVFAIL: no upstream, or none that answered
	Late                  // SERVFAIL: its turn did not come in time
	Refused               // a kind of query that is not served
	Malformed             // FORMERR, NOTIMP or BADVERS
	Dropped               // not at all: the message is no query, the client is gone, or too many wait
	kinds
)

func (k Kind) String() string {
	return [kinds]string{"local", "cached", "forwarded", "failed", "late", "refused", "malformed", "dropped"}[k]
}

// Kinds returns all of them.
func Kinds() []Kind {
	return []Kind{Local, Cached, Forwarded, Failed, Late, Refused, Malformed, Dropped}
}

// Buckets are the upper bounds of the histogram of latencies; above the last
// is one more.
var Buckets = [12]time.Duration{
	time.Millisecond, 2 * time.Millisecond, 4 * time.Millisecond, 8 * time.Millisecond,
	16 * time.Millisecond, 32 * time.Millisecond, 64 * time.Millisecond, 128 * time.Millisecond,
	256 * time.Millisecond, 512 * time.Millisecond, 1024 * time.Millisecond, 2048 * time.Millisecond,
}

// Stats are what a server has counted since it started. The last three fields are
// current values.
type Stats struct {
	Answers        [kinds]uint64            // by Kind
	Latency        [len(Buckets) + 1]uint64 // answers of upstreams; each is in one bucket
	LatencySum     time.Duration
	UpstreamErrors uint64 // servers that did not answer, or sent a malformed answer
	Strays         uint64 // messages that answer no query of ours
	Delayed        uint64 // times that an endpoint's next TCP connection had to wait for others to end
	UnderWay       int    // different queries that upstreams were asked
	Waiting        int    // clients' queries that wait for these, or for their turn
	Connections    int    // TCP connections of clients
}

// stats are a server's counters.
type stats struct {
	answers        [kinds]atomic.Uint64
	latency        histogram
	upstreamErrors atomic.Uint64
	strays         atomic.Uint64
	waiting        atomic.Int32
	clients        atomic.Int32 // endpoints that have some of them
	delayed        atomic.Uint64
}

type histogram struct {
	counts [len(Buckets) + 1]atomic.Uint64
	sum    atomic.Int64
}

func (h *histogram) observe(d time.Duration) {
	i := 0
	for i < len(Buckets) && d > Buckets[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(d))
}

// A tally counts on one goroutine; stats.add adds it to the server's counters.
type tally [kinds]uint64

func (s *stats) add(t *tally) {
	for kind, n := range t {
		if n > 0 {
			s.answers[kind].Add(n)
		}
	}
	*t = tally{}
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	var out Stats
	for kind := range out.Answers {
		out.Answers[kind] = s.stats.answers[kind].Load()
	}
	for i := range out.Latency {
		out.Latency[i] = s.stats.latency.counts[i].Load()
	}
	out.LatencySum = time.Duration(s.stats.latency.sum.Load())
	out.UpstreamErrors = s.stats.upstreamErrors.Load()
	out.Strays = s.stats.strays.Load()
	out.UnderWay = s.turns.underWay()
	out.Waiting = int(s.stats.waiting.Load())
	out.Delayed = s.stats.delayed.Load()
	out.Connections = s.places.count()
	return out
}
