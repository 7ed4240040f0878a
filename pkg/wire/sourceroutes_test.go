package wire_test

import (
	"net/netip"
	"testing"

	"dcni/pkg/wire"
)

func TestSourceRoutes(t *testing.T) {
	four, six := netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("fd00::2")
	own := &wire.SourceRoutes{Owner: wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}, NetNS: "/ns/c1", Dev: "eth0", Addresses: []netip.Addr{four, six}}
	other := &wire.SourceRoutes{Owner: wire.Attachment{Network: "lab", Container: "c1", IfName: "eth1"}}
	bare := &wire.SourceRoutes{Owner: own.Owner} // what DEL knows without a record
	if own.Table() == other.Table() || own.Table() != bare.Table() || own.Key() != bare.Key() {
		t.Errorf("tables %d, %d, %d; keys %q, %q", own.Table(), other.Table(), bare.Table(), own.Key(), bare.Key())
	}
	for table, want := range map[int]bool{own.Table(): true, other.Table(): true, 0x65000000: true, 0x66000000: false, 100: false, 254: false} {
		if wire.IsSourceTable(table) != want {
			t.Errorf("table %#x: %v", table, !want)
		}
	}
	if own.Outside() != nil || len(own.Refers()) != 1 || bare.Refers() != nil {
		t.Errorf("outside %v, refers %v and %v", own.Outside(), own.Refers(), bare.Refers())
	}
	left := wire.WithoutIPv6([]wire.Object{own})[0].(*wire.SourceRoutes)
	if len(left.Addresses) != 1 || left.Addresses[0] != four || len(own.Addresses) != 2 {
		t.Errorf("without IPv6: %v of %v", left.Addresses, own.Addresses)
	}
	left = wire.WithoutTaken([]wire.Object{own}, []wire.Conflict{{Address: four}})[0].(*wire.SourceRoutes)
	if len(left.Addresses) != 1 || left.Addresses[0] != six {
		t.Errorf("without a taken address: %v", left.Addresses)
	}
	if need, _ := wire.NeedAddresses([]wire.Object{own}); len(need) != 1 {
		t.Error("rules are made before the addresses")
	}
}
