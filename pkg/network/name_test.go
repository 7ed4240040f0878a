package network

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"dcni/pkg/ipam"
	"dcni/pkg/wire"
)

func TestValidName(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "Z": true, "0": true, "9": true, "z": true, "A": true, "a_b.c-d": true, "a--": true,
		"": false, "_a": false, ".a": false, "-a": false, "a/b": false, "a:b": false, "a@b": false, "a[b": false, "a`b": false, "a{b": false, "a b": false, "ä": false,
		"/": false, ":": false, "@": false, "[": false, "`": false, "{": false,
	} {
		if ValidName(name) != ok {
			t.Errorf("%q: want %t", name, ok)
		}
	}
}

func TestValidLink(t *testing.T) {
	for name, ok := range map[string]bool{
		"br-a": true, "a": true, "a.b": true, "fifteen-letters": true, "~!": true, "a\x7e": true,
		"sixteen-letters-": false, "": false, ".": false, "..": false, "all": false, "default": false,
		"a b": false, "a\tb": false, "a\x7f": false, "ä": false, "a/": false, "a:": false, `a"`: false, "a%": false, "a*": false,
	} {
		if ValidLink(name) != ok {
			t.Errorf("%q: want %t", name, ok)
		}
	}
}

func TestDNSGiven(t *testing.T) {
	for _, d := range []*DNS{{Domain: "x"}, {Nameservers: []string{"x"}}, {Search: []string{"x"}}, {Options: []string{"x"}}} {
		if !d.Given() {
			t.Errorf("%+v says something", *d)
		}
	}
	if (&DNS{}).Given() || (*DNS)(nil).Given() {
		t.Error("nothing is given")
	}
}

func TestPlain(t *testing.T) {
	for value, want := range map[string]string{`"a"`: "a", `["a", "b"]`: "a:b", `true`: "true", `5`: "5", `{"a": 1}`: `{"a": 1}`} {
		if got := plain(json.RawMessage(value)); got != want {
			t.Errorf("%s is shown as %s, want %s", value, got, want)
		}
	}
}

func TestLengths(t *testing.T) {
	long := func(n int) string { return strings.Repeat("n", n) }
	for n, ok := range map[int]bool{1: true, MaxName: true, MaxName + 1: false} {
		if err := CheckLength(long(n)); (err == nil) != ok {
			t.Errorf("a name of %d bytes: %v", n, err)
		}
	}
	// NETWORK-CONTAINER-INTERFACE is the name of a file: 255 bytes.
	for _, c := range []struct {
		network, container, ifName int
		ok                         bool
	}{{3, 64, 4, true}, {MaxName, 64, 15, true}, {174, 65, 15, false}, {100, 149, 4, true}, {100, 150, 4, false}, {1, 251, 1, true}, {1, 251, 2, false}} {
		err := CheckCacheName(wire.Attachment{Network: long(c.network), Container: long(c.container), IfName: long(c.ifName)})
		if (err == nil) != c.ok {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestDescription: what else is known of a network by what it is.
func TestDescription(t *testing.T) {
	for _, c := range []struct {
		d    Description
		want string
	}{
		{Description{Name: "web"}, "[false false false]"},
		{Description{Parent: &Parent{Name: "eth0"}}, "[true false false]"},
		{Description{Parent: &Parent{Name: "dm-1", Own: true}}, "[false false false]"},
		{Description{Parent: &Parent{Name: "eth0"}, Routed: true}, "[false false false]"},
		{Description{Shares: "/x"}, "[false true false]"},
		{Description{Joins: "c1"}, "[false true false]"},
		{Description{Name: "bridge"}, "[false false true]"},
		{Description{Name: "web", Info: Info{NoNames: true}}, "[false false true]"},
	} {
		if got := fmt.Sprint([]bool{c.d.OnLAN(), c.d.Shared(), c.d.Default()}); got != c.want {
			t.Errorf("%+v: on LAN, shared, default %s, want %s", c.d, got, c.want)
		}
	}
}

func TestParseFamilies(t *testing.T) {
	four, six := ipam.Subnet{Prefix: netip.MustParsePrefix("10.1.0.0/24")}, ipam.Subnet{Prefix: netip.MustParsePrefix("fd00::/64")}
	on, off := true, false
	for _, c := range []struct {
		ipv6    *bool
		subnets []ipam.Subnet
		want    Families
		err     string
	}{
		{nil, []ipam.Subnet{six}, Families{}, ""},
		{nil, nil, Families{}, ""},
		{&on, nil, Families{ULA: true, Need6: true}, ""},
		{&on, []ipam.Subnet{four}, Families{ULA: true, Need6: true}, ""},
		{&on, []ipam.Subnet{four, six}, Families{Need6: true}, ""},
		{&off, []ipam.Subnet{four}, Families{Refuse6: true}, ""},
		{&off, []ipam.Subnet{four, six}, Families{}, "ipv6 false: must not be false with an IPv6 subnet in ipam"},
	} {
		got, err := ParseFamilies(c.ipv6, c.subnets)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
			t.Errorf("%v: %+v, %v; want %+v", c.subnets, got, err, c.want)
		}
	}
}

// TestSettle: what the cluster says comes in the place of what the configuration leaves out.
func TestSettle(t *testing.T) {
	bridge := &wire.Bridge{Name: "br0"}
	d := Description{Name: "web", MTU: 1, Bridge: bridge}
	if got := (*Overlay)(nil).Settle(d); got.MTU != 1 || got.Bridge != bridge {
		t.Errorf("without an overlay: %+v", got)
	}
	o := &Overlay{MTU: 1450, Internal: true, RouterMAC: "02:42:00:00:00:01"}
	got := o.Settle(d)
	if got.MTU != 1450 || !got.Info.Internal || !got.Ports.Ignore || got.Bridge.MAC != o.RouterMAC || got.Bridge.Name != "br0" || bridge.MAC != "" {
		t.Errorf("%+v, %+v; the caller's %+v", got, got.Bridge, bridge)
	}
	if got := o.Settle(Description{}); got.Bridge != nil {
		t.Errorf("got a bridge: %+v", got.Bridge)
	}
}

func TestIPAMSections(t *testing.T) {
	for section, want := range map[string]string{"": "dipam cluster", "null": "dipam cluster", `{"type": "x"}`: "x "} {
		usual, err := ParseIPAM([]byte(section))
		if err != nil {
			t.Errorf("%s: %v", section, err)
		}
		cluster, err := ParseIPAMOfCluster(ipam.Ungated{})([]byte(section))
		if err != nil {
			cluster.Type = ""
		}
		if got := usual.Type + " " + cluster.Type; got != want {
			t.Errorf("%q: %s, want %s", section, got, want)
		}
	}
}
