package firewall

import (
	"fmt"
	"net/netip"

	"dcni/pkg/wire"
)

// Member is a container on a bridge that dcni did not make, or of an overlay network.
// Others are on that bridge too, the host's uplink may be, or containers on other nodes:
// there the rules know containers by their addresses.
type Member struct {
	Owner     wire.Attachment `json:"owner"`
	Bridge    string          `json:"bridge"`
	Addresses []netip.Addr    `json:"addresses"`
	Overlay   bool            `json:"overlay,omitempty"` // of an overlay network, whose bridge is its own
	Backend   string          `json:"backend,omitempty"` // its network's, for String
}

// Key names the attachment; see [wire.Object].
func (m *Member) Key() string { return "firewall member " + m.Owner.String() }

// Root marks the member as something DEL removes by itself.
func (m *Member) Root() {}

// Refers names the network whose rules must be there first.
func (m *Member) Refers() []string { return []string{(&Network{Name: m.Owner.Network}).Key()} }

// String returns the member's elements on one line, or its addresses where iptables has rules of
// them.
func (m *Member) String() string {
	if m.Backend == IPTables {
		return fmt.Sprintf("rules of iptables for %v of %s", m.Addresses, m.Owner)
	}
	return joinElements(m.Elements())
}

// Elements returns one element an address.
func (m *Member) Elements() []Element {
	elements := make([]Element, 0, len(m.Addresses))
	for _, a := range m.Addresses {
		a = a.Unmap()
		elements = append(elements, Element{
			Set: byFamily(a.Is6(), SetMembers4, SetMembers6), Key: []fmt.Stringer{IfName(m.Bridge), a}, Comment: Comment(m.Owner),
		})
	}
	return elements
}
