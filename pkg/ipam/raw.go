package ipam

import "net/netip"

// Raw is the `ipam` section of a network configuration as it is written: unchecked
// texts. [Raw.Config] is the only way to a [Config].
type Raw struct {
	Type         string            `json:"type,omitempty"`
	Subnet       string            `json:"subnet,omitempty"`
	IPRange      string            `json:"ipRange,omitempty"`
	Gateway      string            `json:"gateway,omitempty"`
	AuxAddresses map[string]string `json:"auxAddresses,omitempty"` // name -> address
	Subnets      []RawSubnet       `json:"subnets,omitempty"`      // instead of the four above
	Routes       []RawRoute        `json:"routes,omitempty"`       // put into the result as they are
	Allocation   string            `json:"allocation,omitempty"`   // "" = next-fit
	Sticky       bool              `json:"sticky,omitempty"`       // a container name keeps its addresses
	DataDir      string            `json:"dataDir,omitempty"`      // "" = DefaultDataDir

	// Ungated says of which families a subnet without a gateway has none: its first address
	// is one as any other.
	Ungated Ungated `json:"-"`
}

// Ungated are families whose subnets have no gateway, or only one that is given.
type Ungated struct{ IPv4, IPv6 bool }

// Has reports whether an address, or a subnet by one of its, is of such a family.
func (u Ungated) Has(a netip.Addr) bool { return a.Is4() && u.IPv4 || a.Is6() && u.IPv6 }

// single returns the subnet that is written without a list.
func (r Raw) single() RawSubnet {
	return RawSubnet{Subnet: r.Subnet, IPRange: r.IPRange, Gateway: r.Gateway, AuxAddresses: r.AuxAddresses}
}

// RawSubnet is one subnet as it is written.
type RawSubnet struct {
	Subnet       string            `json:"subnet,omitempty"`
	IPRange      string            `json:"ipRange,omitempty"`
	Gateway      string            `json:"gateway,omitempty"`
	AuxAddresses map[string]string `json:"auxAddresses,omitempty"` // name -> address
}

// empty reports whether nothing is written.
func (r RawSubnet) empty() bool {
	return r.Subnet == "" && r.IPRange == "" && r.Gateway == "" && len(r.AuxAddresses) == 0
}

// RawRoute is a route as CNI 1.1 writes it.
type RawRoute struct {
	Dst      string `json:"dst"`
	GW       string `json:"gw,omitempty"`
	MTU      int    `json:"mtu,omitempty"`
	AdvMSS   int    `json:"advmss,omitempty"`
	Priority int    `json:"priority,omitempty"`
	Table    *int   `json:"table,omitempty"`
	Scope    *int   `json:"scope,omitempty"`
}

// RawRange is one range of the capability ipRanges as a runtime sends it.
type RawRange struct {
	Subnet     string `json:"subnet"`
	RangeStart string `json:"rangeStart,omitempty"`
	RangeEnd   string `json:"rangeEnd,omitempty"`
	Gateway    string `json:"gateway,omitempty"`
}
