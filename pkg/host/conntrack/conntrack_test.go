package conntrack

import (
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/host/hosttest"
	"dcni/pkg/host/nlsock"
)

// TestFlushAmongMany: with many connections the kernel filters; the same go.
func TestFlushAmongMany(t *testing.T) {
	one := map[uint16][]firewall.Port{8080: {hosttest.Port("", 8080, "udp", 80)}}
	v4, v6 := []netip.Addr{netip.MustParseAddr("10.1.0.2")}, []netip.Addr{netip.MustParseAddr("fd00:1::2")}
	both := slices.Concat(v4, v6)
	for _, c := range []struct {
		few, many []ctFilter
		want      int
	}{
		{addressFilters(v4, 1), addressFilters(v4, fewConnections), 2},
		{addressFilters(v6, 1), addressFilters(v6, fewConnections), 1},
		{addressFilters(both, 1), addressFilters(both, fewConnections), 3},
		{addressFilters(nil, 1), addressFilters(nil, fewConnections), 0},
		{portFilters(one, 1), portFilters(one, fewConnections), 2},
		{portFilters(nil, 1), portFilters(nil, fewConnections), 0},
	} {
		if len(c.few) > 1 || len(c.many) != c.want {
			t.Errorf("%d filters among few, %d among many; want at most 1 and %d", len(c.few), len(c.many), c.want)
		}
	}
}

// TestKernelFilters: what the kernel is asked to list is what is listed.
func TestKernelFilters(t *testing.T) {
	hosttest.InNewNS(t, func() {
		hosttest.BridgeNetfilter(t, "0")
		l := hosttest.NewNetworks(t, true)
		// A rule that asks for the state of connections has them tracked.
		hosttest.NFT(t, "add table inet t; add chain inet t c { type filter hook prerouting priority 0; }; add rule inet t c ct state new accept")
		l.Serve(l.Nodes["n1"], 8090)
		for _, protocol := range []string{"tcp", "udp"} {
			for _, v6 := range []bool{false, true} {
				for _, to := range []struct {
					from, to string
					port     uint16
				}{{"out", "a1", 80}, {"a1", "out", 80}, {"out", "n1", 8090}} {
					if l.Reach(l.Nodes[to.from], protocol, netip.AddrPortFrom(l.Nodes[to.to].Addr(v6), to.port)) == "" {
						t.Errorf("%s %+v, IPv6 %v: no answer", protocol, to, v6)
					}
				}
			}
		}
		conn, err := nlsock.Dial(unix.NETLINK_NETFILTER)
		l.Must(err)
		defer conn.Close()
		a1 := l.Nodes["a1"]
		for _, c := range []struct {
			filter ctFilter
			want   int
		}{
			{ctFilter{family: unix.AF_INET, src: a1.V4}, 2},
			{ctFilter{family: unix.AF_INET, src: a1.V4, reply: true}, 2},
			{ctFilter{family: unix.AF_INET, proto: unix.IPPROTO_UDP}, 3},
			{ctFilter{family: unix.AF_INET6, proto: unix.IPPROTO_UDP}, 3},
			{ctFilter{family: unix.AF_INET, proto: unix.IPPROTO_UDP, port: 8090}, 1},
			{ctFilter{family: unix.AF_INET6, proto: unix.IPPROTO_UDP, port: 8090}, 1},
		} {
			flows, err := listFlows(conn, c.filter)
			if err != nil || len(flows) != c.want {
				t.Errorf("%+v: %d connections, error %v; want %d", c.filter, len(flows), err, c.want)
			}
		}
	})
}

func TestFlushWithoutConnections(t *testing.T) {
	hosttest.InNewNS(t, func() {
		if err := FlushAddresses([]netip.Addr{netip.MustParseAddr("10.1.0.2")}); err != nil {
			t.Error(err)
		}
		if err := FlushPorts([]firewall.Port{hosttest.Port("", 8080, "udp", 80)}); err != nil {
			t.Error(err)
		}
	})
}
