package macvlan

import (
	"encoding/json"
	"slices"

	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// rawMacvlan mirrors the JSON of a dmacvlan configuration, after Docker's names were
// replaced by ours. Pointers tell "not given" from the zero value.
type rawMacvlan struct {
	CNIVersion        string          `json:"cniVersion"`
	Name              string          `json:"name"`
	Parent            string          `json:"parent"`
	Mode              string          `json:"mode"`
	Internal          bool            `json:"internal"`
	HostAccess        bool            `json:"hostAccess"`
	ConflictDetection *bool           `json:"conflictDetection"`
	AcceptRA          bool            `json:"acceptRA"`
	MTU               int             `json:"mtu"`
	IPv6              *bool           `json:"ipv6"`
	GwPriority        int             `json:"gwPriority"`
	Options           json.RawMessage `json:"options"`
	IPAM              json.RawMessage `json:"ipam"`
	DNS               *network.DNS    `json:"dns"`
	Names             json.RawMessage `json:"names"`
}

// A Macvlan is a macvlan network, configured.
type Macvlan struct {
	Name              string // the network's
	Parent            network.Parent
	Internal          bool // no default route; without a parent there is no way out at all
	HostAccess        bool // the host reaches the containers, and they it
	ConflictDetection bool // an address is probed for on the LAN before it is used
	AcceptRA          bool // router advertisements count in the sandbox
	MTU               int  // bytes; 0: the parent's
	GwPriority        int  // the sandbox's default gateway is of the network with the highest
	IfPrefix          string
	Families          network.Families
	IPAM              network.IPAM
	DNS               *network.DNS
	Names             *network.Names // how containers find names; nil: as the runtime has it
}

const (
	bridgeMode = "bridge"
	passthru   = "passthru"
)

// modes are how macvlans of one parent reach one another, Docker's default first.
var modes = []string{bridgeMode, "private", "vepa", passthru}

// parentPrefix is Docker's for the name of a parent that a network has of its own.
const parentPrefix = "dm-"

// known are the keys of a dmacvlan configuration.
func known() []string {
	return slices.Concat(network.Known(&rawMacvlan{}), network.Known(&rawReference{}), network.StandardKeys())
}

// parse reads a dmacvlan configuration.
func parse(conf network.Conf) (network.Mode, error) {
	m, err := parseMacvlan(conf)
	if err != nil {
		return nil, err
	}
	return m, nil
}

func parseMacvlan(conf network.Conf) (*Macvlan, error) {
	keys, err := conf.Keys(known())
	if err != nil {
		return nil, err
	}
	prefix := network.PrefixOf(keys)
	if err := options.Replace(keys); err != nil {
		return nil, err
	}
	if err := keys.Alias("parent", "master"); err != nil { // the reference plugin's word
		return nil, err
	}
	var raw rawMacvlan
	if err := keys.Decode("", &raw); err != nil {
		return nil, err
	}
	m, err := raw.typed()
	if err != nil {
		return nil, err
	}
	var reference rawReference
	if err := keys.Decode("", &reference); err != nil {
		return nil, err
	}
	if err := reference.check(); err != nil {
		return nil, err
	}
	m.IfPrefix = prefix
	m.Names, err = conf.Names()
	return m, err
}

// typed checks the values, and fills in the defaults.
func (r *rawMacvlan) typed() (*Macvlan, error) {
	m := &Macvlan{
		Name: r.Name, Internal: r.Internal || r.Parent == "", HostAccess: r.HostAccess,
		ConflictDetection: r.ConflictDetection == nil || *r.ConflictDetection,
		AcceptRA:          r.AcceptRA, MTU: r.MTU, GwPriority: r.GwPriority, DNS: r.DNS,
	}
	var err error
	if m.Parent, err = network.ParseParent(r.Name, wire.KindMacvlan, parentPrefix, r.Parent); err != nil {
		return nil, err
	}
	if m.Parent.Mode = r.Mode; r.Mode == "" {
		m.Parent.Mode = bridgeMode
	}
	if !slices.Contains(modes, m.Parent.Mode) {
		return nil, wire.Invalid("mode", r.Mode, "must be bridge, private, vepa or passthru")
	}
	if m.IPAM, err = network.ParseIPAMOnLAN(r.IPAM); err != nil {
		return nil, err
	}
	m.Families, err = network.ParseFamilies(r.IPv6, m.IPAM.Own.Subnets)
	if err != nil {
		return nil, err
	}
	return m, m.combinations()
}

// combinations checks what only goes together.
func (m *Macvlan) combinations() error {
	if m.HostAccess && m.Parent.Mode != bridgeMode {
		return wire.Invalid("hostAccess", true, "must be false in mode "+m.Parent.Mode+": the host reaches containers in mode bridge only")
	}
	return m.Families.CheckMTU(m.MTU, m.IPAM.Own.Subnets)
}
