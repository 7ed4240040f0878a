package catalog

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"dcni/pkg/ipam"
)

// givenSubnet is one --subnet with what belongs to it.
type givenSubnet struct {
	prefix  netip.Prefix // as written, host bits and all
	ipRange netip.Prefix
	gateway netip.Addr
	aux     map[string]string
}

func (s *givenSubnet) has(a netip.Addr) bool { return s.prefix.Masked().Contains(a) }

// match puts ranges, gateways and auxiliary addresses to the subnets that they
// are in, as Docker's command line does, and checks each subnet as its daemon
// does. The texts are Docker's.
func (o *Options) match() ([]ipam.RawSubnet, error) {
	if len(o.Pools) > 0 {
		list, err := poolSubnets(o.Pools)
		if err != nil {
			return nil, err
		}
		return checked(list)
	}
	if len(o.Subnets) < len(o.Ranges) || len(o.Subnets) < len(o.Gateways) {
		return nil, errors.New("every ip-range or gateway must have a corresponding subnet")
	}
	list, err := parseSubnets(o.Subnets)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(matchRanges(list, o.Ranges), matchGateways(list, o.Gateways), matchAux(list, o.Aux)); err != nil {
		return nil, err
	}
	return checked(list)
}

// checked returns the subnets as dipam has them.
func checked(list []*givenSubnet) ([]ipam.RawSubnet, error) {
	var errs []error
	var out []ipam.RawSubnet
	for _, s := range list {
		errs = append(errs, s.check())
		out = append(out, s.raw())
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("invalid network config:\n%w", err)
	}
	return out, nil
}

func parseSubnets(texts []string) ([]*givenSubnet, error) {
	var list []*givenSubnet
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("invalid subnet: invalid CIDR address: %s", text)
		}
		for _, other := range list {
			if other.prefix.Masked().Overlaps(p.Masked()) {
				return nil, errors.New("multiple overlapping subnet configuration is not supported")
			}
		}
		list = append(list, &givenSubnet{prefix: p})
	}
	return list, nil
}

func matchRanges(list []*givenSubnet, ranges []netip.Prefix) error {
	for _, r := range ranges {
		i := slices.IndexFunc(list, func(s *givenSubnet) bool { return s.has(r.Addr()) })
		if i < 0 {
			return fmt.Errorf("no matching subnet for range %s", r)
		}
		if s := list[i]; s.ipRange.IsValid() {
			return fmt.Errorf("cannot configure multiple ranges (%s, %s) on the same subnet (%s)", r, s.ipRange, s.prefix)
		}
		list[i].ipRange = r
	}
	return nil
}

func matchGateways(list []*givenSubnet, gateways []netip.Addr) error {
	for _, g := range gateways {
		i := slices.IndexFunc(list, func(s *givenSubnet) bool { return s.has(g) })
		if i < 0 {
			return fmt.Errorf("no matching subnet for gateway %s", g)
		}
		if s := list[i]; s.gateway.IsValid() {
			return fmt.Errorf("cannot configure multiple gateways (%s, %s) for the same subnet (%s)", g, s.gateway, s.prefix)
		}
		list[i].gateway = g
	}
	return nil
}

func matchAux(list []*givenSubnet, aux map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(aux)) {
		a, err := netip.ParseAddr(aux[name])
		if err != nil {
			return fmt.Errorf("invalid auxiliary address %s: %q is no IP address", name, aux[name])
		}
		i := slices.IndexFunc(list, func(s *givenSubnet) bool { return s.has(a) })
		if i < 0 {
			return fmt.Errorf("no matching subnet for aux-address %s", a)
		}
		if list[i].aux == nil {
			list[i].aux = map[string]string{}
		}
		list[i].aux[name] = a.String()
	}
	return nil
}

// check says what Docker's daemon would say of the subnet.
func (s *givenSubnet) check() error {
	linkLocal := netip.MustParsePrefix("fe80::/64")
	switch p := s.prefix; {
	case p != p.Masked():
		return fmt.Errorf("invalid subnet %s: it should be %s", p, p.Masked())
	case s.ipRange.IsValid() && s.ipRange.Bits() < p.Bits():
		return fmt.Errorf("invalid ip-range %s: CIDR block is bigger than its parent subnet %s", s.ipRange, p)
	case p.Addr().IsMulticast():
		return fmt.Errorf("multicast subnet '%s' is not allowed", p)
	case p != linkLocal && p.Overlaps(linkLocal):
		return fmt.Errorf("'%s' clashes with the Link-Local prefix '%s'", p, linkLocal)
	}
	return nil
}

func (s *givenSubnet) raw() ipam.RawSubnet {
	r := ipam.RawSubnet{Subnet: s.prefix.String(), AuxAddresses: s.aux}
	if s.ipRange.IsValid() {
		r.IPRange = s.ipRange.String()
	}
	if s.gateway.IsValid() {
		r.Gateway = s.gateway.String()
	}
	return r
}

// RawSubnets returns the subnets that were given, with what belongs to each. Errors are
// Docker's.
func (o *Options) RawSubnets() ([]ipam.RawSubnet, error) { return o.match() }
