package main

import (
	"strings"
	"testing"

	"dcni/pkg/doctor"
)

// TestReport: as many findings as a network has leases are said as fast as they come.
func TestReport(t *testing.T) {
	plain := func(s string) string { return s }
	one := doctor.Finding{ID: "agent", Problem: "p", Breaks: "b", Fix: "f"}
	const said = "agent: p.\n    breaks: b.\n    mend:   f\n\n"
	for n, end := range map[int]string{1: "1 thing is wrong.\n", 2: "2 things are wrong.\n", 65000: "65000 things are wrong.\n"} {
		found := make([]doctor.Finding, n)
		for i := range found {
			found[i] = one
		}
		if got := report(found, false, plain); got != strings.Repeat(said, n)+end {
			t.Errorf("%d findings end with %q", n, got[max(0, len(got)-100):])
		}
	}
}
