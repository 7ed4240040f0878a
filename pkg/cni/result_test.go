package cni

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"dcni/pkg/firewall"
	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/records"
)

func network24(s string) net.IPNet {
	ip, n, _ := net.ParseCIDR(s)
	return net.IPNet{IP: ip, Mask: n.Mask}
}

// results are what is printed: everything there is, little, and nothing.
var results = map[string]*types100.Result{
	"full": {
		CNIVersion: "1.1.0",
		Interfaces: []*types100.Interface{
			{Name: "br-web", Mac: "02:42:0a:01:00:01"},
			{Name: "eth0", Mac: "02:42:0a:01:00:02", Mtu: 1450, Sandbox: "/run/netns/<c1>", SocketPath: "/s", PciID: "0000:01:00.0"},
		},
		IPs: []*types100.IPConfig{
			{Interface: types100.Int(0), Address: network24("10.1.0.2/24"), Gateway: net.IPv4(10, 1, 0, 1)},
			{Interface: types100.Int(1), Address: network24("fd00::2/64"), Gateway: net.ParseIP("fd00::1")},
			{Address: network24("127.0.0.1/8")},
		},
		Routes: []*types.Route{
			{Dst: network24("0.0.0.0/0"), GW: net.IPv4(10, 1, 0, 1)},
			{Dst: network24("fd01::/48"), MTU: 1400, AdvMSS: 1360, Priority: 7, Table: types100.Int(0), Scope: types100.Int(253)},
		},
		DNS: types.DNS{Nameservers: []string{"127.0.0.11"}, Domain: "d", Search: []string{"s"}, Options: []string{"ndots:0"}},
	},
	"one address": {CNIVersion: "1.1.0", IPs: []*types100.IPConfig{{Address: network24("10.1.0.2/24")}}},
	"nothing":     {CNIVersion: "1.1.0"},
}

func TestPrintResult(t *testing.T) {
	for name, r := range results {
		for _, version := range Versions {
			t.Run(name+" "+version, func(t *testing.T) {
				var printed bytes.Buffer
				if err := printResult(&printed, r, version); err != nil {
					t.Fatal(err)
				}
				as, err := r.GetAsVersion(version)
				if err != nil {
					t.Fatal(err)
				}
				var want bytes.Buffer
				if err := as.PrintTo(&want); err != nil {
					t.Fatal(err)
				}
				if got, want := decoded(t, printed.Bytes()), decoded(t, want.Bytes()); !reflect.DeepEqual(got, want) {
					t.Errorf("got  %v\nwant %v", got, want)
				}
				if !strings.Contains(printed.String(), "\n    \"cniVersion\"") {
					t.Errorf("not indented for people: %s", printed.String())
				}
			})
		}
	}
}

func decoded(t *testing.T, b []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return v
}

// What others print is read, or refused where it would be passed on broken.
func TestReadResult(t *testing.T) {
	for _, version := range []string{"0.3.0", "0.4.0", "1.1.0"} {
		for body, want := range map[string]string{
			`"dns": null, "interfaces": null, "ips": [], "routes": [{"dst": "::/0"}]`: "",
			`"ips": [{"version": "4", "address": "10.1.0.2/24"}]`:                     "",
			`"interfaces": [{"name": "eth0"}, null]`:                                  "interfaces[1]: must be an object, not null",
			`"ips": [null]`:                                                           "ips[0]: must be an object with an address",
			`"ips": [{"gateway": "10.1.0.1"}]`:                                        "ips[0]: must be an object with an address",
			`"routes": [null]`:                                                        "routes[0]: must be an object with a dst",
			`"routes": [{"gw": "10.1.0.1"}]`:                                          "routes[0]: must be an object with a dst",
			`"ips": [{"address": "10.1.0.2/"}]`:                                       "invalid CIDR address: 10.1.0.2/",
		} {
			_, err := readResult([]byte(`{"cniVersion": "`+version+`", `+body+`}`), version)
			if got := fmt.Sprint(err); got != want && (err != nil || want != "") {
				t.Errorf("%s %s: %s; want %s", version, body, got, want)
			}
		}
	}
}

// The version of a result is the configuration's.
func TestResultVersion(t *testing.T) {
	for _, version := range []string{"0.4.0", "1.0.0", "1.1.0"} {
		raw := []byte(`{"cniVersion": "` + version + `", "ips": []}`)
		for _, expected := range []string{"0.4.0", "1.0.0", "1.1.0"} {
			r, err := readResult(raw, expected)
			if old := strings.HasPrefix(version, "0."); (err == nil) != (old == strings.HasPrefix(expected, "0.")) {
				t.Errorf("%s read as %s: %v", version, expected, err)
			}
			if err == nil && r.CNIVersion != types100.ImplementedSpecVersion {
				t.Errorf("%s read as %s: is %s", version, expected, r.CNIVersion)
			}
		}
	}
}

