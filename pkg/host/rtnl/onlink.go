package rtnl

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

// ReachesOnLink reports whether a link has the on-link route of its address: it
// asks for the way to a neighbour, by that link, which costs the same whatever
// number of routes the host has. What the kernel can't say is taken to be so.
func (r *Conn) ReachesOnLink(index int, p netip.Prefix) bool {
	to, ok := neighbour(p)
	if !ok {
		return true
	}
	payloads, err := r.Request(unix.RTM_GETROUTE, 0, func(m *Message) {
		m.B = append(m.B, Family(to), byte(to.BitLen()), 0, 0, 0, 0, 0, 0) // struct rtmsg
		m.B = binary.NativeEndian.AppendUint32(m.B, unix.RTM_F_FIB_MATCH)
		m.Raw(unix.RTA_DST, to.AsSlice())
		m.Native(unix.RTA_OIF, uint32(index))
	})
	if err == nil {
		return len(payloads) == 0 || len(payloads[0]) < 2 || int(payloads[0][1]) >= p.Bits()
	}
	return !errors.Is(err, unix.ENETUNREACH) && !errors.Is(err, unix.EHOSTUNREACH)
}

// neighbour returns an address that shares a prefix's link with its own.
func neighbour(p netip.Prefix) (netip.Addr, bool) {
	broadcast, _ := broadcastOf(p)
	for _, a := range []netip.Addr{p.Addr().Next(), p.Addr().Prev()} {
		if !p.Contains(a) || len(broadcast) > 0 && (string(a.AsSlice()) == string(broadcast) || a == p.Masked().Addr()) {
			continue
		}
		return a, true
	}
	return netip.Addr{}, false
}

// Family returns an address's family (AF_INET, AF_INET6).
func Family(a netip.Addr) byte {
	if a.Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// AddOnLink adds an address's on-link route, as the kernel makes it.
func (r *Conn) AddOnLink(index int, p netip.Prefix) error {
	return r.Change(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, func(m *Message) {
		scope := byte(unix.RT_SCOPE_LINK)
		if p.Addr().Is6() {
			scope = unix.RT_SCOPE_UNIVERSE
		}
		m.B = append(m.B, Family(p.Addr()), byte(p.Bits()), 0, 0, // struct rtmsg
			unix.RT_TABLE_MAIN, unix.RTPROT_KERNEL, scope, unix.RTN_UNICAST)
		m.B = binary.NativeEndian.AppendUint32(m.B, 0)
		m.Raw(unix.RTA_DST, p.Masked().Addr().AsSlice())
		m.Native(unix.RTA_OIF, uint32(index))
		if p.Addr().Is6() {
			const metric = 256 // IP6_RT_PRIO_ADDRCONF in the kernel's net/ip6_route.h
			m.Native(unix.RTA_PRIORITY, metric)
		} else {
			m.Raw(unix.RTA_PREFSRC, p.Addr().AsSlice())
		}
	})
}
