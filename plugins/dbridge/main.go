// Command dbridge is the CNI plugin for Docker's bridge networks.
//
// A bridge network is a Linux bridge with the network's gateway addresses, and
// what the network allows. An attachment is a veth from the sandbox to that
// bridge with an address, a default route through the gateway, and the ports
// it publishes. [Bridge.Plan] says just that; everything else (protocol,
// records, addresses, undo) is package cni's and the same for all plugins.
//
// README.md beside this file is its manual.
package main

import (
	"fmt"
	"net/netip"

	"dcni/pkg/cni"
	"dcni/pkg/firewall"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

var plugin = &cni.Plugin{Name: "dbridge", Parse: parse, Roots: roots}

func main() { cni.Main(plugin) }

// Bridge is a bridge network, configured.
type Bridge struct{ *network.Bridge }

func parse(conf network.Conf) (cni.Mode, error) {
	b, err := conf.Bridge()
	if err != nil {
		return nil, err
	}
	return Bridge{b}, nil
}

// roots are what DEL removes of an attachment that it only knows the name of.
func roots(s cni.Site) []wire.Object {
	return []wire.Object{&wire.Veth{Name: s.HostLink()}, &firewall.Endpoint{Owner: s.Attachment}}
}

// Network is what the engine must know.
func (b Bridge) Network() cni.Network {
	return cni.Network{
		Name:     b.Name,
		Bridge:   b.Bridge.Bridge,
		IPAM:     b.IPAM,
		Families: cni.Families{ULA: b.WantsULA(), Refuse6: b.IPv6 != nil && !*b.IPv6, Need6: b.IPv6 != nil && *b.IPv6},
		MTU:      b.MTU,
		Ports:    cni.Ports{Ignore: b.Internal, Default: b.HostBinding},
		DNS:      b.DNS,
		Traits:   network.Traits{Quiet: b.Default, Internal: b.Internal, Priority: b.GwPriority},
	}
}

// Plan says what must be there for one attachment.
func (b Bridge) Plan(s cni.Site) (wire.Plan, error) {
	if err := b.fits(s); err != nil {
		return wire.Plan{}, err
	}
	return wire.Plan{Shared: b.shared(s), Own: b.own(s)}, nil
}

// fits checks what only shows together with the addresses.
func (b Bridge) fits(s cni.Site) error {
	const minMTU6 = 1280 // RFC 8200, section 5
	if b.MTU != 0 && b.MTU < minMTU6 && s.Has6() {
		return wire.Invalid("mtu", b.MTU, "must be at least 1280 on a network with IPv6 (RFC 8200)")
	}
	return (&firewall.Endpoint{Owner: s.Attachment, Ports: s.Ports}).Validate()
}

// shared is the network: a bridge that has the gateway addresses and forwards.
func (b Bridge) shared(s cni.Site) []wire.Object {
	name := b.Bridge.Bridge
	objects := []wire.Object{
		&wire.Bridge{Name: name, MAC: network.BridgeMAC(name), MTU: s.MTU, Alias: b.Name},
	}
	for _, family := range s.Families() {
		objects = append(objects, b.family(family)...)
	}
	for _, subnet := range s.Subnets {
		objects = append(objects, &wire.Addr{Dev: name, Prefix: netip.PrefixFrom(subnet.Gateway, subnet.Prefix.Bits())})
	}
	return append(objects,
		&wire.Up{Dev: name},
		&firewall.Network{
			Name: b.Name, Bridge: name, Subnets: s.Prefixes(),
			ICC: b.ICC, Internal: b.Internal, Masquerade: b.Masquerade && !b.Internal,
		})
}

// family is what a network needs of the host for a family, 4 or 6.
func (b Bridge) family(family int) []wire.Object {
	conf := fmt.Sprintf("net/ipv%d/conf/%s/", family, b.Bridge.Bridge)
	var objects []wire.Object
	if family == 6 {
		objects = append(objects,
			&wire.Sysctl{Path: conf + "disable_ipv6", Value: "0"},
			// Forwarding waits for the duplicate detection of the bridge's own
			// link-local address, 1.5 to 2 s; nobody else can have that.
			&wire.Sysctl{Path: conf + "accept_dad", Value: "0"})
	}
	if b.Internal {
		return objects
	}
	if family == 4 {
		// For ports published on 127.0.0.1. The rule set keeps all other
		// loopback traffic off the bridge.
		objects = append(objects, &wire.Sysctl{Path: conf + "route_localnet", Value: "1"})
	}
	return append(objects, &wire.Forwarding{Family: family, Require: !b.IPForward})
}

// own is the attachment: a veth, what is set in the sandbox, its addresses and
// routes, and the ports it publishes.
func (b Bridge) own(s cni.Site) []wire.Object {
	objects := []wire.Object{
		&wire.Flows{Owner: s.Attachment, Addresses: s.IPs()},
		&wire.Veth{
			Name: s.HostLink(), Bridge: b.Bridge.Bridge, NetNS: s.NetNS, Peer: s.IfName,
			MAC: s.SandboxMAC(), MTU: s.MTU, Alias: s.String(), Isolated: !b.ICC,
		},
	}
	objects = append(objects, before(s)...)
	for _, a := range s.Addresses {
		objects = append(objects, &wire.Addr{NetNS: s.NetNS, Dev: s.IfName, Prefix: a.Address})
	}
	up := &wire.Up{NetNS: s.NetNS, Dev: s.IfName}
	if s.Reused {
		objects = append(append(objects, announce(s)...), up)
	} else {
		objects = append(append(objects, up), announce(s)...)
	}
	objects = append(objects, b.routes(s)...)
	if len(s.Ports) > 0 {
		objects = append(objects, &firewall.Endpoint{
			Owner: s.Attachment, Bridge: b.Bridge.Bridge, Addresses: s.IPs(), Ports: s.Ports,
		})
	}
	return objects
}

// sysctl is a setting of the sandbox's interface.
func sysctl(s cni.Site, family int, name, value string) wire.Object {
	path := fmt.Sprintf("net/ipv%d/conf/%s/%s", family, s.IfName, name)
	return &wire.Sysctl{NetNS: s.NetNS, Path: path, Value: value}
}

// before is what must be set before the sandbox's interface comes up: it has
// IPv6 only on a network with, and there waits for no duplicate detection.
func before(s cni.Site) []wire.Object {
	if !s.Has6() {
		return []wire.Object{sysctl(s, 6, "disable_ipv6", "1")}
	}
	return []wire.Object{sysctl(s, 6, "disable_ipv6", "0"), sysctl(s, 6, "accept_dad", "0")}
}

// announce has the interface tell its neighbours whenever it comes up. The
// first time it does so only if somebody may believe another MAC: an
// announcement goes to every port of the bridge, 2 ms with 800.
func announce(s cni.Site) []wire.Object {
	objects := []wire.Object{sysctl(s, 4, "arp_notify", "1")}
	if s.Has6() {
		objects = append(objects, sysctl(s, 6, "ndisc_notify", "1"))
	}
	return objects
}

// routes are the default routes, unless the network is internal or the ipam
// section has its own, and those of the ipam section.
func (b Bridge) routes(s cni.Site) []wire.Object {
	var objects []wire.Object
	for _, family := range s.Families() {
		gw := s.Gateway(family == 6)
		if !gw.IsValid() || b.Internal || s.HasRoute(cni.Everywhere(family)) {
			continue
		}
		objects = append(objects, &wire.Route{
			NetNS: s.NetNS, Dev: s.IfName, Dst: cni.Everywhere(family), Via: gw, OnLink: !s.Within(gw),
			Metric: network.Metric(b.GwPriority, b.Name), Probe: true,
		})
	}
	return append(objects, s.IPAMRoutes()...)
}
