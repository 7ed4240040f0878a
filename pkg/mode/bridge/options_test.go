package bridge

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"dcni/pkg/network"
)

// examples has a value for each key of a configuration, as JSON. Those that any plugin
// has are the engine's.
var examples = map[string]string{
	"bridge": `"br9"`, "defaultBridge": "true", "icc": "false", "internal": "true", "masquerade": "false", "ipMasq": "false",
	"snatIPv4": `"192.0.2.1"`, "snatIPv6": `"2001:db8::1"`, "hostBinding": `"127.0.0.1"`, "gatewayModeIPv4": `"routed"`,
	"gatewayModeIPv6": `"routed"`, "inhibitIPv4": "true", "mtu": "1400", "ipv4": "false", "ipv6": "true", "trustedHostInterfaces": `["eth0"]`,
	"gwPriority": "7", "firewall": `"iptables"`, "ipForward": "false", "ipForwardNoDrop": "true", "acceptRA": "true", "antiSpoof": "true", "options": `{"com.docker.network.driver.mtu": "1400"}`,
	"dns": `{"nameservers": ["192.0.2.53"]}`, "names": `{"ttl": 7}`, "ipam": `{"type": "dipam", "sticky": true}`,
}

// optionExamples has a value for each of Docker's options.
var optionExamples = map[string]string{
	"com.docker.network.bridge.name":                    "br9",
	"com.docker.network.bridge.default_bridge":          "true",
	"com.docker.network.bridge.enable_icc":              "false",
	"com.docker.network.bridge.enable_ip_masquerade":    "false",
	"com.docker.network.bridge.host_binding_ipv4":       "127.0.0.1",
	"com.docker.network.bridge.gateway_mode_ipv4":       "routed",
	"com.docker.network.bridge.gateway_mode_ipv6":       "routed",
	"com.docker.network.bridge.inhibit_ipv4":            "true",
	"com.docker.network.bridge.trusted_host_interfaces": "eth0",
	"com.docker.network.driver.mtu":                     "1400",
	"com.docker.network.host_ipv4":                      "192.0.2.1",
	"com.docker.network.host_ipv6":                      "2001:db8::1",
	"com.docker.network.enable_ipv4":                    "false",
	"com.docker.network.enable_ipv6":                    "true",
	"com.docker.network.container_iface_prefix":         "lan",
	"antiSpoof": "true",
	"firewall":  "iptables",
}

// TestEveryOption: each key and option makes another network, or is refused.
func TestEveryOption(t *testing.T) {
	read := func(members string) string {
		conf, err := network.ReadConf([]byte(`{"name": "web", "type": "dbridge"` + members + `}`))
		if err != nil {
			t.Fatal(err)
		}
		b, err := parseBridge(conf)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%+v %+v", *b, b.Describe())
	}
	plain := read("")
	if other := read(`, "comment": "x"`); other != plain {
		t.Fatalf("the same configuration differs:\n%s\n%s", plain, other)
	}
	check := func(name, example, members string) {
		switch {
		case example == "":
			t.Errorf("%s has no example here", name)
		case read(members) == plain:
			t.Errorf("%s %s is accepted and changes nothing", name, example)
		}
	}
	for _, key := range known() {
		if slices.Contains(network.Known(&rawReference{}), key) {
			continue // TestReference has them
		}
		if of := examples[key]; of != "" || !slices.Contains(network.StandardKeys(), key) {
			check(key, of, fmt.Sprintf(`, %q: %s`, key, of))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(options)) {
		of := optionExamples[name]
		check(name, of, fmt.Sprintf(`, "options": {%q: %q}`, name, of))
	}
}
