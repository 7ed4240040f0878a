package ipam

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"dcni/pkg/wire"
)

// decode reads a section as it is written in a configuration.
func decode(t testing.TB, text string) Raw {
	var r Raw
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// text prints a configuration, or its error with the code.
func text(c Config, err error) string {
	if err != nil {
		return errText(err)
	}
	var out []string
	for _, s := range c.Subnets {
		line := fmt.Sprintf("%s range %s gateway %s", s.Prefix, s.Range, s.Gateway)
		if len(s.Aux) > 0 {
			line += fmt.Sprintf(" aux %v", s.Aux)
		}
		out = append(out, line+" ("+s.span().String()+")")
	}
	return strings.Join(out, "; ")
}

func errText(err error) string {
	var e *wire.Error
	if !errors.As(err, &e) {
		return "no code: " + err.Error()
	}
	return fmt.Sprintf("%d %v", e.Code, err)
}

func TestConfig(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{`{}`, ""},
		{`{"subnet": "10.0.0.0/24"}`, "10.0.0.0/24 range 10.0.0.0/24 gateway 10.0.0.1 (10.0.0.1-10.0.0.254)"},
		{`{"subnet": "10.0.0.0/24", "ipRange": "10.0.0.128/25", "gateway": "10.0.0.9"}`,
			"10.0.0.0/24 range 10.0.0.128/25 gateway 10.0.0.9 (10.0.0.128-10.0.0.254)"},
		{`{"subnet": "10.0.0.0/24", "ipRange": "10.0.0.64/26"}`,
			"10.0.0.0/24 range 10.0.0.64/26 gateway 10.0.0.64 (10.0.0.64-10.0.0.127)"},
		{`{"subnet": "10.0.0.0/31"}`, "10.0.0.0/31 range 10.0.0.0/31 gateway 10.0.0.0 (10.0.0.0-10.0.0.1)"},
		{`{"subnet": "fd00::/127"}`, "fd00::/127 range fd00::/127 gateway fd00:: (fd00::-fd00::1)"},
		{`{"subnet": "fd00::/64"}`, "fd00::/64 range fd00::/64 gateway fd00::1 (fd00::1-fd00::ffff:ffff:ffff:ffff)"},
		{`{"subnet": "fe80::/64"}`, "fe80::/64 range fe80::/64 gateway fe80::1 (fe80::1-fe80::ffff:ffff:ffff:ffff)"},
		{`{"subnet": "10.0.0.0/29", "auxAddresses": {"r": "10.0.0.2"}}`,
			"10.0.0.0/29 range 10.0.0.0/29 gateway 10.0.0.1 aux map[r:10.0.0.2] (10.0.0.1-10.0.0.6)"},
		{`{"subnets": [{"subnet": "10.0.0.0/24"}, {"subnet": "fd00::/64", "gateway": "fd00::9"}]}`,
			"10.0.0.0/24 range 10.0.0.0/24 gateway 10.0.0.1 (10.0.0.1-10.0.0.254); " +
				"fd00::/64 range fd00::/64 gateway fd00::9 (fd00::1-fd00::ffff:ffff:ffff:ffff)"},
	} {
		if got := text(decode(t, tt.in).Config()); got != tt.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.in, got, tt.want)
		}
	}
}

