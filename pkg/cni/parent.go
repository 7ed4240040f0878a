package cni

import (
	"fmt"
	"net/netip"
	"slices"

	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// This file is about networks whose interfaces are made on a link of the host's.

// parentOf looks at the parent of a network: at the interface of a VLAN, or while that
// is not there at the link that it will be on. One of the network's own is dcni's.
func (e *Engine) parentOf(p *network.Parent) (wire.LinkInfo, error) {
	const ethernet = 1500 // bytes
	if p.Own {
		return wire.LinkInfo{Name: p.Name, MTU: ethernet, Up: true}, nil
	}
	return e.Facts.Parent(slices.Compact([]string{p.Name, p.Link()})...)
}

// validateParent tells why a network can't have its parent: the link is not fit, or
// another network has it and can't share it.
func (e *Engine) validateParent(r *Request, d network.Description) error {
	on, err := e.parentOf(d.Parent)
	if err != nil {
		return err
	}
	if on.MTU > 0 && d.MTU > on.MTU {
		return wire.Invalid("mtu", d.MTU, fmt.Sprintf("must be at most %d, which parent %s has", on.MTU, on.Name))
	}
	others, err := e.Sharers.OneOfEach()
	if err != nil {
		return err
	}
	for _, other := range others {
		if other.Parent != nil && other.Network != r.Network {
			if err := d.Parent.Beside(other.Network, *other.Parent); err != nil {
				return err
			}
		}
	}
	e.warnOfParent(d, on)
	r.parent = on
	return nil
}

// withoutParents returns a network that does not give its containers the parent's own
// addresses: to ask the LAN for them would not find the host.
func (r *Request) withoutParents(d network.Description) network.Description {
	for _, own := range r.parent.Addresses {
		d.IPAM.Own = d.IPAM.Own.Reserve("parent "+r.parent.Name, own.Addr())
	}
	return d
}

// warnOfParent says what keeps packets from passing.
func (e *Engine) warnOfParent(d network.Description, on wire.LinkInfo) {
	if !on.Up {
		fmt.Fprintf(e.Log, "%s: parent %s is down: no packet passes until it is up\n", e.Plugin.Type, on.Name)
	}
	if d.Routed {
		return // its subnets are not to be those of the LAN
	}
	for _, s := range d.IPAM.Own.Subnets {
		sameFamily := func(p netip.Prefix) bool { return p.Addr().Is4() == s.Prefix.Addr().Is4() }
		if !slices.ContainsFunc(on.Addresses, sameFamily) ||
			slices.ContainsFunc(on.Addresses, s.Prefix.Overlaps) {
			continue
		}
		fmt.Fprintf(e.Log, "%s: subnet %s is not that of parent %s, which has %v: is it on the same LAN?\n",
			e.Plugin.Type, s.Prefix, on.Name, slices.DeleteFunc(slices.Clone(on.Addresses), func(p netip.Prefix) bool { return !sameFamily(p) }))
	}
}

// onParent takes from the parent what the interface has of it.
func (a *addition) onParent(d network.Description) error {
	on := a.r.parent
	for _, own := range on.Addresses { // the kernel takes them for its children as well
		if slices.Contains(a.endpoint.IPs(), own.Addr()) {
			return wire.Errorf(wire.CodeAddressTaken, "address %s: parent %s has it", own.Addr(), on.Name)
		}
	}
	a.endpoint.ParentMAC = on.MAC
	if d.MTU == 0 {
		a.endpoint.MTU = on.MTU
	}
	return nil
}
