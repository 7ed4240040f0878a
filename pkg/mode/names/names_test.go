package names_test

import (
	"testing"

	"dcni/pkg/cni/cnitest"
	"dcni/pkg/mode/names"
)

func TestPlans(t *testing.T) { cnitest.Plans(t, names.Plugin) }

func TestCrashMatrix(t *testing.T) { cnitest.Matrix(t, names.Plugin, runtimeConfig) }

// runtimeConfig is all that can be asked for.
const runtimeConfig = `{
		"cniVersion": "1.1.0", "name": "web", "type": "ddns", "intercept": true, "hosts": ["gw:host-gateway"],
		"runtimeConfig": {"aliases": ["db"], "dns": {"servers": ["192.0.2.53"]}},
		"prevResult": {
			"cniVersion": "1.1.0",
			"interfaces": [{"name": "br0"}, {"name": "eth0", "sandbox": "/run/netns/c1"}],
			"ips": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1", "interface": 1}]
		}
	}`
