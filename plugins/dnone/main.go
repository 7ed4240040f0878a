// Command dnone is the CNI plugin for Docker's network "none": a container has
// its own lo, and nothing else.
//
// README.md beside this file is its manual.
package main

import (
	"strings"

	"dcni/pkg/cni"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

var plugin = &cni.Plugin{Name: "dnone", Parse: parse, Roots: roots, Guest: &cni.Guest{Admit: admit}}

func main() { cni.Main(plugin) }

// None is a network without a network.
type None struct{ *network.Guest }

func parse(conf network.Conf) (cni.Mode, error) {
	n, err := conf.Guest()
	if err != nil {
		return nil, err
	}
	return None{n}, nil
}

// roots are none: lo goes with its namespace.
func roots(cni.Site) []wire.Object { return nil }

// admit wants a sandbox with nothing in it that leads elsewhere: that there is
// none is all that this network promises.
func admit(r *cni.Request, found wire.Survey) error {
	if len(found.Links) > 0 {
		return wire.Errorf(wire.CodeSandbox, "CNI_NETNS %q: has %s besides lo; network %s goes together with no other",
			r.NetNS, strings.Join(found.Links, ", "), r.Network)
	}
	return nil
}

// Network is what the engine must know.
func (n None) Network() cni.Network {
	return cni.Network{Name: n.Name, DNS: n.DNS, Traits: network.Traits{Internal: true}}
}

// Plan says what must be there for one attachment. The kernel gives lo its
// addresses when it comes up.
func (n None) Plan(s cni.Site) (wire.Plan, error) {
	own := []wire.Object{&wire.Up{NetNS: s.NetNS, Dev: "lo"}}
	for _, a := range s.Addresses {
		own = append(own, &wire.Addr{NetNS: s.NetNS, Dev: "lo", Prefix: a.Address})
	}
	return wire.Plan{Own: own}, nil
}
