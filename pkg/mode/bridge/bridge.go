// Package bridge is Docker's bridge network, the plugin dbridge.
//
// A bridge network is a Linux bridge with the network's gateway addresses, and
// what the network allows. An attachment is a veth from the sandbox to that
// bridge with an address, a default route through the gateway, and the ports
// it publishes. [Bridge.Plan] says just that; everything else (protocol,
// records, addresses, undo) is package cni's and the same for all plugins.
package bridge

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"dcni/pkg/firewall"
	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// Plugin is dbridge.
var Plugin = &network.Plugin{Type: "dbridge", Kind: network.MakesInterface, Parse: parse, Roots: Roots, Driver: driver{}}

// Roots are what DEL removes of an attachment that it only knows the name of.
func Roots(e network.Endpoint) []wire.Object {
	return []wire.Object{
		&wire.Veth{Name: e.HostLink()}, e.SourceRoutes(), &firewall.Endpoint{Owner: e.Attachment}, &firewall.Member{Owner: e.Attachment},
		&firewall.BridgePort{Owner: e.Attachment, Link: e.HostLink()},
		&firewall.Links{Owner: e.Attachment, NetNS: e.NetNS, Cookie: e.Cookie},
	}
}

// Describe returns what the engine must know.
func (b *Bridge) Describe() network.Description {
	return network.Description{
		Name:     b.Name,
		Link:     b.Link,
		Bridge:   b.bridge(),
		IPAM:     b.IPAM,
		Families: network.Families{Refuse4: b.NoIPv4, ULA: b.IPv6 != nil && *b.IPv6 && !b.hasIPv6Subnet(), Refuse6: b.IPv6 != nil && !*b.IPv6, Need6: b.IPv6 != nil && *b.IPv6},
		MTU:      b.MTU,
		Ports:    b.ports(),
		Isolated: b.isolated(),
		DNS:      b.DNS,
		Names:    b.Names,
		IfPrefix: b.IfPrefix,
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

// host is what a network needs of the host: one that leads out, that it forwards, and that
// other programs' rules let it; one on a bridge of another owner's, what that one lacks. What
// others let pass on that bridge is its owner's to say.
func (b *Bridge) host(e network.Endpoint) []wire.Object {
	var objects []wire.Object
	if !b.Internal {
		for _, family := range e.Families() {
			if b.NoDrop {
				objects = append(objects, &wire.ForwardAll{Family: family})
			}
			objects = append(objects, &wire.Forwarding{Family: family, Require: !b.IPForward, IPTables: b.Firewall == firewall.IPTables})
		}
	}
	if b.frames() {
		objects = append(objects, &firewall.FrameRules{Required: b.AntiSpoof})
	}
	if e.Adopted {
		for _, o := range b.onBridge(e) {
			objects = append(objects, &wire.Borrowed{Object: o})
		}
	} else if !b.Internal {
		objects = append(objects, &firewall.Permit{Bridge: b.Link, Families: e.Families(), Ports: len(e.Ports) > 0 || len(b.in(e, Unprotected)) > 0})
	}
	return objects
}

// network is a bridge that has the gateway addresses, and what the network allows.
func (b *Bridge) network(e network.Endpoint) []wire.Object {
	bridge := b.bridge()
	bridge.MTU, bridge.Adopted = e.MTU, e.Adopted
	objects := []wire.Object{bridge}
	if b.Firewall == firewall.IPTables && !e.Adopted && !e.Has6() {
		// Such a network has no rules of IPv6, which could need a program that the host lacks.
		objects = append(objects, &wire.Sysctl{Path: "net/ipv6/conf/" + b.Link + "/disable_ipv6", Value: "1"})
	}
	if !e.Adopted {
		objects = append(objects, b.notOnBridge(e)...)
		objects = append(objects, b.onBridge(e)...)
	}
	return append(objects, &firewall.Network{
		Name: b.Name, Bridge: b.Link, Subnets: e.Prefixes(), Adopted: e.Adopted,
		ICC: b.ICC, Internal: b.Internal, Masquerade: b.Masquerade && !b.Internal, SNAT: b.SNAT,
		Unprotected: b.in(e, Unprotected), Routed: b.in(e, Routed), Trusted: b.Trusted, Backend: b.Firewall,
	})
}

// Seen is what other programs can see on the host of a network that has no container yet: the
// bridge with its addresses, as the first ADD makes it, without what the network allows.
func (b *Bridge) Seen(subnets []ipam.Subnet) []wire.Object {
	e := network.Endpoint{Subnets: subnets, MTU: b.MTU}
	return slices.DeleteFunc(b.network(e), func(o wire.Object) bool {
		_, rules := o.(*firewall.Network)
		return rules
	})
}

// bridge is the bridge as dbridge makes it.
func (b *Bridge) bridge() *wire.Bridge {
	return &wire.Bridge{Name: b.Link, MAC: cmp.Or(b.MAC, wire.BridgeMAC(b.Link)), MTU: b.MTU, Alias: b.Name}
}

// onBridge is what the bridge must have.
func (b *Bridge) onBridge(e network.Endpoint) []wire.Object {
	var objects []wire.Object
	for _, family := range e.Families() {
		objects = append(objects, b.settings(family, e.Adopted)...)
	}
	for _, subnet := range e.Subnets {
		if !subnet.Gateway.IsValid() || b.InhibitIPv4 && subnet.Gateway.Is4() {
			continue
		}
		objects = append(objects, &wire.Addr{Dev: b.Link, Prefix: netip.PrefixFrom(subnet.Gateway, subnet.Prefix.Bits())})
	}
	return append(objects, &wire.Up{Dev: b.Link})
}

// notOnBridge is what the network may have left on its bridge as it was configured before.
// Other addresses than the gateway's are the operator's to give a bridge that the network
// has only been told to give none.
func (b *Bridge) notOnBridge(e network.Endpoint) []wire.Object {
	if b.Mode4 == Isolated || b.NoIPv4 {
		return []wire.Object{&wire.NoAddr{Dev: b.Link, In: netip.PrefixFrom(netip.IPv4Unspecified(), 0)}}
	}
	var objects []wire.Object
	for _, subnet := range e.Subnets {
		if !b.InhibitIPv4 || subnet.Prefix.Addr().Is6() {
			continue
		}
		gateway := subnet.Gateway
		if !gateway.IsValid() { // which it was is not known, mostly the first
			gateway = subnet.Prefix.Masked().Addr().Next()
		}
		objects = append(objects, &wire.NoAddr{Dev: b.Link, In: netip.PrefixFrom(gateway, gateway.BitLen())})
	}
	return objects
}

// settings are the bridge's of a family, 4 or 6.
func (b *Bridge) settings(family int, adopted bool) []wire.Object {
	conf := fmt.Sprintf("net/ipv%d/conf/%s/", family, b.Link)
	switch {
	case b.mode(family) == Isolated && (family == 4 || adopted):
		return nil
	case b.mode(family) == Isolated:
		return []wire.Object{&wire.Sysctl{Path: conf + "disable_ipv6", Value: "1"}}
	case family == 6 && adopted:
		return []wire.Object{&wire.Sysctl{Path: conf + "disable_ipv6", Value: "0"}}
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
	objects := []wire.Object{&wire.Flows{Owner: e.Attachment, Addresses: e.IPs()}}
	e.AcceptRA = b.AcceptRA
	if b.frames() { // before there is a port
		objects = append(objects, b.port(e))
	}
	objects = append(objects, &wire.Veth{
		Name: e.HostLink(), Bridge: b.Link, NetNS: e.NetNS, Peer: e.IfName,
		MAC: e.SandboxMAC(), MTU: e.MTU, Alias: e.String(), Isolated: !b.ICC, Fixed: b.AntiSpoof,
	})
	if b.AntiSpoof {
		objects = append(objects, &wire.FDB{Dev: e.HostLink(), MAC: e.SandboxMAC()})
	}
	objects = append(append(objects, e.Receives(e.HostLink())...), e.Interface()...)
	if e.Adopted {
		objects = append(objects, b.member(e))
	}
	if b.hasLinks() {
		objects = append(objects, e.LinksOn(b.Link))
	}
	if len(e.Ports) > 0 {
		objects = append(objects, &firewall.Endpoint{
			Owner: e.Attachment, Bridge: b.Link, Addresses: e.IPs(), Ports: e.Ports,
			Routed: b.in(e, Routed), Trusted: len(b.Trusted) > 0, Backend: b.Firewall, NotGateway: e.NotGateway,
		})
	}
	return objects
}

// hasLinks reports whether links open ports on the network: as with Docker on the default
// bridge alone, where its containers may not talk anyway. On others a link is a name.
func (b *Bridge) hasLinks() bool { return b.Default && !b.ICC }

// frames reports whether rules of frames are about the network's containers.
func (b *Bridge) frames() bool { return b.AntiSpoof || !b.ICC }

// port is how the rules of frames know the container's port.
func (b *Bridge) port(e network.Endpoint) *firewall.BridgePort {
	p := &firewall.BridgePort{
		Owner: e.Attachment, Link: e.HostLink(), MAC: e.SandboxMAC(), Addresses: e.IPs(), Apart: !b.ICC, Checked: b.AntiSpoof,
	}
	if own := e.LinkLocal(); (e.Has6() || e.AcceptRA) && own.IsValid() {
		p.Addresses = append(p.Addresses, own)
	}
	return p
}

// member is how the rules know the container on a bridge that others use. With bridge
// netfilter on, rules keep containers of a network without icc apart, and must know
// the address that each has of itself.
func (b *Bridge) member(e network.Endpoint) *firewall.Member {
	m := &firewall.Member{Owner: e.Attachment, Bridge: b.Link, Addresses: e.IPs(), Backend: b.Firewall}
	if own := e.LinkLocal(); (e.Has6() || e.AcceptRA) && !b.ICC && own.IsValid() {
		m.Addresses = append(m.Addresses, own)
	}
	return m
}