func TestConfigRefused(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{`{"subnet": "10.0.0.5/24"}`, `7 ipam.subnet "10.0.0.5/24": it should be 10.0.0.0/24`},
		{`{"subnet": "10.0.0.0"}`, `7 ipam.subnet "10.0.0.0": must be an IP address and a prefix length, such as 10.0.0.0/24 or fd00::/64`},
		{`{"subnet": "::ffff:10.0.0.0/120"}`, `7 ipam.subnet "::ffff:10.0.0.0/120": must be written as an IPv4 block`},
		{`{"subnet": "0.0.0.0/24"}`, `7 ipam.subnet "0.0.0.0/24": 0.0.0.0/8 means this host: leave subnet out to get one from the pools`},
		{`{"subnet": "127.5.0.0/16"}`, `7 ipam.subnet "127.5.0.0/16": 127.0.0.0/8 is the loopback's`},
		{`{"subnet": "239.0.0.0/24"}`, `7 ipam.subnet "239.0.0.0/24": multicast subnet is not allowed`},
		{`{"subnet": "128.0.0.0/1"}`, `7 ipam.subnet "128.0.0.0/1": multicast subnet is not allowed`},
		{`{"subnet": "ff02::/64"}`, `7 ipam.subnet "ff02::/64": multicast subnet is not allowed`},
		{`{"subnet": "::/64"}`, `7 ipam.subnet "::/64": unspecified and loopback addresses are not allowed`},
		{`{"subnet": "fe80::/80"}`, `7 ipam.subnet "fe80::/80": clashes with the Link-Local prefix 'fe80::/64'`},
		{`{"subnet": "10.0.0.0/32"}`, `7 ipam.subnet "10.0.0.0/32": has no address left for a container beside its gateway and auxAddresses`},
		{`{"subnet": "fd00::1/128"}`, `7 ipam.subnet "fd00::1/128": has no address left for a container beside its gateway and auxAddresses`},
		{`{"subnet": "10.0.0.0/30", "auxAddresses": {"a": "10.0.0.2"}}`,
			`7 ipam.subnet "10.0.0.0/30": has no address left for a container beside its gateway and auxAddresses`},
		{`{"ipRange": "10.0.0.0/24"}`, `7 ipam.ipRange "10.0.0.0/24": every ipRange, gateway or auxAddresses must have a corresponding subnet`},
		{`{"gateway": "10.0.0.1"}`, `7 ipam.gateway "10.0.0.1": every ipRange, gateway or auxAddresses must have a corresponding subnet`},
		{`{"auxAddresses": {"b": "x", "a": "y"}}`, `7 ipam.auxAddresses.a "y": every ipRange, gateway or auxAddresses must have a corresponding subnet`},
		{`{"subnets": [{}]}`, `7 ipam.subnets[0].subnet "": must be given in every entry of subnets`},
		{`{"subnet": "10.0.0.0/24", "subnets": [{"subnet": "10.1.0.0/24"}]}`,
			`7 ipam.subnets 1: can't stand beside subnet, ipRange, gateway or auxAddresses: move those into the list`},
		{`{"subnets": [{"subnet": "10.0.0.0/24"}, {"subnet": "10.0.0.128/25"}]}`,
			`7 ipam.subnets[1].subnet "10.0.0.128/25": overlaps 10.0.0.0/24: multiple overlapping subnet configuration is not supported`},
		{`{"subnet": "10.0.0.0/24", "ipRange": "10.0.0.0/24"}`, "10.0.0.0/24 range 10.0.0.0/24 gateway 10.0.0.1 (10.0.0.1-10.0.0.254)"},
		{`{"subnet": "10.0.0.0/24", "ipRange": "10.0.0.0/16"}`, `7 ipam.ipRange "10.0.0.0/16": CIDR block is bigger than its parent subnet 10.0.0.0/24`},
		{`{"subnet": "10.0.0.0/24", "ipRange": "10.0.1.0/25"}`, `7 ipam.ipRange "10.0.1.0/25": parent subnet 10.0.0.0/24 doesn't contain ip-range`},
		{`{"subnet": "10.0.0.0/24", "ipRange": "10.0.0.9/25"}`, `7 ipam.ipRange "10.0.0.9/25": it should be 10.0.0.0/25`},
		{`{"subnet": "10.0.0.0/24", "ipRange": "fd00::/64"}`, `7 ipam.ipRange "fd00::/64": parent subnet is an IPv4 block`},
		{`{"subnet": "10.0.0.0/24", "ipRange": "10.0.0.255/32"}`, `7 ipam.ipRange "10.0.0.255/32": holds the subnet's broadcast address only`},
		{`{"subnet": "10.0.0.0/24", "gateway": "10.0.1.1"}`, `7 ipam.gateway "10.0.1.1": parent subnet 10.0.0.0/24 doesn't contain this address`},
		{`{"subnet": "10.0.0.0/24", "gateway": "10.0.0.0"}`, `7 ipam.gateway "10.0.0.0": is the network address of 10.0.0.0/24`},
		{`{"subnet": "10.0.0.0/24", "gateway": "10.0.0.255"}`, `7 ipam.gateway "10.0.0.255": is the broadcast address of 10.0.0.0/24`},
		{`{"subnet": "fe80::/64", "gateway": "fe80::1%eth0"}`, `7 ipam.gateway "fe80::1%eth0": must be an address without a zone`},
		{`{"subnet": "10.0.0.0/24", "gateway": "::ffff:10.0.0.1"}`, `7 ipam.gateway "::ffff:10.0.0.1": must be written as the IPv4 address 10.0.0.1`},
		{`{"subnets": [{"subnet": "10.0.0.0/24"}, {"subnet": "10.1.0.0/24", "gateway": "x"}]}`,
			`7 ipam.subnets[1].gateway "x": must be an IP address, such as 10.0.0.1 or fd00::1`},
		{`{"subnet": "10.0.0.0/24", "auxAddresses": {"a": "10.0.0.1"}}`, `7 ipam.auxAddresses.a "10.0.0.1": is the gateway as well`},
		{`{"subnet": "10.0.0.0/24", "auxAddresses": {"a": "10.0.0.2", "b": "10.0.0.2"}}`, `7 ipam.auxAddresses.b "10.0.0.2": is auxAddresses.a as well`},
		{`{"allocation": "random"}`, `7 ipam.allocation "random": must be next-fit or lowest`},
		{`{"dataDir": "leases"}`, `7 ipam.dataDir "leases": must be an absolute path`},
		{`{"routes": [{"dst": "10.0.0.1/8"}]}`, `7 ipam.routes[0].dst "10.0.0.1/8": it should be 10.0.0.0/8`},
		{`{"routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0", "gw": "10.0.0.1"}]}`, `7 ipam.routes[1].gw "10.0.0.1": must be of the family of dst ::/0`},
		{`{"routes": [{"dst": "0.0.0.0/0", "mtu": -1}]}`, `7 ipam.routes[0].mtu -1: must be 0 to 4294967295`},
		{`{"routes": [{"dst": "0.0.0.0/0", "scope": 256}]}`, `7 ipam.routes[0].scope 256: must be 0 to 255`},
	} {
		if got := text(decode(t, tt.in).Config()); got != tt.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.in, got, tt.want)
		}
	}
}

