// Package hostports is what the host itself has of its ports: which ones programs
// listen on, which ones may be chosen, and which addresses are the host's.
package hostports

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/host/agent"
	"dcni/pkg/host/nlsock"
)

// Listener is a socket that waits for peers on a port of this host: a listening
// TCP or SCTP one, an unconnected UDP one.
type Listener struct {
	Addr   netip.Addr
	Port   uint16
	Peer   netip.AddrPort // of [Connections]
	V6Only bool           // an IPv6 socket that takes no IPv4
	inode  uint32         // what names it in /proc/PID/fd
	mark   uint32         // SO_MARK
}

// Takes reports whether the listener's address clashes with a port's, in one
// family. An IPv6 wildcard takes IPv4 too unless it was told not to; sharing by
// SO_REUSEPORT does not count, since the port's packets never reach a socket.
func (l Listener) Takes(p firewall.Port, v6 bool) bool {
	addr := l.Addr.Unmap()
	if addr.Is6() != v6 {
		return !v6 && addr.IsUnspecified() && !l.V6Only
	}
	return p.Any() || addr.IsUnspecified() || addr == p.HostIP.Unmap()
}

// Socket states of sock_diag as bits. An unconnected UDP socket is "closed".
const (
	stateEstablished = 1 << 1
	stateTimeWait    = 1 << 6
	stateClose       = 1 << 7
	stateListen      = 1 << 10
	allStates        = 1<<12 - 2 // but none that is new
)

// Listeners lists a protocol's listeners: one sock_diag dump per family. A
// protocol that the kernel lacks has none. dnetd's relay is left out: it listens
// for a container that publishes the port, which the firewall knows of, or did
// until a moment ago.
func Listeners(proto string) ([]Listener, error) {
	if proto == "udp" {
		return sockets(proto, stateClose)
	}
	return sockets(proto, stateListen)
}

// Connections lists a protocol's sockets that have a peer, but for those that only linger.
// Their port is at the host's end. dnetd's relay is left out.
func Connections(proto string) ([]Listener, error) {
	if proto == "udp" {
		return sockets(proto, stateEstablished)
	}
	return sockets(proto, allStates&^(stateListen|stateClose|stateTimeWait))
}

// sockets lists those of some states that are not dnetd's.
func sockets(proto string, states uint32) ([]Listener, error) {
	conn, err := nlsock.Dial(unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	var list []Listener
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		payloads, err := conn.Dump(diagRequest(family, Protocols[proto], states))
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, p := range payloads {
			if l, ok := parseDiag(p); ok && l.mark != agent.Mark {
				list = append(list, l)
			}
		}
	}
	return list, nil
}

const (
	sockDiagByFamily = 20 // SOCK_DIAG_BY_FAMILY
	diagRequestLen   = 56 // struct inet_diag_req_v2
	diagMessageLen   = 72 // struct inet_diag_msg
	diagV6Only       = 11 // INET_DIAG_SKV6ONLY
	diagMark         = 15 // INET_DIAG_MARK, for callers with CAP_NET_ADMIN
)

func diagRequest(family, proto byte, states uint32) []byte {
	var m nlsock.Message
	at := m.Begin(sockDiagByFamily, unix.NLM_F_DUMP, 1)
	req := make([]byte, diagRequestLen)
	req[0], req[1] = family, proto
	binary.NativeEndian.PutUint32(req[4:], states)
	m.B = append(m.B, req...)
	m.End(at)
	return m.B
}

// parseDiag reads a struct inet_diag_msg: family, state, timer, retransmits, then
// source and destination port, then their addresses in 16 bytes each; the inode is
// at its end.
func parseDiag(b []byte) (l Listener, ok bool) {
	if len(b) < diagMessageLen {
		return l, false
	}
	l.Port = binary.BigEndian.Uint16(b[4:])
	l.inode = binary.NativeEndian.Uint32(b[diagMessageLen-4:])
	peer := netip.AddrFrom4([4]byte(b[24:28]))
	l.Addr = netip.AddrFrom4([4]byte(b[8:12]))
	if b[0] == unix.AF_INET6 {
		l.Addr, peer = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	}
	l.Peer = netip.AddrPortFrom(peer, binary.BigEndian.Uint16(b[6:]))
	nlsock.Attributes(b[diagMessageLen:], func(typ uint16, data []byte) {
		switch {
		case typ == diagV6Only:
			l.V6Only = len(data) > 0 && data[0] != 0
		case typ == diagMark && len(data) >= 4:
			l.mark = binary.NativeEndian.Uint32(data)
		}
	})
	return l, true
}

// Protocols are the numbers of the transport protocols.
var Protocols = map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP}
