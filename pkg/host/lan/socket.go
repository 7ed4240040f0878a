package lan

import (
	"errors"
	"math/bits"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// listen opens a packet socket on a link, for one protocol. Its filter is there before
// the first frame is. A socket of a protocol does not get what the link itself sends.
func listen(index int, protocol uint16, filter program) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	if err != nil {
		closeBeside(fd)
		return -1, os.NewSyscallError("setsockopt", err)
	}
	err = unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: index, Protocol: bits.ReverseBytes16(protocol)})
	if err != nil {
		closeBeside(fd)
		return -1, os.NewSyscallError("bind", err)
	}
	return fd, nil
}

// join has the link take what is sent to all, and to those that have one of the
// addresses: other hosts ask there, too. A switch that watches for members is told by a
// socket of the group, where the link has IPv6. It lasts until the sockets are closed.
func join(fd, index int, addresses []netip.Addr) (group int, err error) {
	group, err = unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		group = -1
	}
	groups := []netip.Addr{netip.IPv6LinkLocalAllNodes()}
	for _, a := range addresses {
		groups = append(groups, solicitedNode(a))
	}
	for _, g := range groups {
		to := groupMAC(g)
		m := unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_MULTICAST, Alen: uint16(len(to))}
		copy(m.Address[:], to[:])
		if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &m); err != nil {
			return group, os.NewSyscallError("setsockopt", err)
		}
		if group >= 0 {
			_ = unix.SetsockoptIPv6Mreq(group, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, &unix.IPv6Mreq{Multiaddr: g.As16(), Interface: uint32(index)})
		}
	}
	return group, nil
}

// closeBeside closes a packet socket while the caller goes on: the kernel waits for an RCU
// grace period, 8 to 50 ms, and for several sockets in the same one.
func closeBeside(fd int) { go unix.Close(fd) }

// send sends a frame. A queue that is full, or a link that is down, has lost it, as a
// wire may.
func send(fd int, frame []byte) error {
	err := unix.Send(fd, frame, 0)
	if errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENETDOWN) {
		return nil
	}
	return os.NewSyscallError("send", err)
}

// receive reads a frame that is there, nil if there is none by now.
func receive(fd int) ([]byte, error) {
	const longest = 2048 // Ethernet's, and some
	b := make([]byte, longest)
	n, _, err := unix.Recvfrom(fd, b, unix.MSG_DONTWAIT)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENETDOWN) { // the link was down
		return nil, nil
	}
	if err != nil {
		return nil, os.NewSyscallError("recvfrom", err)
	}
	return b[:n], nil
}
