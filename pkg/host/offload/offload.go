// Package offload is about the checksums that NICs compute: it sends packets in VXLAN whose
// checksum is left to them, looks at such packets as they come in, and switches off that a
// VXLAN device leaves it to them.
//
// The kernel leaves the checksum of a packet to the last that can compute it. With VXLAN that
// is the NIC, if it knows tunnels, for the packet in the tunnel. Where both ends are on one
// machine nothing computes it, and the kernel knows that there is nothing to be checked.
package offload

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dcni/pkg/host/rawip"
	"dcni/pkg/host/spaces"
)

// DeviceName is the VXLAN device that packets are sent by. It is there while they are.
const DeviceName = "vx-dcni-probe"

// A Sender sends frames in VXLAN to one host.
type Sender struct {
	link netlink.Link
	fd   int
}

// Open makes a device of a VNI and port that sends to a host from an address of this one. One
// that was left is replaced.
func Open(vni, port int, from, to netip.Addr) (*Sender, error) {
	link := &netlink.Vxlan{
		LinkAttrs: netlink.LinkAttrs{Name: DeviceName, MTU: 1280}, // bytes; less than any underlay has room for
		VxlanId:   vni, Port: port, SrcAddr: from.AsSlice(), Group: to.AsSlice(),
	}
	if left, err := netlink.LinkByName(DeviceName); err == nil && left.Type() == "vxlan" {
		_ = netlink.LinkDel(left)
	}
	if err := netlink.LinkAdd(link); err != nil {
		return nil, err
	}
	s := &Sender{link: link, fd: -1}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Sender) open() (err error) {
	_ = netlink.LinkSetIP6AddrGenMode(s.link, netlinkAddrGenNone) // a kernel without IPv6 sends nothing of its own either
	if err := netlink.LinkSetUp(s.link); err != nil {
		return err
	}
	if s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return os.NewSyscallError("socket", err)
	}
	if err := unix.SetsockoptInt(s.fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	return os.NewSyscallError("bind", unix.Bind(s.fd, &unix.SockaddrLinklayer{Ifindex: s.link.Attrs().Index}))
}

const netlinkAddrGenNone = 1 // IN6_ADDR_GEN_MODE_NONE of linux/if_link.h

// Send sends a frame whose sum from start on is to be put at offset from there, by what
// sends it last: the kernel, or the NIC.
func (s *Sender) Send(frame []byte, start, offset uint16) error {
	const needsSum = 1                   // VIRTIO_NET_HDR_F_NEEDS_CSUM
	b := make([]byte, 10, 10+len(frame)) // struct virtio_net_hdr: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset
	b[0] = needsSum
	binary.NativeEndian.PutUint16(b[6:], start)
	binary.NativeEndian.PutUint16(b[8:], offset)
	_, err := unix.Write(s.fd, append(b, frame...))
	return os.NewSyscallError("write", err)
}

// Compute has the kernel compute sums on the sender's device.
func (s *Sender) Compute() error { return Off(DeviceName) }

// Close deletes the device.
func (s *Sender) Close() error {
	err := netlink.LinkDel(s.link)
	if s.fd >= 0 {
		err = errors.Join(err, unix.Close(s.fd))
	}
	return err
}

// Compute has the kernel compute sums on all VXLAN devices of a port (ethtool's
// tx-checksum-ip-generic off), and returns the names of those where it did not.
func Compute(port int) (changed []string, err error) {
	list, err := spaces.Dump(netlink.LinkList)
	if err != nil {
		return nil, err
	}
	for _, l := range list {
		v, is := l.(*netlink.Vxlan)
		if !is || v.Port != port || v.Name == DeviceName {
			continue
		}
		on, failed := IsOn(v.Name)
		if failed == nil && on {
			failed = Off(v.Name)
			changed = append(changed, v.Name)
		}
		err = errors.Join(err, failed)
	}
	return changed, err
}

// Requests of ethtool (linux/ethtool.h). They mean all kinds of sums; VXLAN devices have one.
const (
	getTxSum = 0x16 // ETHTOOL_GTXCSUM
	setTxSum = 0x17 // ETHTOOL_STXCSUM
)

// Off has the kernel compute sums on a device (tx-checksum-ip-generic off of a VXLAN device).
func Off(device string) error {
	_, err := ethtool(device, setTxSum, 0)
	return err
}

// IsOn reports whether a device leaves sums to others.
func IsOn(device string) (bool, error) {
	v, err := ethtool(device, getTxSum, 0)
	return v != 0, err
}

// ethtool asks the kernel with a struct ethtool_value.
func ethtool(device string, request, value uint32) (uint32, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer func() { _ = unix.Close(fd) }() // it was only asked by
	data := [2]uint32{request, value}
	var ifreq struct { // struct ifreq
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(ifreq.name[:len(ifreq.name)-1], device)
	ifreq.data = unsafe.Pointer(&data)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifreq))); errno != 0 {
		return 0, os.NewSyscallError("ioctl", errno)
	}
	return data[1], nil
}

// A Packet came in.
type Packet struct {
	From    netip.Addr
	Data    []byte // behind the IP header
	Trusted bool   // the kernel says that there is no sum to be checked: nothing has computed one
}

// Look calls each with UDP packets to this host that have all the words, until the context
// ends or a time is over. It calls ready once it looks.
func Look(ctx context.Context, v6 bool, words []rawip.Word, limit time.Duration, ready func(), each func(Packet)) error {
	protocol := uint16(unix.ETH_P_IP)
	if v6 {
		protocol = unix.ETH_P_IPV6
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), "packets")
	defer func() { _ = f.Close() }() // it was only read
	program := rawip.PacketFilter(v6, unix.IPPROTO_UDP, words)
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1)
	}
	if err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	network := protocol<<8 | protocol>>8
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: network}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := f.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Now()) })
	defer stop()
	ready()
	return read(f, v6, each)
}

func read(f *os.File, v6 bool, each func(Packet)) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	buffer, control := make([]byte, 1<<11), make([]byte, 1<<8)
	for {
		var n, oobn int
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			n, oobn, _, _, failed = unix.Recvmsg(int(fd), buffer, control, 0)
			return !errors.Is(failed, syscall.EAGAIN)
		})
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err = errors.Join(err, failed); err != nil {
			return err
		}
		if p, ok := packet(buffer[:n], v6); ok {
			p.Trusted = trusted(control[:oobn])
			each(p)
		}
	}
}

// packet cuts an IP header off.
func packet(b []byte, v6 bool) (p Packet, ok bool) {
	const size6, from4, from6 = 40, 12, 8
	size, from := size6, from6
	if !v6 && len(b) > 0 {
		size, from = int(b[0]&0xf)*4, from4
	}
	if len(b) < size || len(b) < size6 {
		return p, false
	}
	length := net.IPv4len
	if v6 {
		length = net.IPv6len
	}
	p.From, ok = netip.AddrFromSlice(b[from : from+length])
	p.Data = b[size:]
	return p, ok
}

// trusted reads a struct tpacket_auxdata.
func trusted(control []byte) bool {
	const notReady = 1 << 3 // TP_STATUS_CSUMNOTREADY
	list, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return false
	}
	for _, m := range list {
		if m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA && len(m.Data) >= 4 {
			return binary.NativeEndian.Uint32(m.Data)&notReady != 0
		}
	}
	return false
}
