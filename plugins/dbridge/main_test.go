package main

import (
	"testing"

	"dcni/pkg/cni/cnitest"
)

func TestPlans(t *testing.T) { cnitest.Plans(t, plugin) }

func TestCrashMatrix(t *testing.T) {
	cnitest.Matrix(t, plugin, `{
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
