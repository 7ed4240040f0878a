package overlay_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"dcni/pkg/overlay"
)

// living returns who is alive, of as many nodes as there are letters.
func living(names string) *overlay.Living {
	l := &overlay.Living{Keys: keys}
	l.Reset(aliveEntries(names), 0)
	return l
}

func aliveEntries(names string) (list []overlay.Entry) {
	for _, n := range names {
		list = append(list, overlay.Entry{Key: keys.Alive(string(n))})
	}
	return list
}

func vanish(l *overlay.Living, names string, now int64) {
	for _, n := range names {
		l.Apply(overlay.Event{Entry: overlay.Entry{Key: keys.Alive(string(n))}, Deleted: true}, now)
	}
}

// named returns which of the nodes a to h have names.
func named(l *overlay.Living, now int64) string {
	f, _ := l.Named(now)
	var b strings.Builder
	for _, n := range "abcdefgh" {
		if f(string(n)) {
			b.WriteRune(n)
		}
	}
	return b.String()
}

func TestNamed(t *testing.T) {
	type step struct {
		gone, back string
		at         int64 // seconds
		want       string
	}
	for _, c := range []struct {
		name  string
		alive string
		steps []step
	}{
		{"one dies, and is back", "abcd", []step{{"d", "", 1, "abc"}, {"", "d", 2, "abcd"}}},
		{"one that is back is not gone", "abc", []step{{"c", "", 0, "ab"}, {"", "c", 1, "abc"}, {"b", "", 2, "ac"}}},
		{"of two one is no half", "ab", []step{{"b", "", 1, "a"}}},
		{"one after the other", "abcdefgh", []step{
			{"h", "", 0, "abcdefg"}, {"g", "", 11, "abcdef"}, {"f", "", 22, "abcde"}, {"e", "", 33, "abcd"}, {"d", "", 44, "abc"}, {"c", "", 55, "ab"}, {"b", "", 66, "a"},
		}},
		{"less than half", "abcdefgh", []step{{"fgh", "", 1, "abcde"}}},
		{"half at once", "abcdefgh", []step{{"efgh", "", 5, "abcdefgh"}, {"", "", 64, "abcdefgh"}, {"", "", 65, "abcd"}}},
		{"half within ten seconds: what had gone has names again", "abcdefgh", []step{
			{"fgh", "", 0, "abcde"}, {"e", "", 10, "abcdefgh"}, {"", "", 69, "abcdefgh"}, {"", "", 70, "abcd"},
		}},
		{"too slow", "abcdefgh", []step{{"fgh", "", 0, "abcde"}, {"e", "", 11, "abcd"}}},
		{"long dead stays dead", "abcdefgh", []step{{"h", "", 0, "abcdefg"}, {"defg", "", 100, "abcdefg"}, {"", "", 160, "abc"}}},
		{"one more while it lasts", "abcdefgh", []step{{"efgh", "", 0, "abcdefgh"}, {"d", "", 30, "abcdefgh"}, {"", "", 60, "abc"}}},
		{"a second wave keeps its own longer", "abcdefgh", []step{
			{"efgh", "", 0, "abcdefgh"}, {"cd", "", 30, "abcdefgh"}, {"", "", 60, "abcd"}, {"", "", 90, "ab"},
		}},
		{"all, and some are back", "abcdefgh", []step{{"abcdefgh", "", 0, "abcdefgh"}, {"", "abc", 20, "abcdefgh"}, {"", "", 60, "abc"}}},
	} {
		l := living(c.alive)
		for i, s := range c.steps {
			now := s.at * 1000
			vanish(l, s.gone, now)
			for _, e := range aliveEntries(s.back) {
				l.Apply(overlay.Event{Entry: e}, now)
			}
			if got := named(l, now); got != s.want {
				t.Errorf("%s, step %d, at %d s: %q, want %q", c.name, i, s.at, got, s.want)
			}
		}
	}
}

// Named says when it will say something else.
func TestNamedUntil(t *testing.T) {
	l := living("abcdefgh")
	if _, until := l.Named(0); until != 0 {
		t.Error(until)
	}
	vanish(l, "efgh", 1000)
	_, until := l.Named(2000)
	if before, then := named(l, until-1), named(l, until); until != 61_000 || before == then {
		t.Errorf("until %d: %q, then %q", until, before, then)
	}
	if _, until := l.Named(61_000); until != 0 {
		t.Error(until)
	}
	// A list says the same as changes: half is missing.
	l = living("abcdefgh")
	l.Reset(aliveEntries("abcd"), 1000)
	if got := named(l, 60_000) + " " + named(l, 61_000); got != "abcdefgh abcd" {
		t.Error(got)
	}
}

func TestNames(t *testing.T) {
	p := empty()
	feed(t, p, node("a", "192.0.2.1"), node("b", "192.0.2.2"),
		endpoint("a", "local", "02:42:0a:00:00:02", "10.0.0.2"), endpoint("b", "c1", "02:42:0a:00:00:03", "10.0.0.3", "fd00::3"), endpoint("c", "c2", "02:42:0a:00:00:04", "10.0.0.4"),
		endpoint("c", "old", "02:42:0a:00:00:03", "10.0.0.3"), endpoint("b", "c1", "02:42:0a:00:00:03", "10.0.0.3", "fd00::3"))
	show := func(named func(string) bool) string {
		var list []string
		for _, e := range p.Names(named) {
			list = append(list, fmt.Sprint(e.Container, e.Names, e.Addresses))
		}
		slices.Sort(list)
		return strings.Join(list, " ")
	}
	if got, want := show(func(string) bool { return true }), "c1[c1] [10.0.0.3 fd00::3] c2[c2] [10.0.0.4]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := show(func(node string) bool { return node != "b" }), "c2[c2] [10.0.0.4]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
