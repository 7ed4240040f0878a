package none_test

import (
	"testing"

	"dcni/pkg/cni/cnitest"
	"dcni/pkg/mode/none"
)

func TestPlans(t *testing.T) { cnitest.Plans(t, none.Plugin) }

func TestCrashMatrix(t *testing.T) {
	cnitest.Matrix(t, none.Plugin, `{
		"cniVersion": "1.1.0", "name": "none", "type": "dnone",
		"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80}]}
	}`)
}
