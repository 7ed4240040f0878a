package rtnl

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// LoIndex is lo's in every namespace: it is the first link there
// (LOOPBACK_IFINDEX in the kernel's net/flow.h).
const LoIndex = 1

// Lo is the name of the loopback link.
const Lo = "lo"

// LoUp reports whether lo is up: to ask for its flags alone takes a tenth of the
// time that asking for the whole link takes.
func (r *Conn) LoUp() bool {
	request, err := unix.NewIfreq(Lo)
	if err == nil {
		err = unix.IoctlIfreq(r.conn.FD, unix.SIOCGIFFLAGS, request)
	}
	return err == nil && request.Uint16()&unix.IFF_UP != 0
}

// RaiseLo brings lo up, and reports whether it was down.
func (r *Conn) RaiseLo() (down bool, err error) {
	lo, err := r.LinkByIndex(LoIndex)
	if err != nil || lo.Up() {
		return false, err
	}
	return true, r.SetUp(LoIndex, true)
}

// SourceFor returns the address that packets to another one carry; where there
// is no route to that, the first that others could reach; the zero Prefix where
// there is none of that family.
func (r *Conn) SourceFor(to netip.Addr) (netip.Prefix, error) {
	_, source, err := r.RouteTo(to)
	if err != nil {
		source = netip.Addr{} // no route
	}
	family := unix.AF_INET
	if to.Is6() {
		family = unix.AF_INET6
	}
	list, err := r.Addrs(0, family)
	if err != nil {
		return netip.Prefix{}, err
	}
	var first netip.Prefix
	for _, p := range list {
		a := p.Addr()
		if a == source {
			return p, nil
		}
		if !first.IsValid() && !a.IsLoopback() && !a.IsLinkLocalUnicast() {
			first = p
		}
	}
	return first, nil
}

// Loopback returns the addresses that lo has, or will have when it comes up.
func (r *Conn) Loopback() ([]netip.Prefix, error) {
	lo, err := r.LinkByIndex(LoIndex)
	if err != nil {
		return nil, err
	}
	list := []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}
	off, err := DevConfs["ipv6/disable_ipv6"].Value(lo)
	if err == nil && off == "0" {
		list = append(list, netip.MustParsePrefix("::1/128"))
	}
	return list, nil
}
