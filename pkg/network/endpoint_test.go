package network

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"dcni/pkg/ipam"
	"dcni/pkg/wire"
)

// endpoint has addresses, each "ADDRESS/LENGTH" or "ADDRESS/LENGTH via GATEWAY", on a
// network whose subnets are those of the addresses.
func endpoint(t *testing.T, addresses ...string) Endpoint {
	t.Helper()
	e := Endpoint{Attachment: wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}, NetNS: "/run/netns/c1"}
	for _, text := range addresses {
		address, gateway, _ := strings.Cut(text, " via ")
		a := ipam.Assigned{Address: netip.MustParsePrefix(address)}
		if gateway != "" {
			a.Gateway = netip.MustParseAddr(gateway)
		}
		e.Addresses = append(e.Addresses, a)
		e.Subnets = append(e.Subnets, ipam.Subnet{Prefix: a.Address.Masked()})
	}
	return e
}

// objectLines prints objects, with N for the metrics of default routes.
func objectLines(objects []wire.Object) string {
	var b strings.Builder
	for _, o := range objects {
		fmt.Fprintln(&b, o)
	}
	text := regexp.MustCompile(`metric \d{3,}`).ReplaceAllString(b.String(), "metric N")
	return strings.ReplaceAll(text, " in sandbox", "")
}

