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
	all, err := r.AddrsByOrigin(index, family)
	return append(all.Given, all.Learned...), err
}

// AddrsByOrigin are the addresses on a link.
type AddrsByOrigin struct {
	Given   []netip.Prefix
	Learned []netip.Prefix // that the kernel made of a router advertisement
}

// AddrsByOrigin lists the addresses of one family on one link, or for 0 on all.
func (r *Conn) AddrsByOrigin(index, family int) (all AddrsByOrigin, err error) {
	payloads, err := r.Request(unix.RTM_GETADDR, unix.NLM_F_DUMP, func(m *Message) {
		m.B = append(m.B, byte(family), 0, 0, 0) // struct ifaddrmsg
		m.B = binary.NativeEndian.AppendUint32(m.B, uint32(index))
	})
	if err != nil {
		return all, err
	}
	for _, p := range payloads {
		if len(p) < unix.SizeofIfAddrmsg || index != 0 && binary.NativeEndian.Uint32(p[4:]) != uint32(index) {
			continue
		}
		ip, flags, ok := addrOf(p[unix.SizeofIfAddrmsg:])
		switch have := netip.PrefixFrom(ip, int(p[1])); {
		case !ok:
		case ip.Is6() && flags&(unix.IFA_F_MANAGETEMPADDR|unix.IFA_F_TEMPORARY) != 0:
			all.Learned = append(all.Learned, have)
		default:
			all.Given = append(all.Given, have)
		}
	}
	return all, nil
}

// addrOf returns the address in a message's attributes, and its flags. On a
// point-to-point link IFA_ADDRESS is the other end's, and IFA_LOCAL is there as well.
func addrOf(attrs []byte) (ip netip.Addr, flags uint32, ok bool) {
	var local bool
	nlsock.Attributes(attrs, func(typ uint16, data []byte) {
		switch {
		case typ == unix.IFA_LOCAL || typ == unix.IFA_ADDRESS && !local:
			ip, ok = netip.AddrFromSlice(data)
			local = typ == unix.IFA_LOCAL
		case typ == unix.IFA_FLAGS && len(data) >= 4:
			flags = binary.NativeEndian.Uint32(data)
		}
	})
	return ip, flags, ok
}
