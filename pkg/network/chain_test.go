package network

import (
	"maps"
	"strings"
	"testing"

	"dcni/pkg/wire"
)

// What plugins behind ours set is as they set it; what plugins before set is not.
func TestChained(t *testing.T) {
	const list = `{"name": "web", "plugins": [
		{"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.arp_notify": "7"}},
		{"type": "dbridge"},
		{"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.arp_notify": "0", "net/ipv6/conf/IFNAME/accept_ra": "1", "/net/ipv4/conf/all/accept_redirects": "1"}},
		{"type": "tuning", "mtu": 1400}, {"type": "odd", "sysctl": 5, "mtu": 9}, 7]}`
	const result = `{"interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:01"}, {"name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/ns"}]}`
	c := ChainedBehind("dbridge", "eth0", []byte(list), []byte(result))
	want := map[string]string{
		"net/ipv4/conf/eth0/arp_notify": "0", "net/ipv6/conf/eth0/accept_ra": "1", "net/ipv4/conf/all/accept_redirects": "1",
	}
	if !maps.Equal(c.Sysctls, want) || c.MAC != "02:00:00:00:00:02" {
		t.Errorf("got %+v", c)
	}
	own := []wire.Object{
		&wire.Veth{Name: "v1", Peer: "eth0", MAC: "02:42:00:00:00:01", NetNS: "/ns"},
		&wire.Sysctl{NetNS: "/ns", Path: "net/ipv4/conf/eth0/arp_notify", Value: "1"},
		&wire.Sysctl{Path: "net/ipv4/conf/eth0/arp_notify", Value: "1"}, // the host's
		&wire.Autoconf{NetNS: "/ns", Dev: "eth0", IPv6: true},
		&wire.Child{NetNS: "/ns", Name: "eth0", Parent: "p0", MAC: "02:42:00:00:00:01", MTU: 1500, Kind: "macvlan"},
		&wire.Child{NetNS: "/ns", Name: "eth0", Parent: "p0", MTU: 1500, Kind: "ipvlan"},
	}
	var lines []string
	for _, o := range c.Apply(own) {
		lines = append(lines, o.String())
	}
	got := strings.Join(lines, "\n")
	for _, line := range []string{
		"link p0 address 02:00:00:00:00:02 mtu 1400 ", "link p0 mtu 1400 ",
		"address 02:00:00:00:00:02 in sandbox", "arp_notify=0 in sandbox", "eth0/arp_notify=1\n",
		"accept_redirects=0 net/ipv6/conf/eth0/accept_ra=1 net/ipv6/conf/eth0/autoconf=0 ",
	} {
		if !strings.Contains(got, line) {
			t.Errorf("no %q in\n%s", line, got)
		}
	}
	if a := c.Apply(own)[3].(*wire.Autoconf); a.RefusesRA() || !own[3].(*wire.Autoconf).RefusesRA() {
		t.Error("router advertisements count, and did not")
	}
	for _, none := range []string{"", "[]", `{"plugins": 5}`} {
		if c := ChainedBehind("dbridge", "eth0", []byte(none), []byte(none)); len(c.Sysctls) > 0 || c.MAC != "" {
			t.Errorf("of %q: %+v", none, c)
		}
	}
}