func TestInterface(t *testing.T) {
	const both = `sysctl net/ipv6/conf/eth0/accept_dad=0
sysctl net/ipv4/conf/eth0/accept_redirects=0 net/ipv6/conf/eth0/accept_ra=0 net/ipv6/conf/eth0/autoconf=0 net/ipv6/conf/eth0/accept_redirects=0
addr 10.1.0.2/24 dev eth0
addr fd00:1::2/64 dev eth0
`
	for name, c := range map[string]struct {
		addresses []string
		change    func(e *Endpoint)
		want      string
	}{
		"no neighbours": {
			[]string{"10.1.0.2/24 via 10.1.0.1", "fd00:1::2/64"},
			func(e *Endpoint) {
				e.Routed = true
				e.Routes = []ipam.Route{{Dst: netip.MustParsePrefix("198.51.100.0/24")}}
			},
			both + `link eth0 up
route default dev eth0 metric N
route -6 default dev eth0 metric N
route 198.51.100.0/24 dev eth0
`,
		},
		"no neighbours, internal": {
			[]string{"10.1.0.2/24 via 10.1.0.1", "fd00:1::2/64"},
			func(e *Endpoint) { e.Routed, e.Info.Internal = true, true },
			both + "link eth0 up\n",
		},
		"no neighbours, IPv6 switched off": {
			[]string{"10.1.0.2/24", "fd00:1::2/64"},
			func(e *Endpoint) {
				e.Routed = true
				*e = e.WithoutIPv6()
			},
			strings.Replace(both, "addr fd00:1::2/64 dev eth0\n", "", 1) + `link eth0 up
route default dev eth0 metric N
`,
		},
		"IPv4": {
			[]string{"10.1.0.2/24 via 10.1.0.1"}, func(*Endpoint) {},
			`sysctl net/ipv6/conf/eth0/disable_ipv6=1
sysctl net/ipv4/conf/eth0/accept_redirects=0 net/ipv6/conf/eth0/accept_ra=0 net/ipv6/conf/eth0/autoconf=0 net/ipv6/conf/eth0/accept_redirects=0
addr 10.1.0.2/24 dev eth0
link eth0 up
sysctl net/ipv4/conf/eth0/arp_notify=1
route default via 10.1.0.1 dev eth0 metric N
`,
		},
		"both families, announced before the link is up": {
			[]string{"10.1.0.2/24 via 10.1.0.1", "fd00:1::2/64 via fd00:1::1"}, func(e *Endpoint) { e.Reused = true },
			both + `sysctl net/ipv4/conf/eth0/arp_notify=1
sysctl net/ipv6/conf/eth0/ndisc_notify=1
link eth0 up
route default via 10.1.0.1 dev eth0 metric N
route -6 default via fd00:1::1 dev eth0 metric N
`,
		},
		"on a LAN: announced as the link comes up": {
			[]string{"10.1.0.2/24 via 10.1.0.1", "fd00:1::2/64"}, func(e *Endpoint) { e.OnLAN = true },
			both + `sysctl net/ipv4/conf/eth0/arp_notify=1
sysctl net/ipv6/conf/eth0/ndisc_notify=1
link eth0 up
route default via 10.1.0.1 dev eth0 metric N
`,
		},
		"on a LAN: up without addresses, which are announced later": {
			[]string{"10.1.0.2/24 via 10.1.0.1", "fd00:1::2/64"}, func(e *Endpoint) { e.OnLAN, e.UpFirst = true, true },
			strings.Replace(both, "addr 10", `sysctl net/ipv4/conf/eth0/arp_notify=1
sysctl net/ipv6/conf/eth0/ndisc_notify=1
link eth0 up
addr 10`, 1) + `announce 10.1.0.2 fd00:1::2 dev eth0
route default via 10.1.0.1 dev eth0 metric N
`,
		},
		"on a LAN, with no address yet": {
			nil, func(e *Endpoint) { e.OnLAN, e.UpFirst = true, true },
			`sysctl net/ipv6/conf/eth0/disable_ipv6=1
sysctl net/ipv4/conf/eth0/accept_redirects=0 net/ipv6/conf/eth0/accept_ra=0 net/ipv6/conf/eth0/autoconf=0 net/ipv6/conf/eth0/accept_redirects=0
sysctl net/ipv4/conf/eth0/arp_notify=1
link eth0 up
`,
		},
		"internal": {
			[]string{"10.1.0.2/24 via 10.1.0.1", "fd00:1::2/64 via fd00:1::1"}, func(e *Endpoint) { e.Info.Internal = true },
			both + `link eth0 up
sysctl net/ipv4/conf/eth0/arp_notify=1
sysctl net/ipv6/conf/eth0/ndisc_notify=1
`,
		},
		"a gateway of one family, and outside the prefix": {
			[]string{"10.1.0.2/32 via 10.1.0.1", "fd00:1::2/64"}, func(*Endpoint) {},
			strings.Replace(both, "/24", "/32", 1) + `link eth0 up
sysctl net/ipv4/conf/eth0/arp_notify=1
sysctl net/ipv6/conf/eth0/ndisc_notify=1
route default via 10.1.0.1 dev eth0 onlink metric N
`,
		},
		"routes of the IPAM": {
			[]string{"10.1.0.2/24 via 10.1.0.1", "fd00:1::2/64 via fd00:1::1"}, func(e *Endpoint) {
				table, scope := 7, 253
				e.Routes = []ipam.Route{
					{Dst: netip.MustParsePrefix("0.0.0.0/0"), GW: netip.MustParseAddr("10.1.0.9"), Priority: 5},
					{Dst: netip.MustParsePrefix("192.0.2.0/24"), MTU: 1400, AdvMSS: 1300},
					{Dst: netip.MustParsePrefix("2001:db8::/32"), Table: &table},
					{Dst: netip.MustParsePrefix("198.51.100.0/24"), GW: netip.MustParseAddr("10.2.0.1"), Scope: &scope},
				}
			},
			both + `link eth0 up
sysctl net/ipv4/conf/eth0/arp_notify=1
sysctl net/ipv6/conf/eth0/ndisc_notify=1
route -6 default via fd00:1::1 dev eth0 metric N
route default via 10.1.0.9 dev eth0 metric 5
route 192.0.2.0/24 via 10.1.0.1 dev eth0 mtu 1400 advmss 1300
route 2001:db8::/32 via fd00:1::1 dev eth0 table 7
route 198.51.100.0/24 via 10.2.0.1 dev eth0 onlink scope 253
`,
		},
		"router advertisements, without a subnet of IPv6": {
			[]string{"10.1.0.2/24"}, func(e *Endpoint) { e.AcceptRA = true },
			strings.NewReplacer("accept_ra=0", "accept_ra=2", "autoconf=0", "autoconf=1", "addr fd00:1::2/64 dev eth0\n", "").Replace(both) + `link eth0 up
sysctl net/ipv4/conf/eth0/arp_notify=1
sysctl net/ipv6/conf/eth0/ndisc_notify=1
`,
		},
		"IPv6 switched off in the sandbox": {
			[]string{"10.1.0.2/24 via 10.1.0.1", "fd00:1::2/64 via fd00:1::1"}, func(e *Endpoint) {
				e.Routes = []ipam.Route{{Dst: netip.MustParsePrefix("192.0.2.0/24")}, {Dst: netip.MustParsePrefix("2001:db8::/32")}}
				*e = e.WithoutIPv6()
			},
			strings.Replace(both, "addr fd00:1::2/64 dev eth0\n", "", 1) + `link eth0 up
sysctl net/ipv4/conf/eth0/arp_notify=1
sysctl net/ipv6/conf/eth0/ndisc_notify=1
route default via 10.1.0.1 dev eth0 metric N
route 192.0.2.0/24 via 10.1.0.1 dev eth0
`,
		},
		"a route of the IPAM without a gateway": {
			[]string{"10.1.0.2/24"}, func(e *Endpoint) { e.Routes = []ipam.Route{{Dst: netip.MustParsePrefix("192.0.2.0/24")}} },
			`sysctl net/ipv6/conf/eth0/disable_ipv6=1
sysctl net/ipv4/conf/eth0/accept_redirects=0 net/ipv6/conf/eth0/accept_ra=0 net/ipv6/conf/eth0/autoconf=0 net/ipv6/conf/eth0/accept_redirects=0
addr 10.1.0.2/24 dev eth0
link eth0 up
sysctl net/ipv4/conf/eth0/arp_notify=1
route 192.0.2.0/24 dev eth0
`,
		},
	} {
		e := endpoint(t, c.addresses...)
		c.change(&e)
		// Rules by source come last: routes say what they lead to.
		want := c.want
		if len(c.addresses) > 0 {
			want += "rule pref 32765 from addresses of eth0 lookup 1699351883, beside other networks\n"
		}
		if got := objectLines(e.Interface()); got != want {
			t.Errorf("%s: got\n%swant\n%s", name, got, want)
		}
	}
}

