package names_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"dcni/pkg/names"
)

// web and lab are two networks of three containers.
func web() names.Network {
	return names.Network{
		Name: "web", TTL: 600, Gateways: []netip.Addr{addr("10.1.0.1"), addr("fd01::1")},
		Hosts: []names.HostEntry{{Name: "Printer", Addresses: []netip.Addr{addr("192.0.2.9")}}},
	}
}

func lab() names.Network {
	return names.Network{Name: "Lab.v2", TTL: 60, Gateways: []netip.Addr{addr("10.2.0.1")}}
}

func entry(container, ifname, addresses string, list ...string) names.Entry {
	e := names.Entry{Container: container, IfName: ifname, Names: list}
	for a := range strings.FieldsSeq(addresses) {
		e.Addresses = append(e.Addresses, addr(a))
	}
	return e
}

func twoNetworks() *names.Table {
	return new(names.Table).
		Add(web(), entry("c1", "eth0", "10.1.0.2 fd01::2", "one", "db", "c1")).
		Add(web(), entry("c2", "eth0", "10.1.0.3", "two", "DB", "c2")).
		Add(lab(), entry("c2", "eth1", "10.2.0.3", "two", "c2")).
		Add(lab(), entry("c3", "eth0", "fd02::4", "three", "db"))
}

// ask returns the sorted addresses of a name, "none" if it is known and has
// none, "unknown" if not.
func ask(v *names.View, name string, f names.Family) string {
	a, known := v.Lookup([]byte(name), f)
	switch {
	case !known:
		return "unknown"
	case len(a.Addresses) == 0:
		return "none"
	}
	return fmt.Sprint(a.Addresses, " ", a.TTL)
}

func TestLookup(t *testing.T) {
	table := twoNetworks()
	onWeb, onBoth, onNone := table.View("web"), table.View("Lab.v2", "web"), table.View("gone")
	for _, c := range []struct {
		view   *names.View
		name   string
		v4, v6 string
	}{
		{onWeb, "one", "[10.1.0.2] 600", "[fd01::2] 600"},
		{onWeb, "db", "[10.1.0.2 10.1.0.3] 600", "[fd01::2] 600"},
		{onWeb, "two", "[10.1.0.3] 600", "none"},
		{onWeb, "two.web", "[10.1.0.3] 600", "none"},
		{onWeb, "two.lab.v2", "unknown", "unknown"},
		{onWeb, "three", "unknown", "unknown"},
		{onWeb, "web", "unknown", "unknown"},
		{onWeb, ".web", "unknown", "unknown"},
		{onWeb, "oneweb", "unknown", "unknown"},
		{onWeb, "", "unknown", "unknown"},
		{onWeb, "printer", "[192.0.2.9] 600", "none"},
		{onWeb, "host.docker.internal", "[10.1.0.1] 600", "[fd01::1] 600"},
		{onWeb, "gateway.docker.internal", "[10.1.0.1] 600", "[fd01::1] 600"},
		{onBoth, "two", "[10.2.0.3] 60", "none"}, // the first network wins
		{onBoth, "two.web", "[10.1.0.3] 600", "none"},
		{onBoth, "two.lab.v2", "[10.2.0.3] 60", "none"},
		{onBoth, "db", "[10.1.0.2 10.1.0.3] 600", "[fd02::4] 60"}, // the first that has the family
		{onBoth, "one", "[10.1.0.2] 600", "[fd01::2] 600"},
		{onBoth, "host.docker.internal", "[10.2.0.1] 60", "[fd01::1] 600"},
		{onNone, "one", "unknown", "unknown"},
		{onNone, "host.docker.internal", "unknown", "unknown"},
		{nil, "one", "unknown", "unknown"},
	} {
		if v4, v6 := ask(c.view, c.name, names.IPv4), ask(c.view, c.name, names.IPv6); v4 != c.v4 || v6 != c.v6 {
			t.Errorf("%s: %s, %s; want %s, %s", c.name, v4, v6, c.v4, c.v6)
		}
	}
}

// TestQualified has a name that can be read in two ways: container a.b on c,
// or container a on b.c. Docker takes the first.
func TestQualified(t *testing.T) {
	table := new(names.Table).
		Add(names.Network{Name: "b.c"}, entry("1", "eth0", "10.0.0.1", "a")).
		Add(names.Network{Name: "c"}, entry("2", "eth0", "10.0.0.2", "a.b"))
	if got := ask(table.View("b.c", "c"), "a.b.c", names.IPv4); got != "[10.0.0.2] 0" {
		t.Error(got)
	}
	table = table.Remove("c", "2", "eth0")
	if got := ask(table.View("b.c", "c"), "a.b.c", names.IPv4); got != "[10.0.0.1] 0" {
		t.Error(got)
	}
}

