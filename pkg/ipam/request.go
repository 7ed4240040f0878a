package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"dcni/pkg/wire"
)

// Request is what one attachment asks for.
type Request struct {
	Owner  wire.Attachment
	Name   string       // the name that a sticky address is kept for; "" = the container ID
	Static []netip.Addr // addresses asked for by value, see ParseStatic
	Ranges []Set        // capability ipRanges, see Config.Ranges; nil = the configured subnets
}

// Set is a list of alternatives, tried in order: one address comes out of it.
type Set []Span

// Contains reports whether one of the spans does.
func (s Set) Contains(a netip.Addr) bool {
	return slices.ContainsFunc(s, func(span Span) bool { return span.Contains(a) })
}

// Assigned is one address of an attachment.
type Assigned struct {
	Address netip.Prefix `json:"address"` // the address with its subnet's prefix length
	Gateway netip.Addr   `json:"gateway"`
}

// Plan is what has to be claimed for a request.
type Plan struct {
	Fixed    []Assigned            // these very addresses
	Sets     []Set                 // one of each
	Reserved map[netip.Addr]string // never handed out, and why
	families []bool                // Is4 of the families in the order of the result
}

// ParseStatic reads addresses with or without a prefix length, as runtimes send
// them; the length that counts is the subnet's. An address that is given twice counts
// once: "podman network reload" asks for the static address and for the present
// one. The field is named in errors.
func ParseStatic(field string, list []string) ([]netip.Addr, error) {
	var out []netip.Addr
	for i, text := range list {
		at := fmt.Sprintf("%s[%d]", field, i)
		host, length, cut := strings.Cut(text, "/")
		a, err := parseAddr(at, host)
		if err != nil {
			return nil, err
		}
		if _, err := netip.ParsePrefix(text); cut && err != nil {
			return nil, wire.Invalid(at, text, "prefix length /"+length+" does not fit the address")
		}
		if !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out, nil
}

// Sets returns what a plain request allocates from: a set per family, the
// families in the order they are first written.
func (c Config) Sets() []Set {
	var out []Set
	for _, s := range c.Subnets {
		i := slices.IndexFunc(out, func(set Set) bool { return set.is4() == s.Prefix.Addr().Is4() })
		if i < 0 {
			out, i = append(out, nil), len(out)
		}
		out[i] = append(out[i], s.span())
	}
	return out
}

// is4 returns the family of a set; all of it is of one.
func (s Set) is4() bool { return s[0].From.Is4() }

// Family returns "IPv4" or "IPv6".
func (s Set) Family() string { return Family(s[0].From) }

// Plan says what has to be claimed for a request, or why it can't be: code 7
// for an address the network does not have, 101 for one it keeps for itself.
func (c Config) Plan(r Request) (Plan, error) {
	p := Plan{Reserved: make(map[netip.Addr]string)}
	for _, s := range c.Subnets {
		s.reserve(p.Reserved)
	}
	sets := slices.Clone(r.Ranges)
	for _, set := range c.Sets() {
		if !slices.ContainsFunc(r.Ranges, func(s Set) bool { return s.is4() == set.is4() }) {
			sets = append(sets, set)
		}
	}
	for _, set := range sets {
		p.families = append(p.families, set.is4())
		for _, span := range set {
			if span.Gateway.IsValid() {
				p.Reserved[span.Gateway] = "the gateway"
			}
		}
	}
	if len(sets) == 0 {
		return Plan{}, wire.Invalid("ipam.subnet", "", "must be given: the network has no addresses")
	}
	for _, a := range r.Static {
		if err := p.fix(c.home(a, r.Ranges), a); err != nil {
			return Plan{}, err
		}
	}
	for _, set := range sets {
		if !slices.ContainsFunc(r.Static, func(a netip.Addr) bool { return a.Is4() == set.is4() }) {
			p.Sets = append(p.Sets, set)
		}
	}
	return p, nil
}

// home returns a span of the subnet that contains an address; its zero value if
// none does.
func (c Config) home(a netip.Addr, ranges []Set) Span {
	for _, s := range c.Subnets {
		if s.Prefix.Contains(a) {
			return s.span()
		}
	}
	for _, span := range slices.Concat(ranges...) {
		if span.Subnet.Contains(a) {
			return span
		}
	}
	return Span{}
}

// fix adds a static address.
func (p *Plan) fix(home Span, a netip.Addr) error {
	if !home.Subnet.IsValid() {
		return wire.Errorf(wire.CodeConfig, "no configured subnet contains IP address %s", a)
	}
	if kind := special(home.Subnet, a); kind != "" {
		return wire.Errorf(wire.CodeConfig, "IP address %s is the %s address of %s: it can't be a container's", a, kind, home.Subnet)
	}
	if why, ok := p.Reserved[a]; ok {
		return InUse(a, why)
	}
	assigned := Assigned{Address: netip.PrefixFrom(a, home.Subnet.Bits()), Gateway: home.Gateway}
	if slices.Contains(p.Fixed, assigned) {
		return wire.Errorf(wire.CodeConfig, "IP address %s is requested twice", a)
	}
	p.Fixed = append(p.Fixed, assigned)
	return nil
}

// InUse is the error for an address that belongs to another: code 101 and
// Docker's words.
func InUse(a netip.Addr, owner string) error {
	return wire.Errorf(wire.CodeAddressTaken, "Address already in use: %s is %s", a, owner)
}

// An ExhaustedError says that a network has no free address: code 11 and Docker's words.
type ExhaustedError struct{ Family, Network string }

func (e *ExhaustedError) Error() string { return e.Unwrap().Error() }

// Unwrap returns the error with its code.
func (e *ExhaustedError) Unwrap() error {
	return wire.Errorf(wire.CodeTryAgain, "no available %s addresses on this network's address pools: %s", e.Family, e.Network)
}

// Exhausted returns an [ExhaustedError].
func Exhausted(family, network string) error { return &ExhaustedError{family, network} }

// IsExhausted reports whether an error is that a network has no free address.
func IsExhausted(err error) bool {
	full := (*ExhaustedError)(nil)
	return errors.As(err, &full)
}

// Sort puts addresses into the order of the result: families as configured, and
// within one the static addresses first, as requested.
func (p Plan) Sort(list []Assigned) {
	slices.SortStableFunc(list, func(a, b Assigned) int {
		return slices.Index(p.families, a.Address.Addr().Is4()) - slices.Index(p.families, b.Address.Addr().Is4())
	})
}
