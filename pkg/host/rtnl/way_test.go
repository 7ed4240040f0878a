package rtnl

import (
	"net/netip"
	"os/exec"
	"testing"

	"dcni/pkg/host/hosttest"
)

// TestWays asks for ways that differ in one thing each.
func TestWays(t *testing.T) {
	hosttest.InNewNS(t, func() {
		out, err := exec.Command("sh", "-ec", `
			ip link set lo up
			ip link add one index 101 type veth peer name other
			ip link add two index 102 type veth peer name another
			for l in one other two another; do ip link set $l up; done
			ip address add 10.1.0.1/24 dev one
			ip address add 10.1.0.4/24 dev one
			ip address add fe80::1:1/64 dev two nodad
			ip route add 10.2.0.1 dev two src 10.1.0.1
			ip route add 10.2.0.2 dev one src 10.1.0.4
			ip route add 10.2.0.3 via 10.1.0.2
			ip route add 10.2.0.4 via inet6 fe80::2 dev two src 10.1.0.1
			ip route add 10.2.0.5 via 10.1.0.3 mtu 1400
			ip route add unreachable 10.2.0.6
			ip rule add ipproto udp dport 53 to 10.2.0.5 lookup 7
			ip route add 10.2.0.5 via 10.1.0.2 table 7`).CombinedOutput()
		if err != nil {
			t.Errorf("%v: %s", err, out)
			return
		}
		rt, err := Dial()
		if err != nil {
			t.Error(err)
			return
		}
		defer rt.Close()
		for _, c := range []struct{ to, want string }{
			{"10.1.0.9:53", "10.1.0.1 by link 101"},
			{"10.1.0.1:53", "10.1.0.1 by link 1"},
			{"10.2.0.1:53", "10.1.0.1 by link 102"},
			{"10.2.0.2:53", "10.1.0.4 by link 101"},
			{"10.2.0.3:53", "10.1.0.1 by link 101 via 10.1.0.2"},
			{"10.2.0.4:53", "10.1.0.1 by link 102 via fe80::2"},
			{"10.2.0.5:53", "10.1.0.1 by link 101 via 10.1.0.2"},
			{"10.2.0.5:54", "10.1.0.1 by link 101 via 10.1.0.3"},
			{"10.2.0.5:0", "10.1.0.1 by link 101 via 10.1.0.3"},
			{"10.2.0.6:53", "nowhere"},
			{"10.2.0.7:53", "nowhere"},
			{"[fe80::9%two]:53", "fe80::1:1 by link 102"},
			{"[fe80::9%gone]:53", "nowhere"},
			{"[::1]:53", "::1 by link 1"},
		} {
			way, err := rt.WayToPort(netip.MustParseAddrPort(c.to))
			if got := way.String(); got != c.want || (err != nil) != (c.want == "nowhere") {
				t.Errorf("to %s: %s, want %s; %v", c.to, got, c.want, err)
			}
		}
	})
}