// A default route of an IPAM plugin's has the metric of the network's own, unless it
// names one, or a table.
func TestDefaultRouteOfIPAM(t *testing.T) {
	e := endpoint(t, "10.1.0.2/24 via 10.1.0.1")
	table, all := 7, netip.MustParsePrefix("0.0.0.0/0")
	own := e.candidate().Metric()
	for _, c := range []struct {
		route ipam.Route
		want  int
	}{
		{ipam.Route{Dst: all}, own}, {ipam.Route{Dst: all, Priority: 5}, 5}, {ipam.Route{Dst: all, Table: &table}, 0},
		{ipam.Route{Dst: netip.MustParsePrefix("0.0.0.0/1")}, 0},
	} {
		e.Routes = []ipam.Route{c.route}
		routes := e.routes()
		last := routes[len(routes)-1].(*wire.Route)
		if last.Metric != c.want || (last.Owner == wire.Attachment{}) != (c.want != own) {
			t.Errorf("%+v: %s, owner %s, want metric %d", c.route, last, last.Owner, c.want)
		}
	}
}

func TestEndpointAddresses(t *testing.T) {
	e := endpoint(t, "fd00:1::2/64", "10.1.0.2/24 via 10.1.0.1", "10.2.0.2/24 via 10.2.0.1", "10.1.0.3/24 via 10.1.0.1", "fd00:2::2/64 via fd00:2::1")
	for what, is := range map[string]string{
		"families [4 6]":                         fmt.Sprint("families ", e.Families()),
		"families [4]":                           fmt.Sprint("families ", endpoint(t, "10.1.0.2/24").Families()),
		"families [6]":                           fmt.Sprint("families ", endpoint(t, "fd00:1::2/64").Families()),
		"families []":                            fmt.Sprint("families ", Endpoint{}.Families()),
		"gateway 10.1.0.1":                       fmt.Sprint("gateway ", e.Gateway(false)),
		"gateway fd00:2::1":                      fmt.Sprint("gateway ", e.Gateway(true)),
		"gateway invalid IP":                     fmt.Sprint("gateway ", Endpoint{}.Gateway(true)),
		"gateways [10.1.0.1 10.2.0.1 fd00:2::1]": fmt.Sprint("gateways ", e.Gateways()),
		"[fd00:1::2 10.1.0.2 10.2.0.2 10.1.0.3 fd00:2::2]":              fmt.Sprint(e.IPs()),
		"[fd00:1::/64 10.1.0.0/24 10.2.0.0/24 10.1.0.0/24 fd00:2::/64]": fmt.Sprint(e.Prefixes()),
		"within true false":       fmt.Sprint("within ", e.Within(netip.MustParseAddr("10.2.0.9")), " ", e.Within(netip.MustParseAddr("10.3.0.9"))),
		"MAC 02:42:0a:01:00:02":   "MAC " + e.SandboxMAC(),
		"MAC 02:42:0a:01:00:09":   "MAC " + endpoint(t, "10.1.0.9/24", "fd00:1::2/64").SandboxMAC(),
		"MAC 02:42:" + macTail(e): "MAC " + endpoint(t, "fd00:1::2/64").SandboxMAC(),
	} {
		if is != what {
			t.Errorf("%s, want %s", is, what)
		}
	}
	e.MAC = "02:42:00:00:00:01"
	if got := e.SandboxMAC(); got != e.MAC {
		t.Errorf("asked for %s, is %s", e.MAC, got)
	}
}

