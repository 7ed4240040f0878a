package cni

import (
	"net/netip"
	"slices"

	"dcni/pkg/ipam"
	"dcni/pkg/wire"
)

// chained reports whether the plugin adds to what the plugins before it made.
func (p *Plugin) chained() bool { return p.Guest != nil && p.Guest.Chained }

// wishes reads what a runtime may ask for. What it asks of the plugins before
// is none of a chained plugin's business.
func (p *Plugin) wishes(r *Request) error {
	if p.chained() {
		return r.naming()
	}
	return r.wishes()
}

// errNoPrev is the error for a verb without the result that it works on.
func errNoPrev(needs string) error {
	return wire.Errorf(wire.CodeConfig, "prevResult: missing; %s", needs)
}

// inherited are the addresses that the plugins before gave. They take them back
// themselves.
type inherited struct{ borrowed }

func (i inherited) Claim(r *Request) (*Lease, error) {
	return &Lease{Addresses: r.inherits(), DNS: i.network.DNS}, nil
}

// inherits returns the addresses of the container's interface as the result of
// the plugins before has them: those that point at it, or where none does, those
// that point at none. Nobody else could reach an address of lo.
func (r *Request) inherits() []ipam.Assigned {
	var here, loose []ipam.Assigned
	for _, ip := range r.Prev.IPs {
		a, ok := netip.AddrFromSlice(ip.Address.IP)
		if !ok || a.Unmap().IsLoopback() {
			continue
		}
		ones, _ := ip.Address.Mask.Size()
		assigned := ipam.Assigned{Address: netip.PrefixFrom(a.Unmap(), ones)}
		if gw, ok := netip.AddrFromSlice(ip.Gateway); ok && !gw.Unmap().IsUnspecified() {
			assigned.Gateway = gw.Unmap()
		}
		switch {
		case ip.Interface == nil:
			loose = append(loose, assigned)
		case r.isOurs(*ip.Interface):
			here = append(here, assigned)
		}
	}
	if here == nil {
		return loose
	}
	return here
}

// isOurs reports whether an index of the result before is the container's
// interface.
func (r *Request) isOurs(index int) bool {
	list := r.Prev.Interfaces
	return index >= 0 && index < len(list) && list[index].Name == r.IfName && list[index].Sandbox != ""
}

// Check sees that the result leads to the container's name server. Plugins
// behind may have added to it.
func (i inherited) Check(r *Request, _ []ipam.Assigned) error {
	for _, server := range i.network.DNS.Nameservers {
		if !slices.Contains(r.Prev.DNS.Nameservers, server) {
			return wire.Errorf(wire.CodeConfig, "prevResult: name server %s is missing", server)
		}
	}
	return nil
}
