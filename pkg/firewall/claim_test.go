package firewall

import (
	"net/netip"
	"testing"

	"dcni/pkg/wire"
)

func claim(owner, protocol, address string, containerPort uint16, relayed bool) Claim {
	ap := netip.MustParseAddrPort(address)
	return Claim{owner, protocol, ap.Addr(), ap.Port(), containerPort, relayed}
}

func TestAllocated(t *testing.T) {
	for _, c := range []struct {
		want, has Claim
		text      string // empty: can be had
	}{
		{claim("a", "tcp", "0.0.0.0:80", 80, false), claim("b", "tcp", "0.0.0.0:80", 80, false), "0.0.0.0:80"},
		{claim("a", "tcp", "0.0.0.0:80", 80, false), claim("b", "tcp", "127.0.0.2:80", 80, false), "0.0.0.0:80"},
		{claim("a", "tcp", "127.0.0.2:80", 80, false), claim("b", "tcp", "0.0.0.0:80", 80, false), "127.0.0.2:80"},
		{claim("a", "tcp", "127.0.0.1:80", 80, false), claim("b", "tcp", "127.0.0.2:80", 80, false), ""},
		{claim("a", "tcp", "[::]:80", 80, false), claim("b", "tcp", "[::1]:80", 80, false), "[::]:80"},
		{claim("a", "tcp", "[::]:80", 80, false), claim("b", "tcp", "0.0.0.0:80", 80, false), ""},
		{claim("a", "tcp", "[::]:80", 80, false), claim("b", "tcp", "[::]:80", 80, true), ""}, // the relay serves what rules leave
		{claim("a", "tcp", "[::]:80", 80, true), claim("b", "tcp", "[::1]:80", 0, true), "[::]:80"},
		{claim("a", "tcp", "0.0.0.0:80", 80, false), claim("b", "udp", "0.0.0.0:80", 80, false), ""},
		{claim("a", "tcp", "0.0.0.0:80", 80, false), claim("b", "tcp", "0.0.0.0:81", 80, false), ""},
		{claim("a", "tcp", "0.0.0.0:80", 80, false), claim("a", "tcp", "127.0.0.1:80", 81, false), ""}, // its own
		{claim("a", "tcp", "0.0.0.0:80", 80, false), claim("sibling", "tcp", "127.0.0.1:80", 80, false), ""},
		{claim("a", "tcp", "0.0.0.0:80", 80, false), claim("sibling", "tcp", "127.0.0.1:80", 81, false), "0.0.0.0:80"},
		{claim("a", "tcp", "[::]:80", 80, true), claim("sibling", "tcp", "[::1]:80", 0, true), ""}, // not known
	} {
		// What stands before it hides no other claim.
		before := []Claim{claim("sibling", "tcp", "127.0.0.1:80", 80, false)}
		err := c.want.Allocated(append(before, c.has), func(comment string) bool { return comment == "sibling" })
		switch {
		case c.text == "" && err != nil:
			t.Errorf("%+v beside %+v: %v", c.want, c.has, err)
		case c.text != "":
			if want := "Bind for " + c.text + " failed: port is already allocated"; err == nil || err.Error() != want {
				t.Errorf("%+v beside %+v: error %v; want %s", c.want, c.has, err, want)
			}
		}
	}
}

func TestImpliedRelay(t *testing.T) {
	four, six := netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("fd00::2")
	for _, c := range []struct {
		addresses []netip.Addr
		hostIP    netip.Addr
		want      bool
	}{
		{[]netip.Addr{four}, netip.Addr{}, true},
		{[]netip.Addr{four}, netip.IPv6Unspecified(), false}, // has an element of its own
		{[]netip.Addr{four}, netip.IPv4Unspecified(), false},
		{[]netip.Addr{four, six}, netip.Addr{}, false},
		{[]netip.Addr{six}, netip.Addr{}, false},
	} {
		e := &Endpoint{Owner: wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}, Addresses: c.addresses}
		got, ok := e.ImpliedRelay(Port{HostIP: c.hostIP, HostPort: 8080, Protocol: "tcp", ContainerPort: 80})
		if ok != c.want || ok && got != claim("web c1/eth0", "tcp", "[::]:8080", 80, true) {
			t.Errorf("%v on %v: %+v, %v", c.addresses, c.hostIP, got, ok)
		}
	}
}
