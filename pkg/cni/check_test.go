package cni

import (
	"net"
	"net/netip"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"dcni/pkg/wire"
)

// CHECK tells of a way out that is not the network's, if it wins.
func TestOtherWays(t *testing.T) {
	way := func(via string, metric int) *wire.Route {
		a := netip.MustParseAddr(via)
		dst := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		if a.Is4() {
			dst = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		}
		return &wire.Route{NetNS: "/ns", Dev: "eth0", Dst: dst, Via: a, Metric: metric}
	}
	own := []wire.Object{&wire.Up{}, way("10.1.0.1", 7), way("fd00::1", 7)}
	result := []*types.Route{
		{Dst: net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, GW: net.ParseIP("10.1.0.9")},
		{Dst: net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(8, 32)}, GW: net.ParseIP("10.1.0.8")},
	}
	for name, c := range map[string]struct {
		list []*wire.Route
		own  []wire.Object
		want string
	}{
		"as planned, and moved": {[]*wire.Route{way("10.1.0.1", 8), way("fd00::1", 9)}, own, ""},
		"another that wins":     {[]*wire.Route{way("10.1.0.1", 7), way("10.1.0.8", 0)}, own, "route default via 10.1.0.8 dev eth0 in sandbox: is not the network's"},
		"one that does not":     {[]*wire.Route{way("10.1.0.1", 7), way("10.1.0.8", 8)}, own, ""},
		"of the chain":          {[]*wire.Route{way("10.1.0.1", 7), way("10.1.0.9", 0)}, own, ""},
		"of the other family":   {[]*wire.Route{way("10.1.0.1", 1), way("fd00::1", 7), way("fe80::9", 2)}, own, "route -6 default via fe80::9 dev eth0 metric 2 in sandbox: is not the network's"},
		"where there is to be none": {[]*wire.Route{way("fe80::9", 1024)}, nil,
			"route -6 default via fe80::9 dev eth0 metric 1024 in sandbox: is not the network's"},
	} {
		got := ""
		if err := otherWays(c.list, c.own, result); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
