// Package dns answers the queries of containers: names of their networks from
// package names, anything else from upstream servers.
//
// A [Server] listens on sockets that its caller opened, one UDP socket and one TCP
// listener for each container, in the container's network namespace. Each pair
// is an [Endpoint] with a [View] of its own: the socket tells which container asks,
// and a container can't forge that. A view is replaced whole, at any time.
//
//	server := dns.NewServer(dns.Config{})
//	server.SetUpstream(dns.NewUpstream(servers, nil)) // the host's
//	endpoint, err := server.Serve(udp, tcp, dns.View{Names: table.View("web")})
//	endpoint.SetView(dns.View{Names: newer.View("web", "lab")})
//
// To hand an endpoint to another process, pass its descriptors on (see
// [Endpoint.Control]), wait until that process serves them, and
// then Drain. For a while both processes read, and nothing is lost.
//
// # Local names
//
// A and AAAA of a name in the view are its addresses there, starting with another
// one each time. PTR is the name of an address; one of our networks without a name does not exist. SRV of
// _port._proto.name, and of port.proto.name as Docker asks, is that port at
// that name: a number, or a service name of services(5). ANY is both families.
// Any other type or class is empty without error, and so is an address of a
// family that the name lacks: what concerns a local name is never asked upstream.
//
// # Upstream
//
// An [Upstream] is a list of servers and how they are reached: the host's, from
// the host's namespace; a network's or a container's own, through a dialer that
// leads into the container's. The server asks the first, after a short while the
// next one too, and the first good answer counts. The one that answered is asked
// first for half a minute. A query takes four seconds at most, so that a client that
// waits five gets the failure. A query without an answer is sent again on the same
// socket. Each query has a socket, and so a source port, and a random ID of its own.
// Messages from elsewhere, or with other questions, are dropped. If an answer is
// truncated, or cut within a record, the server asks again over TCP. EDNS is passed
// on: the client's DNSSEC flag, and whole messages where there are options.
//
// Answers are kept for the least of their TTLs, a day at most; those of an upstream with a
// server on a loopback address, or on this host otherwise, for a second, since that is a cache already and hears of
// changes that we do not (a VPN's split DNS). Negative answers are
// kept for the time in their SOA record (RFC 2308), three hours at most, and a
// failure of all servers for a second (RFC 9520). Equal queries at one time are one
// query upstream. So a server that leads back to ourselves costs one query and four
// seconds, not a storm. Addresses known to be ours are never asked.
//
// # Limits
//
// An idle endpoint is two sockets, without buffers and without a goroutine: it gets
// those when there is something to read. One epoll instance watches all sockets. An
// endpoint may have 256 different queries under way to upstreams, and a server 1,024.
// More wait for their turn, in which endpoints alternate, for as long as a client
// waits: REFUSED would be taken for an answer. An endpoint may have 2,048 queries
// waiting, and a server 16,384; more are dropped, but for endpoints with less than an equal share of them. For each answer that is a failure, an endpoint is
// not read for 100 us: a client that repeats such queries gets 10,000 answers a
// second and can't keep a processor busy. There may be 64 TCP connections of an
// endpoint and 512 of a server. More wait in their listeners' queues, and endpoints take turns
// there too. Connections are closed after ten idle seconds, one second while others
// wait, and when a query or an answer takes five. As many queries and connections again are reserved
// for endpoints with few, so greedy endpoints take nothing from the others. The cache
// has a fixed size.
//
// Answers over UDP have at most 4,096 bytes, or what the client takes, if less.
// Records that do not fit are left out, and the answer is marked as truncated: then
// the client asks over TCP.
package dns
