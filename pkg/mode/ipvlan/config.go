package ipvlan

import (
	"cmp"
	"encoding/json"
	"slices"

	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// rawIpvlan mirrors the JSON of a dipvlan configuration, after Docker's names were
// replaced by ours. Pointers tell "not given" from the zero value.
type rawIpvlan struct {
	CNIVersion string `json:"cniVersion"`
	Name       string `json:"name"`
	Parent     string `json:"parent"`
	Mode       string `json:"mode"`
	Flag       string `json:"flag"`
	Internal   bool   `json:"internal"`

	ConflictDetection *bool `json:"conflictDetection"`

	MTU        int             `json:"mtu"`
	IPv6       *bool           `json:"ipv6"`
	GwPriority int             `json:"gwPriority"`
	Options    json.RawMessage `json:"options"`
	IPAM       json.RawMessage `json:"ipam"`
	DNS        *network.DNS    `json:"dns"`
	Names      json.RawMessage `json:"names"`
}

// rawReference are the keys of the reference plugin ipvlan that dipvlan does not have
// (containernetworking/plugins, plugins/main/ipvlan).
type rawReference struct {
	Master          *string `json:"master"` // another word for parent
	LinkInContainer *bool   `json:"linkInContainer"`
}

// An Ipvlan is an ipvlan network, configured.
type Ipvlan struct {
	Name     string // the network's
	Parent   network.Parent
	Internal bool // no default route; without a parent there is no way out at all

	ConflictDetection bool // an address is probed for on the LAN before it is used

	MTU        int // bytes; 0: the parent's
	GwPriority int // the sandbox's default gateway is of the network with the highest
	IfPrefix   string
	Families   network.Families
	IPAM       network.IPAM
	DNS        *network.DNS
	Names      *network.Names // how containers find names; nil: as the runtime has it
}

// Modes say what the parent hands on by: l2 by MAC and address, as a switch; l3 by
// address; l3s by address, through the host's own rules.
const (
	l2  = "l2"
	l3  = "l3"
	l3s = "l3s"
)

var modes = []string{l2, l3, l3s}

// flags are how ipvlans of one parent reach one another, Docker's default first.
var flags = []string{"bridge", "private", "vepa"}

// parentPrefix is Docker's for the name of a parent that a network has of its own.
const parentPrefix = "di-"

// known are the keys of a dipvlan configuration.
func known() []string {
	return slices.Concat(network.Known(&rawIpvlan{}), network.Known(&rawReference{}), network.StandardKeys())
}

// parse reads a dipvlan configuration.
func parse(conf network.Conf) (network.Mode, error) {
	n, err := parseIpvlan(conf)
	if err != nil {
		return nil, err
	}
	return n, nil
}

func parseIpvlan(conf network.Conf) (*Ipvlan, error) {
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
	var raw rawIpvlan
	if err := keys.Decode("", &raw); err != nil {
		return nil, err
	}
	var reference rawReference
	if err := keys.Decode("", &reference); err != nil {
		return nil, err
	}
	if inside := reference.LinkInContainer; inside != nil && *inside {
		return nil, wire.Invalid("linkInContainer", true, "must be false with dipvlan, or left out: the parent is a link of the host")
	}
	n, err := raw.typed()
	if err != nil {
		return nil, err
	}
	n.IfPrefix = prefix
	n.Names, err = conf.Names()
	return n, err
}

// typed checks the values, and fills in the defaults.
func (r *rawIpvlan) typed() (*Ipvlan, error) {
	n := &Ipvlan{
		Name: r.Name, Internal: r.Internal || r.Parent == "", MTU: r.MTU, GwPriority: r.GwPriority, DNS: r.DNS,
	}
	var err error
	if n.Parent, err = network.ParseParent(r.Name, wire.KindIpvlan, parentPrefix, r.Parent); err != nil {
		return nil, err
	}
	n.Parent.Mode, n.Parent.Flag = cmp.Or(r.Mode, l2), cmp.Or(r.Flag, flags[0])
	if !slices.Contains(modes, n.Parent.Mode) {
		return nil, wire.Invalid("mode", r.Mode, "must be l2, l3 or l3s")
	}
	if !slices.Contains(flags, n.Parent.Flag) {
		return nil, wire.Invalid("flag", r.Flag, "must be bridge, private or vepa")
	}
	if n.ConflictDetection, err = r.conflictDetection(n.Parent); err != nil {
		return nil, err
	}
	if n.IPAM, err = network.ParseIPAMOnLAN(r.IPAM); err != nil {
		return nil, err
	}
	if n.Families, err = network.ParseFamilies(r.IPv6, n.IPAM.Own.Subnets); err != nil {
		return nil, err
	}
	return n, n.Families.CheckMTU(n.MTU, n.IPAM.Own.Subnets)
}

// conflictDetection is where there is a LAN to ask: on a parent of the host's, in mode l2.
func (r *rawIpvlan) conflictDetection(p network.Parent) (bool, error) {
	asked := r.ConflictDetection
	if asked != nil && *asked && p.Mode != l2 {
		return false, wire.Invalid("conflictDetection", true, "must be false in mode "+p.Mode+", or left out: no neighbour is asked there")
	}
	return p.Mode == l2 && !p.Own && (asked == nil || *asked), nil
}
