package names

import (
	"net/netip"
	"slices"
	"testing"
)

func TestParseLink(t *testing.T) {
	for text, want := range map[string]string{
		"db": "db:db", "db:store": "db:store", "/db:/store": "db:store", "a.b_c-d:x.y": "a.b_c-d:x.y",
		"": "", ":x": "", "x:": "", "a:b:c": "", "a b": "", "db:a b": "", "db:a..b": "", "..": "",
	} {
		l, err := ParseLink(text)
		got := l.String()
		if err != nil {
			got = ""
		}
		if got != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	list, err := ParseLinks("db:store,cache,")
	if err != nil || JoinLinks(list) != "db:store,cache:cache" {
		t.Errorf("%v, %v", list, err)
	}
}

// An alias is the container's own, comes first, and follows the name.
func TestViewWithLinks(t *testing.T) {
	one := func(a string) []netip.Addr { return []netip.Addr{netip.MustParseAddr(a)} }
	id := "0123456789ab0123456789ab"
	table := (&Table{}).Add(Network{Name: "lab", TTL: 600}, Entry{Container: "c1", IfName: "eth0", Names: []string{"db"}, Addresses: one("10.1.0.2")}).
		Add(Network{Name: "lab", TTL: 600}, Entry{Container: "c2", IfName: "eth0", Names: []string{"store"}, Addresses: one("10.1.0.3")}).
		Add(Network{Name: "quiet", NoNames: true}, Entry{Container: id, IfName: "eth0", Names: []string{"hidden", id[:ShortID]}, Addresses: one("10.2.0.2")})
	v := table.ViewWithLinks(map[string][]Link{"lab": {{"db", "Store"}, {"later", "alias"}}, "quiet": {{id, "seen"}}}, "lab", "quiet")
	ask := func(v *View, name string) string {
		a, known := v.Lookup([]byte(name), IPv4)
		if !known || len(a.Addresses) == 0 {
			return "none"
		}
		return a.Addresses[0].String()
	}
	for name, want := range map[string]string{"store": "10.1.0.2", "db": "10.1.0.2", "alias": "none", "seen": "10.2.0.2", "hidden": "none", "store.lab": "10.1.0.3"} {
		if got := ask(v, name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if got := ask(table.View("lab"), "store"); got != "10.1.0.3" {
		t.Errorf("others: store is %s", got)
	}
	v.Show(table.Remove("lab", "c1", "eth0").Add(Network{Name: "lab", TTL: 600}, Entry{Container: "c3", IfName: "eth0", Names: []string{"db", "later"}, Addresses: one("10.1.0.9")}))
	if a, _ := v.Lookup([]byte("store"), IPv4); !slices.Equal(a.Addresses, one("10.1.0.9")) || a.TTL != 600 {
		t.Errorf("another one of the name: %+v", a)
	}
	if got := ask(v, "alias"); got != "10.1.0.9" {
		t.Errorf("one that came later: %s", got)
	}
}
