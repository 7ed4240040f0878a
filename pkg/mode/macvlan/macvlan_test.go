package macvlan_test

import (
	"testing"

	"dcni/pkg/cni/cnitest"
	"dcni/pkg/mode/macvlan"
)

func TestPlans(t *testing.T) { cnitest.Plans(t, macvlan.Plugin) }

func TestCrashMatrix(t *testing.T) {
	cnitest.Matrix(t, macvlan.Plugin, `{
		"cniVersion": "1.1.0", "name": "lan", "type": "dmacvlan", "parent": "eth0",
		"ipv6": true,
		"ipam": {"type": "dipam", "subnet": "10.1.0.0/24"},
		"runtimeConfig": {"ips": ["10.1.0.77"], "mac": "02:42:00:00:00:77"}
	}`)
}

// TestCrashMatrixWithHostAccess: what the host has for it goes with its last user.
func TestCrashMatrixWithHostAccess(t *testing.T) {
	cnitest.Matrix(t, macvlan.Plugin, `{
		"cniVersion": "1.1.0", "name": "lan", "type": "dmacvlan", "parent": "eth0", "hostAccess": true, "conflictDetection": false,
		"ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}, "runtimeConfig": {"ips": ["10.1.0.77"]}
	}`)
}

// TestCrashMatrixOfVLAN: the interface of a VLAN goes with its last user.
func TestCrashMatrixOfVLAN(t *testing.T) {
	cnitest.Matrix(t, macvlan.Plugin, `{
		"cniVersion": "1.1.0", "name": "lan", "type": "dmacvlan", "parent": "eth0.10",
		"ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}, "runtimeConfig": {"ips": ["10.1.0.77"]}
	}`)
}

// TestCrashMatrixOnLAN: a machine on the LAN has the first address.
func TestCrashMatrixOnLAN(t *testing.T) {
	cnitest.Matrix(t, macvlan.Plugin, `{
		"cniVersion": "1.1.0", "name": "lan", "type": "dmacvlan", "parent": "eth0.10", "names": {},
		"ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}
	}`, "10.1.0.1")
}
