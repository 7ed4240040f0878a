package vxlan_test

import (
	"net/netip"
	"strings"
	"testing"

	"dcni/pkg/firewall"
	"dcni/pkg/host"
	"dcni/pkg/host/hosttest"
)

// TestUnderlay: a closed port is on record, so that it is opened with its last user, and
// the nodes are, so that they are in as soon as rules that were flushed are laid again.
func TestUnderlay(t *testing.T) {
	onBridge(t, func(h *host.Host) {
		u := &firewall.Underlay{Port: 4789, Known: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
		nodes := &firewall.Nodes{Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::2")}}
		if changed, err := h.Ensure(nodes); changed || err != nil || h.Check(nodes) != nil {
			t.Errorf("without a closed port: %t, %v, %v", changed, err, h.Check(nodes))
		}
		makeOnce(t, h, u)
		wantLine(t, hosttest.NFT(t, "list", "table", "inet", "dcni-underlay"), "192.0.2.1", "192.0.2.2", "2001:db8::2", "udp . 4789")
		makeOnce(t, h, nodes)
		if out := hosttest.NFT(t, "list", "set", "inet", "dcni-underlay", "nodes4"); strings.Contains(out, "192.0.2.1") {
			t.Errorf("a node that is none stays: %s", out)
		}
		hosttest.NFT(t, "flush", "ruleset")
		makeOnce(t, h, u)
		wantLine(t, hosttest.NFT(t, "list", "table", "inet", "dcni-underlay"), "192.0.2.2", "2001:db8::2")
		if list, err := h.HostObjects(); err != nil || len(list) != 1 || list[0].Key() != u.Key() {
			t.Errorf("host's objects: %v, %v", list, err)
		}
		for range 2 {
			if err := h.Remove(u); err != nil {
				t.Error(err)
			}
		}
		if list, err := h.HostObjects(); err != nil || len(list) > 0 {
			t.Errorf("host's objects: %v, %v", list, err)
		}
		if out := hosttest.NFT(t, "list", "tables"); strings.Contains(out, "underlay") {
			t.Errorf("left: %s", out)
		}
	})
}
