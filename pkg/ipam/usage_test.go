package ipam

import (
	"math"
	"net/netip"
	"strings"
	"testing"
)

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		subnet           RawSubnet
		leased           string
		inUse, available uint64
	}{
		{RawSubnet{Subnet: "172.17.0.0/16"}, "", 3, 65533},
		{RawSubnet{Subnet: "172.17.0.0/16"}, "172.17.0.2 172.17.9.9 10.1.0.1", 5, 65531},
		{RawSubnet{Subnet: "10.0.0.0/24", IPRange: "10.0.0.0/28", Gateway: "10.0.0.254"}, "10.0.0.1 10.0.0.200", 5, 14},
		{RawSubnet{Subnet: "10.0.0.0/24", AuxAddresses: map[string]string{"a": "10.0.0.9"}}, "", 4, 252},
		{RawSubnet{Subnet: "10.0.0.0/31"}, "", 1, 1},
		{RawSubnet{Subnet: "fd00::/120"}, "fd00::7", 3, 253},
		{RawSubnet{Subnet: "fd00::/64"}, "", 2, math.MaxUint64 - 1},
		{RawSubnet{Subnet: "fd00::/48"}, "fd00::7", 3, math.MaxUint64},
	} {
		s, err := c.subnet.subnet("", Ungated{})
		if err != nil {
			t.Fatal(err)
		}
		var leased []netip.Addr
		for _, text := range strings.Fields(c.leased) {
			leased = append(leased, netip.MustParseAddr(text))
		}
		if inUse, available := s.Usage(leased); inUse != c.inUse || available != c.available {
			t.Errorf("%+v %s: %d in use, %d available; want %d, %d", c.subnet, c.leased, inUse, available, c.inUse, c.available)
		}
	}
}
