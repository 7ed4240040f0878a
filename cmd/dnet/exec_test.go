package main

import (
	"testing"

	"dcni/pkg/records"
)

// TestExecRefuses has Docker's words for what can't be entered.
func TestExecRefuses(t *testing.T) {
	f := newFixture(t)
	someContainers(f)
	f.runs("c1"+idOld[2:], "gone", records.Process{PID: 1, Start: 1})
	gone := "dnet: container c1" + idOld[2:] + " is not running\n"
	f.check([]call{
		{"exec nosuch true", 1, "", "dnet: No such container: nosuch\n"},
		{"exec a true", 1, "", "dnet: Multiple IDs found with provided prefix: a: a1a1a1a1a1a1 (web), a2a2a2a2a2a2 (old)\n"},
		{"exec old true", 1, "", "dnet: container " + idOld + " is not running\n"},
		{"exec new true", 1, "", "dnet: container " + idNew + " is not running\n"},
		{"exec -e =x old true", 1, "", "dnet: invalid environment variable: =x\n"},
		{"exec -it web true", 1, "", "dnet: the input device is not a TTY\n"},
		// its process has ended, and its dnet has not noticed yet
		{"exec -i gone true", 1, "", gone},
		{"exec -i -w / gone true", 1, "", gone},
	})
}
