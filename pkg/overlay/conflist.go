package overlay

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"dcni/pkg/firewall"
	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/network/catalog"
	"dcni/pkg/wire"
)

// PluginType is the CNI plugin of overlay networks, and IPAMType what their ipam section
// has as its type: addresses come from the cluster, by the plugin itself.
const (
	PluginType = "doverlay"
	IPAMType   = "cluster"
)

// conflistPlugin is the plugin's configuration as a network's file has it.
type conflistPlugin struct {
	Type          string            `json:"type"`
	Capabilities  map[string]bool   `json:"capabilities,omitempty"`
	VNI           int               `json:"vni,omitempty"` // 0: the cluster has yet to choose it
	MTU           int               `json:"mtu,omitempty"` // likewise
	Internal      bool              `json:"internal,omitempty"`
	Encrypted     bool              `json:"encrypted,omitempty"`
	Flood         bool              `json:"flood,omitempty"`
	NodeAddresses bool              `json:"nodeAddresses,omitempty"`
	Options       map[string]string `json:"options,omitempty"`
	Names         *struct{}         `json:"names,omitempty"`
	IPAM          conflistIPAM      `json:"ipam"`
}

type conflistIPAM struct {
	Type       string           `json:"type"`
	Generation int64            `json:"generation"`
	Subnets    []ipam.RawSubnet `json:"subnets"`
}

// Conflist returns the network's file for runtimes, which is the same on every node. Of
// another generation it is another one, so that a container which is started by an old
// file is not attached to a new network.
func (n Existing) Conflist() ([]byte, error) {
	p := conflistPlugin{
		Type: PluginType, VNI: n.VNI, MTU: n.MTU, Internal: n.Internal, Encrypted: n.Encrypted, Flood: n.Flood,
		NodeAddresses: n.NodeAddresses, Options: n.Options, Names: &struct{}{},
		Capabilities: map[string]bool{
			"aliases": true, "bandwidth": true, "dns": true, "io.kubernetes.cri.pod-annotations": true, "ips": true, "mac": true, "portMappings": true,
		},
		IPAM: conflistIPAM{Type: IPAMType, Generation: n.Generation},
	}
	for _, s := range n.Subnets {
		p.IPAM.Subnets = append(p.IPAM.Subnets, s.raw())
	}
	return catalog.EncodeConflist(n.Name, p, n.Labels, n.Attachable)
}

// WrittenFor returns which network, of which generation, a file was written for by
// [Existing.Conflist]. It is false of any other file, and of one that was written by
// hand, which has no generation.
func WrittenFor(conflist []byte) (name string, generation int64, ok bool) {
	var file struct {
		Name    string           `json:"name"`
		Plugins []conflistPlugin `json:"plugins"`
	}
	if json.Unmarshal(conflist, &file) != nil || len(file.Plugins) == 0 {
		return "", 0, false
	}
	p := file.Plugins[0]
	return file.Name, p.IPAM.Generation, p.Type == PluginType && p.IPAM.Type == IPAMType && p.IPAM.Generation != 0
}

// A Given is what a configuration says of what the cluster has: nil and zero, it says
// nothing.
type Given struct {
	VNI           int    `json:"vni"`
	MTU           int    `json:"mtu"`
	Internal      *bool  `json:"internal"`
	Encrypted     *bool  `json:"encrypted"`
	Flood         *bool  `json:"flood"`
	NodeAddresses *bool  `json:"nodeAddresses"`
	Firewall      string `json:"firewall"`
	Generation    int64
	Subnets       []ipam.Subnet // without gateways that are not in the configuration
	// Ungated are the families in which the configuration has no gateway by default.
	Ungated ipam.Ungated
}

// ParseGiven reads a plugin's configuration. Docker's names of options were replaced by
// its keys before.
func ParseGiven(plugin json.RawMessage) (Given, error) {
	var g Given
	var section struct {
		IPAM struct {
			ipam.Raw
			Generation int64 `json:"generation"`
		} `json:"ipam"`
	}
	for _, into := range []any{&g, &section} {
		if err := json.Unmarshal(plugin, into); err != nil {
			return Given{}, network.DecodeError(wire.CodeConfig, "configuration", err)
		}
	}
	section.IPAM.Ungated = ipam.Ungated{IPv4: true, IPv6: true}
	cfg, err := section.IPAM.Config()
	if err != nil {
		return Given{}, err
	}
	g.Generation, g.Subnets = section.IPAM.Generation, cfg.Subnets
	return g, nil
}

// Check compares a configuration with the network: what is given and differs is an error
// of code 7.
func (n Existing) Check(g Given) error {
	differs := func(field string, given, is any) error {
		return wire.Invalid(field, given, fmt.Sprintf("must be left out or %v, as network %q has it in the cluster", is, n.Name))
	}
	switch {
	case g.Generation != 0 && g.Generation != n.Generation:
		return differs("ipam.generation", g.Generation, n.Generation)
	case g.VNI != 0 && g.VNI != n.VNI:
		return differs("vni", g.VNI, n.VNI)
	case g.MTU != 0 && g.MTU != n.MTU:
		return differs("mtu", g.MTU, n.MTU)
	case g.Firewall == firewall.IPTables && n.Options["firewall"] != firewall.IPTables:
		return differs("firewall", g.Firewall, firewall.NFTables)
	}
	for _, f := range []struct {
		field string
		given *bool
		is    bool
	}{
		{"internal", g.Internal, n.Internal}, {"encrypted", g.Encrypted, n.Encrypted},
		{"flood", g.Flood, n.Flood}, {"nodeAddresses", g.NodeAddresses, n.NodeAddresses},
	} {
		if f.given != nil && *f.given != f.is {
			return differs(f.field, *f.given, f.is)
		}
	}
	for _, s := range n.Subnets {
		if s.Gateway.IsValid() == g.Ungated.Has(s.Prefix.Addr()) {
			return n.otherGateways(s)
		}
	}
	for _, s := range g.Subnets {
		at := slices.IndexFunc(n.Subnets, func(own Subnet) bool { return own.Prefix == s.Prefix })
		if at < 0 {
			return differs("ipam.subnets", s.Prefix, n.prefixes())
		}
		own := n.Subnets[at].IPAM()
		switch {
		case s.Gateway.IsValid() && own.Gateway != s.Gateway:
			return differs("ipam.gateway", s.Gateway, own.Gateway)
		case s.Range != s.Prefix && own.Range != s.Range:
			return differs("ipam.ipRange", s.Range, own.Range)
		}
	}
	return nil
}

// otherGateways is the error of a configuration that is isolated where the network is not, or
// the other way round.
func (n Existing) otherGateways(s Subnet) error {
	family, is := 4, "has a gateway"
	if s.Prefix.Addr().Is6() {
		family = 6
	}
	if !s.Gateway.IsValid() {
		is = "has none"
	}
	return wire.Errorf(wire.CodeConfig, "gatewayModeIPv%d, inhibitIPv4: must say what network %q has in the cluster: subnet %s %s", family, n.Name, s.Prefix, is)
}

func (n Existing) prefixes() []netip.Prefix { return prefixes(n.Subnets) }
