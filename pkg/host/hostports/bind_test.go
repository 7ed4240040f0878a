package hostports

import (
	"net"
	"net/netip"
	"testing"

	"dcni/pkg/firewall"
)

// A connection's own end keeps a port from being chosen, and so does a socket that is
// bound; in its family alone.
func TestBindable(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, network := range []string{"tcp", "udp"} {
		c, err := net.Dial(network+"4", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		local := netip.MustParseAddrPort(c.LocalAddr().String())
		for _, p := range []struct {
			ip   string
			v6   bool
			want bool
		}{{"", false, false}, {"0.0.0.0", false, false}, {"127.0.0.1", false, false}, {"127.0.0.2", false, true}, {"", true, true}} {
			port := firewall.Port{HostPort: local.Port(), Protocol: network}
			port.HostIP, _ = netip.ParseAddr(p.ip) // "": the zero address
			if got := Bindable(port, p.v6); got != p.want {
				t.Errorf("%s %q, IPv6 %v: %v", network, p.ip, p.v6, got)
			}
		}
		_ = c.Close()
		if port := (firewall.Port{HostPort: local.Port(), Protocol: "udp"}); !Bindable(port, false) {
			t.Error("a port that nothing has can't be bound")
		}
	}
}
