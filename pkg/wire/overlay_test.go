package wire_test

import (
	"net/netip"
	"slices"
	"testing"

	"dcni/pkg/wire"
)

// What an overlay network has besides a bridge: as text, by key, and what must be there
// before.
func TestOverlay(t *testing.T) {
	node, ip := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("10.0.0.7")
	const mac = "02:42:0a:00:00:07"
	device := wire.Vxlan{Name: "vx-1", Bridge: "br-1", VNI: 4096, Local: node, Port: 4789, MTU: 1450, Alias: "web"}
	flood := device
	flood.Flood, flood.MAC = true, mac
	for _, c := range []struct {
		o         wire.Object
		key, text string
		refers    []string
		root      bool
	}{
		{&device, "link vx-1", `link vx-1 mtu 1450 master br-1 learning off alias "web" type vxlan id 4096 local 192.0.2.2 dstport 4789 nolearning proxy`, []string{"link br-1"}, true},
		{&flood, "link vx-1", `link vx-1 address 02:42:0a:00:00:07 mtu 1450 master br-1 learning off neigh_suppress on alias "web" type vxlan id 4096 local 192.0.2.2 dstport 4789 nolearning`, []string{"link br-1"}, true},
		{&wire.FDB{Dev: "vx-1", MAC: mac, Dst: node}, "fdb " + mac + " dev vx-1", "fdb " + mac + " dev vx-1 dst 192.0.2.2 self permanent", []string{"link vx-1"}, false},
		{&wire.FDB{Dev: "vx-1", MAC: mac}, "fdb " + mac + " dev vx-1 master", "fdb " + mac + " dev vx-1 master sticky static", []string{"link vx-1"}, false},
		{&wire.FDB{Dev: "vx-1", MAC: wire.FloodMAC, Dst: node}, "fdb 00:00:00:00:00:00 dev vx-1 dst 192.0.2.2", "fdb 00:00:00:00:00:00 dev vx-1 dst 192.0.2.2 self permanent", []string{"link vx-1"}, false},
		{&wire.Neigh{Dev: "br-1", IP: ip, MAC: mac}, "neigh 10.0.0.7 dev br-1", "neigh 10.0.0.7 dev br-1 lladdr " + mac + " PERMANENT", []string{"link br-1"}, false},
		{&wire.Rule{Family: 4, Priority: 1000, IIF: "br-1", Mark: 0x10000, Mask: 0xff0000, Table: 1001}, "rule 4 pref 1000 iif br-1 fwmark 0x10000/0xff0000", "rule pref 1000 fwmark 0x10000/0xff0000 iif br-1 lookup 1001", nil, true},
		{&wire.Rule{Family: 6, Priority: 1000, Table: 1001}, "rule 6 pref 1000 iif  fwmark 0x0/0x0", "-6 rule pref 1000 lookup 1001", nil, true},
		{&wire.Peers{Network: "web", Bridge: "br-1", Vxlan: "vx-1"}, "peers of web", "fdb and neigh entries dev vx-1 and br-1 for what is on other nodes, by dnetd", []string{"link br-1", "link vx-1"}, true},
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
	}
}
