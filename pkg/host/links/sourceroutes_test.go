package links_test

import (
	"net/netip"
	"testing"

	"dcni/pkg/host/links"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// A container on one network costs no message: there is no socket here to send one by, and no
// namespace to open.
func TestSourceRoutesOfOneNetwork(t *testing.T) {
	h := &links.Links{Records: records.Store{Run: t.TempDir()}}
	o := &wire.SourceRoutes{
		Owner: wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}, NetNS: "/ns/c1", Dev: "eth0",
		Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.2")}, Defaults: []*wire.Route{{Dev: "eth0"}},
	}
	k := h.Of(o)
	if changed, err := k.Ensure(); changed || err != nil {
		t.Errorf("Ensure: %v, %v", changed, err)
	}
	if err := k.Check(); err != nil {
		t.Errorf("Check: %v", err)
	}
	if err := k.Remove(); err != nil {
		t.Errorf("Remove: %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("beside another suite's network it looks at no namespace: the test sees nothing")
		}
	}()
	o.Defaults[0].Foreign = true
	_, _ = k.Ensure()
}
