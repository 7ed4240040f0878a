package bridge

import (
	"fmt"
	"net/netip"
	"slices"

	"dcni/pkg/firewall"
	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// This file is about how a network's containers are seen from elsewhere: with which
// address, and by which of theirs.

// snat reads the addresses that what leaves takes, one a family.
func (r *rawBridge) snat() ([]netip.Addr, error) {
	var list []netip.Addr
	for _, k := range []struct {
		key, text, family string
		v6                bool
	}{{"snatIPv4", r.SNATIPv4, "IPv4", false}, {"snatIPv6", r.SNATIPv6, "IPv6", true}} {
		if k.text == "" {
			continue
		}
		a, err := netip.ParseAddr(k.text)
		if err != nil || a.Is6() != k.v6 || a.Is4In6() || a.Zone() != "" || !a.IsGlobalUnicast() {
			return nil, wire.Invalid(k.key, k.text, "must be one "+k.family+" address of this host")
		}
		list = append(list, a)
	}
	return list, nil
}

// snatKey is the key of an address that what leaves takes.
func snatKey(a netip.Addr) string { return fmt.Sprintf("snatIPv%d", family(a)) }

// family returns an address's, 4 or 6.
func family(a netip.Addr) int {
	if a.Is6() {
		return 6
	}
	return 4
}

// leaves checks that something leaves the network with an address of the host's, if it says which.
func (b *Bridge) leaves() error {
	for _, a := range b.SNAT {
		switch {
		case b.Internal:
			return wire.Invalid(snatKey(a), a, `must not be given with "internal": nothing leaves the network`)
		case !b.Masquerade:
			return wire.Invalid(snatKey(a), a, `must not be given with "masquerade": false: what leaves has the container's address`)
		case b.mode(family(a)) == Routed:
			return wire.Invalid(snatKey(a), a, "must not be given with a routed gateway mode: what leaves has the container's address")
		}
	}
	return nil
}

// A Mode says how a network's containers are seen from elsewhere, for one family (Docker's
// gateway mode).
type Mode string

// The modes. What leaves has the host's address in the first two, and a port is published on
// the host's addresses.
const (
	NAT         Mode = "nat"             // others reach published ports only, by the host's addresses
	Unprotected Mode = "nat-unprotected" // and all ports by the container's
	Routed      Mode = "routed"          // others reach published ports by the container's address only
	Isolated    Mode = "isolated"        // an internal network that the host is not on
)

// mode reads a gateway mode.
func mode(key, text string) (Mode, error) {
	switch m := Mode(text); m {
	case "":
		return NAT, nil
	case NAT, Unprotected, Routed, Isolated:
		return m, nil
	}
	return NAT, wire.Invalid(key, text, "must be nat, nat-unprotected, routed or isolated")
}

// modes reads the gateway modes of both families.
func (r *rawBridge) modes(b *Bridge) (err error) {
	if b.Mode4, err = mode("gatewayModeIPv4", r.GatewayMode4); err == nil {
		b.Mode6, err = mode("gatewayModeIPv6", r.GatewayMode6)
	}
	return err
}

// in returns those of an endpoint's families that have a mode.
func (b *Bridge) in(e network.Endpoint, m Mode) []firewall.Family {
	var list []firewall.Family
	for _, family := range e.Families() {
		if b.mode(family) == m {
			list = append(list, firewall.Family(family))
		}
	}
	return list
}

// mode returns the mode of a family, 4 or 6.
func (b *Bridge) mode(family int) Mode {
	if family == 6 {
		return b.Mode6
	}
	return b.Mode4
}

// trusted reads the interfaces of the host from which published ports are reached by the
// containers' own addresses.
func (r *rawBridge) trusted() ([]string, error) {
	for i, name := range r.Trusted {
		field := fmt.Sprintf("trustedHostInterfaces[%d]", i)
		switch {
		case !network.ValidLink(name):
			return nil, wire.Invalid(field, name, "must be "+network.LinkRule)
		case slices.Contains(r.Trusted[:i], name):
			return nil, wire.Invalid(field, name, "must not be given twice")
		}
	}
	return r.Trusted, nil
}

// ungated are the families whose subnets have no gateway unless one is given: the host is not
// on an isolated network, and where it has no IPv4 on an internal one nothing needs it.
func (b *Bridge) ungated() ipam.Ungated {
	return ipam.Ungated{IPv4: b.Mode4 == Isolated || b.InhibitIPv4 && b.Internal, IPv6: b.Mode6 == Isolated}
}

// hasGateway reports whether the bridge has a gateway's address, of either family.
func (b *Bridge) hasGateway() bool {
	has4 := !b.NoIPv4 && !b.InhibitIPv4 && b.Mode4 != Isolated
	has6 := (b.hasIPv6Subnet() || or(b.IPv6, false)) && b.Mode6 != Isolated
	return has4 || has6
}

// isolated are the families in which the host is not on the network.
func (b *Bridge) isolated() ipam.Ungated {
	return ipam.Ungated{IPv4: b.Mode4 == Isolated, IPv6: b.Mode6 == Isolated}
}

// ports says how the network publishes ports.
func (b *Bridge) ports() network.Ports {
	if b.isolated() != (ipam.Ungated{}) {
		return network.Ports{Refuse: "the network is isolated"}
	}
	return network.Ports{Ignore: b.Internal, Default: b.HostBinding}
}

// apart checks that the host is to be on nothing of an isolated network.
func (b *Bridge) apart() error {
	for _, family := range []int{4, 6} {
		if b.mode(family) == Isolated && !b.Internal {
			return wire.Invalid(fmt.Sprintf("gatewayModeIPv%d", family), string(Isolated), `needs "internal": true: the network has no gateway`)
		}
	}
	for _, s := range b.IPAM.Own.Subnets {
		if b.isolated().Has(s.Prefix.Addr()) && s.Gateway.IsValid() {
			return wire.Invalid("ipam.gateway", s.Gateway, fmt.Sprintf("must not be given with gatewayModeIPv%d isolated: the network has none", family(s.Gateway)))
		}
	}
	return nil
}

// leadsIn checks that the network is reached from elsewhere, if it says from where.
func (b *Bridge) leadsIn() error {
	for _, family := range []int{4, 6} {
		if m := b.mode(family); b.Internal && (m == Unprotected || m == Routed) {
			return wire.Invalid(fmt.Sprintf("gatewayModeIPv%d", family), string(m), `must be nat or isolated with "internal": nothing leads into the network`)
		}
	}
	switch {
	case len(b.Trusted) > 0 && b.Internal:
		return wire.Errorf(wire.CodeConfig, `trustedHostInterfaces %q: must not be given with "internal": nothing leads into the network`, b.Trusted)
	case slices.Contains(b.Trusted, b.Link):
		return wire.Errorf(wire.CodeConfig, "trustedHostInterfaces %q: must not have the network's own bridge", b.Trusted)
	}
	return nil
}
