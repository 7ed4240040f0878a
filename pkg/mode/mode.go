// Package mode is the table of network modes. Each is a package of its own, and
// pure: it says what must be there for one attachment, as a [wire.Plan]. What a
// mode is made of is package network's: [network.Plugin], [network.Mode],
// [network.Endpoint].
//
// A new mode is one package and one line here.
package mode

import (
	"dcni/pkg/mode/bridge"
	"dcni/pkg/mode/container"
	"dcni/pkg/mode/host"
	"dcni/pkg/mode/ipvlan"
	"dcni/pkg/mode/macvlan"
	"dcni/pkg/mode/names"
	"dcni/pkg/mode/none"
	"dcni/pkg/mode/overlay"
	"dcni/pkg/network"
)

// All are the plugins that attach containers, in the order in which they are
// healed: what makes an interface comes before what adds to it.
var All = []*network.Plugin{
	bridge.Plugin,
	overlay.Plugin,
	macvlan.Plugin,
	ipvlan.Plugin,
	host.Plugin,
	container.Plugin,
	none.Plugin,
	names.Plugin,
}

// Of returns the plugin of a CNI type, nil where it is none of ours.
func Of(cniType string) *network.Plugin {
	for _, p := range All {
		if p.Type == cniType {
			return p
		}
	}
	return nil
}
