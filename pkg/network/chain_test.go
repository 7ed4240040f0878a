package network

import (
	"fmt"
	"maps"
	"net/netip"
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
	c := Chain{List: []byte(list), Result: []byte(result)}.Behind("dbridge", "eth0")
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
		&wire.Autoconf{NetNS: "/ns", Dev: "eth0"},
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
		"address 02:00:00:00:00:02 mtu 1400 in sandbox", "arp_notify=0 in sandbox", "eth0/arp_notify=1\n",
		"accept_redirects=0 net/ipv6/conf/eth0/accept_ra=1 net/ipv6/conf/eth0/autoconf=0 ",
	} {
		if !strings.Contains(got, line) {
			t.Errorf("no %q in\n%s", line, got)
		}
	}
	if a := c.Apply(own)[3].(*wire.Autoconf); a.RefusesRA() || !own[3].(*wire.Autoconf).RefusesRA() {
		t.Error("router advertisements count, and did not")
	}
	var none Chained
	for i, o := range none.Apply(own) {
		if o.String() != own[i].String() {
			t.Errorf("nothing was set behind: %s, was %s", o, own[i])
		}
	}
	for _, none := range []string{"", "[]", `{"plugins": 5}`} {
		if c := (Chain{List: []byte(none), Result: []byte(none), Values: []byte(none)}).Behind("dbridge", "eth0"); len(c.Sysctls) > 0 || c.MAC != "" {
			t.Errorf("of %q: %+v", none, c)
		}
	}
}

// TestChainedBehind: which plugins of a chain are behind ours, and which interface is ours.
func TestChainedBehind(t *testing.T) {
	const (
		tuning = `{"type": "tuning", "sysctl": {"net/a": "1"}, "mtu": 1400}`
		ours   = `{"type": "dbridge"}`
		bare   = `{"type": "tuning"}`
	)
	for plugins, want := range map[string]string{
		ours:                                     "map[] 0",
		ours + "," + tuning:                      "map[net/a:1] 1400",
		tuning + "," + ours:                      "map[] 0",
		bare + "," + tuning + "," + ours:         "map[] 0",
		ours + "," + tuning + "," + bare:         "map[net/a:1] 1400",
		ours + "," + bare + "," + tuning:         "map[net/a:1] 1400",
		ours + `, {"type": "odd", "mtu": 1300}`:  "map[] 0",
		bare + "," + ours + `, {"type": "odd"}`:  "map[] 0",
		ours + "," + ours + "," + tuning:         "map[net/a:1] 1400",
		tuning + "," + bare + "," + bare + ",{}": "map[] 0",
	} {
		c := (Chain{List: []byte(`{"plugins": [` + plugins + `]}`)}).Behind("dbridge", "eth0")
		if got := fmt.Sprint(c.Sysctls, c.MTU); got != want {
			t.Errorf("%s: %s, want %s", plugins, got, want)
		}
	}
	const here, host, other = `{"name": "eth0", "mac": "1", "sandbox": "/ns"}`, `{"name": "eth0", "mac": "2"}`, `{"name": "eth1", "mac": "3", "sandbox": "/ns"}`
	for _, interfaces := range []string{here + "," + host, host + "," + here, here + "," + other, other + "," + here} {
		if c := (Chain{Result: []byte(`{"interfaces": [` + interfaces + `]}`)}).Behind("dbridge", "eth0"); c.MAC != "1" {
			t.Errorf("%s: MAC %q", interfaces, c.MAC)
		}
	}
	own := []wire.Object{&wire.Sysctl{NetNS: "/ns", Path: "net/b", Value: "7"}}
	if got := (Chained{Sysctls: map[string]string{"net/a": "1"}}).Apply(own)[0].(*wire.Sysctl); got.Value != "7" {
		t.Errorf("another setting is %s", got)
	}
}

// Of an interface that is made again all is known that tuning and sbr did, and what may be missing
// is named.
func TestChainedAgain(t *testing.T) {
	const front = `{"type": "dbridge"}, `
	own := []wire.Object{
		&wire.Veth{Name: "v1", Bridge: "br0", Peer: "eth0", MAC: "1", MTU: 1500, NetNS: "/ns"},
		&wire.Autoconf{NetNS: "/ns", Dev: "eth0"},
		&wire.Addr{NetNS: "/ns", Dev: "eth0", Prefix: netip.MustParsePrefix("10.1.0.2/24")},
		&wire.Route{NetNS: "/ns", Dev: "eth0", Dst: netip.MustParsePrefix("0.0.0.0/0")},
	}
	for _, c := range []struct {
		plugins, values string
		line            string // of the objects
		others          string
	}{
		{`{"type": "tuning", "mtu": 1400, "promisc": true, "allmulti": true, "txQLen": 0}`, "", "address 1 mtu 1400 promisc on allmulticast on txqueuelen 0 in sandbox", "[]"},
		{`{"type": "tuning", "promisc": true, "allmulti": false, "args": {"cni": {"promisc": false, "mtu": 1300, "txQLen": 7}}}`, "", "address 1 mtu 1300 txqueuelen 7 in sandbox", "[]"},
		{`{"type": "tuning", "sysctl": {"net.ipv4.conf.IFNAME.rp_filter": "2"}}`, "", "sysctl net/ipv4/conf/eth0/rp_filter=2 in sandbox", "[]"},
		{`{"type": "tuning", "args": {"cni": {"sysctl": {"net/ipv4/neigh/eth0/gc_stale_time": "9"}}}}`, "", "sysctl net/ipv4/neigh/eth0/gc_stale_time=9 in sandbox", "[]"},
		{`{"type": "sbr"}`, "", "routes 10.1.0.0/24 0.0.0.0/0 dev eth0 in tables by source in sandbox", "[]"},
		{`{"type": "sbr", "table": 7}`, "", "", "[]"},
		// What does not die with the interface is not made.
		{`{"type": "tuning", "sysctl": {"net.core.somaxconn": "5", "net.ipv4.conf.all.rp_filter": "1", "net.ipv4.conf.eth1.rp_filter": "1", "net/ipv4/conf/eth0/..": "1"}}`, "", "", "[]"},
		{`{"type": "portmap"}, {"type": "firewall"}, {"type": "ddns"}, {"type": "bandwidth"}`, "", "", "[]"},
		{`{"type": "bandwidth", "capabilities": {"bandwidth": true}}, {"type": "vrf"}`, `{"mac": "1"}`, "", "[vrf]"},
		{`{"type": "bandwidth", "capabilities": {"bandwidth": true}}`, `{"bandwidth": {"ingressRate": 1}}`, "", "[bandwidth]"},
		{`{"type": "bandwidth", "egressRate": 8000}`, "", "", "[bandwidth]"},
	} {
		chained := Chain{List: []byte(`{"plugins": [` + front + c.plugins + `]}`), Values: []byte(c.values)}.Behind("dbridge", "eth0")
		if got := fmt.Sprint(chained.Others); got != c.others {
			t.Errorf("%s: others %s, want %s", c.plugins, got, c.others)
		}
		var lines []string
		for _, o := range chained.Apply(own) {
			lines = append(lines, o.String())
		}
		switch got := strings.Join(lines, "\n"); {
		case c.line == "" && len(lines) != len(own):
			t.Errorf("%s: more than before:\n%s", c.plugins, got)
		case !strings.Contains(got, c.line):
			t.Errorf("%s: no %q in\n%s", c.plugins, c.line, got)
		}
		if something := c.line != "" || c.others != "[]"; something && !chained.Any() {
			t.Errorf("%s: nothing is known", c.plugins)
		}
	}
}
