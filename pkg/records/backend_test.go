package records

import (
	"os"
	"slices"
	"testing"
)

// What is noted of iptables is there until the last note goes, and then nothing.
func TestByIPTables(t *testing.T) {
	s := Store{Run: t.TempDir(), Lib: t.TempDir()}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(s.SetUsesIPTables(6, true))
	do(s.SetByIPTables("web", true))
	do(s.SetByIPTables("4", true))
	networks, err := s.NetworksByIPTables()
	slices.Sort(networks)
	if err != nil || !slices.Equal(networks, []string{"4", "web"}) || !s.ByIPTables("web") || s.ByIPTables("lan") || s.UsesIPTables(4) || !s.UsesIPTables(6) {
		t.Errorf("%q, %v", networks, err)
	}
	do(s.SetByIPTables("web", false))
	do(s.SetByIPTables("web", false)) // it is gone already
	do(s.SetByIPTables("4", false))
	do(s.SetUsesIPTables(6, false))
	if networks, err := s.NetworksByIPTables(); err != nil || len(networks) > 0 {
		t.Errorf("%q, %v", networks, err)
	}
	if _, err := os.Stat(s.iptables()); !os.IsNotExist(err) {
		t.Errorf("the folder is there: %v", err)
	}
}
