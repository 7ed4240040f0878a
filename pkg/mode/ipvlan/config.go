package ipvlan

import (
	"cmp"
	"slices"

	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// rawIpvlan mirrors the keys of a dipvlan configuration that other networks on a parent do
// not have.
type rawIpvlan struct {
	Flag string `json:"flag"`
}

// rawReference are the keys of the reference plugin ipvlan that dipvlan does not have
// (containernetworking/plugins, plugins/main/ipvlan).
type rawReference struct {
	Master          *string `json:"master"` // another word for parent
	LinkInContainer *bool   `json:"linkInContainer"`
}

// An Ipvlan is an ipvlan network, configured.
type Ipvlan struct{ network.OnParent }

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

var reader = network.ParentReader{Kind: wire.KindIpvlan, Prefix: "di-", Options: options, Own: &rawIpvlan{}, Foreign: &rawReference{}}

// parse reads a dipvlan configuration.
func parse(conf network.Conf) (network.Mode, error) {
	n, err := parseIpvlan(conf)
	if err != nil {
		return nil, err
	}
	return n, nil
}

func parseIpvlan(conf network.Conf) (*Ipvlan, error) {
	var raw rawIpvlan
	var reference rawReference
	common, detection, err := reader.Read(conf, &raw, &reference)
	if err != nil {
		return nil, err
	}
	if inside := reference.LinkInContainer; inside != nil && *inside {
		return nil, wire.Invalid("linkInContainer", true, "must be false with dipvlan, or left out: the parent is a link of the host")
	}
	n := &Ipvlan{common}
	given := n.Parent.Mode
	n.Parent.Mode, n.Parent.Flag = cmp.Or(given, l2), cmp.Or(raw.Flag, flags[0])
	if !slices.Contains(modes, n.Parent.Mode) {
		return nil, wire.Invalid("mode", given, "must be l2, l3 or l3s")
	}
	if !slices.Contains(flags, n.Parent.Flag) {
		return nil, wire.Invalid("flag", raw.Flag, "must be bridge, private or vepa")
	}
	if detection != nil && *detection && n.Parent.Mode != l2 {
		return nil, wire.Invalid("conflictDetection", true, "must be false in mode "+n.Parent.Mode+", or left out: no neighbour is asked there")
	}
	n.ConflictDetection = n.ConflictDetection && n.Parent.Mode == l2
	return n, nil
}
