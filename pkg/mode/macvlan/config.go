package macvlan

import (
	"cmp"
	"slices"

	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// rawMacvlan mirrors the keys of a dmacvlan configuration that other networks on a parent do
// not have.
type rawMacvlan struct {
	HostAccess bool `json:"hostAccess"`
	AcceptRA   bool `json:"acceptRA"`
}

// A Macvlan is a macvlan network, configured.
type Macvlan struct {
	network.OnParent
	HostAccess bool // the host reaches the containers, and they it
	AcceptRA   bool // router advertisements count in the sandbox
}

const (
	bridgeMode = "bridge"
	passthru   = "passthru"
)

// modes are how macvlans of one parent reach one another, Docker's default first.
var modes = []string{bridgeMode, "private", "vepa", passthru}

var reader = network.ParentReader{Kind: wire.KindMacvlan, Prefix: "dm-", Options: options, Own: &rawMacvlan{}, Foreign: &rawReference{}}

// parse reads a dmacvlan configuration.
func parse(conf network.Conf) (network.Mode, error) {
	m, err := parseMacvlan(conf)
	if err != nil {
		return nil, err
	}
	return m, nil
}

func parseMacvlan(conf network.Conf) (*Macvlan, error) {
	var raw rawMacvlan
	var reference rawReference
	common, _, err := reader.Read(conf, &raw, &reference)
	if err != nil {
		return nil, err
	}
	if err := reference.check(); err != nil {
		return nil, err
	}
	m := &Macvlan{common, raw.HostAccess, raw.AcceptRA}
	given := m.Parent.Mode
	m.Parent.Mode = cmp.Or(given, bridgeMode)
	if !slices.Contains(modes, m.Parent.Mode) {
		return nil, wire.Invalid("mode", given, "must be bridge, private, vepa or passthru")
	}
	if m.HostAccess && m.Parent.Mode != bridgeMode {
		return nil, wire.Invalid("hostAccess", true, "must be false in mode "+m.Parent.Mode+": the host reaches containers in mode bridge only")
	}
	if m.AcceptRA && m.Internal {
		return nil, wire.Invalid("acceptRA", true, "must be false on an internal network: a router advertisement gives a default route")
	}
	return m, nil
}