func TestDefaults(t *testing.T) {
	c, err := decode(t, `{"routes": [{"dst": "10.0.0.0/8", "gw": "10.1.0.1", "table": 7}], "dataDir": "/x/../y"}`).Config()
	if err != nil || c.Allocation != NextFit || c.DataDir != "/y" || len(c.Routes) != 1 || *c.Routes[0].Table != 7 || c.Routes[0].Scope != nil {
		t.Fatalf("%+v, %v", c, err)
	}
	c = c.With(netip.MustParsePrefix("172.17.0.0/16"))
	if got := text(c, nil); got != "172.17.0.0/16 range 172.17.0.0/16 gateway 172.17.0.1 (172.17.0.1-172.17.255.254)" {
		t.Fatal(got)
	}
}

// FuzzConfig: no section panics, and an accepted one keeps its promises.
func FuzzConfig(f *testing.F) {
	f.Add(`{"subnet": "10.0.0.0/24", "ipRange": "10.0.0.128/25", "gateway": "10.0.0.9", "auxAddresses": {"a": "10.0.0.7"}}`)
	f.Add(`{"subnets": [{"subnet": "fd00::/64"}, {"subnet": "0.0.0.0/0"}], "routes": [{"dst": "::/0", "gw": "fe80::1"}]}`)
	f.Fuzz(func(t *testing.T, in string) {
		var r Raw
		if json.Unmarshal([]byte(in), &r) != nil {
			return
		}
		c, err := r.Config()
		if err != nil {
			if !strings.HasPrefix(errText(err), "7 ipam.") {
				t.Fatal(errText(err))
			}
			return
		}
		for _, s := range c.Subnets {
			span := s.span()
			if span.To.Less(span.From) || !s.Prefix.Contains(span.From) || !s.Prefix.Contains(span.To) ||
				!s.Prefix.Contains(s.Gateway) || special(s.Prefix, span.To) != "" || s.useless() {
				t.Fatalf("%+v: %s", s, span)
			}
		}
	})
}

