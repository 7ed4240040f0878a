package dns

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	mdns "github.com/miekg/dns"
)

// How servers are asked.
const (
	patience     = 4 * time.Second        // for a query in all; clients wait 5 s
	headStart    = 150 * time.Millisecond // of one server, before the next is asked too
	preferredFor = 30 * time.Second       // how long a server that answered is asked first

	maxServers = 8 // of an upstream; resolv.conf(5) has three

	// A server on a loopback address, such as systemd-resolved's 127.0.0.53, is a cache
	// that also learns when a VPN comes up or goes. Only a burst is spared it. So is one on
	// another address of the host's own, which the upstream's owner knows.
	loopbackLife = time.Second
)

// Address is where containers find their name server, in their own namespace;
// Docker's.
var Address = netip.AddrFrom4([4]byte{127, 0, 0, 11})

// A Dialer opens a socket to a server, as [net.Dialer.DialContext] does: the
// network is "udp" or "tcp", the address a literal with a port.
type Dialer func(ctx context.Context, network, address string) (net.Conn, error)

// An Upstream is a list of equivalent servers, and how to reach them. Answers are
// cached for one Upstream; another one never gets them.
type Upstream struct {
	id      uint32
	servers []netip.AddrPort
	longest time.Duration // that an answer is kept
	dial    Dialer
	streams chan struct{} // a semaphore of TCP connections
	first   atomic.Int32  // index of the server to ask first
	until   atomic.Int64  // until when by now, in nanoseconds
	now     func() time.Duration
}

// upstreams counts Upstreams. The number is part of the cache's keys.
var upstreams atomic.Uint32

// NewUpstream returns an Upstream. Servers that are listed twice count once,
// and those at our own addresses, as dial sees them, are left out: they would send
// the query back to us. The first eight count. Without a dialer the servers are dialled from the
// namespace of the process, the host's.
func NewUpstream(servers []netip.AddrPort, dial Dialer, own ...netip.Addr) *Upstream {
	u := &Upstream{id: upstreams.Add(1), dial: dial, streams: make(chan struct{}, maxUpstreamTCP), longest: maxLife, now: stopwatch()}
	if dial == nil {
		u.dial = new(net.Dialer).DialContext
	}
	for _, s := range servers {
		s = netip.AddrPortFrom(s.Addr().Unmap(), s.Port())
		if len(u.servers) < maxServers && !slices.Contains(own, s.Addr()) && !slices.Contains(u.servers, s) {
			u.servers = append(u.servers, s)
			if s.Addr().IsLoopback() {
				u.KeepBriefly()
			}
		}
	}
	return u
}

// KeepBriefly has answers kept for a second only, as if a server were on a loopback
// address. It must be called before the upstream is used.
func (u *Upstream) KeepBriefly() { u.longest = loopbackLife }

// A request is a query for upstream.
type request struct {
	wire []byte // the ID is chosen for each server
	end  int    // where the question ends
	size int    // of the largest datagram that the query allows
}

// A reply is a server's answer; msg is nil if there was none, or a malformed one.
type reply struct {
	server int // index
	msg    *mdns.Msg
}

// exchange asks the servers in order, each with a head start before the next. It
// returns the first good answer, else the first bad one, else nil, after the time that
// is left at most.
func (u *Upstream) exchange(r request, left time.Duration, s *stats) *mdns.Msg {
	ctx, cancel := context.WithTimeout(context.Background(), left)
	defer cancel() // ends the calls of ask that still wait
	order := u.order()
	replies := make(chan reply, len(order))
	asked := 0
	next := func() {
		server := order[asked]
		asked++
		go func() { replies <- reply{server, u.ask(ctx, u.servers[server], r, s)} }()
	}
	var bad *mdns.Msg
	timer := time.NewTimer(0)
	defer timer.Stop()
	for answered := 0; answered < len(order); {
		select {
		case <-timer.C:
			if asked < len(order) {
				next()
				timer.Reset(headStart)
			}
		case got := <-replies:
			answered++
			if got.msg != nil && good(got.msg) {
				u.prefer(got.server)
				return got.msg
			}
			if bad == nil {
				bad = got.msg
			}
			timer.Reset(0) // this one has had its turn: ask the next at once
		}
	}
	return bad
}

// good reports whether an answer is final. Other response codes may be trouble of
// that server alone.
func good(m *mdns.Msg) bool {
	return m.Rcode == mdns.RcodeSuccess || m.Rcode == mdns.RcodeNameError
}

// order returns the indexes of the servers in the order in which they are
// asked.
func (u *Upstream) order() []int {
	var order []int
	first := -1
	if int64(u.now()) < u.until.Load() {
		first = int(u.first.Load())
		order = append(order, first)
	}
	for i := range u.servers {
		if i != first {
			order = append(order, i)
		}
	}
	return order
}

// prefer has a server asked first for a while. Its later answers do not make that
// longer: the first of the list may work again.
func (u *Upstream) prefer(server int) {
	now := u.now()
	if int(u.first.Load()) == server && (server == 0 || int64(now) < u.until.Load()) {
		return
	}
	u.first.Store(int32(server))
	u.until.Store(int64(now + preferredFor))
}
