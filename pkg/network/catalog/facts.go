package catalog

import (
	"encoding/json"
	"net/netip"
	"slices"

	"dcni/pkg/ipam"
	"dcni/pkg/network"
)

// Facts are what a network's configuration and the registry say about it.
type Facts struct {
	IPv4, IPv6  bool
	Internal    bool
	Link        string            // the network's own on the host, "" for none
	Parent      *network.Parent   // of its interfaces; nil for none
	Routed      bool              // see [Description]
	Options     map[string]string // by Docker's names where it has them; never nil
	IPAM        string            // Docker's word for the source of addresses, or a plugin's type
	IPAMOptions map[string]string // never nil
	DataDir     string            // of dipam
	Subnets     []ipam.Subnet
}

// Facts reads the first plugin's configuration. The registered subnets are what
// it has besides those that the configuration names. Of another suite's plugin,
// what can be understood is told, and nothing is an error; the error of one of
// ours is what it will answer ADD with, and the facts are then incomplete.
func (c *Conflist) Facts(registered []netip.Prefix) (Facts, error) {
	if c.Configuration != nil {
		return c.Configuration.facts()
	}
	if c.Main != nil {
		if driver, ok := c.Main.Driver.(Inspector); ok {
			return c.ownFacts(driver, registered)
		}
	}
	f := Facts{
		IPv4: true, Options: map[string]string{}, IPAM: "default", IPAMOptions: map[string]string{},
	}
	var conf struct {
		Internal bool       `json:"internal"`
		IPAM     looseRange `json:"ipam"`
	}
	if json.Unmarshal(c.Plugins[0], &conf) != nil {
		return f, nil //nolint:nilerr // whatever another suite's configuration is like
	}
	var keys map[string]json.RawMessage
	if json.Unmarshal(c.Plugins[0], &keys) == nil {
		f.Options = ForeignOptions(keys)
	}
	f.Internal = conf.Internal
	f.Subnets = conf.IPAM.subnets(registered)
	if t := conf.IPAM.Type; t != "" && t != "dipam" {
		f.IPAM = t
	}
	f.families()
	return f, nil
}

// Remover returns what removes the objects that the network leaves on the host, nil
// if it leaves none.
func (c *Conflist) Remover() Remover {
	if c.Main == nil {
		return nil
	}
	r, _ := c.Main.Driver.(Remover)
	return r
}

// ownFacts reads the configuration of one of our plugins.
func (c *Conflist) ownFacts(driver Inspector, registered []netip.Prefix) (Facts, error) {
	f := Facts{IPv4: true, Options: map[string]string{}, IPAM: "default", IPAMOptions: map[string]string{}}
	if r := c.Remover(); r != nil {
		f.Link = r.Link(c.Name)
	}
	d, err := c.Main.Describe(c.Name, c.Plugins[0])
	if err != nil {
		return f, err
	}
	f.Internal, f.Link, f.DataDir = d.Info.Internal, d.Link, d.IPAM.Own.DataDir
	f.Parent, f.Routed = d.Parent, d.Routed
	conf, err := network.Named(c.Name, c.Plugins[0])
	if err == nil {
		f.Options, err = driver.Options(conf)
	}
	if d.IPAM.Type != "dipam" {
		f.IPAM, f.Subnets = d.IPAM.Type, d.IPAM.Own.Subnets // those of a cluster's network
		f.families()
		return f, err
	}
	own := d.IPAM.Own
	f.Subnets = own.With(missing(own.Subnets, registered)...).Subnets
	if own.Allocation != ipam.NextFit {
		f.IPAMOptions["allocation"] = string(own.Allocation)
	}
	if own.Sticky {
		f.IPAMOptions["sticky"] = "true"
	}
	f.families()
	f.IPv4 = f.IPv4 || len(own.Subnets) == 0 // one from the pools, at the first ADD
	f.IPv6 = f.IPv6 || d.Families.ULA
	return f, err
}

