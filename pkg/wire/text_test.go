package wire_test

import (
	"net/netip"
	"slices"
	"testing"

	"dcni/pkg/wire"
)

// Objects print as iproute2 would print them.
func TestText(t *testing.T) {
	any4 := netip.MustParsePrefix("0.0.0.0/0")
	for _, c := range []struct {
		object wire.Object
		want   string
	}{
		{&wire.Veth{Name: "v1", Bridge: "br0", Peer: "eth0", MAC: "02:42:00:00:00:02", MTU: 1500, Alias: "web c1/eth0"},
			`link v1 mtu 1500 master br0 hairpin on alias "web c1/eth0" type veth peer eth0 address 02:42:00:00:00:02 in sandbox`},
		{&wire.Veth{Name: "v1", Bridge: "br0", Peer: "eth0", MTU: 1500, Isolated: true},
			`link v1 mtu 1500 master br0 hairpin on isolated on alias "" type veth peer eth0 address  in sandbox`},
		{&wire.Route{Dev: "eth0", Dst: any4}, "route default dev eth0"},
		{&wire.Route{Dev: "eth0", Dst: any4, Via: netip.MustParseAddr("10.1.0.1"), OnLink: true, Metric: 5, MTU: 1400},
			"route default via 10.1.0.1 dev eth0 onlink metric 5 mtu 1400"},
		{&wire.Route{Dev: "eth0", Dst: any4, HasScope: true, Scope: 253, Table: 7, AdvMSS: 1360}, "route default dev eth0 advmss 1360 table 7 scope 253"},
		{&wire.NoAddr{Dev: "br0", In: any4}, "addr none in 0.0.0.0/0 dev br0"},
		{&wire.Forwarding{Family: 4}, "sysctl net/ipv4/ip_forward=1"},
		{&wire.Forwarding{Family: 6}, "sysctl net/ipv6/conf/all/forwarding=1"},
	} {
		if got := c.object.String(); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

// A setting refers to the link that it is of, and to none if it is of all.
func TestSysctlRefers(t *testing.T) {
	for path, want := range map[string]int{
		"net/ipv4/conf/eth0/rp_filter": 1, "net/ipv4/conf/all/rp_filter": 0, "net/ipv6/conf/default/accept_ra": 0,
		"net/ipv4/ip_forward": 0, "net/ipv4/conf/eth0": 0,
	} {
		if got := (&wire.Sysctl{Path: path}).Refers(); len(got) != want {
			t.Errorf("%s refers to %v", path, got)
		}
	}
}

func TestRefusesRA(t *testing.T) {
	if !(&wire.Autoconf{Dev: "eth0"}).RefusesRA() {
		t.Error("router advertisements count where they are not asked for")
	}
	if (&wire.Autoconf{Dev: "eth0", AcceptRA: true}).RefusesRA() {
		t.Error("router advertisements don't count where they are asked for")
	}
	if (&wire.Autoconf{Dev: "eth0", Chained: map[string]string{"net/ipv6/conf/eth0/accept_ra": "1"}}).RefusesRA() {
		t.Error("router advertisements don't count where a plugin of the chain wants them")
	}
}

// Without IPv6, a sandbox keeps what is of IPv4, and the host all of its own.
func TestWithoutIPv6(t *testing.T) {
	four, six := netip.MustParsePrefix("10.1.0.2/24"), netip.MustParsePrefix("fd00::2/64")
	objects := []wire.Object{
		&wire.Addr{NetNS: "/ns/c1", Dev: "eth0", Prefix: four}, &wire.Addr{NetNS: "/ns/c1", Dev: "eth0", Prefix: six},
		&wire.Addr{Dev: "br0", Prefix: six}, &wire.Up{NetNS: "/ns/c1", Dev: "eth0"},
		&wire.Route{NetNS: "/ns/c1", Dev: "eth0", Dst: netip.MustParsePrefix("0.0.0.0/0")},
		&wire.Route{NetNS: "/ns/c1", Dev: "eth0", Dst: netip.MustParsePrefix("::/0")},
		&wire.Route{Dev: "br0", Dst: netip.MustParsePrefix("::/0")},
	}
	want := []wire.Object{objects[0], objects[2], objects[3], objects[4], objects[6]}
	if got := wire.WithoutIPv6(objects); !slices.Equal(got, want) {
		t.Errorf("left: %v", got)
	}
}
