package relay

import (
	"container/list"
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// sessions are a socket's clients.
type sessions struct {
	by     map[client]*session // nil until there is one
	recent list.List           // of *session, the most silent first
}

// A client is where datagrams come from, and which address of the host they go to:
// the one to answer from. IPv4 addresses are mapped to IPv6.
type client struct {
	addr  [16]byte
	zone  uint32
	port  uint16
	local [16]byte
}

// clientOf returns the client that a datagram came from.
func clientOf(from unix.Sockaddr, local netip.Addr) (c client, ok bool) {
	c.local = local.As16()
	switch from := from.(type) {
	case *unix.SockaddrInet4:
		c.addr, c.port = netip.AddrFrom4(from.Addr).As16(), uint16(from.Port)
	case *unix.SockaddrInet6:
		c.addr, c.zone, c.port = from.Addr, from.ZoneId, uint16(from.Port)
	default:
		return c, false
	}
	return c, true
}

// A session is a client and its socket towards the container.
type session struct {
	socket *socket
	claim  *claim
	client client
	link   uint32 // index of the link to answer by, where the address to answer from does not tell; else 0
	fd     int
	last   time.Time
	place  *list.Element // in recent
}

// receive passes on one datagram. It returns false if there is none. The lock must
// be held.
func (s *socket) receive(r *Relay) bool {
	var oob [96]byte
	n, m, _, from, err := unix.Recvmsg(s.fd, r.buffer[:], oob[:], unix.MSG_DONTWAIT)
	if err != nil {
		return !errors.Is(err, unix.EAGAIN)
	}
	local, link := packetInfo(oob[:m])
	if !local.IsValid() {
		return true
	}
	if local.IsMulticast() {
		local = netip.IPv6Unspecified() // nothing is sent from a group's address
	}
	c, ok := clientOf(from, local)
	if !ok {
		return true
	}
	session := s.udp.by[c]
	if session == nil {
		if session = r.begin(s, c, link); session == nil {
			return true
		}
	}
	session.touch()
	// If the container's queue is full the datagram is lost, as datagrams are.
	if _, err := unix.Write(session.fd, r.buffer[:n]); err == nil {
		r.stats.Bytes += uint64(n)
	}
	return true
}

// packetInfo reads control messages of IPV6_PKTINFO (RFC 3542, section 6) and IP_PKTINFO
// (ip(7)): the address that a packet was sent to, and the index of the link that it came
// by. For IPv4 the address is the one of the host's that an answer is to come from, which
// is another one for a broadcast. A socket of both families gets both messages of IPv4.
func packetInfo(oob []byte) (local netip.Addr, link int) {
	for len(oob) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return local, link
		}
		oob = rest
		switch {
		case h.Level == unix.SOL_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			return netip.AddrFrom4([4]byte(data[4:])), int(binary.NativeEndian.Uint32(data))
		case h.Level == unix.SOL_IPV6 && (h.Type == unix.IPV6_PKTINFO || h.Type == unix.IPV6_2292PKTINFO) &&
			len(data) >= unix.SizeofInet6Pktinfo:
			local, link = netip.AddrFrom16([16]byte(data)).Unmap(), int(binary.NativeEndian.Uint32(data[16:]))
		}
	}
	return local, link
}

// begin makes a session for a new client, or returns nil.
func (r *Relay) begin(s *socket, c client, link int) *session {
	local := netip.AddrFrom16(c.local).Unmap()
	cl := r.ports[keyOf(s.protocol, s.at.Port())].claimAt(local)
	r.stats.Accepted++
	if cl == nil || !r.allowed(s, link) {
		r.stats.Refused++
		return nil
	}
	r.makeRoom(s)
	fd, err := connect(r.turn(cl.Target))
	if err == nil && tooHigh(fd) {
		_ = unix.Close(fd)
		err = unix.EMFILE
	}
	if err != nil {
		r.stats.Refused++
		if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
			r.pause(s)
		}
		return nil
	}
	n := &session{socket: s, claim: cl, client: c, fd: fd}
	if local.Is6() && (local.IsLinkLocalUnicast() || local.IsUnspecified()) {
		n.link = uint32(link)
	}
	if err := r.add(fd, n); err != nil {
		r.stats.Refused++
		_ = unix.Close(fd)
		return nil
	}
	if s.udp.by == nil {
		s.udp.by = map[client]*session{}
	}
	s.udp.by[c] = n
	n.place = s.udp.recent.PushBack(n)
	r.busy[s] = true
	r.stats.Sessions++
	r.wakeIn(r.limits.sweep)
	return n
}

