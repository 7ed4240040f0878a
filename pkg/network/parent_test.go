package network

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"dcni/pkg/ipam"
	"dcni/pkg/wire"
)

// TestParentObjects: what of a parent is the host's, and which link must be there before.
func TestParentObjects(t *testing.T) {
	for name, want := range map[string]string{
		"eth0":    "link eth0 is a parent; eth0",
		"eth0.10": "link eth0.10 up link eth0 type vlan id 10; eth0",
		"eth0.07": "link eth0.07 is a parent; eth0.07", // its owner's: dcni would name it eth0.7
		"lan.x":   "link lan.x is a parent; lan.x",
		".10":     "link .10 is a parent; .10",
		"eth0.1":  "link eth0.1 up link eth0 type vlan id 1; eth0",

		"eth0.4094":       "link eth0.4094 up link eth0 type vlan id 4094; eth0",
		"abcdefghijk.100": "link abcdefghijk.100 up link abcdefghijk type vlan id 100; abcdefghijk",
		"":                "link dm-4b5e57f6eb2f up type dummy; ",
	} {
		p, err := ParseParent("web", wire.KindMacvlan, "dm-", name)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%s; %s", p.Objects()[0], p.Link()); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
}

// TestBeside: what two networks can't share of a parent, said by the one that comes later.
func TestBeside(t *testing.T) {
	on := func(kind, name, mode string) Parent { return Parent{Kind: kind, Name: name, Mode: mode} }
	mac := func(mode string) Parent { return on(wire.KindMacvlan, "eth0", mode) }
	ip := func(mode string) Parent { return on(wire.KindIpvlan, "eth0", mode) }
	flagged := ip("l2")
	flagged.Flag = "private"
	for _, c := range []struct {
		own, other Parent
		want       string
	}{
		{mac("bridge"), mac("private"), ""},
		{mac("passthru"), on(wire.KindMacvlan, "eth1", "passthru"), ""},
		{mac("passthru"), mac("bridge"), `mode "passthru": cannot use mode passthru, macvlan network db is already using parent interface eth0`},
		{mac("bridge"), mac("passthru"), `parent "eth0": macvlan network db is already using parent interface eth0 in mode passthru`},
		{mac("passthru"), mac("passthru"), `parent "eth0": macvlan network db is already using parent interface eth0 in mode passthru`},
		{mac("bridge"), ip("l2"), `parent "eth0": ipvlan network db is already using parent interface eth0: macvlan and ipvlan can't share one`},
		{ip("l2"), mac("bridge"), `parent "eth0": macvlan network db is already using parent interface eth0: macvlan and ipvlan can't share one`},
		{ip("l2"), ip("l2"), ""},
		{ip("l3"), ip("l2"), `mode "l3": ipvlan network db is already using parent interface eth0 in mode l2`},
		{ip("l2"), flagged, `mode "l2": ipvlan network db is already using parent interface eth0 in mode l2 private`},
	} {
		got := ""
		if err := c.own.Beside("db", c.other); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%+v beside %+v:\n%s, want\n%s", c.own, c.other, got, c.want)
		}
	}
}

func TestParentErrors(t *testing.T) {
	for name, want := range map[string]string{
		"eth0.0":           `parent "eth0.0": vlan id must be between 1-4094, received: 0`,
		"eth0.-1":          `parent "eth0.-1": vlan id must be between 1-4094, received: -1`,
		"eth0.4095":        `parent "eth0.4095": vlan id must be between 1-4094, received: 4095`,
		"abcdefghijkl.100": `parent "abcdefghijkl.100": must be at most 15 bytes, with the VLAN's ID: `,
		"abcdefghijklmnop": `parent "abcdefghijklmnop": must be a link name: `,
		"a/b":              `parent "a/b": must be a link name: `,
	} {
		if _, err := ParseParent("web", wire.KindMacvlan, "dm-", name); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestCheckMTU(t *testing.T) {
	four := ipam.Subnet{Prefix: netip.MustParsePrefix("10.1.0.0/24")}
	six := ipam.Subnet{Prefix: netip.MustParsePrefix("fd00::/64")}
	const least, least6 = "mtu %d: must be 0 (that of the parent), or 68 and more", "mtu %d: must be at least 1280 on a network with IPv6 (RFC 8200)"
	for _, c := range []struct {
		mtu     int
		need6   bool
		subnets []ipam.Subnet
		want    string
	}{
		{0, true, nil, ""}, {0, false, []ipam.Subnet{six}, ""},
		{-1, false, nil, least}, {1, false, nil, least}, {67, true, nil, least}, {68, false, nil, ""}, {68, false, []ipam.Subnet{four}, ""},
		{1279, false, []ipam.Subnet{four, six}, least6}, {1279, true, nil, least6}, {1280, true, []ipam.Subnet{six}, ""},
	} {
		got, want := "", c.want
		if want != "" {
			want = fmt.Sprintf(want, c.mtu)
		}
		if err := (Families{Need6: c.need6}).CheckMTU(c.mtu, c.subnets); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}
