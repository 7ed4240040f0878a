package cni_test

import (
	"testing"

	"dcni/pkg/cni/cnitest"
	"dcni/pkg/mode/container"
	"dcni/pkg/mode/host"
	"dcni/pkg/mode/ipvlan"
	"dcni/pkg/mode/macvlan"
	"dcni/pkg/mode/names"
	"dcni/pkg/mode/none"
	"dcni/pkg/mode/overlay"
	"dcni/pkg/network"
)

// TestKinds has the verbs carried out for each kind of plugin, and each source of addresses.
// The modes' own tests have the whole matrix of each.
func TestKinds(t *testing.T) {
	const lease = `"ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}`
	for _, c := range []struct {
		plugin *network.Plugin
		conf   string
		others []string // addresses that machines on the LAN have
	}{
		{none.Plugin, `{"cniVersion": "1.1.0", "name": "none", "type": "dnone", "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80}]}}`, nil},
		{host.Plugin, `{"cniVersion": "1.1.0", "name": "host", "type": "dhost"}`, nil},
		{container.Plugin, `{"cniVersion": "1.1.0", "name": "joined", "type": "dcontainer", "container": "donor"}`, nil},
		{names.Plugin, `{"cniVersion": "1.1.0", "name": "web", "type": "ddns", "runtimeConfig": {"aliases": ["db"]}, "prevResult": {
			"cniVersion": "1.1.0", "interfaces": [{"name": "br0"}, {"name": "eth0", "sandbox": "/run/netns/c1"}],
			"ips": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1", "interface": 1}]}}`, nil},
		{macvlan.Plugin, `{"cniVersion": "1.1.0", "name": "lan", "type": "dmacvlan", "parent": "eth0.10", ` + lease + `}`, []string{"10.1.0.1"}},
		{ipvlan.Plugin, `{"cniVersion": "1.1.0", "name": "lan", "type": "dipvlan", "parent": "eth0", ` + lease + `}`, nil},
		{overlay.Plugin, `{"cniVersion": "1.1.0", "name": "web", "type": "doverlay", "ipam": {"type": "cluster"},
			"runtimeConfig": {"ips": ["10.1.0.77"], "bandwidth": {"ingressRate": 8000000, "egressRate": 8000000}, "portMappings": [{"hostPort": 8080, "containerPort": 80}]}}`, nil},
	} {
		t.Run(c.plugin.Type, func(t *testing.T) { cnitest.Thin(t, c.plugin, c.conf, c.others...) })
	}
}
