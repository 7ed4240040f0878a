package main

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"

	"dcni/pkg/dns"
	"dcni/pkg/host/agent"
	"dcni/pkg/host/dnssock"
	"dcni/pkg/names"
	"dcni/pkg/netns"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// A sandbox is one network namespace with a name server. The registry's mutex
// guards it.
type sandbox struct {
	cookie    uint64
	resolvers []*names.Resolver // its attachments', in the order in which their networks are asked
	sockets   [families]familySockets
	view      *view            // the names; nil: not published yet
	servers   []netip.AddrPort // that its attachments name
	fromHost  bool             // they are asked from the host
	upstream  *dns.Upstream    // asks these; nil: none

	anySocket atomic.Pointer[dns.Endpoint] // one of the endpoints; read without the mutex
}

// familySockets are a sandbox's sockets of one family.
type familySockets struct {
	endpoint *dns.Endpoint // nil: none
	port     uint16
}

func newSandbox(cookie uint64) *sandbox { return &sandbox{cookie: cookie} }

// put adds an attachment's resolver, in place of the one that it had before.
func (s *sandbox) put(r *names.Resolver) {
	s.drop(r.Owner)
	own := *r
	r = &own // the sandbox sets its ports
	at, _ := slices.BinarySearchFunc(s.resolvers, r, byPriority)
	s.resolvers = slices.Insert(s.resolvers, at, r)
	s.chooseServers()
}

// drop removes an attachment's resolver.
func (s *sandbox) drop(owner wire.Attachment) {
	s.resolvers = slices.DeleteFunc(s.resolvers, func(r *names.Resolver) bool { return r.Owner == owner })
	s.chooseServers()
}

// byPriority is the order in which networks are asked for a name: that of gateway
// networks, but for internal networks and families. A name is found in the same
// network whether that leads out or not.
func byPriority(a, b *names.Resolver) int {
	return cmp.Or(candidate(a).Compare(candidate(b)), cmp.Compare(a.Owner.IfName, b.Owner.IfName))
}

func candidate(r *names.Resolver) network.Candidate {
	return network.Candidate{Name: r.Owner.Network, Priority: r.Priority}
}

// of returns an attachment's resolver, or nil.
func (s *sandbox) of(owner wire.Attachment) *names.Resolver {
	for _, r := range s.resolvers {
		if r.Owner == owner {
			return r
		}
	}
	return nil
}

// on reports whether the sandbox is on a network.
func (s *sandbox) on(network string) bool {
	return slices.ContainsFunc(s.resolvers, func(r *names.Resolver) bool { return r.Owner.Network == network })
}

// chooseServers takes the servers of the first attachment that has some. Their
// answers stay cached as long as the servers stay the same.
func (s *sandbox) chooseServers() {
	var servers []netip.AddrPort
	var fromHost bool
	for _, r := range s.resolvers {
		if servers = r.Servers; len(servers) > 0 {
			// An internal network leads nowhere, and so its containers ask by themselves.
			fromHost = len(r.Listen) > 0 && !r.Internal
			break
		}
	}
	if slices.Equal(servers, s.servers) && fromHost == s.fromHost {
		return
	}
	s.servers, s.fromHost, s.upstream = servers, fromHost, nil
	switch {
	case len(servers) == 0:
	case fromHost:
		s.upstream = dns.NewUpstream(servers, nil, names.Address)
	default:
		s.upstream = dns.NewUpstream(servers, s.dial, names.Address)
	}
}

// dial opens a socket to a server, in the sandbox.
func (s *sandbox) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	var err error
	gone := s.use(func(fd int) { conn, err = dnssock.DialFrom(ctx, fd, network, address, agent.Mark) })
	return conn, errors.Join(gone, err)
}

// namespace returns the namespace that the sockets are in.
func (s *sandbox) namespace() (ns netns.ID, err error) {
	gone := s.use(func(fd int) { ns, err = netns.SocketID(fd) })
	return ns, errors.Join(gone, err)
}

// Endpoint returns one of the sandbox's, nil if it has none. It takes no lock.
func (s *sandbox) Endpoint() *dns.Endpoint { return s.anySocket.Load() }

// use calls f with a socket of the sandbox, which stays open until f returns.
func (s *sandbox) use(f func(fd int)) error {
	e := s.Endpoint()
	if e == nil {
		return net.ErrClosed
	}
	return e.Control(func(udp, _ int) { f(udp) })
}

// networks are those that the sandbox is on, in the order in which they are asked.
func (s *sandbox) networks() []string {
	list := make([]string, 0, len(s.resolvers))
	for _, r := range s.resolvers {
		list = append(list, r.Owner.Network)
	}
	return list
}

// links are those of the sandbox's attachments, by network; nil: none.
func (s *sandbox) links() (links map[string][]names.Link) {
	for _, r := range s.resolvers {
		if len(r.Links) > 0 {
			if links == nil {
				links = map[string][]names.Link{}
			}
			links[r.Owner.Network] = append(links[r.Owner.Network], r.Links...)
		}
	}
	return links
}

// internal reports whether all networks of the sandbox are.
func (s *sandbox) internal() bool {
	return !slices.ContainsFunc(s.resolvers, func(r *names.Resolver) bool { return !r.Internal })
}

// setView has the sandbox's sockets answered from a view.
func (s *sandbox) setView(v dns.View) {
	for _, e := range s.sockets {
		if e.endpoint != nil {
			e.endpoint.SetView(v)
		}
	}
}

// open serves sockets, which are the sandbox's from now on. It closes those of a
// family that has some.
func (s *sandbox) open(reg *registry, sockets [families]dnssock.NameServer) error {
	var errs []error
	for f, socket := range sockets {
		switch {
		case socket.Port == 0:
		case s.sockets[f].endpoint != nil:
			socket.Close()
		default:
			reg.socketStore.put(s.cookie, names.Family(f), socket.UDP, socket.TCP)
			endpoint, err := reg.server.Serve(socket.UDP, socket.TCP, reg.viewOf(s))
			if err != nil {
				errs = append(errs, err)
				continue
			}
			s.sockets[f] = familySockets{endpoint, socket.Port}
			s.anySocket.Store(endpoint)
		}
	}
	for _, r := range s.resolvers {
		r.Port, r.Port6 = s.sockets[names.IPv4].port, s.sockets[names.IPv6].port
	}
	return errors.Join(errs...)
}

// close closes the sockets.
func (s *sandbox) close() {
	for _, e := range s.sockets {
		if e.endpoint != nil {
			_ = e.endpoint.Close() // an error changes nothing: the sandbox is not served any more
		}
	}
}
