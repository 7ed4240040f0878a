package host_test

import (
	"testing"

	"dcni/pkg/cni/cnitest"
	"dcni/pkg/mode/host"
)

const conf = `{"cniVersion": "1.1.0", "name": "host", "type": "dhost"}`

func TestPlans(t *testing.T) { cnitest.Plans(t, host.Plugin) }

func TestCrashMatrix(t *testing.T) { cnitest.Matrix(t, host.Plugin, conf) }