func TestPlan(t *testing.T) {
	c, err := decode(t, `{"subnets": [{"subnet": "fd00::/64"}, {"subnet": "10.0.0.0/24", "ipRange": "10.0.0.64/26", "auxAddresses": {"a": "10.0.0.2"}},
		{"subnet": "10.1.0.0/24"}]}`).Config()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		static []string
		want   string
	}{
		{nil, "[] [[fd00::1-fd00::ffff:ffff:ffff:ffff] [10.0.0.64-10.0.0.127 10.1.0.1-10.1.0.254]]"},
		{[]string{"10.0.0.5/8"}, "[{10.0.0.5/24 10.0.0.64}] [[fd00::1-fd00::ffff:ffff:ffff:ffff]]"},
		{[]string{"10.1.0.5", "fd00::7/64"}, "[{10.1.0.5/24 10.1.0.1} {fd00::7/64 fd00::1}] []"},
		{[]string{"10.9.0.5"}, "7 no configured subnet contains IP address 10.9.0.5"},
		{[]string{"10.0.0.0"}, "7 IP address 10.0.0.0 is the network address of 10.0.0.0/24: it can't be a container's"},
		{[]string{"10.0.0.64"}, "101 Address already in use: 10.0.0.64 is the gateway"},
		{[]string{"10.0.0.2"}, `101 Address already in use: 10.0.0.2 is the auxiliary address "a"`},
		{[]string{"10.0.0.5", "10.0.0.5/24"}, "[{10.0.0.5/24 10.0.0.64}] [[fd00::1-fd00::ffff:ffff:ffff:ffff]]"},
		{[]string{"10.0.0.5/33"}, `7 ips[0] "10.0.0.5/33": prefix length /33 does not fit the address`},
		{[]string{"x"}, `7 ips[0] "x": must be an IP address, such as 10.0.0.1 or fd00::1`},
	} {
		static, err := ParseStatic("ips", tt.static)
		var p Plan
		if err == nil {
			p, err = c.Plan(Request{Static: static})
		}
		got := fmt.Sprint(p.Fixed, p.Sets)
		if err != nil {
			got = errText(err)
		}
		if got != tt.want {
			t.Errorf("%v:\ngot  %s\nwant %s", tt.static, got, tt.want)
		}
	}
	if _, err := (Config{}).Plan(Request{}); err == nil {
		t.Error("a plan without a subnet")
	}
}

