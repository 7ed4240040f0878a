package macvlan

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/network/catalog"
	"dcni/pkg/wire"
)

// read parses a configuration with some more members.
func read(t *testing.T, members string) (*Macvlan, error) {
	t.Helper()
	conf, err := network.ReadConf([]byte(`{"name": "lan", "type": "dmacvlan"` + members + `}`))
	if err != nil {
		t.Fatal(err)
	}
	return parseMacvlan(conf)
}

func TestDefaults(t *testing.T) {
	m, err := read(t, ``)
	if err != nil {
		t.Fatal(err)
	}
	if !m.Internal || !m.Parent.Own || m.Parent.Mode != "bridge" || !m.ConflictDetection || !strings.HasPrefix(m.Parent.Name, "dm-") || len(m.Parent.Name) != 15 {
		t.Errorf("without a parent: %+v", m)
	}
	m, err = read(t, `, "parent": "eth0.10"`)
	if err != nil || m.Internal || m.Parent.On != "eth0" || m.Parent.VLAN != 10 {
		t.Errorf("of a VLAN: %+v, %v", m, err)
	}
}

func TestErrors(t *testing.T) {
	for members, want := range map[string]string{
		`"parent": "eth0.0"`:          `parent "eth0.0": vlan id must be between 1-4094, received: 0`,
		`"parent": "eth0.4095"`:       `parent "eth0.4095": vlan id must be between 1-4094, received: 4095`,
		`"parent": "eth0.-1"`:         `parent "eth0.-1": vlan id must be between 1-4094, received: -1`,
		`"parent": "averylongname.7"`: ``,
		`"parent": "averylongname.77"`: `parent "averylongname.77": must be at most 15 bytes, with the VLAN's ID: ` +
			`give the interface of the VLAN another name, and make it before`,
		`"parent": "a/b"`:                    `parent "a/b": must be ` + network.LinkRule + `, or such a name, a dot and the ID of a VLAN, as eth0.10`,
		`"mode": "brigde"`:                   `mode "brigde": must be bridge, private, vepa or passthru`,
		`"mtu": 67`:                          `mtu 67: must be 0 (that of the parent), or 68 and more`,
		`"mtu": -1`:                          `mtu -1: must be 0 (that of the parent), or 68 and more`,
		`"parnet": "eth0"`:                   `unknown key "parnet": did you mean "parent"?`,
		`"master": "eth1", "parent": "eth0"`: `master "eth1": differs from parent "eth0"; give one of them`,
		`"options": {"parent": "eth1"}, "parent": "eth0"`:                     `options.parent "eth1": differs from parent "eth0"; give one of them`,
		`"options": {"macvlan_mod": "vepa"}`:                                  `unknown key "options.macvlan_mod": did you mean "options.macvlan_mode"?`,
		`"ipv6": false, "ipam": {"type": "dipam", "subnet": "2001:db8::/64"}`: `ipv6 false: must not be false with an IPv6 subnet in ipam`,
		`"mtu": 1279, "ipam": {"type": "dipam", "subnet": "2001:db8::/64"}`:   `mtu 1279: must be at least 1280 on a network with IPv6 (RFC 8200)`,
		`"hostAccess": true, "parent": "eth0", "mode": "vepa"`:                `hostAccess true: must be false in mode vepa: the host reaches containers in mode bridge only`,
		`"acceptRA": true, "parent": "eth0", "internal": true`:                `acceptRA true: must be false on an internal network: a router advertisement gives a default route`,
		`"acceptRA": true`: `acceptRA true: must be false on an internal network: a router advertisement gives a default route`,
	} {
		got := ""
		if _, err := read(t, ", "+members); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s:\n%s\nwant\n%s", members, got, want)
		}
	}
}

