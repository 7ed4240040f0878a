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
	patience  = 4 * time.Second        // for everything; clients have 5 s
	headStart = 150 * time.Millisecond // of one server before the next is asked too
	favour    = 30 * time.Second       // how long the one that answered is asked first

	maxServers = 8 // of an upstream; resolv.conf(5) has three
)

// Address is where containers find their name server, in their own namespace;
// Docker's.
var Address = netip.AddrFrom4([4]byte{127, 0, 0, 11})

// A Dialer opens a socket to a server, as [net.Dialer.DialContext] does: the
// network is "udp" or "tcp", the address a literal with a port.
type Dialer func(ctx context.Context, network, address string) (net.Conn, error)

// An Upstream is a list of servers that know the same, and how to reach them.
// Answers are kept by Upstream: another one knows nothing of them.
type Upstream struct {
	id      uint32
	servers []netip.AddrPort
	dial    Dialer
	streams chan struct{} // has a place for each TCP connection
	first   atomic.Int32  // index of the server to ask first
	until   atomic.Int64  // and how long, in Unix nanoseconds
}

// upstreams counts them, to tell their answers apart.
var upstreams atomic.Uint32

// NewUpstream returns an Upstream. Servers that are listed twice count once,
// and those at addresses of our own, as Dial sees them, are left out: they
// would ask us again. The first eight count. Without a dialer the servers are dialled from the
// namespace of the process, the host's.
func NewUpstream(servers []netip.AddrPort, dial Dialer, own ...netip.Addr) *Upstream {
	u := &Upstream{id: upstreams.Add(1), dial: dial, streams: make(chan struct{}, maxUpstreamTCP)}
	if dial == nil {
		u.dial = new(net.Dialer).DialContext
	}
	for _, s := range servers {
		s = netip.AddrPortFrom(s.Addr().Unmap(), s.Port())
		if len(u.servers) < maxServers && !slices.Contains(own, s.Addr()) && !slices.Contains(u.servers, s) {
			u.servers = append(u.servers, s)
		}
	}
	return u
}

// A request is a query for upstream.
type request struct {
	wire []byte // the ID is chosen for each server
	end  int    // where the question ends
	size int    // of the largest datagram that the query allows
}

// A reply is what a server said: nil if it said nothing of use.
type reply struct {
	server int // index
	msg    *mdns.Msg
}

// exchange asks the servers, one after the other with a head start each. It
// returns the first good answer, else the first bad one, else nil.
func (u *Upstream) exchange(r request, s *stats) *mdns.Msg {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel() // ends who is still waiting
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
	for told := 0; told < len(order); {
		select {
		case <-timer.C:
			if asked < len(order) {
				next()
				timer.Reset(headStart)
			}
		case got := <-replies:
			told++
			if got.msg != nil && good(got.msg) {
				u.prefer(got.server)
				return got.msg
			}
			if bad == nil {
				bad = got.msg
			}
			timer.Reset(0) // no need to wait for this one
		}
	}
	return bad
}

// good reports whether an answer settles the question; any other may be that
// server's own trouble.
func good(m *mdns.Msg) bool {
	return m.Rcode == mdns.RcodeSuccess || m.Rcode == mdns.RcodeNameError
}

// order returns the indexes of the servers in the order in which they are
// asked.
func (u *Upstream) order() []int {
	var order []int
	first := -1
	if time.Now().UnixNano() < u.until.Load() {
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

// prefer has a server asked first for a while. That ends by itself: the first
// of the list may be back.
func (u *Upstream) prefer(server int) {
	now := time.Now()
	if int(u.first.Load()) == server && (server == 0 || now.UnixNano() < u.until.Load()) {
		return
	}
	u.first.Store(int32(server))
	u.until.Store(now.Add(favour).UnixNano())
}