func TestRanges(t *testing.T) {
	c, err := decode(t, `{"subnets": [{"subnet": "10.0.0.0/24", "gateway": "10.0.0.9"}, {"subnet": "fd00::/64"}]}`).Config()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ in, want string }{
		{`[[{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.20"}]]`, "[[10.0.0.20-10.0.0.254]] via 10.0.0.9"},
		{`[[{"subnet": "10.5.0.0/24"}, {"subnet": "10.6.0.0/24", "rangeEnd": "10.6.0.7", "gateway": "10.6.0.3"}]]`,
			"[[10.5.0.1-10.5.0.254 10.6.0.1-10.6.0.7]] via 10.5.0.1"},
		{`[[]]`, `7 runtimeConfig.ipRanges[0] "[]": must hold a range`},
		{`[[{"subnet": "10.5.0.1/24"}]]`, `7 runtimeConfig.ipRanges[0][0].subnet "10.5.0.1/24": it should be 10.5.0.0/24`},
		{`[[{"subnet": "10.0.0.0/16"}]]`, `7 runtimeConfig.ipRanges[0][0].subnet "10.0.0.0/16": overlaps the configured subnet 10.0.0.0/24 without being it`},
		{`[[{"subnet": "10.5.0.0/24", "rangeStart": "10.6.0.1"}]]`,
			`7 runtimeConfig.ipRanges[0][0].rangeStart "10.6.0.1": parent subnet 10.5.0.0/24 doesn't contain this address`},
		{`[[{"subnet": "10.5.0.0/24", "rangeStart": "10.5.0.9", "rangeEnd": "10.5.0.8"}]]`,
			`7 runtimeConfig.ipRanges[0][0].rangeEnd "10.5.0.8": must not be before rangeStart 10.5.0.9`},
		{`[[{"subnet": "10.5.0.0/24"}, {"subnet": "fd05::/64"}]]`, `7 runtimeConfig.ipRanges[0][1].subnet "fd05::/64": must be of the family of the others of its set, IPv4`},
		{`[[{"subnet": "10.5.0.0/24"}], [{"subnet": "10.5.0.0/25"}]]`,
			`7 runtimeConfig.ipRanges[1][0].subnet "10.5.0.0/25": range 10.5.0.1-10.5.0.126 overlaps 10.5.0.1-10.5.0.254`},
		{`[[{"subnet": "10.5.0.0/24"}], [{"subnet": "10.5.0.0/24", "rangeStart": "10.5.0.20", "rangeEnd": "10.5.0.29"}]]`,
			`7 runtimeConfig.ipRanges[1][0].subnet "10.5.0.0/24": range 10.5.0.20-10.5.0.29 overlaps 10.5.0.1-10.5.0.254`},
		{`[[{"subnet": "10.5.0.0/24", "rangeStart": "10.5.0.20", "rangeEnd": "10.5.0.29"}], [{"subnet": "10.5.0.0/24", "rangeStart": "10.5.0.29"}]]`,
			`7 runtimeConfig.ipRanges[1][0].subnet "10.5.0.0/24": range 10.5.0.29-10.5.0.254 overlaps 10.5.0.20-10.5.0.29`},
		{`[[{"subnet": "10.5.0.0/24", "rangeStart": "10.5.0.1", "rangeEnd": "10.5.0.2"}]]`, "[[10.5.0.1-10.5.0.2]] via 10.5.0.1"},
		{`[[{"subnet": "10.5.0.0/24", "rangeStart": "10.5.0.7", "rangeEnd": "10.5.0.7"}]]`, "[[10.5.0.7-10.5.0.7]] via 10.5.0.1"},
		{`[[{"subnet": "10.5.0.0/24", "rangeStart": "10.5.0.20", "rangeEnd": "10.5.0.29"}], [{"subnet": "10.5.0.0/24"}]]`,
			`7 runtimeConfig.ipRanges[1][0].subnet "10.5.0.0/24": range 10.5.0.1-10.5.0.254 overlaps 10.5.0.20-10.5.0.29`},
		{`[[{"subnet": "10.5.0.0/24", "rangeStart": "10.5.0.20", "rangeEnd": "10.5.0.29"}, {"subnet": "10.5.0.0/24", "rangeStart": "10.5.0.30"}]]`,
			"[[10.5.0.20-10.5.0.29 10.5.0.30-10.5.0.254]] via 10.5.0.1"},
		{`[[{"subnet": "10.5.0.0/32"}]]`, `7 runtimeConfig.ipRanges[0][0].subnet "10.5.0.0/32": range 10.5.0.0-10.5.0.0 holds the gateway only`},
		{`[[{"subnet": "224.0.0.0/24"}]]`, `7 runtimeConfig.ipRanges[0][0].subnet "224.0.0.0/24": multicast subnet is not allowed`},
	} {
		var raw [][]RawRange
		if err := json.Unmarshal([]byte(tt.in), &raw); err != nil {
			t.Fatal(err)
		}
		sets, err := c.Ranges(raw)
		got := ""
		if err != nil {
			got = errText(err)
		} else {
			got = fmt.Sprintf("%v via %s", sets, sets[0][0].Gateway)
			p, _ := c.Plan(Request{Ranges: sets})
			if len(p.Sets) != 2 || p.Sets[1].Family() != "IPv6" {
				t.Errorf("%s: %v", tt.in, p.Sets)
			}
		}
		if got != tt.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.in, got, tt.want)
		}
	}
}

