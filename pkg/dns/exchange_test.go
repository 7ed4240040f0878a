package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	mdns "github.com/miekg/dns"
)

// A script says what a server does with each query that it is sent, as the
// response code of an answer; -1 is none.
type script []int

// A played upstream has servers that follow scripts. Time is the test's own, so
// that it is exact: no socket is used.
type played struct {
	*Upstream
	mu   sync.Mutex
	sent map[int][]time.Duration // when each server was sent datagrams
	tcp  map[int]int             // how often each server was dialled over TCP
}

// play returns an upstream. It must be called in a bubble of package synctest.
func play(scripts ...script) *played {
	p := &played{sent: map[int][]time.Duration{}, tcp: map[int]int{}}
	start := time.Now()
	var servers []netip.AddrPort
	for i := range scripts {
		servers = append(servers, netip.AddrPortFrom(addr("192.0.2.1"), uint16(i)))
	}
	p.Upstream = NewUpstream(servers, func(_ context.Context, network, address string) (net.Conn, error) {
		server := int(netip.MustParseAddrPort(address).Port())
		client, conn := net.Pipe()
		if network == "tcp" {
			p.mu.Lock()
			p.tcp[server]++
			p.mu.Unlock()
			go answerStream(conn)
			return client, nil
		}
		go func() {
			defer conn.Close()
			for n := 0; ; n++ {
				query := make([]byte, maxMessage)
				size, err := conn.Read(query)
				if err != nil {
					return
				}
				p.mu.Lock()
				p.sent[server] = append(p.sent[server], time.Since(start))
				p.mu.Unlock()
				if n < len(scripts[server]) && scripts[server][n] >= 0 {
					_, _ = conn.Write(answerTo(query[:size], scripts[server][n]))
				}
			}
		}()
		return client, nil
	})
	return p
}

// cut is a response code that stands for a truncated answer without error.
const cut = 100

// answerTo answers a query.
func answerTo(query []byte, code int) []byte {
	q := new(mdns.Msg)
	if err := q.Unpack(query); err != nil {
		panic(err)
	}
	m := new(mdns.Msg).SetRcode(q, code%cut)
	m.Truncated = code >= cut
	return mustPack(m)
}

// answerStream answers one query over TCP, without error.
func answerStream(conn net.Conn) {
	defer conn.Close()
	query := make([]byte, maxMessage)
	if n, err := conn.Read(query); err == nil {
		_, _ = conn.Write(prefixed(answerTo(query[2:n], mdns.RcodeSuccess)))
	}
}

// ask asks for a name and returns the response code of the answer, or -1.
func (p *played) ask(s *stats) int {
	q := mustPack(ask("example.com A"))
	m := p.exchange(request{wire: q, end: len(q), size: minUDP}, patience, s)
	if m == nil {
		return -1
	}
	return m.Rcode
}

// TestServersInTurn has which servers are asked, when, and which answer counts.
func TestServersInTurn(t *testing.T) {
	const none, ok, fail, noName, refused = -1, mdns.RcodeSuccess, mdns.RcodeServerFailure, mdns.RcodeNameError, mdns.RcodeRefused
	for _, c := range []struct {
		name    string
		servers []script
		want    int
		took    time.Duration
		sent    string
		errors  uint64
	}{
		{"the first", []script{{ok}, {ok}}, ok, 0, "map[0:[0s]]", 0},
		{"no such name", []script{{noName}, {ok}}, noName, 0, "map[0:[0s]]", 0},
		{"silence", []script{{none}, {ok}}, ok, headStart, "map[0:[0s] 1:[150ms]]", 0},
		{"silence of two", []script{{none}, {none}, {ok}}, ok, 2 * headStart, "map[0:[0s] 1:[150ms] 2:[300ms]]", 0},
		{"a failure", []script{{fail}, {ok}}, ok, 0, "map[0:[0s] 1:[0s]]", 0},
		{"failures", []script{{fail}, {refused}}, fail, 0, "map[0:[0s] 1:[0s]]", 0},
		{"failure and silence", []script{{refused}, {none}}, refused, patience, "map[0:[0s] 1:[0s 1s 2.5s]]", 1},
		{"sent again", []script{{none, ok}}, ok, time.Second, "map[0:[0s 1s]]", 0},
		{"sent twice more", []script{{none, none, ok}}, ok, 2500 * time.Millisecond, "map[0:[0s 1s 2.5s]]", 0},
		{"nothing", []script{{none}}, none, patience, "map[0:[0s 1s 2.5s]]", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, s, start := play(c.servers...), new(stats), time.Now()
				if got := p.ask(s); got != c.want || time.Since(start) != c.took {
					t.Errorf("response code %d after %v; want %d after %v", got, time.Since(start), c.want, c.took)
				}
				synctest.Wait() // the others have ended
				if got := fmt.Sprint(p.sent); got != c.sent {
					t.Errorf("sent %s; want %s", got, c.sent)
				}
				if n := s.upstreamErrors.Load(); n != c.errors {
					t.Errorf("%d errors counted; want %d", n, c.errors)
				}
			})
		})
	}
}

// TestPreferenceEnds has a server asked first for half a minute after it answered,
// however often it does: then the first of the list gets its chance.
func TestPreferenceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := play(nil, nil, nil).Upstream
		for _, step := range []struct {
			wait   time.Duration
			prefer int // -1: none
			want   string
		}{
			{0, -1, "[0 1 2]"},
			{0, 2, "[2 0 1]"},
			{preferredFor - time.Second, 2, "[2 0 1]"},
			{time.Second, -1, "[0 1 2]"},
			{0, 2, "[2 0 1]"},
			{preferredFor / 2, 1, "[1 0 2]"},
			{preferredFor - 1, -1, "[1 0 2]"},
			{1, -1, "[0 1 2]"},
			{0, 1, "[1 0 2]"},
			{0, 0, "[0 1 2]"},
		} {
			time.Sleep(step.wait)
			if step.prefer >= 0 {
				u.prefer(step.prefer)
			}
			if got := fmt.Sprint(u.order()); got != step.want {
				t.Errorf("%+v: order %s", step, got)
			}
		}
	})
}

// TestPreferenceByStopwatch has a preference end by the upstream's own clock, which does not
// move when the host's is set: by that one, no time passes here.
func TestPreferenceByStopwatch(t *testing.T) {
	u := NewUpstream([]netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53"), netip.MustParseAddrPort("192.0.2.2:53")}, nil)
	now := time.Hour
	u.now = func() time.Duration { return now }
	u.prefer(1)
	for _, c := range []struct {
		now  time.Duration
		want string
	}{{time.Hour, "[1 0]"}, {time.Hour + preferredFor - 1, "[1 0]"}, {time.Hour + preferredFor, "[0 1]"}} {
		now = c.now
		if got := fmt.Sprint(u.order()); got != c.want {
			t.Errorf("at %v: order %s, want %s", c.now, got, c.want)
		}
	}
}

// TestStreamsReturned has each TCP connection make place for the next one.
func TestStreamsReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := play(script{cut})
		p.streams = make(chan struct{}, 1)
		for i := range 3 {
			if got := p.ask(new(stats)); got != mdns.RcodeSuccess || p.tcp[0] != i+1 {
				t.Errorf("response code %d, dialled %d times", got, p.tcp[0])
			}
		}
	})
}
