package overlay_test

import (
	"net/netip"
	"testing"

	"dcni/pkg/overlay"
)

func TestTunnelMTU(t *testing.T) {
	for _, c := range []struct{ underlay, plain4, plain6, enc4, enc6 int }{
		{1500, 1450, 1430, 1416, 1396},
		{9000, 8950, 8930, 8916, 8896},
		{1460, 1410, 1390, 1376, 1356}, // Google's
		{1420, 1370, 1350, 1336, 1316}, // WireGuard's
	} {
		got := func(six, encrypted bool) int {
			return overlay.Tunnel{Underlay: c.underlay, IPv6: six, Encrypted: encrypted}.MTU()
		}
		if g := [4]int{got(false, false), got(true, false), got(false, true), got(true, true)}; g != [4]int{c.plain4, c.plain6, c.enc4, c.enc6} {
			t.Errorf("%d: %v, want %v", c.underlay, g, c)
		}
	}
}

// No larger packet fits: with one byte more, the packet outside is longer than the
// underlay's MTU.
func TestTunnelMTUIsExact(t *testing.T) {
	outside := func(inner int, u overlay.Tunnel) int {
		ip := 20
		if u.IPv6 {
			ip = 40
		}
		inner += 14 + 8 + 8 // Ethernet, VXLAN, UDP
		if u.Encrypted {
			inner += 2 // of the trailer
			inner += (4 - inner%4) % 4
			inner += 8 + 8 + 16 // SPI and sequence number, IV, ICV
		}
		return ip + inner
	}
	for underlay := 1280; underlay < 1600; underlay++ {
		for _, u := range []overlay.Tunnel{{Underlay: underlay}, {underlay, true, false}, {underlay, false, true}, {underlay, true, true}} {
			if m := u.MTU(); outside(m, u) > underlay || outside(m+1, u) <= underlay {
				t.Fatalf("%+v: %d makes %d, and one more %d", u, m, outside(m, u), outside(m+1, u))
			}
		}
	}
}

func TestCheckMTU(t *testing.T) {
	node := overlay.Node{Address: netip.MustParseAddr("192.0.2.1"), MTU: 1400}
	if err := (overlay.Network{MTU: 1350}).CheckMTU(node); err != nil {
		t.Error(err)
	}
	wantError(t, overlay.Network{MTU: 1450}.CheckMTU(node), 7, "mtu 1450: this node's underlay has 1400 bytes, and packets of a network at most 1350")
}
