package bridge

import (
	"net/netip"

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
func snatKey(a netip.Addr) string {
	if a.Is6() {
		return "snatIPv6"
	}
	return "snatIPv4"
}

// leaves checks that something leaves the network with an address of the host's, if it says which.
func (b *Bridge) leaves() error {
	for _, a := range b.SNAT {
		switch {
		case b.Internal:
			return wire.Invalid(snatKey(a), a, `must not be given with "internal": nothing leaves the network`)
		case !b.Masquerade:
			return wire.Invalid(snatKey(a), a, `must not be given with "masquerade": false: what leaves has the container's address`)
		}
	}
	return nil
}
