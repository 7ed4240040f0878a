package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

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
	nl, l, err := a.h.link(a.o.NetNS, a.o.Dev)
	if err != nil {
		return err
	}
	list, err := addrsOf(nl, l)
	if err != nil {
		return err
	}
	for _, have := range list {
		if have == a.o.Prefix {
			return nil
		}
	}
	return fmt.Errorf("missing")
}

func addrsOf(nl *netlink.Handle, l netlink.Link) ([]netip.Prefix, error) {
	var list []netlink.Addr
	err := retryDump(func() (err error) {
		list, err = nl.AddrList(l, netlink.FAMILY_ALL)
		return err
	})
	var prefixes []netip.Prefix
	for _, a := range list {
		if p, ok := prefix(a.IPNet); ok {
			prefixes = append(prefixes, p)
		}
	}
	return prefixes, err
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
