package cni

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"reflect"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
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
