package integration

import (
	"slices"
	"strings"
	"testing"
)

// TestIPTables runs scripts about bridges and overlay networks once more, with the rules of iptables.
func TestIPTables(t *testing.T) { run(t) }

// runsByIPTables reports whether a script is one of those: not the ones about the rules' text, or
// about what rules have no part in.
func runsByIPTables(name string) bool {
	return slices.Contains(strings.Fields(`
		bridge_adopt bridge_changed bridge_conflicts bridge_ephemeral bridge_frames bridge_icc bridge_internal bridge_internal_raw bridge_isolated bridge_isolation
		bridge_loopback_ports bridge_masquerade bridge_modes bridge_moved bridge_ports bridge_remade bridge_resubnet
		bridge_shared_ports bridge_snat bridge_trusted bridge_two_networks bridge_udp bridge_uplink bridge_uplink_anew connect_gateway
		link_default link_isolated
		overlay_healed overlay_internal overlay_isolated overlay_isolation overlay_modes overlay_node_addresses overlay_two services_overlay`), name)
}
