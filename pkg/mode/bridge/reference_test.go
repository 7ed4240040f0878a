package bridge

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"dcni/pkg/network"
)

// referenceValues are values of each kind of key.
var referenceValues = map[string][]string{
	"ipMasqBackend": {`"nftables"`, `"iptables"`}, "vlan": {"0", "7"}, "vlanTrunk": {"[]", `[{"id": 7}]`},
}

// TestReference: each key of the reference plugin has a row in the manual, and is taken
// with the values that the row has and with no other. "internal" and "icc" in a row
// stand for what they make of it.
func TestReference(t *testing.T) {
	manual, err := os.ReadFile("../../../plugins/dbridge/README.md")
	if err != nil {
		t.Fatal(err)
	}
	taken := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (.*?) \\|").FindAllStringSubmatch(string(manual), -1) {
		taken[row[1]] = row[2]
	}
	for _, key := range network.Known(&rawReference{}) {
		values := referenceValues[key]
		if values == nil {
			values = []string{"true", "false"}
		}
		for _, value := range values {
			for with, cell := range cells(taken[key]) {
				want := strings.Contains(cell, "`"+strings.Trim(value, `"`)+"`")
				conf, err := network.ReadConf(fmt.Appendf(nil, `{"name": "web", "type": "dbridge", %q: %s%s}`, key, value, with))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := parseBridge(conf); (err == nil) != want {
					t.Errorf("%s %s%s: %v; the manual takes %q", key, value, with, err, cell)
				} else if err != nil && !strings.Contains(err.Error(), key+" ") {
					t.Errorf("%s %s: %v", key, value, err)
				}
			}
		}
	}
}

// cells returns what a cell of the manual takes, by what the configuration says besides:
// "`true`, with `internal` `false`" is two.
func cells(cell string) map[string]string {
	plain, special, found := strings.Cut(cell, "; ")
	out := map[string]string{"": plain}
	if found {
		value, with, _ := strings.Cut(special, " with ")
		out[", "+strings.Trim(with, "`")] = value
	}
	return out
}

// TestIsGateway: the key says whether the bridge has a gateway's address of any family.
func TestIsGateway(t *testing.T) {
	for with, want := range map[string]bool{
		``:                                    true,
		`, "inhibitIPv4": true`:               false,
		`, "inhibitIPv4": true, "ipv6": true`: true,
		`, "inhibitIPv4": true, "ipam": {"type": "dipam", "subnet": "fd00:7::/64"}`:                      true,
		`, "internal": true, "gatewayModeIPv4": "isolated"`:                                              false,
		`, "internal": true, "gatewayModeIPv6": "isolated"`:                                              true,
		`, "internal": true, "gatewayModeIPv4": "isolated", "ipv6": true`:                                true,
		`, "internal": true, "gatewayModeIPv4": "isolated", "gatewayModeIPv6": "isolated", "ipv6": true`: false,
		`, "internal": true, "ipv4": false, "ipv6": true, "gatewayModeIPv6": "isolated", "icc": true`:    false,
	} {
		for _, given := range []bool{true, false} {
			conf, err := network.ReadConf(fmt.Appendf(nil, `{"name": "web", "type": "dbridge", "isGateway": %t%s}`, given, with))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parseBridge(conf); (err == nil) != (given == want) || err != nil && !strings.Contains(err.Error(), "isGateway ") {
				t.Errorf("%t%s: %v", given, with, err)
			}
		}
	}
}
