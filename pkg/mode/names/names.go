// Package names is how containers find one another by name: the plugin ddns, and
// the key "names" of every plugin that makes an interface.
//
// The name server itself is dnetd. What there must be for one attachment is that
// dnetd answers, at 127.0.0.11 in the container's own namespace: [Objects] says
// just that, see [names.Resolver].
package names

import (
	"net/netip"
	"slices"

	"dcni/pkg/names"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// Plugin is ddns. It comes in a list behind the plugin of another suite that makes
// the container's interface; our own do the same by their key "names".
var Plugin = &network.Plugin{Type: "ddns", Kind: network.Meta, Parse: parse, Roots: Roots}

// ddns is a network whose interfaces another plugin makes.
type ddns struct {
	name  string
	names *network.Names
}

func parse(conf network.Conf) (network.Mode, error) {
	n, err := conf.DDNS()
	if err != nil {
		return nil, err
	}
	return ddns{conf.Name(), n}, nil
}

// Describe returns what the engine must know.
func (d ddns) Describe() network.Description {
	return network.Description{Name: d.name, DNS: d.names.DNS, Names: d.names}
}

// Plan says what must be there for one attachment.
func (d ddns) Plan(e network.Endpoint) (wire.Plan, error) {
	own, err := Objects(d.names, e)
	return wire.Plan{Own: own}, err
}

// Objects says what must be there so that a container finds names: lo is up, and
// the name server answers on it.
func Objects(n *network.Names, e network.Endpoint) ([]wire.Object, error) {
	hosts, err := n.Hosts(e.Gateways())
	if err != nil {
		return nil, err
	}
	r := resolver(e)
	r.Names, r.Addresses = e.Names, e.IPs()
	r.Gateways, r.Hosts, r.TTL = e.Gateways(), hosts, n.TTL
	if e.Info.OwnSubnets {
		r.Subnets = subnets(e)
	}
	r.Links = e.Links
	r.NoNames, r.Internal, r.Priority = n.NoNames(e.Info), e.Info.Internal, e.Info.Priority
	r.Servers, r.Intercept = n.Servers, n.Intercept
	if found := e.Resolver; found != nil {
		r.Port, r.Port6, r.Local = found.Port, found.Port6, found.Local
	} else if r.Port = names.PortBeside(containerPorts(e)); r.Intercept {
		r.Port6 = r.Port
	}
	return []wire.Object{&wire.Up{NetNS: e.NetNS, Dev: "lo"}, r}, nil
}

// Listen has a resolver answer at the gateways of its attachment that a plan gives a bridge.
func Listen(objects []wire.Object, bridge string, plan wire.Plan) {
	for _, o := range objects {
		r, ok := o.(*names.Resolver)
		if !ok {
			continue
		}
		r.Bridge = bridge
		for _, o := range slices.Concat(plan.Host, plan.Network) {
			if borrowed, ok := o.(*wire.Borrowed); ok {
				o = borrowed.Object
			}
			if a, ok := o.(*wire.Addr); ok && a.Dev == bridge && slices.Contains(r.Gateways, a.Prefix.Addr()) {
				r.Listen = append(r.Listen, a.Prefix.Addr())
			}
		}
	}
}

// containerPorts returns the ports that are published: a program in the sandbox listens
// there, mostly on all addresses.
func containerPorts(e network.Endpoint) []uint16 {
	var ports []uint16
	for _, p := range e.Ports {
		ports = append(ports, p.ContainerPort)
	}
	return ports
}

// Roots are what DEL removes of an attachment that it only knows the name of.
func Roots(e network.Endpoint) []wire.Object { return []wire.Object{resolver(e)} }

func resolver(e network.Endpoint) *names.Resolver {
	return &names.Resolver{Owner: e.Attachment, NetNS: e.NetNS, Cookie: e.Cookie}
}

// subnets returns the network's, or as much of them as the sandbox's addresses tell.
func subnets(e network.Endpoint) []netip.Prefix {
	list := e.Prefixes()
	for _, a := range e.Addresses {
		if p := a.Address.Masked(); !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	return list
}
