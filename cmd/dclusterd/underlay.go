package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// An underlay is where a node's traffic to others leaves.
type underlay struct {
	address netip.Addr
	mtu     int // bytes, of its interface
}

// findUnderlay finds the address that a node advertises: one that is told, the first of an
// interface that is told, or the one that the default route leaves from.
func findUnderlay(advertise string) (underlay, error) {
	if advertise == "" {
		a, err := routeSource()
		if err != nil {
			return underlay{}, err
		}
		return withMTU(a)
	}
	if a, err := netip.ParseAddr(advertise); err == nil {
		return withMTU(a.Unmap())
	}
	i, err := net.InterfaceByName(advertise)
	if err != nil {
		return underlay{}, fmt.Errorf("--advertise %q: must be an address or an interface of the host", advertise)
	}
	for _, a := range addressesOf(*i) {
		if a.IsGlobalUnicast() {
			return underlay{address: a, mtu: i.MTU}, nil
		}
	}
	return underlay{}, fmt.Errorf("--advertise %q: the interface has no address that other hosts reach", advertise)
}

// routeSource returns the address that packets to far away have. Nothing is sent: a
// datagram socket that is connected only looks for its route.
func routeSource() (netip.Addr, error) {
	for _, far := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} { // RFC 5737, RFC 3849
		c, err := net.Dial("udp", far)
		if err != nil {
			continue
		}
		local := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap().WithZone("")
		_ = c.Close()
		return local, nil
	}
	return netip.Addr{}, errors.New("the host has no default route: --advertise must say which of its addresses other nodes reach")
}

// withMTU finds the interface of an address.
func withMTU(a netip.Addr) (underlay, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return underlay{}, err
	}
	for _, i := range interfaces {
		for _, has := range addressesOf(i) {
			if has == a {
				return underlay{address: a, mtu: i.MTU}, nil
			}
		}
	}
	if a.IsLoopback() { // 127.0.0.2 is on no interface, and the host's
		return underlay{address: a, mtu: 65536}, nil
	}
	return underlay{}, fmt.Errorf("address %s: no interface of the host has it", a)
}

func addressesOf(i net.Interface) (list []netip.Addr) {
	addrs, _ := i.Addrs() // the interface may be gone by now
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			list = append(list, p.Addr().Unmap())
		}
	}
	return list
}
