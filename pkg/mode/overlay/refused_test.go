package overlay_test

import (
	"strings"
	"testing"

	"dcni/pkg/cni/cnitest"
	"dcni/pkg/mode/overlay"
)

const plain = `{"cniVersion": "1.1.0", "name": "web", "type": "doverlay"}`

// TestRefused: what a configuration says of the network and the cluster says otherwise is
// an error, and so is what an overlay network can't have.
func TestRefused(t *testing.T) {
	for conf, want := range map[string]string{
		`"vni": 4097`:                         `vni 4097: must be left out or 4096, as network "web" has it in the cluster`,
		`"vni": 7`:                            "vni 7: must be 4096 to 16777215",
		`"mtu": 1400`:                         "mtu 1400: must be left out or 1450",
		`"encrypted": true`:                   "encrypted true: must be left out or false",
		`"internal": true`:                    "internal true: must be left out or false",
		`"nodeAddresses": true`:               "nodeAddresses true: must be left out or false",
		`"nodeAddresses": true, "icc": false`: `icc false: must be true with nodeAddresses`,
		`"name": "own", "icc": false`:         `icc false: must be true with nodeAddresses`,
		`"bridge": "br9"`:                     `unknown key "bridge"`,
		`"gatewayModeIPv4": "isolated"`:       `gatewayModeIPv4 "isolated": needs "internal": true`,
		`"internal": true, "gatewayModeIPv4": "isolated"`:                        "internal true: must be left out or false",
		`"nodeAddresses": true, "inhibitIPv4": true`:                             "nodeAddresses true: must be false where the bridge has no address",
		`"internal": true, "nodeAddresses": true, "gatewayModeIPv6": "isolated"`: "nodeAddresses true: must be false where the bridge has no address",
		`"name": "own", "inhibitIPv4": true`:                                     "nodeAddresses true: must be false where the bridge has no address",
		`"defaultBridge": false`:                                                 `unknown key "defaultBridge"`,
		`"vnl": 4096`:                                                            `unknown key "vnl": did you mean "vni"?`,
		`"ipam": {"type": "dipam"}`:                                              `ipam.type "dipam": must be cluster with doverlay`,
		`"ipam": {"type": "cluster", "sticky": true}`:                            "ipam.sticky: must not be given with doverlay",
		`"ipam": {"type": "cluster", "generation": 99}`:                          "generation 99",
		`"ipam": {"type": "cluster", "subnet": "10.9.0.0/24"}`:                   `10.9.0.0/24`,
		`"options": {"com.docker.network.bridge.name": "br9"}`:                   "bridge: must not be given",
		`"options": {"com.docker.network.driver.mtu": "1400"}`:                   "mtu 1400: must be left out or 1450",
		`"name": "nosuch"`:                                                       `network "nosuch": not in the cluster; dnet create -d overlay makes it`,
	} {
		w := cnitest.NewWorld(t, overlay.Plugin)
		before := w.State(t)
		text := strings.TrimSuffix(plain, "}") + ", " + conf + "}"
		if strings.HasPrefix(conf, `"name"`) {
			text = `{"cniVersion": "1.1.0", "type": "doverlay", ` + conf + "}"
		}
		_, err := w.Engine.Add(w.Request(t, "c1", text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", conf, err, want)
		}
		if now := w.State(t); now != before {
			t.Errorf("%s left\n%s", conf, now)
		}
	}
}