func TestQuiet(t *testing.T) {
	quiet := web()
	quiet.NoNames = true
	table := twoNetworks().Add(quiet, entry("c4", "eth0", "10.1.0.4", "four"))
	view := table.View("web")
	for name, want := range map[string]string{
		"four": "unknown", "one": "unknown", "one.web": "unknown",
		"host.docker.internal": "[10.1.0.1] 600", "printer": "[192.0.2.9] 600",
	} {
		if got := ask(view, name, names.IPv4); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if name, _, ok := view.Pointer(addr("10.1.0.2")); ok {
		t.Error("an address of a quiet network is", name)
	}
	loud := table.Add(web(), entry("c4", "eth0", "10.1.0.4", "four")).View("web")
	if got := ask(loud, "one", names.IPv4); got != "[10.1.0.2] 600" {
		t.Error("names after the network was quiet:", got)
	}
}

// TestNewNetwork adds an attachment whose network is configured in another way than
// that of the attachment before it: the newest configuration counts.
func TestNewNetwork(t *testing.T) {
	for _, c := range []struct {
		change func(n *names.Network)
		name   string
		want   string
	}{
		{func(n *names.Network) { n.TTL = 7 }, "one", "[10.1.0.2] 7"},
		{func(n *names.Network) { n.NoNames = true }, "one", "unknown"},
		{func(n *names.Network) { n.Gateways = []netip.Addr{addr("10.1.0.9")} }, "host.docker.internal", "[10.1.0.9] 600"},
		{func(n *names.Network) { n.Hosts = nil }, "printer", "unknown"},
		{func(n *names.Network) { n.Hosts[0].Name = "scanner" }, "scanner", "[192.0.2.9] 600"},
		{func(n *names.Network) { n.Hosts[0].Addresses = []netip.Addr{addr("192.0.2.8")} }, "printer", "[192.0.2.8] 600"},
	} {
		n := web()
		c.change(&n)
		view := twoNetworks().Add(n, entry("c4", "eth0", "10.1.0.4", "four")).View("web")
		if got := ask(view, c.name, names.IPv4); got != c.want {
			t.Errorf("%+v: %s is %s, want %s", n, c.name, got, c.want)
		}
	}
}

func TestPointer(t *testing.T) {
	table := twoNetworks()
	for _, c := range []struct{ networks, address, want string }{
		{"web", "10.1.0.2", "one.web 600"},
		{"web", "fd01::2", "one.web 600"},
		{"web", "::ffff:10.1.0.3", "two.web 600"},
		{"Lab.v2 web", "10.2.0.3", "two.lab.v2 60"},
		{"web", "10.2.0.3", ""},
		{"web", "10.1.0.1", ""},
		{"web", "192.0.2.9", ""},
	} {
		got := ""
		if name, ttl, ok := table.View(strings.Fields(c.networks)...).Pointer(addr(c.address)); ok {
			got = fmt.Sprint(name, " ", ttl)
		}
		if got != c.want {
			t.Errorf("%s on %s: %q, want %q", c.address, c.networks, got, c.want)
		}
	}
}

// TestPointerTooLong has networks and containers with names that make no domain
// name together: a label has 63 letters at most, a name 253.
func TestPointerTooLong(t *testing.T) {
	label := strings.Repeat("a", 60)
	long := strings.Join([]string{label, label, label, label}, ".")
	for _, c := range []struct{ network, name, want string }{
		{strings.Repeat("n", 64), "one", "one"},
		{"quite-long", long, long},
		{"short", long, long + ".short"},
	} {
		table := new(names.Table).Add(names.Network{Name: c.network}, entry("c1", "eth0", "10.1.0.2", c.name))
		if got, _, _ := table.View(c.network).Pointer(addr("10.1.0.2")); got != c.want {
			t.Errorf("%s on %s: %s, want %s", c.name, c.network, got, c.want)
		}
	}
}

// TestPointerOfNewOwner has an address go to another container before the
// table hears that the first one is gone.
func TestPointerOfNewOwner(t *testing.T) {
	table := twoNetworks().Add(web(), entry("new", "eth0", "10.1.0.2", "heir"))
	for _, removed := range []bool{false, true} {
		if removed {
			table = table.Remove("web", "c1", "eth0")
		}
		if name, _, _ := table.View("web").Pointer(addr("10.1.0.2")); name != "heir.web" {
			t.Errorf("after removal %v: %q", removed, name)
		}
		if got := ask(table.View("web"), "heir", names.IPv4); got != "[10.1.0.2] 600" {
			t.Error(got)
		}
	}
}

// TestTurns wants each address of a shared name to be first as often as the
// others, also when a client asks for both families each time.
func TestTurns(t *testing.T) {
	view := twoNetworks().View("web")
	first := map[netip.Addr]int{}
	for range 10 {
		a, _ := view.Lookup([]byte("db"), names.IPv4)
		first[a.Addresses[a.First]]++
		view.Lookup([]byte("db"), names.IPv6)
	}
	if want := fmt.Sprint(map[netip.Addr]int{addr("10.1.0.2"): 5, addr("10.1.0.3"): 5}); fmt.Sprint(first) != want {
		t.Errorf("first were %v, want %s", first, want)
	}
}

// TestImmutable wants old tables and views to stay as they were.
func TestImmutable(t *testing.T) {
	table := twoNetworks()
	view := table.View("web")
	before := ask(view, "db", names.IPv4)
	table.Remove("web", "c1", "eth0").Add(web(), entry("c2", "eth0", "10.1.0.99", "db"))
	if got := ask(view, "db", names.IPv4) + ask(table.View("web"), "db", names.IPv4); got != before+before {
		t.Errorf("%s, want %s twice", got, before)
	}
	if table.Remove("web", "c1", "eth7") != table || table.Remove("gone", "c1", "eth0") != table {
		t.Error("removing nothing made another table")
	}
}

// TestModel adds, replaces and removes attachments at random and compares each
// name and address with a plain list of what is there.
func TestModel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	networks := []string{"n0", "n1", "n2"}
	table, model := new(names.Table), map[string]names.Entry{}
	for range 3000 {
		network, container := networks[r.IntN(3)], fmt.Sprint("c", r.IntN(20))
		key := network + " " + container
		if r.IntN(3) == 0 {
			table = table.Remove(network, container, "eth0")
			delete(model, key)
		} else {
			e := entry(container, "eth0", fmt.Sprintf("10.0.0.%d fd00::%x", r.IntN(40), r.IntN(40)),
				container, fmt.Sprint("alias", r.IntN(5)))
			table = table.Add(names.Network{Name: network}, e)
			model[key] = e
		}
		network = networks[r.IntN(3)]
		for _, name := range []string{fmt.Sprint("c", r.IntN(20)), fmt.Sprint("alias", r.IntN(5))} {
			want := expected(model, network, name)
			for _, asked := range []string{name, name + "." + network} {
				if got := ask(table.View(network), asked, names.IPv4); got != want {
					t.Fatalf("%s on %s: %s, want %s", asked, network, got, want)
				}
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(model)) {
		network, container, _ := strings.Cut(key, " ")
		table = table.Remove(network, container, "eth0")
	}
	if fmt.Sprint(table) != "&{map[] [] map[]}" {
		t.Errorf("after all is removed: %v", table)
	}
}

// expected is what the model has for a name, in the words of ask.
func expected(model map[string]names.Entry, network, name string) string {
	var all []netip.Addr
	for key, e := range model {
		if strings.HasPrefix(key, network+" ") && slices.Contains(e.Names, name) {
			all = append(all, e.Addresses[0])
		}
	}
	if len(all) == 0 {
		return "unknown"
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return fmt.Sprint(slices.Compact(all), " 0")
}

func TestLookupAllocatesNothing(t *testing.T) {
	view := twoNetworks().View("Lab.v2", "web")
	for _, name := range []string{"db", "two.web", "host.docker.internal", "www.example.com"} {
		asked := []byte(name)
		if n := testing.AllocsPerRun(100, func() { view.Lookup(asked, names.IPv6) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// crowd has 1,000 containers on 20 networks, each of them on two.
func crowd(shared bool) *names.Table {
	table := new(names.Table)
	for i := range 1000 {
		table = table.Add(crowdEntry(i, i%20, shared)).Add(crowdEntry(i, (i+1)%20, shared))
	}
	return table
}

func crowdEntry(i, network int, shared bool) (names.Network, names.Entry) {
	e := entry(fmt.Sprintf("%012x", i), "eth0", fmt.Sprintf("10.%d.%d.%d fd00:%x::%x", network, i/250, i%250, network, i),
		fmt.Sprint("name", i), fmt.Sprint("alias", i), fmt.Sprintf("%012x", i))
	if shared {
		e.Names = append(e.Names, "all")
	}
	return names.Network{Name: fmt.Sprint("net", network), TTL: 600}, e
}

// BenchmarkChange is one container that comes and goes among 1,000.
func BenchmarkChange(b *testing.B) {
	for name, shared := range map[string]bool{"own": false, "shared": true} {
		b.Run(name, func(b *testing.B) {
			table := crowd(shared)
			network, e := crowdEntry(1000, 3, shared)
			b.ReportAllocs()
			for b.Loop() {
				with := table.Add(network, e)
				_ = with.View("net3", "net4")
				_ = with.Remove("net3", e.Container, e.IfName)
			}
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	view := crowd(false).View("net3", "net4")
	for _, name := range []string{"name3", "name3.net4", "www.example.com"} {
		b.Run(name, func(b *testing.B) {
			asked := []byte(name)
			for b.Loop() {
				view.Lookup(asked, names.IPv4)
			}
		})
	}
}

// TestShow has one view show one table after the other.
func TestShow(t *testing.T) {
	web, lab := names.Network{Name: "web"}, names.Network{Name: "lab"}
	one := names.Entry{Container: "c1", IfName: "eth0", Names: []string{"one"}, Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.2")}}
	empty := new(names.Table)
	v := empty.View("web")
	for _, c := range []struct {
		table *names.Table
		known bool
	}{{empty, false}, {empty.Add(web, one), true}, {empty.Add(lab, one), false}} {
		v.Show(c.table)
		if _, known := v.Lookup([]byte("one"), names.IPv4); known != c.known {
			t.Errorf("known %v, want %v", known, c.known)
		}
	}
	if !v.OnAny(map[string]bool{"lab": true, "web": true}) || v.OnAny(map[string]bool{"lab": true}) {
		t.Error("the view is of other networks")
	}
}
