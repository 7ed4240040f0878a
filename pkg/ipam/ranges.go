package ipam

import (
	"fmt"
	"net/netip"

	"dcni/pkg/wire"
)

// Ranges types what a runtime sent for the capability ipRanges: a list of range
// sets, out of each of which one address comes. Within a set the ranges are of
// one family; no two ranges of the whole overlap. A range's subnet is one of the
// configured ones, whose gateway is then the default, or overlaps none of them.
func (c Config) Ranges(raw [][]RawRange) ([]Set, error) {
	var out []Set
	var all []Span
	for i, list := range raw {
		if len(list) == 0 {
			return nil, wire.Invalid(fmt.Sprintf("runtimeConfig.ipRanges[%d]", i), "[]", "must hold a range")
		}
		var set Set
		for j, r := range list {
			at := fmt.Sprintf("runtimeConfig.ipRanges[%d][%d].", i, j)
			span, err := c.span(at, r)
			if err != nil {
				return nil, err
			}
			if len(set) > 0 && set.is4() != span.From.Is4() {
				return nil, wire.Invalid(at+"subnet", r.Subnet, "must be of the family of the others of its set, "+set.Family())
			}
			for _, other := range all {
				if other.Contains(span.From) || span.Contains(other.From) {
					return nil, wire.Invalid(at+"subnet", r.Subnet, "range "+span.String()+" overlaps "+other.String())
				}
			}
			set, all = append(set, span), append(all, span)
		}
		out = append(out, set)
	}
	return out, nil
}

// span types one range.
func (c Config) span(at string, r RawRange) (Span, error) {
	p, err := parsePrefix(at+"subnet", r.Subnet)
	if err != nil {
		return Span{}, err
	}
	if err := checkFit(at+"subnet", p); err != nil {
		return Span{}, err
	}
	s := Span{Subnet: p}
	s.From, s.To = usable(p)
	if !c.ungated.Has(p.Addr()) {
		s.Gateway = s.From
	}
	for _, own := range c.Subnets {
		if own.Prefix == p {
			s.Gateway = own.Gateway
		} else if own.Prefix.Overlaps(p) {
			return Span{}, wire.Invalid(at+"subnet", r.Subnet, "overlaps the configured subnet "+own.Prefix.String()+" without being it")
		}
	}
	for _, f := range []struct {
		name, text string
		into       *netip.Addr
	}{{"rangeStart", r.RangeStart, &s.From}, {"rangeEnd", r.RangeEnd, &s.To}, {"gateway", r.Gateway, &s.Gateway}} {
		if f.text == "" {
			continue
		}
		if *f.into, err = parseMember(at+f.name, f.text, p); err != nil {
			return Span{}, err
		}
	}
	if s.To.Less(s.From) {
		return Span{}, wire.Invalid(at+"rangeEnd", s.To, "must not be before rangeStart "+s.From.String())
	}
	if s.From == s.To && s.From == s.Gateway {
		return Span{}, wire.Invalid(at+"subnet", r.Subnet, "range "+s.String()+" holds the gateway only")
	}
	return s, nil
}
