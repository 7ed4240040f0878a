package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"dcni/integration/reach"
	"dcni/integration/testhost"
)

// TestReachability asks all cells of package reach, and compares what it sees with the table that
// docs/reachability.md is made of.
func TestReachability(t *testing.T) {
	t.Parallel()
	if missing := dcni.missing(); missing != "" {
		t.Skipf("bin/%s is not built", missing)
	}
	table, err := reach.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, firewall := range reach.Firewalls {
		for _, setting := range reach.Settings() {
			for _, n := range table.Networks {
				attach := func(w *reach.World) (func(), error) { return w.AttachDCNI(n, `"firewall": "`+firewall+`"`) }
				t.Run(fmt.Sprintf("%s/%s/%s", n.Name, setting, firewall), func(t *testing.T) {
					t.Parallel()
					askAll(t, n, setting, attach, func(c reach.Cell) string { return table.DCNI(n, c) })
				})
			}
		}
	}
}

// TestReachabilityOfEngine compares what a Docker engine does with what the document says of it. Three
// engines run at a time: each costs some seconds of a processor.
func TestReachabilityOfEngine(t *testing.T) {
	t.Parallel()
	docker := filepath.Join(binaries, "test/docker")
	if _, err := os.Stat(filepath.Join(docker, "usr/sbin/dockerd")); err != nil {
		t.Skip("no docker.io: scripts/setup unpacks it")
	}
	table, err := reach.Load()
	if err != nil {
		t.Fatal(err)
	}
	setting := reach.Settings()[0]
	known := slices.DeleteFunc(table.Networks, func(n *reach.Network) bool { return n.Engine == nil })
	ask := func(n *reach.Network) func(t *testing.T) {
		attach := func(w *reach.World) (func(), error) { return w.AttachEngine(n, docker, binaries) }
		return func(t *testing.T) {
			askAll(t, n, setting, attach, func(c reach.Cell) string { return table.Engine(n, c) })
		}
	}
	const atOnce = 3
	for first := range atOnce {
		t.Run("engine", func(t *testing.T) {
			t.Parallel()
			for i := first; i < len(known); i += atOnce {
				t.Run(known[i].Name, ask(known[i]))
			}
		})
	}
}

// askAll asks the cells of one network with one setting in a host of its own.
func askAll(t *testing.T, n *reach.Network, setting string, attach func(*reach.World) (func(), error), want func(reach.Cell) string) {
	starts(t)
	host, err := testhost.NewHost(binaries)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = host.Close() })
	if err := reach.SetNetfilter(setting); err != nil {
		t.Fatal(err)
	}
	w, err := reach.NewWorld(host)
	if err != nil {
		t.Fatal(err)
	}
	stop, err := attach(w)
	t.Cleanup(stop)
	if err != nil {
		t.Fatal(err)
	}
	seen, err := w.Observe(n, setting, want)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, n, seen, want)
}

// compare expects the answers of a table.
func compare(t *testing.T, n *reach.Network, seen map[reach.Cell]string, want func(reach.Cell) string) {
	t.Helper()
	cells, other := 0, []string{}
	for _, c := range n.Cells() {
		answer, asked := seen[c]
		if !asked {
			continue
		}
		cells++
		if w := want(c); answer != w && (w != reach.Either || answer != reach.Yes && answer != reach.No) {
			other = append(other, fmt.Sprintf("%s: %s, want %s", c, answer, w))
		}
	}
	slices.Sort(other)
	for _, line := range other {
		t.Error(line)
	}
	if cells != len(seen) || cells < 100 {
		t.Errorf("%d cells were asked, %d are known", len(seen), cells)
	}
}
