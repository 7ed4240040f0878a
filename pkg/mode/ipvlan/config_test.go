package ipvlan

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"testing"

	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/network/catalog"
	"dcni/pkg/wire"
)

func read(t *testing.T, body string) network.Conf {
	t.Helper()
	if body != "" {
		body = ", " + body
	}
	conf, err := network.ReadConf([]byte(`{"cniVersion": "1.1.0", "name": "lan", "type": "dipvlan"` + body + `}`))
	if err != nil {
		t.Fatal(err)
	}
	return conf
}

func TestParse(t *testing.T) {
	for body, want := range map[string]string{
		``:                 "di-094a367b0262 own l2 bridge internal",
		`"parent": "eth0"`: "eth0 l2 bridge detects",
		`"master": "eth0", "mode": "l3", "flag": "vepa"`:                               "eth0 l3 vepa routed",
		`"parent": "eth0.10", "mode": "l3s", "conflictDetection": false`:               "eth0.10 l3s bridge routed",
		`"parent": "eth0", "conflictDetection": false, "internal": true`:               "eth0 l2 bridge internal",
		`"options": {"parent": "eth0", "ipvlan_mode": "l3", "ipvlan_flag": "private"}`: "eth0 l3 private routed",
		`"parent": "eth0", "linkInContainer": false`:                                   "eth0 l2 bridge detects",
	} {
		n, err := parseIpvlan(read(t, body))
		if err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		d := n.Describe()
		got := d.Parent.Name
		for _, w := range []struct {
			is   bool
			word string
		}{
			{d.Parent.Own, "own"}, {true, d.Parent.Mode}, {true, d.Parent.Flag}, {d.Info.Internal, "internal"},
			{d.Routed, "routed"}, {d.ConflictDetection, "detects"},
		} {
			if w.is {
				got += " " + w.word
			}
		}
		if got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
		if d.OnLAN() == (d.Routed || d.Parent.Own) || d.NoMAC == "" || d.Ports.Refuse == "" || d.Ports.Ignore != d.Info.Internal {
			t.Errorf("%s: described as %+v", body, d)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for body, want := range map[string]string{
		`"mode": "l4"`:                       `mode "l4": must be l2, l3 or l3s`,
		`"mode": "L2"`:                       `mode "L2": must be l2, l3 or l3s`,
		`"flag": "passthru"`:                 `flag "passthru": must be bridge, private or vepa`,
		`"parents": "eth0"`:                  `unknown key "parents": did you mean "parent"?`,
		`"parent": "eth0.0"`:                 `parent "eth0.0": vlan id must be between 1-4094, received: 0`,
		`"parent": "eth0.4095"`:              `parent "eth0.4095": vlan id must be between 1-4094, received: 4095`,
		`"mtu": 67`:                          `mtu 67: must be 0 (that of the parent), or 68 and more`,
		`"mtu": -1`:                          `mtu -1: must be 0 (that of the parent), or 68 and more`,
		`"mtu": 1279, "ipv6": true`:          `mtu 1279: must be at least 1280 on a network with IPv6 (RFC 8200)`,
		`"linkInContainer": true`:            `linkInContainer true: must be false with dipvlan, or left out: the parent is a link of the host`,
		`"parent": "eth0", "master": "eth1"`: `master "eth1": differs from parent "eth0"; give one of them`,
		`"options": {"ipvlan_mode": "l2"}, "mode": "l3"`:                  `options.ipvlan_mode "l2": differs from mode "l3"; give one of them`,
		`"parent": "eth0", "mode": "l3", "conflictDetection": true`:       `conflictDetection true: must be false in mode l3, or left out: no neighbour is asked there`,
		`"ipv6": false, "ipam": {"type": "dipam", "subnet": "fd00::/64"}`: `ipv6 false: must not be false with an IPv6 subnet in ipam`,
	} {
		_, err := parse(read(t, body))
		if code := (*wire.Error)(nil); !errors.As(err, &code) || code.Code != wire.CodeConfig || err.Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", body, err, want)
		}
	}
}

// TestPlanFollowsTheParent wants no MTU in a plan unless the network has one: then the
// interface follows its parent's.
func TestPlanFollowsTheParent(t *testing.T) {
	for body, want := range map[string]int{`"parent": "eth0"`: 0, `"parent": "eth0", "mtu": 1400`: 1400} {
		n, err := parseIpvlan(read(t, body))
		if err != nil {
			t.Fatal(err)
		}
		plan, err := n.Plan(network.Endpoint{NetNS: "/run/netns/c1", MTU: 1500})
		if child, ok := plan.Own[0].(*wire.Child); err != nil || !ok || child.MTU != want || child.MAC != "" {
			t.Errorf("%s: %v, %v", body, plan.Own, err)
		}
	}
	n, _ := parseIpvlan(read(t, `"parent": "eth0"`))
	six := network.Endpoint{MTU: 1200, Subnets: ipam.Config{}.With(netip.MustParsePrefix("fd00::/64")).Subnets}
	if _, err := n.Plan(six); err == nil {
		t.Error("a parent of 1200 bytes is no error with IPv6")
	}
}

func TestConfigure(t *testing.T) {
	for _, c := range []struct{ mode, flag, want string }{
		{"l3", "private", ""},
		{"", "", ""},
		{"l4", "", "requested ipvlan mode 'l4' is not valid, 'l2' mode is the ipvlan driver default"},
		{"", "passthru", "requested ipvlan flag 'passthru' is not valid, 'bridge' is the ipvlan driver default"},
	} {
		o := catalog.Options{DriverOptions: map[string]string{"parent": "eth0", "ipvlan_mode": c.mode, "ipvlan_flag": c.flag}}
		conf, err := driver{}.Configure(&o, ipam.Raw{Type: "dipam"}, nil)
		if got := fmt.Sprint(err); c.want != "" && got != c.want || c.want == "" && err != nil {
			t.Errorf("%+v: %v", c, err)
		}
		if err != nil {
			continue
		}
		raw, err := json.Marshal(conf)
		if err != nil {
			t.Fatal(err)
		}
		want := `{"type":"dipvlan","capabilities":{"aliases":true,"dns":true,"io.kubernetes.cri.pod-annotations":true,"ips":true,"mac":true,"portMappings":true},` +
			`"options":{"ipvlan_flag":"` + c.flag + `","ipvlan_mode":"` + c.mode + `","parent":"eth0"},"names":{},"ipam":{"type":"dipam"}}`
		if string(raw) != want {
			t.Errorf("%s, want\n%s", raw, want)
		}
	}
}

// TestOptions shows keys under Docker's names, and not what inspect shows elsewhere.
func TestOptions(t *testing.T) {
	for body, want := range map[string]map[string]string{
		``: {},
		`"internal": true, "ipv6": true, "names": {}, "linkInContainer": false`: {},
		`"master": "eth0", "mode": "l3", "flag": "vepa", "mtu": 1400`: {
			"parent": "eth0", "ipvlan_mode": "l3", "ipvlan_flag": "vepa", "com.docker.network.driver.mtu": "1400",
		},
		`"options": {"parent": "eth0", "ipvlan_mode": "l3"}`: {"parent": "eth0", "ipvlan_mode": "l3"},
	} {
		if got, err := (driver{}).Options(read(t, body)); err != nil || !maps.Equal(got, want) {
			t.Errorf("%s: %v, %v, want %v", body, got, err, want)
		}
	}
}
