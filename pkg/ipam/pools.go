package ipam

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"

	"dcni/pkg/wire"
)

// blocks are the private blocks that the default pools are cut from. A route that is
// not longer than its block is about the whole block or more, such as that of a VPN
// that takes all traffic. It does not exclude a pool.
var blocks = []netip.Prefix{
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("fd00::/8"),
}

// leastOnLink is the prefix length of the shortest on-link route that counts. An
// interface may have a whole /8 on its link. 0.0.0.0/1 "on link" is a tunnel that takes
// all traffic; if it counted, no pool would be left.
const leastOnLink = 8

// HostRoute is a route of the host.
type HostRoute struct {
	Dst    netip.Prefix
	OnLink bool // no next hop: Dst is on a link of this host; one that refuses (blackhole, unreachable, prohibit) is not
}

// Avoid returns what a pool must not overlap: the subnets of other networks,
// the name servers, and some of the routes. These are
//
//   - on-link routes, but not those shorter than /8;
//   - routes with a next hop, and those that refuse, that are longer than the private block they are in.
func Avoid(routes []HostRoute, nameservers []netip.Addr, networks []netip.Prefix) []netip.Prefix {
	out := slices.Clone(networks)
	for _, a := range nameservers {
		a = a.Unmap().WithZone("")
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	for _, r := range routes {
		if r.OnLink && r.Dst.Bits() >= leastOnLink || longerThanBlock(r.Dst) {
			out = append(out, r.Dst.Masked())
		}
	}
	return out
}

func longerThanBlock(p netip.Prefix) bool {
	return slices.ContainsFunc(blocks, func(b netip.Prefix) bool {
		return b.Contains(p.Addr()) && p.Bits() > b.Bits()
	})
}

// pools returns the default pools in order.
func pools() []netip.Prefix {
	var out []netip.Prefix
	for i := 17; i <= 31; i++ {
		out = append(out, netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(i)}), 16))
	}
	for i := 0; i < 256; i += 16 {
		out = append(out, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(i)}), 20))
	}
	return out
}

// FirstPool is the first of the default pools. It is left to the default bridge, as in
// Docker, where that has it before any other network is made.
func FirstPool() netip.Prefix { return pools()[0] }

// ChoosePool returns the first of the default pools that overlaps nothing to
// be avoided: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16 in /20s.
func ChoosePool(avoid []netip.Prefix) (netip.Prefix, error) {
	for _, p := range pools() {
		if !slices.ContainsFunc(avoid, p.Overlaps) {
			return p, nil
		}
	}
	return netip.Prefix{}, errNoPool()
}

// ChooseULA returns a /64 of the host's own /48 (RFC 4193: fd and 40 bits that
// are hardly ever the same on two hosts). Which /64 begins with a hash of the
// network's name, so that a network gets the same one again.
func ChooseULA(hostID, network string, avoid []netip.Prefix) (netip.Prefix, error) {
	host, name := sha256.Sum256([]byte(hostID)), sha256.Sum256([]byte(network))
	start := binary.BigEndian.Uint16(name[:])
	b := [16]byte{0: 0xfd}
	copy(b[1:6], host[len(host)-5:])
	for i := range 1 << 16 {
		binary.BigEndian.PutUint16(b[6:], start+uint16(i))
		p := netip.PrefixFrom(netip.AddrFrom16(b), 64)
		if !slices.ContainsFunc(avoid, p.Overlaps) {
			return p, nil
		}
	}
	return netip.Prefix{}, errNoPool()
}

func errNoPool() error {
	return wire.Errorf(wire.CodeTryAgain, "all predefined address pools have been fully subnetted")
}
