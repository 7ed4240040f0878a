package main

import (
	"testing"

	"dcni/pkg/cni/cnitest"
)

func TestPlans(t *testing.T) { cnitest.Plans(t, plugin) }

func TestCrashMatrix(t *testing.T) {
	cnitest.Matrix(t, plugin, `{
		"cniVersion": "1.1.0", "name": "none", "type": "dnone",
		"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80}]}
	}`)
}
