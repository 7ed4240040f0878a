package host

import (
	"cmp"
	"net/netip"
	"os"
	"strings"

	"dcni/pkg/host/nameserver"
	"dcni/pkg/ipam"
	"dcni/pkg/wire"
)

// DefaultRouteMTU returns the MTU in bytes of the way out. Where there is none, it is
// Ethernet's 1500.
func (h *Host) DefaultRouteMTU() int {
	const ethernet = 1500
	_, mtu := h.spaces.Root.RT.Uplink()
	return cmp.Or(mtu, ethernet)
}

// ID returns what tells this host from others: its machine-id, else its name.
func (h *Host) ID() string {
	if id, err := os.ReadFile("/etc/machine-id"); err == nil && len(id) > 0 {
		return strings.TrimSpace(string(id))
	}
	name, err := os.Hostname()
	if err != nil {
		return "dcni"
	}
	return name
}

// Orphans lists the links and set elements that look like ours.
func (h *Host) Orphans() ([]wire.Orphan, error) {
	links, err := h.links.Veths()
	if err != nil {
		return nil, err
	}
	var out []wire.Orphan
	for _, name := range links {
		out = append(out, wire.Orphan{
			Object: &wire.Veth{Name: name},
			Of:     func(a wire.Attachment) bool { return a.HostLink() == name || wire.FormerHostLink(a.HostLink()) == name },
			// The name tells no network; without a record it has no owner.
			In: func(string) bool { return true },
		})
	}
	owners, err := h.rules.Orphans()
	return append(out, owners...), err
}

// Routes is [links.Links.HostRoutes].
func (h *Host) Routes() ([]ipam.HostRoute, error) { return h.links.HostRoutes() }

// Adopts is [links.Links.Adopts].
func (h *Host) Adopts(o *wire.Bridge) (bool, error) { return h.links.Adopts(o) }

// HasChild is [parents.Parents.HasChild].
func (h *Host) HasChild(owner wire.Attachment) (bool, error) { return h.parents.HasChild(owner) }

// Parent is [parents.Parents.Parent].
func (h *Host) Parent(names ...string) (wire.LinkInfo, error) { return h.parents.Parent(names...) }

// Nameservers is [nameserver.Nameservers].
func (h *Host) Nameservers() []netip.Addr { return nameserver.Nameservers() }

// RemoveUnusedRules is [rules.Rules.RemoveUnused].
func (h *Host) RemoveUnusedRules() error { return h.rules.RemoveUnused() }

// LostByIPTables is [rules.Rules.LostByIPTables].
func (h *Host) LostByIPTables() (bool, error) { return h.rules.LostByIPTables() }

// SweepRules is [rules.Rules.Sweep].
func (h *Host) SweepRules() ([]string, error) { return h.rules.Sweep() }

// ESP is [xfrm.Kernel.ESP].
func (h *Host) ESP() ([]wire.XfrmUse, []*wire.XfrmPolicy, error) { return h.ipsec.ESP() }
