package ipam

import (
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"
)

// Usage counts the addresses of a subnet, up to 2^64-1: those in use, which are
// leased or reserved, and those that a container can still get without asking for
// a certain one.
func (s Subnet) Usage(leased []netip.Addr) (inUse, available uint64) {
	taken := make(map[netip.Addr]string)
	s.reserve(taken)
	for _, a := range leased {
		if s.Prefix.Contains(a) {
			taken[a] = "leased"
		}
	}
	from, to := usable(s.Prefix)
	inUse = uint64(len(taken))
	for _, special := range []netip.Addr{s.Prefix.Addr(), last(s.Prefix)} {
		if special.Less(from) || to.Less(special) {
			inUse++
		}
	}
	span := s.span()
	available, exact := count(span.From, span.To)
	for a := range taken {
		if exact && span.Contains(a) {
			available--
		}
	}
	return inUse, available
}

// count counts from one address to another, both included; exact is false where
// there are more than 2^64-1.
func count(from, to netip.Addr) (n uint64, exact bool) {
	a, b := from.As16(), to.As16()
	low, borrow := bits.Sub64(binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(a[8:]), 0)
	high, _ := bits.Sub64(binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(a[:8]), borrow)
	if high > 0 || low == math.MaxUint64 {
		return math.MaxUint64, false
	}
	return low + 1, true
}