// TestMerge appends a result to that of the plugin before: its interfaces come behind, and its
// dns counts if it says anything.
func TestMerge(t *testing.T) {
	before := func() *types100.Result {
		return &types100.Result{
			CNIVersion: "1.0.0", Interfaces: []*types100.Interface{{Name: "br0"}, {Name: "eth0", Sandbox: "/ns"}},
			IPs: []*types100.IPConfig{{Interface: types100.Int(1), Address: network24("10.1.0.2/24")}},
			DNS: types.DNS{Nameservers: []string{"192.0.2.53"}},
		}
	}
	own := &types100.Result{
		CNIVersion: "1.1.0", Interfaces: []*types100.Interface{{Name: "veth"}, {Name: "eth1", Sandbox: "/ns"}},
		IPs:    []*types100.IPConfig{{Interface: types100.Int(1), Address: network24("10.2.0.2/24")}, {Address: network24("10.3.0.2/24")}},
		Routes: []*types.Route{{Dst: network24("10.9.0.0/16")}},
	}
	if got := merge(nil, own); got != own {
		t.Errorf("nothing before: %v", got)
	}
	for name, c := range map[string]struct {
		dns  types.DNS
		want string
	}{
		"none":     {types.DNS{}, "{[192.0.2.53]  [] []}"},
		"servers":  {types.DNS{Nameservers: []string{"127.0.0.11"}}, "{[127.0.0.11]  [] []}"},
		"a domain": {types.DNS{Domain: "d"}, "{[] d [] []}"},
		"search":   {types.DNS{Search: []string{"s"}}, "{[]  [s] []}"},
		"options":  {types.DNS{Options: []string{"ndots:0"}}, "{[]  [] [ndots:0]}"},
	} {
		own.DNS = c.dns
		prev := before()
		got := merge(prev, own)
		var at []string
		for _, ip := range got.IPs {
			index := "none"
			if ip.Interface != nil {
				index = got.Interfaces[*ip.Interface].Name
			}
			at = append(at, ip.Address.String()+" "+index)
		}
		if strings.Join(at, ", ") != "10.1.0.2/24 eth0, 10.2.0.2/24 eth1, 10.3.0.2/24 none" || len(got.Routes) != 1 || got.CNIVersion != "1.1.0" {
			t.Errorf("%s: %v of CNI %s", name, at, got.CNIVersion)
		}
		if dns := fmt.Sprint(got.DNS); dns != c.want {
			t.Errorf("%s: dns %s, want %s", name, dns, c.want)
		}
		if !reflect.DeepEqual(prev, before()) || *own.IPs[0].Interface != 1 {
			t.Errorf("%s: an argument was changed", name)
		}
	}
}

// TestSameResult: addresses on record that ADD printed are missed in a result, unless they are
// there of the very interface, or of one that can't be told.
func TestSameResult(t *testing.T) {
	rec := &records.Record{
		Addresses: []ipam.Assigned{{Address: netip.MustParsePrefix("10.1.0.2/24")}, {Address: netip.MustParsePrefix("fd00::2/64")}},
		Result:    []byte(`{"ips": [{"address": "10.1.0.2/24"}]}`), // IPv6 was switched off
	}
	const missing = "prevResult: address 10.1.0.2 of eth0 is missing"
	for ips, want := range map[string]string{
		`{"address": "10.1.0.2/24", "interface": 1}`:         "",
		`{"address": "10.1.0.2/24"}`:                         "",
		`{"address": "10.1.0.2/24", "interface": 2}`:         "",
		`{"address": "10.1.0.2/24", "interface": -1}`:        "",
		`{"address": "10.1.0.2/24", "interface": 0}`:         missing,
		`{"address": "10.1.0.3/24", "interface": 1}`:         missing,
		`{"address": "::ffff:10.1.0.2/120", "interface": 1}`: "",
		`{"address": "fd00::2/64", "interface": 1}`:          missing,
	} {
		r := aRequest(t, "", `"prevResult": {"cniVersion": "1.0.0", "interfaces": [{"name": "br0"}, {"name": "eth0"}], "ips": [`+ips+`]}`)
		if err := r.readNames(); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(sameResult(r, rec)); got != want && (want != "" || got != "<nil>") {
			t.Errorf("%s: %s, want %s", ips, got, want)
		}
	}
}

// TestFit: what a network says of IPv6 holds for the addresses that it gets.
func TestFit(t *testing.T) {
	four, six := ipam.Assigned{Address: netip.MustParsePrefix("10.1.0.2/24")}, ipam.Assigned{Address: netip.MustParsePrefix("fd00::2/64")}
	for _, c := range []struct {
		f    network.Families
		list []ipam.Assigned
		want string
	}{
		{network.Families{}, []ipam.Assigned{four, six}, ""},
		{network.Families{}, []ipam.Assigned{four}, ""},
		{network.Families{Refuse6: true}, []ipam.Assigned{four}, ""},
		{network.Families{Refuse6: true}, []ipam.Assigned{four, six}, "ipv6 false: must not be false where ipam gives an IPv6 address"},
		{network.Families{Need6: true}, []ipam.Assigned{four, six}, ""},
		{network.Families{Need6: true}, []ipam.Assigned{four}, "ipv6 true: needs an ipam that gives an IPv6 address"},
	} {
		err := fit(c.f, c.list)
		if (err == nil) != (c.want == "") || err != nil && err.Error() != c.want {
			t.Errorf("%+v, %v: %v, want %s", c.f, c.list, err, c.want)
		}
	}
}

// TestPublishAt: a mapping without a host's address has the network's; an internal network
// publishes nothing.
func TestPublishAt(t *testing.T) {
	at := func(ip string) firewall.Port {
		p := firewall.Port{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}
		if ip != "" {
			p.HostIP = netip.MustParseAddr(ip)
		}
		return p
	}
	list := []firewall.Port{at(""), at("192.0.2.1")}
	for _, c := range []struct {
		ports network.Ports
		want  []firewall.Port
	}{
		{network.Ports{}, list},
		{network.Ports{Default: netip.MustParseAddr("127.0.0.1")}, []firewall.Port{at("127.0.0.1"), at("192.0.2.1")}},
		{network.Ports{Ignore: true}, nil},
	} {
		if got := publish(c.ports, list); !reflect.DeepEqual(got, c.want) || list[0].HostIP.IsValid() {
			t.Errorf("%+v: %v, want %v", c.ports, got, c.want)
		}
	}
}
