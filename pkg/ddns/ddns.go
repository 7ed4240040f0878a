// Package ddns is the mode of the plugin ddns.
//
// The name server itself is dnetd. What there must be for one attachment is that
// dnetd answers, at 127.0.0.11 in the container's own namespace: [DDNS.Plan]
// says just that, see [names.Resolver].
package ddns

import (
	"dcni/pkg/cni"
	"dcni/pkg/names"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// Plugin is what the program ddns does.
var Plugin = &cni.Plugin{Name: "ddns", Parse: parse, Roots: roots, Guest: &cni.Guest{Chained: true}}

// DDNS is how the containers of a network find names, configured.
type DDNS struct{ *network.DDNS }

func parse(conf network.Conf) (cni.Mode, error) {
	d, err := conf.DDNS()
	if err != nil {
		return nil, err
	}
	return DDNS{d}, nil
}

// roots are what DEL removes of an attachment that it only knows the name of.
func roots(s cni.Site) []wire.Object { return []wire.Object{resolver(s)} }

func resolver(s cni.Site) *names.Resolver {
	return &names.Resolver{Owner: s.Attachment, NetNS: s.NetNS, Cookie: s.Cookie}
}

// Network is what the engine must know.
func (d DDNS) Network() cni.Network { return cni.Network{Name: d.Name, DNS: d.DNS} }

// Plan says what must be there for one attachment: lo is up, and the name server
// answers on it.
func (d DDNS) Plan(s cni.Site) (wire.Plan, error) {
	hosts, err := d.Hosts(s.Gateways())
	if err != nil {
		return wire.Plan{}, err
	}
	r := resolver(s)
	r.Names, r.Addresses = s.Names, s.IPs()
	r.Gateways, r.Hosts, r.TTL = s.Gateways(), hosts, d.TTL
	r.NoNames, r.Internal, r.Priority = d.Quiet(s.Traits), s.Traits.Internal, s.Traits.Priority
	r.Servers, r.Intercept = d.Servers, d.Intercept
	if found := s.Resolver; found != nil {
		r.Port, r.Port6, r.Local = found.Port, found.Port6, found.Local
	}
	return wire.Plan{Own: []wire.Object{&wire.Up{NetNS: s.NetNS, Dev: "lo"}, r}}, nil
}
