// Package dns answers the queries of containers: names of their networks from
// package names, anything else from upstream servers.
//
// A [Server] listens on sockets that others opened, one UDP socket and one TCP
// listener for each container, in the container's network namespace. Each pair
// is an [Endpoint] with a [View] of its own: who asks is told by the socket
// and can't be forged. A view is replaced whole, at any time.
//
//	server := dns.NewServer(dns.Config{})
//	server.SetUpstream(dns.NewUpstream(servers, nil)) // the host's
//	endpoint, err := server.Serve(udp, tcp, dns.View{Names: table.View("web")})
//	endpoint.SetView(dns.View{Names: newer.View("web", "lab")})
//
// To hand an endpoint to another process, pass its descriptors on (see
// [Endpoint.Control]), wait until that process serves them, and
// then Drain: for a while both read, and nothing is lost.
//
// # Local names
//
// A and AAAA of a name that somebody in the view has are its addresses there,
// beginning with another one each time. PTR is the name of an address. SRV of
// _port._proto.name, and of port.proto.name as Docker asks, is that port at
// that name: a number, or a service name of services(5). ANY is both families.
// Any other type or class is empty without error, and so is an address of a
// family that the name lacks: what concerns a local name is never asked upstream.
//
// # Upstream
//
// An [Upstream] is a list of servers and how they are reached: the host's, from
// the host's namespace; a network's or a container's own, through a dialer that
// leads into the container's. The first is asked, after a short while the next
// one too, and the first good answer counts. Who answered is asked first for
// half a minute. A query has four seconds in all, so that a client that waits
// five hears of its failure. Queries go out again on the same socket when
// nothing comes; each has a socket, and so a source port, and a random ID of
// its own. What comes from elsewhere, or answers something else, is dropped. A
// truncated answer, or one cut in the midst of a record, is asked for again over
// TCP. EDNS is passed on: the client's DNSSEC flag, and whole messages where
// there are options.
//
// Answers are kept as long as the least of their TTLs says, a day at most; that
// something does not exist, as its SOA says (RFC 2308), three hours at most;
// that nobody answered, a second (RFC 9520). Equal queries at one time are one
// query upstream. So a server that leads back to ourselves costs one query and
// four seconds, not a storm; addresses known to be ours are never asked.
//
// # Limits
//
// An idle endpoint is two sockets, without buffers and without a goroutine: those
// are taken when there is something to read. One epoll instance watches all
// sockets. An endpoint may have 256 queries
// waiting for upstreams, and a server 1,024 different ones; more are refused at
// once. For each answer that is a failure, an endpoint is not read for 100 us, so
// that nobody makes a processor busy by asking for more of them: 10,000 a
// second. TCP connections are 16 an endpoint and 512 in all, closed after ten
// seconds of silence and when a query or an answer takes five. As many queries
// and connections again are there for endpoints with few: some that take what
// they can get take nothing from the others. The cache has a fixed size.
//
// Answers over UDP have at most 4,096 bytes, or what the client takes, if less;
// what does not fit is left out and marked as truncated, and the client asks
// over TCP.
package dns