// connect returns a UDP socket that is connected to a container. An address of
// this host is refused: this relay may listen there.
func connect(target netip.AddrPort) (int, error) {
	if !target.IsValid() {
		return -1, unix.ECONNREFUSED
	}
	family := unix.AF_INET
	if target.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_UDP)
	if err != nil {
		return -1, err
	}
	if err = unix.Connect(fd, sockaddr(target)); err == nil {
		var local unix.Sockaddr
		local, err = unix.Getsockname(fd)
		if addressOf(local) == target.Addr() {
			err = unix.ELOOP
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func addressOf(sa unix.Sockaddr) netip.Addr {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(sa.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(sa.Addr).Unmap()
	}
	return netip.Addr{}
}

// makeRoom ends the session that was silent for longest if there are too many. So
// a flood of clients that send once does not keep new clients out.
func (r *Relay) makeRoom(s *socket) {
	if s.udp.recent.Len() >= r.limits.portSessions {
		r.end(s.udp.recent.Front().Value.(*session))
	}
	if r.stats.Sessions < r.limits.sessions {
		return
	}
	var oldest *session
	for other := range r.busy {
		if first := other.udp.recent.Front().Value.(*session); oldest == nil || first.last.Before(oldest.last) {
			oldest = first
		}
	}
	r.end(oldest)
}

// touch notes that a session was used now.
func (n *session) touch() {
	n.last = time.Now()
	n.socket.udp.recent.MoveToBack(n.place)
}

// ready passes on what the container answers.
func (n *session) ready(r *Relay) {
	for range readsAtOnce {
		size, err := unix.Read(n.fd, r.buffer[:])
		switch {
		case errors.Is(err, unix.EAGAIN):
			return
		case err == nil:
			n.touch()
			n.reply(r, r.buffer[:size])
		}
		// Another error: nothing listens in the container yet.
	}
}

// reply sends to the client, from the address that the client sent to.
func (n *session) reply(r *Relay, b []byte) {
	to, from := n.envelope()
	// If the client's queue is full the datagram is lost, as datagrams are.
	if _, err := unix.SendmsgN(n.socket.fd, b, from, to, unix.MSG_DONTWAIT); err == nil {
		r.stats.Bytes += uint64(len(b))
	}
}

// envelope returns where an answer to the client goes, and the control message that says
// where it comes from.
func (n *session) envelope() (to unix.Sockaddr, from []byte) {
	c := n.client
	if n.socket.at.Addr().Is4() {
		addr, local := netip.AddrFrom16(c.addr).As4(), netip.AddrFrom16(c.local).As4()
		return &unix.SockaddrInet4{Addr: addr, Port: int(c.port)}, unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: local})
	}
	return &unix.SockaddrInet6{Addr: c.addr, ZoneId: c.zone, Port: int(c.port)},
		unix.PktInfo6(&unix.Inet6Pktinfo{Addr: c.local, Ifindex: n.link})
}

// end ends a session.
func (r *Relay) end(n *session) {
	u := n.socket.udp
	delete(u.by, n.client)
	u.recent.Remove(n.place)
	if u.recent.Len() == 0 {
		u.by = nil
		delete(r.busy, n.socket)
	}
	r.stats.Sessions--
	r.remove(n.fd)
}

// closeSessions ends the sessions that which returns true for.
func (s *socket) closeSessions(r *Relay, which func(*session) bool) {
	if s.udp == nil {
		return
	}
	for _, n := range s.udp.by {
		if which(n) {
			r.end(n)
		}
	}
}

// closeSilent ends the sessions that have been silent for too long.
func (s *socket) closeSilent(r *Relay, now time.Time) {
	for first := s.udp.recent.Front(); first != nil; first = s.udp.recent.Front() {
		n := first.Value.(*session)
		if now.Sub(n.last) < r.limits.silence {
			return
		}
		r.end(n)
	}
}
