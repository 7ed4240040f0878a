// Package none is Docker's network "none", the plugin dnone: a container has its own
// lo, and nothing else.
package none

import (
	"strings"

	"dcni/pkg/network"
	"dcni/pkg/network/catalog"
	"dcni/pkg/wire"
)

// Plugin is dnone.
var Plugin = &network.Plugin{Type: "dnone", Kind: network.NoInterface, Parse: parse, Roots: roots, Validate: validate, Driver: catalog.SingleDriver("null")}

// None is a network without a network.
type None struct{ *network.Guest }

func parse(conf network.Conf) (network.Mode, error) {
	n, err := conf.Guest(nil)
	if err != nil {
		return nil, err
	}
	return None{n}, nil
}

// roots are none: lo goes with its namespace.
func roots(network.Endpoint) []wire.Object { return nil }

// validate wants a sandbox with nothing in it that leads elsewhere: that there is
// none is all that this network promises.
func validate(j network.Join) error {
	if len(j.Found.Links) > 0 {
		return wire.Errorf(wire.CodeSandbox, "CNI_NETNS %q: has %s besides lo; network %s goes together with no other",
			j.NetNS, strings.Join(j.Found.Links, ", "), j.Network)
	}
	return nil
}

// Describe returns what the engine must know.
func (n None) Describe() network.Description {
	return network.Description{Name: n.Name, DNS: n.DNS, Info: network.Info{Internal: true}}
}

// Plan says what must be there for one attachment. The kernel gives lo its
// addresses when it comes up.
func (n None) Plan(e network.Endpoint) (wire.Plan, error) {
	own := []wire.Object{&wire.Up{NetNS: e.NetNS, Dev: "lo"}}
	for _, a := range e.Addresses {
		own = append(own, &wire.Addr{NetNS: e.NetNS, Dev: "lo", Prefix: a.Address})
	}
	return wire.Plan{Own: own}, nil
}
