package ipam

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"path/filepath"
	"slices"

	"dcni/pkg/wire"
)

// DefaultDataDir is where leases are kept when `dataDir` is not set.
const DefaultDataDir = "/var/lib/dcni"

// Allocation is how the next address is found.
type Allocation string

// The two ways of allocation.
const (
	// NextFit goes on from the address handed out last and wraps around.
	NextFit Allocation = "next-fit"
	// Lowest hands out the lowest free address, as Docker's local networks do.
	Lowest Allocation = "lowest"
)

// Config is a valid `ipam` section, with its defaults filled in. Later code does not
// check it again.
type Config struct {
	Subnets    []Subnet // none: the caller takes one from the pools, see With
	Routes     []Route
	Allocation Allocation
	Sticky     bool
	DataDir    string // absolute

	ungated Ungated // where a subnet without a gateway in the section has none
}

// Subnet is one block of addresses of a network.
type Subnet struct {
	Prefix  netip.Prefix          `json:"subnet"`                 // no host bits
	Range   netip.Prefix          `json:"ipRange"`                // where dynamic addresses come from; inside Prefix
	Gateway netip.Addr            `json:"gateway"`                // the zero Addr only with Raw.Ungated
	Aux     map[string]netip.Addr `json:"auxAddresses,omitempty"` // reserved by name, or nil
}

// Route is a route for the result. Table and Scope are nil when not given.
type Route struct {
	Dst      netip.Prefix `json:"dst"`
	GW       netip.Addr   `json:"gw,omitzero"`      // the zero Addr: the network's gateway
	MTU      int          `json:"mtu,omitempty"`    // bytes; 0: not given, as below
	AdvMSS   int          `json:"advmss,omitempty"` // bytes
	Priority int          `json:"priority,omitempty"`
	Table    *int         `json:"table,omitempty"`
	Scope    *int         `json:"scope,omitempty"`
}

// Config checks a section and types it. Errors are of code 7 and name the
// field.
func (r Raw) Config() (Config, error) {
	c := Config{Allocation: NextFit, Sticky: r.Sticky, DataDir: DefaultDataDir, ungated: r.Ungated}
	switch r.Allocation {
	case "", string(NextFit):
	case string(Lowest):
		c.Allocation = Lowest
	default:
		return Config{}, wire.Invalid("ipam.allocation", r.Allocation, "must be next-fit or lowest")
	}
	if r.DataDir != "" {
		if !filepath.IsAbs(r.DataDir) {
			return Config{}, wire.Invalid("ipam.dataDir", r.DataDir, "must be an absolute path")
		}
		c.DataDir = filepath.Clean(r.DataDir)
	}
	var err error
	if c.Subnets, err = r.subnets(); err != nil {
		return Config{}, err
	}
	for i, route := range r.Routes {
		typed, err := route.route(fmt.Sprintf("ipam.routes[%d].", i))
		if err != nil {
			return Config{}, err
		}
		c.Routes = append(c.Routes, typed)
	}
	return c, nil
}

// subnets types the subnets, whichever way they are written.
func (r Raw) subnets() ([]Subnet, error) {
	if len(r.Subnets) > 0 && !r.single().empty() {
		return nil, wire.Invalid("ipam.subnets", len(r.Subnets),
			"can't stand beside subnet, ipRange, gateway or auxAddresses: move those into the list")
	}
	if len(r.Subnets) == 0 {
		if r.single().empty() {
			return nil, nil
		}
		s, err := r.single().subnet("ipam.", r.Ungated)
		return []Subnet{s}, err
	}
	var list []Subnet
	for i, raw := range r.Subnets {
		at := fmt.Sprintf("ipam.subnets[%d].", i)
		s, err := raw.subnet(at, r.Ungated)
		if err != nil {
			return nil, err
		}
		for _, other := range list {
			if other.Prefix.Overlaps(s.Prefix) {
				return nil, wire.Invalid(at+"subnet", s.Prefix,
					"overlaps "+other.Prefix.String()+": multiple overlapping subnet configuration is not supported")
			}
		}
		list = append(list, s)
	}
	return list, nil
}

// route types one route.
func (r RawRoute) route(at string) (Route, error) {
	out := Route{MTU: r.MTU, AdvMSS: r.AdvMSS, Priority: r.Priority, Table: r.Table, Scope: r.Scope}
	var err error
	if out.Dst, err = parsePrefix(at+"dst", r.Dst); err != nil {
		return Route{}, err
	}
	if r.GW != "" {
		if out.GW, err = parseAddr(at+"gw", r.GW); err != nil {
			return Route{}, err
		}
		if out.GW.Is4() != out.Dst.Addr().Is4() {
			return Route{}, wire.Invalid(at+"gw", r.GW, "must be of the family of dst "+r.Dst)
		}
	}
	for _, n := range []struct {
		name  string
		value int
		max   int64
	}{
		{"mtu", r.MTU, math.MaxUint32},
		{"advmss", r.AdvMSS, math.MaxUint32},
		{"priority", r.Priority, math.MaxUint32},
		{"table", deref(r.Table), math.MaxUint32},
		{"scope", deref(r.Scope), 255},
	} {
		if n.value < 0 || int64(n.value) > n.max {
			return Route{}, wire.Invalid(at+n.name, n.value, fmt.Sprintf("must be 0 to %d", n.max))
		}
	}
	return out, nil
}

func deref(n *int) int {
	if n == nil {
		return 0
	}
	return *n
}

// Reserve returns the configuration with an address that is given to nothing, by the name
// of what has it.
func (c Config) Reserve(name string, a netip.Addr) Config {
	c.Subnets = slices.Clone(c.Subnets)
	for i, s := range c.Subnets {
		reserved := map[netip.Addr]string{}
		if s.reserve(reserved); !s.Prefix.Contains(a) || reserved[a] != "" {
			continue
		}
		c.Subnets[i].Aux = maps.Clone(s.Aux)
		if s.Aux == nil {
			c.Subnets[i].Aux = map[string]netip.Addr{}
		}
		if _, ok := c.Subnets[i].Aux[name]; ok { // it has several
			c.Subnets[i].Aux[name+" "+a.String()] = a
		} else {
			c.Subnets[i].Aux[name] = a
		}
	}
	return c
}

// Ungated returns of which families a subnet has no gateway unless one is given.
func (c Config) Ungated() Ungated { return c.ungated }

// With returns the configuration with more subnets, those that were chosen for
// the network from the pools, each with its first usable address as gateway.
func (c Config) With(prefixes ...netip.Prefix) Config {
	list := append([]Subnet(nil), c.Subnets...)
	for _, p := range prefixes {
		s := Subnet{Prefix: p, Range: p}
		if !c.ungated.Has(p.Addr()) {
			s.Gateway, _ = usable(p)
		}
		list = append(list, s)
	}
	c.Subnets = list
	return c
}
