package reach

import (
	"fmt"
	"io"
	"net"
	"net/netip"
)

// serve answers "NAME from ADDRESS" to what comes in for an address, by TCP and UDP. The
// sockets are of the namespace that the thread is in. What it returns ends them.
func serve(name string, at netip.AddrPort) ([]io.Closer, error) {
	network := "6"
	if at.Addr().Is4() {
		network = "4"
	}
	l, err := net.Listen("tcp"+network, at.String())
	if err != nil {
		return nil, err
	}
	go answerStreams(l, name)
	packets, err := net.ListenUDP("udp"+network, net.UDPAddrFromAddrPort(at))
	if err != nil {
		return []io.Closer{l}, err
	}
	go answerPackets(packets, name)
	return []io.Closer{l, packets}, nil
}

func answerStreams(l net.Listener, name string) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		if peer, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
			_, _ = io.WriteString(conn, reply(name, peer.Addr())) // a client that is gone needs none
		}
		_ = conn.Close()
	}
}

func answerPackets(conn *net.UDPConn, name string) {
	buf := make([]byte, 64)
	for {
		_, peer, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		_, _ = conn.WriteToUDPAddrPort([]byte(reply(name, peer.Addr())), peer) // likewise
	}
}

func reply(name string, peer netip.Addr) string {
	return fmt.Sprintf("%s from %s\n", name, peer.Unmap().WithZone(""))
}
