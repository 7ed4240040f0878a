package network

import (
	"fmt"
	"testing"

	"dcni/pkg/wire"
)

// TestParentObjects: what of a parent is the host's, and which link must be there before.
func TestParentObjects(t *testing.T) {
	for name, want := range map[string]string{
		"eth0":    "link eth0 is a parent; eth0",
		"eth0.10": "link eth0.10 up link eth0 type vlan id 10; eth0",
		"eth0.07": "link eth0.07 is a parent; eth0.07", // its owner's: dcni would name it eth0.7
		"lan.x":   "link lan.x is a parent; lan.x",
		"":        "link dm-4b5e57f6eb2f up type dummy; ",
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
