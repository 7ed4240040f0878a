package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dcni/pkg/wire"
)

// addr is a [wire.Addr].
type addr struct {
	h *Host
	o *wire.Addr
}

func (a addr) message() *netlink.Addr {
	m := &netlink.Addr{IPNet: ipNet(a.o.Prefix)}
	if a.o.Prefix.Addr().Is6() {
		m.Flags = unix.IFA_F_NODAD
	}
	return m
}

func (a addr) ensure() (bool, error) {
	nl, l, err := a.h.link(a.o.NetNS, a.o.Dev)
	if err != nil {
		return false, err
	}
	err = nl.AddrAdd(l, a.message())
	if errors.Is(err, unix.EEXIST) {
		// IPv6 answers so when the address is on this very link, IPv4 too:
		// either finds only its own link's.
		return false, nil
	}
	return err == nil, err
}

func (a addr) check() error {
	_, l, err := a.h.link(a.o.NetNS, a.o.Dev)
	if err != nil {
		return err
	}
	var list []netip.Prefix
	err = a.h.run(a.o.NetNS, func() (err error) {
		list, err = addrsOf(l.Attrs().Index, family(a.o.Prefix.Addr()))
		return err
	})
	if err == nil && !slices.Contains(list, a.o.Prefix) {
		err = fmt.Errorf("missing")
	}
	return err
}

// addrsOf lists the addresses of one family on one link. The kernel is asked
// to look at that link only (NETLINK_GET_STRICT_CHK): a host has a link-local
// address for each container.
func addrsOf(index, family int) ([]netip.Prefix, error) {
	conn, err := dialNetlink(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer conn.close()
	// A kernel that does not know it lists all links, which is sorted out below.
	_ = unix.SetsockoptInt(conn.fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	var m message
	at := m.begin(unix.RTM_GETADDR, unix.NLM_F_DUMP, 1)
	m.b = append(m.b, byte(family), 0, 0, 0) // struct ifaddrmsg
	m.b = binary.NativeEndian.AppendUint32(m.b, uint32(index))
	m.end(at)
	payloads, err := conn.dump(m.b)
	if err != nil {
		return nil, err
	}
	var list []netip.Prefix
	for _, p := range payloads {
		if len(p) < unix.SizeofIfAddrmsg || binary.NativeEndian.Uint32(p[4:]) != uint32(index) {
			continue
		}
		if ip, ok := addrOf(p[unix.SizeofIfAddrmsg:]); ok {
			list = append(list, netip.PrefixFrom(ip, int(p[1])))
		}
	}
	return list, nil
}

// addrOf returns the address in a message's attributes. On a point-to-point
// link IFA_ADDRESS is the other end's, and IFA_LOCAL is there as well.
func addrOf(attrs []byte) (ip netip.Addr, ok bool) {
	var local bool
	attributes(attrs, func(typ uint16, data []byte) {
		if typ == unix.IFA_LOCAL || typ == unix.IFA_ADDRESS && !local {
			ip, ok = netip.AddrFromSlice(data)
			local = typ == unix.IFA_LOCAL
		}
	})
	return ip, ok
}

func (a addr) remove() error {
	nl, l, err := a.h.link(a.o.NetNS, a.o.Dev)
	if err == nil {
		err = nl.AddrDel(l, a.message())
	}
	if err != nil && !gone(err) {
		return err
	}
	return nil
}

func (a addr) probe() error { return nil }

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	ip, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	ones, bits := n.Mask.Size()
	if ip.Is4In6() && bits == 32 {
		ip = ip.Unmap()
	}
	return netip.PrefixFrom(ip, ones), true
}

// retryDump repeats a dump that the kernel says changed underneath
// (NLM_F_DUMP_INTR): what it returned may lack or repeat entries. It gives up
// after a few rounds on a machine that never holds still.
func retryDump(dump func() error) error {
	const rounds = 8
	var err error
	for range rounds {
		if err = dump(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return err
		}
	}
	return err
}
