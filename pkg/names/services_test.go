package names

import (
	"fmt"
	"net/netip"
	"testing"
)

// TestServiceNames wants names of services before those of containers, on their network
// alone, whether they are said before its first container or after.
func TestServiceNames(t *testing.T) {
	addr := netip.MustParseAddr
	hosts := []HostEntry{{"web", []netip.Addr{addr("10.9.0.100"), addr("fd00::100")}}, {"tasks.web", []netip.Addr{addr("10.9.0.2"), addr("10.9.0.3")}}, {"idle", nil}}
	lookup := func(v *View, name string) string {
		four, known := v.Lookup([]byte(name), IPv4)
		six, _ := v.Lookup([]byte(name), IPv6)
		return fmt.Sprint(known, four.Addresses, six.Addresses)
	}
	task := func(t *Table, network, id, address string) *Table {
		return t.Add(Network{Name: network}, Entry{Container: id, IfName: "eth0", Names: []string{id, "web"}, Addresses: []netip.Addr{addr(address)}})
	}
	tables := map[string]*Table{
		"before": task(task((&Table{}).WithServices("net", hosts), "net", "c1", "10.9.0.2"), "other", "c2", "10.8.0.2"),
		"after":  task(task(&Table{}, "net", "c1", "10.9.0.2"), "other", "c2", "10.8.0.2").WithServices("net", hosts),
	}
	for when, table := range tables {
		v := table.View("net")
		for name, want := range map[string]string{
			"web": "true [10.9.0.100] [fd00::100]", "web.net": "true [10.9.0.100] [fd00::100]", "tasks.web": "true [10.9.0.2 10.9.0.3] []",
			"tasks.web.net": "true [10.9.0.2 10.9.0.3] []", "idle": "true [] []", "c1": "true [10.9.0.2] []", "tasks.c1": "false [] []",
		} {
			if got := lookup(v, name); got != want {
				t.Errorf("%s: %s is %s, want %s", when, name, got, want)
			}
		}
		if got := lookup(table.View("other"), "web"); got != "true [10.8.0.2] []" {
			t.Errorf("%s: on another network web is %s", when, got)
		}
		without := table.WithServices("net", nil)
		if got := lookup(without.View("net"), "web"); got != "true [10.9.0.2] []" {
			t.Errorf("%s: without the service web is %s", when, got)
		}
		again := task(table.Remove("net", "c1", "eth0"), "net", "c3", "10.9.0.4")
		if got := lookup(again.View("net"), "web"); got != "true [10.9.0.100] [fd00::100]" {
			t.Errorf("%s: after the last container went, web is %s", when, got)
		}
	}
}