// TestGateways: a network has the gateways that its section names, and no other.
func TestGateways(t *testing.T) {
	m, err := read(t, `, "parent": "eth0", "ipam": {"type": "dipam", "subnets": [{"subnet": "192.0.2.0/24"}, {"subnet": "2001:db8::/64", "gateway": "2001:db8::9"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	s := m.Describe().IPAM.Own.Subnets
	if s[0].Gateway.IsValid() || s[1].Gateway.String() != "2001:db8::9" {
		t.Errorf("gateways %v and %v", s[0].Gateway, s[1].Gateway)
	}
	ranges, err := m.IPAM.Own.Ranges(nil)
	if err != nil || len(ranges) > 0 {
		t.Errorf("ranges %v, %v", ranges, err)
	}
}

// examples has a value for each key of a configuration, as JSON. Those that any plugin
// has are the engine's.
var examples = map[string]string{
	"parent": `"eth1"`, "mode": `"vepa"`, "internal": "true", "hostAccess": "true", "conflictDetection": "false", "acceptRA": "true",
	"mtu": "1400", "ipv6": "true", "gwPriority": "7", "options": `{"com.docker.network.driver.mtu": "1400"}`,
	"dns": `{"nameservers": ["192.0.2.53"]}`, "names": `{"ttl": 7}`, "ipam": `{"type": "dipam", "sticky": true}`,
}

// optionExamples has a value for each of Docker's options.
var optionExamples = map[string]string{
	"macvlan_mode": "private", "com.docker.network.driver.mtu": "1400", "com.docker.network.enable_ipv6": "true",
	"com.docker.network.container_iface_prefix": "lan", "parent": "eth1",
}

// TestEveryOption: each key and option makes another network, or is refused.
func TestEveryOption(t *testing.T) {
	show := func(members string) string {
		m, err := read(t, members)
		if err != nil {
			return err.Error()
		}
		d := m.Describe()
		return fmt.Sprintf("%+v %+v %+v %+v", *m, m.Parent, d, *d.Parent)
	}
	const parent = `, "parent": "eth0"`
	check := func(name, example, with, members string) {
		switch {
		case example == "":
			t.Errorf("%s has no example here", name)
		case show(with+members) == show(with):
			t.Errorf("%s %s is accepted and changes nothing", name, example)
		}
	}
	for _, key := range reader.Known() {
		if slices.Contains(network.Known(&rawReference{}), key) {
			continue // TestReference has them
		}
		with := parent
		if key == "parent" {
			with = ""
		}
		if of := examples[key]; of != "" || !slices.Contains(network.StandardKeys(), key) {
			check(key, of, with, fmt.Sprintf(`, %q: %s`, key, of))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(options)) {
		check(name, optionExamples[name], "", fmt.Sprintf(`, "options": {%q: %q}`, name, optionExamples[name]))
	}
}

// TestReference: each key of the reference plugin has a row in the manual, and is taken
// with the values that the row has and with no other.
func TestReference(t *testing.T) {
	manual, err := os.ReadFile("../../../plugins/dmacvlan/README.md")
	if err != nil {
		t.Fatal(err)
	}
	taken := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (.*?) \\|").FindAllStringSubmatch(string(manual), -1) {
		taken[row[1]] = row[2]
	}
	values := map[string][]string{
		"master": {`"eth0"`}, "linkInContainer": {"true", "false"}, "bcqueuelen": {"0", "7"}, "mac": {`"02:42:00:00:00:77"`},
	}
	for _, key := range network.Known(&rawReference{}) {
		for _, value := range values[key] {
			want := strings.Contains(taken[key], "`"+strings.Trim(value, `"`)+"`")
			_, err := read(t, fmt.Sprintf(`, %q: %s`, key, value))
			if (err == nil) != want {
				t.Errorf("%s %s: %v; the manual takes %q", key, value, err, taken[key])
			}
		}
	}
}

// TestDriver: dnet writes what it is told under Docker's names, and shows it so.
func TestDriver(t *testing.T) {
	o := catalog.Options{Internal: true, DriverOptions: map[string]string{"parent": "eth0.10", "macvlan_mode": "private"}}
	conf, err := driver{}.Configure(&o, ipam.Raw{Type: "dipam", Subnet: "192.0.2.0/24"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(conf)
	const want = `{"type":"dmacvlan","capabilities":{"aliases":true,"dns":true,"io.kubernetes.cri.pod-annotations":true,"ips":true,"mac":true,"portMappings":true},` +
		`"internal":true,"options":{"macvlan_mode":"private","parent":"eth0.10"},"names":{},"ipam":{"type":"dipam","subnet":"192.0.2.0/24"}}`
	if err != nil || string(text) != want {
		t.Errorf("%v\n%s, want\n%s", err, text, want)
	}
	read, err := network.ReadConf(text)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := (driver{}).Options(read); err != nil || !maps.Equal(got, o.DriverOptions) {
		t.Errorf("shows %v, %v", got, err)
	}
	m, err := parseMacvlan(read)
	if err != nil {
		t.Fatal(err)
	}
	probes := driver{}.Probes(m.Describe())
	if len(probes) != 1 || probes[0].(*wire.SharedLink).VLAN != 10 {
		t.Errorf("probes %v", probes)
	}
	if _, err := (driver{}).Configure(&catalog.Options{DriverOptions: map[string]string{"com.docker.network.driver.mtu": "x"}}, ipam.Raw{}, nil); err == nil {
		t.Error("an MTU that is no number is no error")
	}
}
