package overlay_test

import (
	"testing"

	"dcni/pkg/cni/cnitest"
	"dcni/pkg/mode/overlay"
)

func TestPlans(t *testing.T) { cnitest.Plans(t, overlay.Plugin) }

func TestCrashMatrix(t *testing.T) {
	cnitest.Matrix(t, overlay.Plugin, `{
		"cniVersion": "1.1.0", "name": "web", "type": "doverlay", "names": {},
		"ipam": {"type": "cluster"},
		"runtimeConfig": {
			"ips": ["10.1.0.77"], "mac": "02:42:00:00:00:77", "aliases": ["db"],
			"portMappings": [
				{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
				{"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "127.0.0.1"}
			]
		}
	}`)
}

// What an encrypted network has besides is the host's, and goes with the last of its
// like.
func TestCrashMatrixEncrypted(t *testing.T) {
	cnitest.Matrix(t, overlay.Plugin, `{
		"cniVersion": "1.1.0", "name": "sec", "type": "doverlay", "ipam": {"type": "cluster"},
		"runtimeConfig": {"ips": ["10.3.0.77"], "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}
	}`)
}

// The node's own address stays with the node.
func TestCrashMatrixNodeAddresses(t *testing.T) {
	cnitest.Matrix(t, overlay.Plugin, `{
		"cniVersion": "1.1.0", "name": "own", "type": "doverlay", "ipam": {"type": "cluster"},
		"runtimeConfig": {"ips": ["10.4.0.77"], "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}
	}`)
}
