package firewall

import (
	"fmt"
	"net/netip"
	"slices"
)

// Permit says that a bridge's packets pass the forward chains of other programs: nf_tables'
// accept is no other chain's, so what one drops is dropped. In chains of iptables it is two
// rules, which are only put where something of the bridge's is dropped. What dcni's own rules
// drop is dropped all the same.
type Permit struct {
	Bridge   string
	Families []int // of the network: 4, 6
	Ports    bool  // containers publish some, or others reach all: a chain that drops only what comes for them matters
}

// Key names the bridge.
func (p *Permit) Key() string { return "permit " + p.Bridge }

// Root marks it as something that goes with its last user.
func (p *Permit) Root() {}

func (p *Permit) String() string {
	return fmt.Sprintf("iptables FORWARD -i %s -j ACCEPT, -o %[1]s -j ACCEPT where another program drops that", p.Bridge)
}

// Permit returns what lets the network's bridge pass, where it needs that, with published ports.
func (n *Network) Permit() *Permit {
	p := &Permit{Bridge: n.Bridge, Ports: true}
	for _, family := range []int{4, 6} {
		if slices.ContainsFunc(n.Subnets, func(s netip.Prefix) bool { return s.Addr().Is6() == (family == 6) }) {
			p.Families = append(p.Families, family)
		}
	}
	return p
}
