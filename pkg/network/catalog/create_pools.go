package catalog

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// A Pool is one subnet with what belongs to it, as a request to Docker's daemon has it
// (IPAM.Config): as typed, "" for what is not given.
type Pool struct {
	Subnet, Range, Gateway string
	Aux                    map[string]string // name to address
}

// poolSubnets reads pools. The errors are those of Docker's daemon, which does not look for
// the subnet that something belongs to. A pool in which nothing is given asks for nothing.
func poolSubnets(pools []Pool) ([]*givenSubnet, error) {
	var texts []string
	var given []Pool
	for _, p := range pools {
		switch {
		case p.Subnet != "":
			texts, given = append(texts, p.Subnet), append(given, p)
		case p.Range+p.Gateway != "" || len(p.Aux) > 0:
			return nil, errors.New("invalid network config:\nevery ip-range, gateway or auxiliary address must have a corresponding subnet")
		}
	}
	list, err := parseSubnets(texts)
	if err != nil {
		return nil, err
	}
	var errs []error
	for i, s := range list {
		errs = append(errs, s.fill(given[i]))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("invalid network config:\n%w", err)
	}
	return list, nil
}

// fill reads what belongs to the subnet.
func (s *givenSubnet) fill(p Pool) error {
	var errs []error
	if p.Range != "" {
		r, err := netip.ParsePrefix(p.Range)
		switch {
		case err != nil:
			err = fmt.Errorf("invalid ip-range %s: invalid CIDR address: %s", p.Range, p.Range)
		case r.Addr().Is6() != s.prefix.Addr().Is6():
			err = fmt.Errorf("invalid ip-range %s: parent subnet is an %s block", r, s.family())
		case r != r.Masked():
			err = fmt.Errorf("invalid ip-range %s: it should be %s", r, r.Masked())
		case !r.Overlaps(s.prefix):
			err = fmt.Errorf("invalid ip-range %s: parent subnet %s doesn't contain ip-range", r, s.prefix)
		}
		errs, s.ipRange = append(errs, err), r
	}
	if p.Gateway != "" {
		a, err := s.address(p.Gateway)
		if err != nil {
			err = fmt.Errorf("invalid gateway %s: %w", p.Gateway, err)
		}
		errs, s.gateway = append(errs, err), a
	}
	for _, name := range slices.Sorted(maps.Keys(p.Aux)) {
		a, err := s.address(p.Aux[name])
		if err != nil {
			errs = append(errs, fmt.Errorf("invalid auxiliary address %s: %w", name, err))
			continue
		}
		if s.aux == nil {
			s.aux = map[string]string{}
		}
		s.aux[name] = a.String()
	}
	return errors.Join(errs...)
}

// address reads an address of the subnet.
func (s *givenSubnet) address(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return a, fmt.Errorf("%q is no IP address", text)
	case a.Unmap().Is6() != s.prefix.Addr().Is6():
		return a, fmt.Errorf("parent subnet is an %s block", s.family())
	case !s.has(a.Unmap()):
		return a, fmt.Errorf("parent subnet %s doesn't contain this address", s.prefix)
	}
	return a.Unmap(), nil
}

// family is the family's name.
func (s *givenSubnet) family() string {
	if s.prefix.Addr().Is6() {
		return "IPv6"
	}
	return "IPv4"
}