// Routes are what a machine on the LAN needs to reach the containers of a routed
// network, as ip-route(8) takes them: by an address of the host on the parent. There are
// none to an internal network.
func (f Facts) Routes(host []netip.Addr) []string {
	if !f.Routed || f.Internal {
		return nil
	}
	var list []string
	for _, s := range f.Subnets {
		i := slices.IndexFunc(host, func(a netip.Addr) bool { return a.Is4() == s.Prefix.Addr().Is4() && a.IsGlobalUnicast() })
		if i >= 0 {
			list = append(list, s.Prefix.String()+" via "+host[i].String())
		}
	}
	return list
}

// NoRoute reports whether the network's containers have no default route of a family: none of its subnets
// has a gateway, as a macvlan's for which none was named. Of addresses of another suite's IPAM that
// is not known.
func (f Facts) NoRoute(v6 bool) bool {
	own := slices.DeleteFunc(slices.Clone(f.Subnets), func(s ipam.Subnet) bool { return s.Prefix.Addr().Is6() != v6 })
	return len(own) > 0 && f.IPAM == "default" && !f.Routed && !slices.ContainsFunc(own, func(s ipam.Subnet) bool { return s.Gateway.IsValid() })
}

// families tells the families from the subnets, where there are any.
func (f *Facts) families() {
	if len(f.Subnets) > 0 {
		f.IPv4, f.IPv6 = network.HasFamily(f.Subnets, false), network.HasFamily(f.Subnets, true)
	}
}

// missing returns the prefixes that are no subnets.
func missing(subnets []ipam.Subnet, prefixes []netip.Prefix) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(prefixes), func(p netip.Prefix) bool {
		return slices.ContainsFunc(subnets, func(s ipam.Subnet) bool { return s.Prefix == p })
	})
}

// looseRange is an ipam section of any suite: that of host-local, and of plugins
// that use its keys.
type looseRange struct {
	Type    string         `json:"type"`
	Subnet  string         `json:"subnet"`
	Gateway string         `json:"gateway"`
	Subnets []looseRange   `json:"subnets"`
	Ranges  [][]looseRange `json:"ranges"`
}

// subnets returns what can be read.
func (l looseRange) subnets(registered []netip.Prefix) []ipam.Subnet {
	var out []ipam.Subnet
	for _, r := range slices.Concat(append([][]looseRange{{l}, l.Subnets}, l.Ranges...)...) {
		p, err := netip.ParsePrefix(r.Subnet)
		if err != nil {
			continue
		}
		gateway, _ := netip.ParseAddr(r.Gateway) // zero: not told
		out = append(out, ipam.Subnet{Prefix: p.Masked(), Range: p.Masked(), Gateway: gateway})
	}
	return ipam.Config{Subnets: out}.With(missing(out, registered)...).Subnets
}

// RawSubnets returns the subnets as they are written, with the gateways that they have.
func (f Facts) RawSubnets() []ipam.RawSubnet {
	var list []ipam.RawSubnet
	for _, s := range f.Subnets {
		raw := ipam.RawSubnet{Subnet: s.Prefix.String()}
		if s.Range.IsValid() && s.Range != s.Prefix {
			raw.IPRange = s.Range.String()
		}
		if s.Gateway.IsValid() {
			raw.Gateway = s.Gateway.String()
		}
		for name, a := range s.Aux {
			if raw.AuxAddresses == nil {
				raw.AuxAddresses = map[string]string{}
			}
			raw.AuxAddresses[name] = a.String()
		}
		list = append(list, raw)
	}
	return list
}

// DipamSubnets returns the subnets that an ipam section of dipam's names.
func DipamSubnets(section json.RawMessage) ([]ipam.RawSubnet, error) {
	var raw ipam.Raw
	if err := json.Unmarshal(section, &raw); err != nil {
		return nil, err
	}
	if raw.Subnet == "" {
		return raw.Subnets, nil
	}
	return []ipam.RawSubnet{{Subnet: raw.Subnet, IPRange: raw.IPRange, Gateway: raw.Gateway, AuxAddresses: raw.AuxAddresses}}, nil
}