// macTail is the MAC of an endpoint without IPv4: four bytes of its identity's hash.
func macTail(e Endpoint) string {
	id := e.ID()
	return strings.Join([]string{id[:2], id[2:4], id[4:6], id[6:8]}, ":")
}

func TestInfoAnd(t *testing.T) {
	a, b := Info{NoNames: true, Priority: 3}, Info{Internal: true, Names: true, Priority: 5, OwnSubnets: true}
	for _, c := range []struct{ one, two, want Info }{
		{a, Info{}, a}, {Info{}, a, a}, {b, Info{}, b}, {Info{}, b, b},
		{a, b, Info{NoNames: true, Internal: true, Names: true, Priority: 3, OwnSubnets: true}},
		{b, a, Info{NoNames: true, Internal: true, Names: true, Priority: 5, OwnSubnets: true}},
	} {
		if got := c.one.And(c.two); got != c.want {
			t.Errorf("%+v and %+v: %+v", c.one, c.two, got)
		}
	}
}

// TestExchangeable: a sandbox that something has used already stays what it is.
func TestExchangeable(t *testing.T) {
	for want, set := range map[string]func(j *Join){
		"":                                    func(*Join) {},
		"can't be exchanged: use hostNetwork": func(j *Join) { j.Found.Fixed, j.Found.Links = true, []string{"eth0"} },
		"has eth0, net1 besides lo":           func(j *Join) { j.Found.Links, j.Found.Processes = []string{"eth0", "net1"}, []string{"7"} },
		"process 7 is in it already":          func(j *Join) { j.Found.Processes = []string{"7", "8"} },
	} {
		j := Join{NetNS: "/x"}
		set(&j)
		err := j.Exchangeable("hostNetwork")
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", j.Found, err, want)
		}
	}
}

// On a LAN, a MAC is that of an address on one host, and of no other address or host.
func TestMACOnLAN(t *testing.T) {
	mac := func(parent, asked string, addresses ...string) string {
		e := endpoint(t, addresses...)
		e.OnLAN, e.ParentMAC, e.MAC = true, parent, asked
		return e.SandboxMAC()
	}
	const here, there = "02:00:00:00:00:01", "02:00:00:00:00:02"
	seen := map[string]string{}
	for _, c := range [][]string{
		{here, "10.1.0.2/24", "fd00:1::2/64"}, {there, "10.1.0.2/24", "fd00:1::2/64"},
		{here, "10.1.0.3/24"}, {here, "fd00:1::2/64"}, {there, "fd00:1::2/64"}, {here},
	} {
		got := mac(c[0], "", c[1:]...)
		if !strings.HasPrefix(got, "02:42:") || seen[got] != "" {
			t.Errorf("%v has %s, as %s", c, got, seen[got])
		}
		seen[got] = fmt.Sprint(c)
	}
	first := mac(here, "", "10.1.0.2/24", "fd00:1::2/64")
	for _, again := range []string{mac(here, "", "10.1.0.2/24"), mac(here, "", "fd00:1::2/64", "10.1.0.2/24")} {
		if again != first {
			t.Errorf("MAC %s, then %s: it is the IPv4 address's", first, again)
		}
	}
	routed := endpoint(t, "10.1.0.2/24")
	routed.ParentMAC = here
	for _, got := range []string{routed.SandboxMAC(), mac("", "", "10.1.0.2/24")} {
		if got != "02:42:0a:01:00:02" {
			t.Errorf("MAC %s is not the address's: nothing on the LAN sees it, or nothing is known of the parent", got)
		}
	}
	if got := mac(here, "02:42:00:00:00:77", "10.1.0.2/24"); got != "02:42:00:00:00:77" {
		t.Errorf("asked for 02:42:00:00:00:77, is %s", got)
	}
}

// TestLinkLocal has the example of RFC 4291, appendix A: the bit that says "local" is turned.
func TestLinkLocal(t *testing.T) {
	for mac, want := range map[string]string{
		"34:56:78:9a:bc:de": "fe80::3656:78ff:fe9a:bcde",
		"02:42:0a:01:00:02": "fe80::42:aff:fe01:2",
		"02:42:0a:01:00":    "invalid IP",
		"02:42:0a:01:00:0x": "invalid IP",
	} {
		if got := (Endpoint{MAC: mac}).LinkLocal().String(); got != want {
			t.Errorf("%s: %s, want %s", mac, got, want)
		}
	}
}
