package bridge_test

import (
	"testing"

	"dcni/pkg/cni/cnitest"
	"dcni/pkg/mode/bridge"
)

func TestPlans(t *testing.T) { cnitest.Plans(t, bridge.Plugin) }

func TestCrashMatrix(t *testing.T) {
	cnitest.Matrix(t, bridge.Plugin, `{
		"cniVersion": "1.1.0", "name": "web", "type": "dbridge", "ipv6": true, "icc": false,
		"ipam": {"type": "dipam", "subnet": "10.1.0.0/24"},
		"runtimeConfig": {
			"ips": ["10.1.0.77"], "mac": "02:42:00:00:00:77",
			"portMappings": [
				{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
				{"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "127.0.0.1"}
			]
		}
	}`)
}

// Names are one more object of the same plan.
func TestCrashMatrixWithNames(t *testing.T) {
	cnitest.Matrix(t, bridge.Plugin, `{
		"cniVersion": "1.1.0", "name": "web", "type": "dbridge", "names": {"intercept": true, "hosts": {"gw": "host-gateway"}},
		"ipam": {"type": "dipam", "subnet": "10.1.0.0/24"},
		"runtimeConfig": {
			"aliases": ["db"], "dns": {"servers": ["192.0.2.53"]},
			"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]
		}
	}`)
}
