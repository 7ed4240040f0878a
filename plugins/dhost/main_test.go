package main

import (
	"testing"

	"dcni/pkg/cni/cnitest"
)

const conf = `{"cniVersion": "1.1.0", "name": "host", "type": "dhost"}`

func TestPlans(t *testing.T) { cnitest.Plans(t, plugin) }

func TestCrashMatrix(t *testing.T) { cnitest.Matrix(t, plugin, conf) }
