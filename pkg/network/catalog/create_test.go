package catalog

import (
	"net/netip"
	"strings"
	"testing"
)

func addrs(texts ...string) (out []netip.Addr) {
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

// TestMatchErrors has subnets and what must be in them, refused in Docker's words or
// accepted.
func TestMatchErrors(t *testing.T) {
	aux := func(a string) map[string]string { return map[string]string{"nas": a} }
	for _, c := range []struct {
		subnets string
		o       Options
		want    string
	}{
		{"10.1.0.0/24", Options{Ranges: prefixes("10.1.0.0/24")}, ""}, // a range may be the whole subnet
		{"10.1.0.0/24", Options{Ranges: prefixes("10.1.0.0/23")},
			"invalid network config:\ninvalid ip-range 10.1.0.0/23: CIDR block is bigger than its parent subnet 10.1.0.0/24"},
		{"10.1.0.0/24", Options{Ranges: prefixes("10.2.0.0/25")}, "no matching subnet for range 10.2.0.0/25"},
		{"10.1.0.0/24 10.2.0.0/24", Options{Ranges: prefixes("10.1.0.0/25", "10.1.0.128/25")},
			"cannot configure multiple ranges (10.1.0.128/25, 10.1.0.0/25) on the same subnet (10.1.0.0/24)"},
		{"10.1.0.0/24", Options{Gateways: addrs("10.2.0.1")}, "no matching subnet for gateway 10.2.0.1"},
		{"10.1.0.0/24 10.2.0.0/24", Options{Gateways: addrs("10.1.0.1", "10.1.0.2")},
			"cannot configure multiple gateways (10.1.0.2, 10.1.0.1) for the same subnet (10.1.0.0/24)"},
		{"10.1.0.0/24", Options{Aux: aux("10.2.0.1")}, "no matching subnet for aux-address 10.2.0.1"},
		{"10.1.0.0/24", Options{Aux: aux("x")}, `invalid auxiliary address nas: "x" is no IP address`},
		{"", Options{Ranges: prefixes("10.1.0.0/24")}, "every ip-range or gateway must have a corresponding subnet"},
		{"", Options{Gateways: addrs("10.1.0.1")}, "every ip-range or gateway must have a corresponding subnet"},
		{"10.1.0.0", Options{}, "invalid subnet: invalid CIDR address: 10.1.0.0"},
		{"10.1.0.0/24 10.1.0.128/25", Options{}, "multiple overlapping subnet configuration is not supported"},
		{"10.1.0.7/24", Options{}, "invalid network config:\ninvalid subnet 10.1.0.7/24: it should be 10.1.0.0/24"},
		{"224.0.0.0/24", Options{}, "invalid network config:\nmulticast subnet '224.0.0.0/24' is not allowed"},
		{"fe80::/64", Options{}, ""},
		{"fe80::/65", Options{}, "invalid network config:\n'fe80::/65' clashes with the Link-Local prefix 'fe80::/64'"},
	} {
		c.o.Subnets = strings.Fields(c.subnets)
		got := ""
		if _, err := c.o.match(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s, %+v: %q, want %q", c.subnets, c.o, got, c.want)
		}
	}
}
