package network

import (
	"encoding/json"
	"slices"

	"dcni/pkg/wire"
)

// RawOnParent mirrors the keys that every network has whose interfaces are on a parent, after
// Docker's names were replaced by ours. Pointers tell "not given" from the zero value.
type RawOnParent struct {
	CNIVersion        string          `json:"cniVersion"`
	Name              string          `json:"name"`
	Parent            string          `json:"parent"`
	Mode              string          `json:"mode"`
	Internal          bool            `json:"internal"`
	ConflictDetection *bool           `json:"conflictDetection"`
	MTU               int             `json:"mtu"`
	IPv6              *bool           `json:"ipv6"`
	GwPriority        int             `json:"gwPriority"`
	Options           json.RawMessage `json:"options"`
	IPAM              json.RawMessage `json:"ipam"`
	DNS               *DNS            `json:"dns"`
	Names             json.RawMessage `json:"names"`
}

// OnParent is what those networks have in common, configured.
type OnParent struct {
	Name              string // the network's
	Parent            Parent // its mode is a plugin's to check
	Internal          bool   // no default route; without a parent there is no way out at all
	ConflictDetection bool   // an address is probed for on the LAN before it is used; the mode may say otherwise
	MTU               int    // bytes; 0: the parent's
	GwPriority        int    // the sandbox's default gateway is of the network with the highest
	IfPrefix          string
	Families          Families
	IPAM              IPAM
	DNS               *DNS
	Names             *Names // how containers find names; nil: as the runtime has it
}

// A ParentReader reads the configurations of a plugin whose interfaces are on a parent.
type ParentReader struct {
	Kind    string        // of the interfaces: wire.KindMacvlan or wire.KindIpvlan
	Prefix  string        // Docker's for the name of a parent that a network has of its own
	Options DockerOptions // the driver's
	Own     any           // points to a struct of the plugin's own keys, for their names
	Foreign any           // likewise, of keys that are known of the reference plugin
}

// Known are the keys of a configuration.
func (p ParentReader) Known() []string {
	return slices.Concat(Known(&RawOnParent{}), Known(p.Own), Known(p.Foreign), StandardKeys())
}

// Read reads a configuration, and the plugin's own and foreign keys into structs like those
// of the reader. What is given of conflictDetection is returned as well, nil where nothing is.
func (p ParentReader) Read(conf Conf, own, foreign any) (n OnParent, detection *bool, err error) {
	keys, err := conf.Keys(p.Known())
	if err != nil {
		return n, nil, err
	}
	n.IfPrefix = PrefixOf(keys)
	if err := p.Options.Replace(keys); err != nil {
		return n, nil, err
	}
	if err := keys.Alias("parent", "master", new(string)); err != nil { // the reference plugins' word
		return n, nil, err
	}
	var raw RawOnParent
	for _, into := range []any{&raw, own, foreign} {
		if err := keys.Decode("", into); err != nil {
			return n, nil, err
		}
	}
	if err := n.fill(&raw, p); err != nil {
		return n, nil, err
	}
	n.Names, err = conf.Names()
	if err == nil && n.Names != nil && n.Names.Gateway {
		err = wire.Invalid("names.gateway", true, "must be false: the network has no bridge, and its gateway is another machine")
	}
	return n, raw.ConflictDetection, err
}

// fill checks the values, and fills in the defaults.
func (n *OnParent) fill(r *RawOnParent, p ParentReader) (err error) {
	n.Name, n.Internal, n.MTU, n.GwPriority, n.DNS = r.Name, r.Internal || r.Parent == "", r.MTU, r.GwPriority, r.DNS
	n.ConflictDetection = r.ConflictDetection == nil || *r.ConflictDetection
	if n.Parent, err = ParseParent(r.Name, p.Kind, p.Prefix, r.Parent); err != nil {
		return err
	}
	n.Parent.Mode = r.Mode
	if n.IPAM, err = ParseIPAMOnLAN(r.IPAM); err != nil {
		return err
	}
	if n.Families, err = ParseFamilies(r.IPv6, n.IPAM.Own.Subnets); err != nil {
		return err
	}
	return n.Families.CheckMTU(n.MTU, n.IPAM.Own.Subnets)
}

// Show returns what a configuration says under Docker's names. What inspect shows elsewhere
// is left out.
func (p ParentReader) Show(conf Conf) (map[string]string, error) {
	keys, err := conf.Keys(p.Known())
	if err != nil {
		return map[string]string{}, err
	}
	if v, ok := keys["master"]; ok { // another word for parent
		keys["parent"] = v
	}
	for _, key := range slices.Concat([]string{"internal", "ipv6", "names"}, Known(p.Foreign), StandardKeys()) {
		delete(keys, key)
	}
	return p.Options.Show(keys)
}

// Describe returns what the engine must know of the network. ports says why it publishes
// none.
func (n *OnParent) Describe(ports string) Description {
	return Description{
		Name:     n.Name,
		Parent:   &n.Parent,
		IPAM:     n.IPAM,
		Families: n.Families,
		MTU:      n.MTU,
		Ports:    Ports{Ignore: n.Internal, Refuse: ports},
		DNS:      n.DNS,
		Names:    n.Names,
		IfPrefix: n.IfPrefix,
		Info:     Info{Internal: n.Internal, Priority: n.GwPriority},

		ConflictDetection: n.ConflictDetection && !n.Parent.Own,
	}
}
