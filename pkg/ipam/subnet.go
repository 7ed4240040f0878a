package ipam

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"dcni/pkg/wire"
)

// linkLocal is the block from which every IPv6 interface has an address. A subnet may
// be this block as a whole, as with Docker, but not a part of it and not a larger one.
var linkLocal = netip.MustParsePrefix("fe80::/64")

// unfit are the blocks that container addresses can't come from.
var unfit = []struct {
	prefix netip.Prefix
	why    string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "0.0.0.0/8 means this host: leave subnet out to get one from the pools"},
	{netip.MustParsePrefix("127.0.0.0/8"), "127.0.0.0/8 is the loopback's"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast subnet is not allowed"},
	{netip.MustParsePrefix("255.255.255.255/32"), "255.255.255.255 is the broadcast address"},
	{netip.MustParsePrefix("::/127"), "unspecified and loopback addresses are not allowed"},
	{netip.MustParsePrefix("::ffff:0.0.0.0/96"), "IPv4-mapped addresses are not allowed"},
	{netip.MustParsePrefix("ff00::/8"), "multicast subnet is not allowed"},
}

// checkFit refuses a block that containers can't have addresses in.
func checkFit(field string, p netip.Prefix) error {
	if p != linkLocal && p.Overlaps(linkLocal) {
		return wire.Invalid(field, p, "clashes with the Link-Local prefix '"+linkLocal.String()+"'")
	}
	for _, u := range unfit {
		if p.Overlaps(u.prefix) {
			return wire.Invalid(field, p, u.why)
		}
	}
	return nil
}

// subnet types one subnet. Errors name a field as at and its key. Of some families it
// has the gateway that is given or none.
func (r RawSubnet) subnet(at string, none Ungated) (Subnet, error) {
	if r.Subnet == "" {
		return Subnet{}, r.noSubnet(at)
	}
	var s Subnet
	var err error
	if s.Prefix, err = parsePrefix(at+"subnet", r.Subnet); err != nil {
		return Subnet{}, err
	}
	if err := checkFit(at+"subnet", s.Prefix); err != nil {
		return Subnet{}, err
	}
	if s.Range, err = r.ipRange(at, s.Prefix); err != nil {
		return Subnet{}, err
	}
	span := s.span()
	if span.To.Less(span.From) {
		return Subnet{}, wire.Invalid(at+"ipRange", r.IPRange,
			"holds the subnet's "+special(s.Prefix, s.Range.Addr())+" address only")
	}
	if s.Gateway, err = r.gateway(at, s.Prefix, span.From); err != nil {
		return Subnet{}, err
	}
	if none.Has(s.Prefix.Addr()) && r.Gateway == "" {
		s.Gateway = netip.Addr{}
	}
	if s.Aux, err = r.aux(at, s); err != nil {
		return Subnet{}, err
	}
	if s.useless() {
		return Subnet{}, wire.Invalid(at+"subnet", s.Prefix,
			"has no address left for a container beside its gateway and auxAddresses")
	}
	return s, nil
}

// noSubnet is the error for fields that are given without their subnet.
func (r RawSubnet) noSubnet(at string) error {
	const why = "every ipRange, gateway or auxAddresses must have a corresponding subnet"
	switch {
	case r.IPRange != "":
		return wire.Invalid(at+"ipRange", r.IPRange, why)
	case r.Gateway != "":
		return wire.Invalid(at+"gateway", r.Gateway, why)
	case len(r.AuxAddresses) > 0:
		name := slices.Min(slices.Collect(maps.Keys(r.AuxAddresses)))
		return wire.Invalid(at+"auxAddresses."+name, r.AuxAddresses[name], why)
	}
	return wire.Invalid(at+"subnet", "", "must be given in every entry of subnets")
}

// ipRange types the range, the whole subnet by default.
func (r RawSubnet) ipRange(at string, parent netip.Prefix) (netip.Prefix, error) {
	if r.IPRange == "" {
		return parent, nil
	}
	p, err := parsePrefix(at+"ipRange", r.IPRange)
	if err != nil {
		return p, err
	}
	switch {
	case p.Addr().Is4() != parent.Addr().Is4():
		return p, wire.Invalid(at+"ipRange", r.IPRange, "parent subnet is an "+Family(parent.Addr())+" block")
	case p.Bits() < parent.Bits():
		return p, wire.Invalid(at+"ipRange", r.IPRange, "CIDR block is bigger than its parent subnet "+parent.String())
	case !parent.Contains(p.Addr()):
		return p, wire.Invalid(at+"ipRange", r.IPRange, "parent subnet "+parent.String()+" doesn't contain ip-range")
	}
	return p, nil
}

// gateway types the gateway, or takes the default.
func (r RawSubnet) gateway(at string, parent netip.Prefix, first netip.Addr) (netip.Addr, error) {
	if r.Gateway == "" {
		return first, nil
	}
	return parseMember(at+"gateway", r.Gateway, parent)
}

// parseMember reads an address that a container or router of the subnet can
// have.
func parseMember(field, text string, parent netip.Prefix) (netip.Addr, error) {
	a, err := parseAddr(field, text)
	if err != nil {
		return a, err
	}
	if !parent.Contains(a) {
		return a, wire.Invalid(field, text, "parent subnet "+parent.String()+" doesn't contain this address")
	}
	if kind := special(parent, a); kind != "" {
		return a, wire.Invalid(field, text, "is the "+kind+" address of "+parent.String())
	}
	return a, nil
}

// aux types the auxiliary addresses. It goes through the names in order, so that the
// same configuration gets the same error every time.
func (r RawSubnet) aux(at string, s Subnet) (map[string]netip.Addr, error) {
	if len(r.AuxAddresses) == 0 {
		return nil, nil
	}
	seen := map[netip.Addr]string{s.Gateway: "the gateway"}
	out := make(map[string]netip.Addr, len(r.AuxAddresses))
	for _, name := range slices.Sorted(maps.Keys(r.AuxAddresses)) {
		field, text := at+"auxAddresses."+name, r.AuxAddresses[name]
		a, err := parseMember(field, text, s.Prefix)
		if err != nil {
			return nil, err
		}
		if other, ok := seen[a]; ok {
			return nil, wire.Invalid(field, text, "is "+other+" as well")
		}
		seen[a], out[name] = fmt.Sprintf("auxAddresses.%s", name), a
	}
	return out, nil
}

// useless reports whether no container can ever have an address here. The walk
// ends at the first address that is not reserved.
func (s Subnet) useless() bool {
	reserved := make(map[netip.Addr]string)
	s.reserve(reserved)
	from, to := usable(s.Prefix)
	for a := from; a.IsValid() && !to.Less(a); a = a.Next() {
		if reserved[a] == "" {
			return false
		}
	}
	return true
}

// reserve notes the addresses that are never handed out, and why.
func (s Subnet) reserve(into map[netip.Addr]string) {
	for name, a := range s.Aux {
		into[a] = fmt.Sprintf("the auxiliary address %q", name)
	}
	if s.Gateway.IsValid() {
		into[s.Gateway] = "the gateway"
	}
}

// span returns where dynamic addresses come from.
func (s Subnet) span() Span {
	from, to := usable(s.Prefix)
	if first := s.Range.Addr(); from.Less(first) {
		from = first
	}
	if end := last(s.Range); end.Less(to) {
		to = end
	}
	return Span{Subnet: s.Prefix, From: from, To: to, Gateway: s.Gateway}
}
