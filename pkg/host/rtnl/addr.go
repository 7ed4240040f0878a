package rtnl

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/nlsock"
)

// ChangeAddr adds an address to a link (RTM_NEWADDR) or takes it (RTM_DELADDR).
func (r *Conn) ChangeAddr(typ uint16, index int, p netip.Prefix) error {
	var flags uint16
	if typ == unix.RTM_NEWADDR {
		flags = unix.NLM_F_CREATE | unix.NLM_F_EXCL
	}
	return r.Change(typ, flags, func(m *Message) {
		family, nodad := byte(unix.AF_INET), byte(0)
		if p.Addr().Is6() {
			family, nodad = unix.AF_INET6, unix.IFA_F_NODAD
		}
		m.B = append(m.B, family, byte(p.Bits()), nodad, unix.RT_SCOPE_UNIVERSE) // struct ifaddrmsg
		m.B = binary.NativeEndian.AppendUint32(m.B, uint32(index))
		m.Raw(unix.IFA_LOCAL, p.Addr().AsSlice())
		m.Raw(unix.IFA_ADDRESS, p.Addr().AsSlice())
		if broadcast, ok := broadcastOf(p); ok {
			m.Raw(unix.IFA_BROADCAST, broadcast)
		}
	})
}

// broadcastOf returns an IPv4 subnet's broadcast address, where it has one
// (RFC 3021: a /31 has none).
func broadcastOf(p netip.Prefix) ([]byte, bool) {
	const most = 30
	if !p.Addr().Is4() || p.Bits() > most {
		return nil, false
	}
	a := p.Addr().As4()
	host := uint32(1)<<(32-p.Bits()) - 1
	return binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(a[:])|host), true
}

// Addrs lists the addresses of one family on one link, or for 0 on all.
func (r *Conn) Addrs(index, family int) ([]netip.Prefix, error) {
	payloads, err := r.Request(unix.RTM_GETADDR, unix.NLM_F_DUMP, func(m *Message) {
		m.B = append(m.B, byte(family), 0, 0, 0) // struct ifaddrmsg
		m.B = binary.NativeEndian.AppendUint32(m.B, uint32(index))
	})
	if err != nil {
		return nil, err
	}
	var list []netip.Prefix
	for _, p := range payloads {
		if len(p) < unix.SizeofIfAddrmsg || index != 0 && binary.NativeEndian.Uint32(p[4:]) != uint32(index) {
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
	nlsock.Attributes(attrs, func(typ uint16, data []byte) {
		if typ == unix.IFA_LOCAL || typ == unix.IFA_ADDRESS && !local {
			ip, ok = netip.AddrFromSlice(data)
			local = typ == unix.IFA_LOCAL
		}
	})
	return ip, ok
}