// marks is a bitmap in memory.
type marks map[netip.Addr]*Page

func (m marks) Page(first netip.Addr) (*Page, error) { return m[first], nil }

func (m marks) set(a netip.Addr) {
	if m[PageOf(a)] == nil {
		m[PageOf(a)] = new(Page)
	}
	m[PageOf(a)].Set(a, true)
}

// TestNext compares the search with one address at a time, over the edge of a
// page and with every kind of hole.
func TestNext(t *testing.T) {
	for _, prefix := range []string{"10.1.0.0/16", "fd00::/64"} {
		p := netip.MustParsePrefix(prefix)
		first := onPage(p.Addr(), PageAddrs-100)
		s := Span{Subnet: p, From: first}
		var all []netip.Addr
		for a := first; len(all) < 300; a = a.Next() {
			all = append(all, a)
		}
		s.To = all[len(all)-1]
		m := marks{}
		skip := func(a netip.Addr) bool { return a == all[99] || a == all[100] || a == all[299] }
		for round := 0; ; round++ {
			after := all[round*7%300]
			rest := slices.Concat(all[round*7%300+1:], all[:round*7%300+1])
			i := slices.IndexFunc(rest, func(a netip.Addr) bool {
				page := m[PageOf(a)]
				return !skip(a) && (page == nil || !page.Has(a))
			})
			got, _ := s.Next(m, after, skip)
			if i < 0 {
				if got.IsValid() || round != 297 {
					t.Fatalf("round %d: %s from a full span", round, got)
				}
				break
			}
			if got != rest[i] {
				t.Fatalf("round %d: after %s comes %s, not %s", round, after, got, rest[i])
			}
			m.set(got)
		}
		if got, _ := s.Next(marks{}, netip.MustParseAddr("1.2.3.4"), skip); got != first {
			t.Fatalf("outside the span: %s", got)
		}
	}
}

// TestReserve: what has a name already keeps it, and no other configuration changes.
func TestReserve(t *testing.T) {
	c, err := Raw{Subnet: "10.1.0.0/24", Gateway: "10.1.0.9", AuxAddresses: map[string]string{"nas": "10.1.0.8"}}.Config()
	if err != nil {
		t.Fatal(err)
	}
	before := fmt.Sprint(c)
	r := c
	for _, a := range []string{"10.1.0.1", "10.1.0.2", "10.1.0.8", "10.1.0.9", "10.2.0.1", "2001:db8::1"} {
		r = r.Reserve("parent eth0", netip.MustParseAddr(a))
	}
	if got := fmt.Sprint(r.Subnets[0].Aux); got != "map[nas:10.1.0.8 parent eth0:10.1.0.1 parent eth0 10.1.0.2:10.1.0.2]" {
		t.Errorf("reserved %s", got)
	}
	if fmt.Sprint(c) != before {
		t.Errorf("changed: %v, was %s", c, before)
	}
}
