// Package bridge is Docker's bridge network, the plugin dbridge.
//
// A bridge network is a Linux bridge with the network's gateway addresses, and
// what the network allows. An attachment is a veth from the sandbox to that
// bridge with an address, a default route through the gateway, and the ports
// it publishes. [Bridge.Plan] says just that; everything else (protocol,
// records, addresses, undo) is package cni's and the same for all plugins.
package bridge

import (
	"fmt"
	"net/netip"

	"dcni/pkg/firewall"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// Plugin is dbridge.
var Plugin = &network.Plugin{Type: "dbridge", Kind: network.MakesInterface, Parse: parse, Roots: roots, Driver: driver{}}

// roots are what DEL removes of an attachment that it only knows the name of.
func roots(e network.Endpoint) []wire.Object {
	return []wire.Object{&wire.Veth{Name: e.HostLink()}, &firewall.Endpoint{Owner: e.Attachment}}
}

// Describe returns what the engine must know.
func (b *Bridge) Describe() network.Description {
	return network.Description{
		Name:     b.Name,
		Link:     b.Link,
		IPAM:     b.IPAM,
		Families: network.Families{ULA: b.IPv6 != nil && *b.IPv6 && !b.hasIPv6Subnet(), Refuse6: b.IPv6 != nil && !*b.IPv6, Need6: b.IPv6 != nil && *b.IPv6},
		MTU:      b.MTU,
		Ports:    network.Ports{Ignore: b.Internal, Default: b.HostBinding},
		DNS:      b.DNS,
		Names:    b.Names,
		Info:     network.Info{NoNames: b.Default, Internal: b.Internal, Priority: b.GwPriority},
	}
}

// Plan says what must be there for one attachment.
func (b *Bridge) Plan(e network.Endpoint) (wire.Plan, error) {
	if err := b.fits(e); err != nil {
		return wire.Plan{}, err
	}
	return wire.Plan{Host: b.host(e), Network: b.network(e), Own: b.own(e)}, nil
}

// fits checks what only shows together with the addresses.
func (b *Bridge) fits(e network.Endpoint) error {
	if b.MTU != 0 && b.MTU < minMTU6 && e.Has6() {
		return wire.Invalid("mtu", b.MTU, "must be at least 1280 on a network with IPv6 (RFC 8200)")
	}
	return (&firewall.Endpoint{Owner: e.Attachment, Ports: e.Ports}).Validate()
}

// host is what a network that leads out needs of the host: that it forwards.
func (b *Bridge) host(e network.Endpoint) []wire.Object {
	var objects []wire.Object
	if b.Internal {
		return nil
	}
	for _, family := range e.Families() {
		objects = append(objects, &wire.Forwarding{Family: family, Require: !b.IPForward})
	}
	return objects
}

// network is a bridge that has the gateway addresses, and what the network allows.
func (b *Bridge) network(e network.Endpoint) []wire.Object {
	name := b.Link
	objects := []wire.Object{
		&wire.Bridge{Name: name, MAC: mac(name), MTU: e.MTU, Alias: b.Name},
	}
	for _, family := range e.Families() {
		objects = append(objects, b.settings(family)...)
	}
	for _, subnet := range e.Subnets {
		objects = append(objects, &wire.Addr{Dev: name, Prefix: netip.PrefixFrom(subnet.Gateway, subnet.Prefix.Bits())})
	}
	return append(objects,
		&wire.Up{Dev: name},
		&firewall.Network{
			Name: b.Name, Bridge: name, Subnets: e.Prefixes(),
			ICC: b.ICC, Internal: b.Internal, Masquerade: b.Masquerade && !b.Internal,
		})
}

// settings are the bridge's of a family, 4 or 6.
func (b *Bridge) settings(family int) []wire.Object {
	conf := fmt.Sprintf("net/ipv%d/conf/%s/", family, b.Link)
	switch {
	case family == 6:
		return []wire.Object{
			&wire.Sysctl{Path: conf + "disable_ipv6", Value: "0"},
			// Forwarding waits for the duplicate detection of the bridge's own
			// link-local address, 1.5 to 2 s; no other link can have that address.
			&wire.Sysctl{Path: conf + "accept_dad", Value: "0"},
		}
	case b.Internal:
		return nil
	}
	// For ports published on 127.0.0.1. The rule set keeps all other loopback
	// traffic off the bridge.
	return []wire.Object{&wire.Sysctl{Path: conf + "route_localnet", Value: "1"}}
}

// own is the attachment: a veth, its interface in the sandbox, and the ports that it
// publishes.
func (b *Bridge) own(e network.Endpoint) []wire.Object {
	objects := []wire.Object{
		&wire.Flows{Owner: e.Attachment, Addresses: e.IPs()},
		&wire.Veth{
			Name: e.HostLink(), Bridge: b.Link, NetNS: e.NetNS, Peer: e.IfName,
			MAC: e.SandboxMAC(), MTU: e.MTU, Alias: e.String(), Isolated: !b.ICC,
		},
	}
	objects = append(objects, e.Interface()...)
	if len(e.Ports) > 0 {
		objects = append(objects, &firewall.Endpoint{
			Owner: e.Attachment, Bridge: b.Link, Addresses: e.IPs(), Ports: e.Ports,
		})
	}
	return objects
}
