package ipam

import (
	"net/netip"

	"dcni/pkg/wire"
)

// Family returns "IPv4" or "IPv6".
func Family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// last returns the highest address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// usable returns the first and last address of a subnet that a container or a
// gateway can have.
func usable(p netip.Prefix) (from, to netip.Addr) {
	from, to = p.Addr(), last(p)
	if p.Addr().BitLen()-p.Bits() <= 1 {
		return from, to // too small for network and broadcast addresses
	}
	if p.Addr().Is4() {
		to = to.Prev()
	}
	return from.Next(), to
}

// special says which special address of its subnet a is: "network",
// "broadcast", or "" for an ordinary one.
func special(p netip.Prefix, a netip.Addr) string {
	switch from, to := usable(p); {
	case a.Less(from):
		return "network"
	case to.Less(a):
		return "broadcast"
	}
	return ""
}

// parseAddr reads an address as people write it. IPv4-mapped IPv6 is refused
// and not rewritten: two texts for one address would be two leases.
func parseAddr(field, text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return a, wire.Invalid(field, text, "must be an IP address, such as 10.0.0.1 or fd00::1")
	case a.Is4In6():
		return a, wire.Invalid(field, text, "must be written as the IPv4 address "+a.Unmap().String())
	case a.Zone() != "":
		return a, wire.Invalid(field, text, "must be an address without a zone")
	}
	return a, nil
}

// parsePrefix reads a block without host bits.
func parsePrefix(field, text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return p, wire.Invalid(field, text, "must be an IP address and a prefix length, such as 10.0.0.0/24 or fd00::/64")
	case p.Addr().Is4In6():
		return p, wire.Invalid(field, text, "must be written as an IPv4 block")
	case p != p.Masked():
		return p, wire.Invalid(field, text, "it should be "+p.Masked().String())
	}
	return p, nil
}
