package firewall

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func TestPublished(t *testing.T) {
	four, six := netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("fd00::2")
	for _, c := range []struct {
		addresses []netip.Addr
		ip        string
		internal  bool
		want      string
	}{
		{[]netip.Addr{four, six}, "", false, "0.0.0.0:8080 10.1.0.2:80 [host networks outside]; [::]:8080 [fd00::2]:80 [host networks outside]"},
		{[]netip.Addr{four}, "", false, "0.0.0.0:8080 10.1.0.2:80 [host networks outside]; [::]:8080 10.1.0.2:80 relayed [host networks outside]"},
		{[]netip.Addr{six}, "", false, "[::]:8080 [fd00::2]:80 [host networks outside]"},
		{[]netip.Addr{four, six}, "0.0.0.0", false, "0.0.0.0:8080 10.1.0.2:80 [host networks outside]"},
		{[]netip.Addr{four, six}, "127.0.0.1", false, "127.0.0.1:8080 10.1.0.2:80 [host]"},
		{[]netip.Addr{four, six}, "::1", false, "[::1]:8080 [fd00::2]:80 relayed [host]"},
		{[]netip.Addr{four}, "2001:db8::1", false, "[2001:db8::1]:8080 10.1.0.2:80 relayed [host networks outside]"},
		{[]netip.Addr{four}, "192.0.2.1", true, "192.0.2.1:8080 10.1.0.2:80 []"},
		{nil, "", false, ""},
	} {
		port := Port{HostPort: 8080, Protocol: "tcp", ContainerPort: 80}
		if c.ip != "" {
			port.HostIP = netip.MustParseAddr(c.ip)
		}
		e := &Endpoint{Addresses: c.addresses, Ports: []Port{port, {Protocol: "tcp", ContainerPort: 81}}}
		var got []string
		for _, p := range e.Published(Network{Internal: c.internal}) {
			relayed := ""
			if p.Relayed {
				relayed = " relayed"
			}
			got = append(got, fmt.Sprintf("%s %s%s %v", p.Host, p.To, relayed, p.From))
		}
		if text := strings.Join(got, "; "); text != c.want {
			t.Errorf("%v at %q: %s, want %s", c.addresses, c.ip, text, c.want)
		}
	}
}
