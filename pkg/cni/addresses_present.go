package cni

import (
	"net/netip"
	"slices"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// loopback are the addresses of every namespace's lo (RFC 1122, RFC 4291).
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("::1/128")}

// kept is for addresses that no ADD gives, and no DEL takes back.
type kept struct{}

func (kept) Abandon(*Request, *Lease) error                     { return nil }
func (kept) Release(*Request) error                             { return nil }
func (kept) Check(*Request, []ipam.Assigned) error              { return nil }
func (kept) Collect(*Request, func(wire.Attachment) bool) error { return nil }
func (kept) Status(*Request) error                              { return nil }

// presentAddresses are those of interfaces that are there already.
type presentAddresses struct {
	kept
	addresses NetNSAddresses
	network   network.Description
}

func (p presentAddresses) Claim(r *Request) (*Lease, error) {
	of, addresses := p.network.Shares, p.addresses.Addresses
	if of == "" {
		of, addresses = r.NetNS, p.addresses.Loopback
	}
	list, err := addresses(of)
	return &Lease{Addresses: assigned(list), DNS: p.network.DNS}, err
}

func assigned(list []netip.Prefix) []ipam.Assigned {
	var out []ipam.Assigned
	for _, p := range list {
		out = append(out, ipam.Assigned{Address: p})
	}
	return out
}

// prevResultAddresses are those that the plugins before gave, and take back
// themselves.
type prevResultAddresses struct {
	kept
	network network.Description
}

func (p prevResultAddresses) Claim(r *Request) (*Lease, error) {
	return &Lease{Addresses: r.prevAddresses(), DNS: p.network.DNS}, nil
}

// Check sees that the result leads to the container's name server. Plugins
// behind may have added to it.
func (p prevResultAddresses) Check(r *Request, _ []ipam.Assigned) error {
	for _, server := range p.network.DNS.Nameservers {
		if !slices.Contains(r.Prev.DNS.Nameservers, server) {
			return wire.Errorf(wire.CodeConfig, "prevResult: name server %s is missing", server)
		}
	}
	return nil
}

// prevAddresses returns the addresses of the container's interface as the result
// of the plugins before has them: those that point at it, or where none does,
// those that point at none. Addresses of lo are left out: no other container
// reaches them.
func (r *Request) prevAddresses() []ipam.Assigned {
	var here, loose []ipam.Assigned
	for _, ip := range r.Prev.IPs {
		assigned, ok := assignedIP(ip)
		if !ok || assigned.Address.Addr().IsLoopback() {
			continue
		}
		switch {
		case ip.Interface == nil:
			loose = append(loose, assigned)
		case r.isContainerInterface(*ip.Interface):
			here = append(here, assigned)
		}
	}
	if here == nil {
		return loose
	}
	return here
}

// assignedIP reads an address of a result.
func assignedIP(ip *types100.IPConfig) (ipam.Assigned, bool) {
	a, ok := netip.AddrFromSlice(ip.Address.IP)
	if !ok {
		return ipam.Assigned{}, false
	}
	ones, _ := ip.Address.Mask.Size()
	assigned := ipam.Assigned{Address: netip.PrefixFrom(a.Unmap(), ones)}
	if gw, ok := netip.AddrFromSlice(ip.Gateway); ok && !gw.Unmap().IsUnspecified() {
		assigned.Gateway = gw.Unmap()
	}
	return assigned, true
}

// isContainerInterface reports whether an index of the result before is the
// container's interface.
func (r *Request) isContainerInterface(index int) bool {
	list := r.Prev.Interfaces
	return index >= 0 && index < len(list) && list[index].Name == r.IfName && list[index].Sandbox != ""
}
