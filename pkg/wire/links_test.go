package wire_test

import (
	"net/netip"
	"slices"
	"testing"

	"dcni/pkg/wire"
)

// What is on a parent: as text, by key, and what must be there before.
func TestLinks(t *testing.T) {
	a := wire.Attachment{Network: "lan", Container: "c1", IfName: "eth0"}
	child := &wire.Child{
		Owner: a, NetNS: "/ns/c1", Cookie: 7, Name: "eth0", Kind: wire.KindMacvlan, Parent: "eth1", Mode: "bridge",
		MAC: "02:42:00:00:00:07", MTU: 1400,
	}
	flagged := &wire.Child{Owner: a, NetNS: "/ns/c1", Name: "eth0", Kind: wire.KindIpvlan, Parent: "eth1", Mode: "l2", Flag: "private"}
	access := &wire.HostAccess{
		Owner: a, Link: "mh-0", Parent: "eth1", Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.2")}, Sources: []netip.Addr{netip.MustParseAddr("10.1.0.9")},
	}
	for _, c := range []struct {
		o           wire.Object
		key, text   string
		refers      []string
		root, outer bool
	}{
		{child, "link eth0 netns /ns/c1", `link eth0 link eth1 address 02:42:00:00:00:07 mtu 1400 alias "lan c1/eth0" type macvlan mode bridge in sandbox`, []string{"link eth1"}, true, false},
		{flagged, "link eth0 netns /ns/c1", `link eth0 link eth1 alias "lan c1/eth0" type ipvlan mode l2 private in sandbox`, []string{"link eth1"}, true, false},
		{&wire.Parent{Name: "eth1"}, "parent eth1", "link eth1 is a parent", nil, false, true},
		{&wire.SharedLink{Name: "eth1.7", Kind: wire.KindVLAN, Parent: "eth1", VLAN: 7}, "link eth1.7", "link eth1.7 up link eth1 type vlan id 7", []string{"link eth1"}, true, true},
		{&wire.SharedLink{Name: "dm-0", Kind: wire.KindDummy}, "link dm-0", "link dm-0 up type dummy", nil, true, true},
		{&wire.SharedLink{Name: "mh-0", Kind: wire.KindMacvlan, Parent: "eth1"}, "link mh-0", "link mh-0 up link eth1 type macvlan mode bridge", []string{"link eth1"}, true, true},
		{access, "host access lan c1/eth0", "route 10.1.0.2 dev mh-0 metric 489673049 src 10.1.0.9", []string{"link mh-0"}, true, true},
	} {
		if c.o.Key() != c.key || c.o.String() != c.text {
			t.Errorf("key %q, text\n%s\nwant %q\n%s", c.o.Key(), c.o, c.key, c.text)
		}
		var refers []string
		if r, ok := c.o.(wire.Referrer); ok {
			refers = r.Refers()
		}
		if _, root := c.o.(wire.Root); root != c.root || !slices.Equal(refers, c.refers) {
			t.Errorf("%s: root %t, refers to %q", c.o, root, refers)
		}
		if outside := wire.Outside([]wire.Object{c.o}); len(outside) > 0 != c.outer {
			t.Errorf("%s: of the host's is %v", c.o, outside)
		}
	}
}

// The metric of an attachment's routes is its own, and fits.
func TestHostAccessMetric(t *testing.T) {
	seen := map[int]bool{}
	for _, name := range []string{"c1", "c2", "c3", "c4"} {
		m := (&wire.HostAccess{Owner: wire.Attachment{Network: "lan", Container: name, IfName: "eth0"}}).Metric()
		if m <= 0 || m >= 1<<31 || seen[m] {
			t.Errorf("%s: metric %d", name, m)
		}
		seen[m] = true
	}
}
