package overlay_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"dcni/pkg/ipam"
	"dcni/pkg/network/catalog"
	"dcni/pkg/overlay"
)

func existing() overlay.Existing {
	return overlay.Existing{Name: "web", Generation: 17, Network: overlay.Network{
		VNI: 4096, MTU: 1450, Encrypted: true, Attachable: true, Labels: map[string]string{"tier": "<front>"},
		Subnets: []overlay.Subnet{
			{Prefix: netip.MustParsePrefix("10.0.0.0/24"), Range: netip.MustParsePrefix("10.0.0.128/25"), Gateway: netip.MustParseAddr("10.0.0.1"), Aux: map[string]netip.Addr{"nas": netip.MustParseAddr("10.0.0.9")}},
			{Prefix: netip.MustParsePrefix("fd00::/64"), Gateway: netip.MustParseAddr("fd00::1")},
		},
	}}
}

func TestConflist(t *testing.T) {
	got, err := existing().Conflist()
	must(t, err)
	const want = `{
  "cniVersion": "1.0.0",
  "cniVersions": [
    "1.0.0",
    "1.1.0"
  ],
  "name": "web",
  "args": {
    "dnet": {
      "attachable": true
    },
    "podman_labels": {
      "tier": "<front>"
    }
  },
  "plugins": [
    {
      "type": "doverlay",
      "capabilities": {
        "aliases": true,
        "bandwidth": true,
        "dns": true,
        "io.kubernetes.cri.pod-annotations": true,
        "ips": true,
        "mac": true,
        "portMappings": true
      },
      "vni": 4096,
      "mtu": 1450,
      "encrypted": true,
      "names": {},
      "ipam": {
        "type": "cluster",
        "generation": 17,
        "subnets": [
          {
            "subnet": "10.0.0.0/24",
            "ipRange": "10.0.0.128/25",
            "gateway": "10.0.0.1",
            "auxAddresses": {
              "nas": "10.0.0.9"
            }
          },
          {
            "subnet": "fd00::/64",
            "gateway": "fd00::1"
          }
        ]
      }
    }
  ]
}
`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	list, err := catalog.ParseConflist(got, nil)
	if err != nil || list.Type != "doverlay" || !list.Attachable || list.Labels["tier"] != "<front>" {
		t.Errorf("%+v, %v", list, err)
	}
	// What was written agrees with what it was written from.
	given, err := overlay.ParseGiven(list.Plugins[0])
	must(t, err)
	must(t, existing().Check(given))
	again := existing()
	again.Generation++
	wantError(t, again.Check(given), 7, `ipam.generation 17: must be left out or 18, as network "web" has it in the cluster`)
}

func TestWrittenFor(t *testing.T) {
	written, err := existing().Conflist()
	must(t, err)
	for _, c := range []struct {
		file string
		want string
	}{
		{string(written), "web 17 true"},
		{`{"name": "web", "plugins": [{"type": "doverlay", "ipam": {"type": "cluster"}}]}`, "false"},
		{`{"name": "web", "plugins": [{"type": "doverlay"}]}`, "false"},
		{`{"name": "web", "plugins": [{"type": "dbridge", "ipam": {"type": "cluster", "generation": 17}}]}`, "false"},
		{`{"name": "web", "plugins": []}`, "false"},
		{`{`, "false"},
	} {
		got := "false"
		if name, generation, ok := overlay.WrittenFor([]byte(c.file)); ok {
			got = fmt.Sprint(name, " ", generation, " ", ok)
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.file, got, c.want)
		}
	}
}

// What is by iptables was made so, and may be by nftables.
func TestCheckFirewall(t *testing.T) {
	n := existing()
	n.Options = map[string]string{"firewall": "iptables"}
	for _, text := range []string{`{}`, `{"firewall": "iptables"}`, `{"firewall": "nftables"}`} {
		given, err := overlay.ParseGiven(json.RawMessage(text))
		if err == nil {
			err = n.Check(given)
		}
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct{ plugin, want string }{
		{`{}`, ""},
		{`{"vni": 0, "mtu": 0, "encrypted": true, "internal": false}`, ""},
		{`{"ipam": {"type": "cluster", "subnet": "10.0.0.0/24"}}`, ""},
		{`{"ipam": {"subnets": [{"subnet": "fd00::/64", "gateway": "fd00::1"}]}}`, ""},
		{`{"vni": 4097}`, `vni 4097: must be left out or 4096, as network "web" has it in the cluster`},
		{`{"MTU": 1400}`, `mtu 1400: must be left out or 1450`},
		{`{"internal": true}`, `internal true: must be left out or false`},
		{`{"encrypted": false}`, `encrypted false: must be left out or true`},
		{`{"flood": true}`, `flood true: must be left out or false`},
		{`{"nodeAddresses": true}`, `nodeAddresses true: must be left out or false`},
		{`{"firewall": "nftables"}`, ""},
		{`{"firewall": "iptables"}`, `firewall "iptables": must be left out or nftables`},
		{`{"ipam": {"subnet": "10.0.0.0/24", "gateway": "10.0.0.1"}}`, ""},
		{`{"ipam": {"generation": 16}}`, `ipam.generation 16: must be left out or 17`},
		{`{"ipam": {"subnet": "10.0.0.0/23"}}`, `ipam.subnets "10.0.0.0/23": must be left out or [10.0.0.0/24 fd00::/64]`},
		{`{"ipam": {"subnet": "10.0.0.0/24", "gateway": "10.0.0.2"}}`, `ipam.gateway "10.0.0.2": must be left out or 10.0.0.1`},
		{`{"ipam": {"subnets": [{"subnet": "10.0.0.0/24", "ipRange": "10.0.0.0/25"}]}}`, `ipam.ipRange "10.0.0.0/25": must be left out or 10.0.0.128/25`},
		{`{"vni": "x"}`, `configuration.vni: must be a whole number`},
	} {
		given, err := overlay.ParseGiven(json.RawMessage(c.plugin))
		if err == nil {
			err = existing().Check(given)
		}
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.plugin, err)
			}
			continue
		}
		wantError(t, err, 7, c.want)
	}
}

// An isolated network has no gateway of the family, and who reads its file has none either.
func TestCheckIsolated(t *testing.T) {
	isolated := existing()
	isolated.Subnets[0].Gateway = netip.Addr{}
	file, err := isolated.Conflist()
	must(t, err)
	if strings.Contains(string(file), `"10.0.0.1"`) || !strings.Contains(string(file), `"fd00::1"`) {
		t.Errorf("file has other gateways:\n%s", file)
	}
	four := overlay.Given{Ungated: ipam.Ungated{IPv4: true}}
	must(t, isolated.Check(four))
	wantError(t, isolated.Check(overlay.Given{}), 7, `gatewayModeIPv4, inhibitIPv4: must say what network "web" has in the cluster: subnet 10.0.0.0/24 has none`)
	wantError(t, existing().Check(four), 7, "subnet 10.0.0.0/24 has a gateway")
}
