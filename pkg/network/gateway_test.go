package network

import (
	"fmt"
	"maps"
	"slices"
	"testing"
)

func TestGateway(t *testing.T) {
	for want, list := range map[string][]Candidate{
		"a": {{Name: "b"}, {Name: "a"}},
		"b": {{Name: "a", Internal: true}, {Name: "b"}, {Name: "c"}},
		"c": {{Name: "a"}, {Name: "b"}, {Name: "c", Internal: true, Priority: 1}},
		"d": {{Name: "a", Priority: -1}, {Name: "d"}},
		"e": {{Name: "a", IPv4: true}, {Name: "b", IPv6: true}, {Name: "e", IPv4: true, IPv6: true}},
		"f": {{Name: "f", IPv4: true}, {Name: "g", IPv4: true, IPv6: true, Internal: true}},
		"h": {{Name: "h", Priority: 1 << 40}, {Name: "i", Priority: 1 << 41}}, // beyond 999 all are one
	} {
		if got := list[Gateway(list)].Name; got != want {
			t.Errorf("%v: %s, want %s", list, got, want)
		}
	}
}

// Ranks come in the order of Compare, for what has default routes at all and differs
// in more than the end of its name, and metrics do not contradict them.
func TestMetricAndRank(t *testing.T) {
	var all []Candidate
	for _, priority := range []int{-1 << 40, -999, -2, -1, 0, 1, 2, 999, 1 << 40} {
		for _, name := range []string{"-", ".a", "0", "9z", "A", "Ab", "B", "_", "a", "ab", "ac", "b", "web", "z", "zz"} {
			for _, six := range []bool{false, true} {
				all = append(all, Candidate{Name: name, Priority: priority, IPv4: true, IPv6: six})
			}
		}
	}
	for _, a := range all {
		if r := a.Rank(); r <= 0 || r >= 1<<31 {
			t.Errorf("%v: rank %d", a, r)
		}
		if m := a.Metric(); m <= 0 || m > 1000 { // the kernel's own are 1024, and some have to move
			t.Errorf("%v: metric %d", a, m)
		}
		for _, b := range all {
			if got, want := a.Rank() < b.Rank(), a.Compare(b) < 0; got != want && a.Rank() != b.Rank() {
				t.Errorf("%v has %d, %v has %d: %s", a, a.Rank(), b, b.Rank(), fmt.Sprint(want))
			}
			if a.Rank() < b.Rank() && a.Metric() > b.Metric() {
				t.Errorf("%v has metric %d, %v has %d", a, a.Metric(), b, b.Metric())
			}
		}
	}
	if a, b := (Candidate{Name: "aba"}), (Candidate{Name: "abb"}); a.Rank() != b.Rank() {
		t.Error("more than two letters count: which routes are put in order then?")
	}
	if a, b := (Candidate{Name: "a"}), (Candidate{Name: "b"}); a.Rank() == b.Rank() {
		t.Error("names do not count")
	}
}

func TestPlace(t *testing.T) {
	web := Rival{Metric: 500, Rank: 7, Name: "web"}
	for name, c := range map[string]struct {
		others []Rival
		want   int
		moves  map[int]int
	}{
		"alone":                           {nil, 500, nil},
		"far away":                        {[]Rival{{Metric: 1, Rank: 1}, {Metric: 900, Rank: 9}}, 500, nil},
		"behind":                          {[]Rival{{Metric: 500, Rank: 6}}, 501, nil},
		"behind by name":                  {[]Rival{{Metric: 500, Rank: 7, Name: "lab"}}, 501, nil},
		"of the same network":             {[]Rival{{Metric: 500, Rank: 7, Name: "web"}}, 501, nil},
		"before":                          {[]Rival{{Metric: 500, Rank: 8}}, 500, map[int]int{0: 501}},
		"before by name":                  {[]Rival{{Metric: 500, Rank: 7, Name: "zoo"}}, 500, map[int]int{0: 501}},
		"in between":                      {[]Rival{{Metric: 501, Rank: 8}, {Metric: 500, Rank: 6}, {Metric: 502, Rank: 9}, {Metric: 504, Rank: 10}}, 501, map[int]int{0: 502, 2: 503}},
		"one that moved on keeps its way": {[]Rival{{Metric: 502, Rank: 6}, {Metric: 500, Rank: 8}}, 503, map[int]int{1: 504}},
		"not in the order of metrics":     {[]Rival{{Metric: 501, Rank: 9}, {Metric: 500, Rank: 8}}, 500, map[int]int{0: 502, 1: 501}},
		"another program's stays":         {[]Rival{{Metric: 500}, {Metric: 501, Rank: 8}, {Metric: 502}}, 501, map[int]int{1: 503}},
	} {
		metric, moves := Place(web, c.others)
		if metric != c.want || !maps.Equal(moves, c.moves) {
			t.Errorf("%s: %d, %v; want %d, %v", name, metric, moves, c.want, c.moves)
		}
	}
}

// TestNotGateway: the gateway network of each family is the first that has a default route of it, and
// the host's ports of IPv6 are that of IPv4's where no network leads out by IPv6.
func TestNotGateway(t *testing.T) {
	both := func(name string) Candidate { return Candidate{Name: name, IPv4: true, IPv6: true} }
	four := func(name string) Candidate { return Candidate{Name: name, IPv4: true} }
	six := func(name string) Candidate { return Candidate{Name: name, IPv6: true} }
	with := func(c Candidate, change func(*Candidate)) Candidate { change(&c); return c }
	inner := func(c *Candidate) { c.Internal = true }
	for name, c := range map[string]struct {
		list []Candidate
		want string // of each, in order
	}{
		"alone":                       {[]Candidate{both("a")}, "[]"},
		"by name":                     {[]Candidate{both("b"), both("a")}, "[4,6 ]"},
		"both families come first":    {[]Candidate{four("a"), both("b")}, "[4,6 ]"},
		"by priority":                 {[]Candidate{both("a"), with(both("b"), func(c *Candidate) { c.Priority = 1 })}, "[4,6 ]"},
		"each family another":         {[]Candidate{with(four("b"), func(c *Candidate) { c.Priority = 1 }), both("a")}, "[6 4]"},
		"IPv4 alone and IPv6 alone":   {[]Candidate{four("a"), six("b"), four("c")}, "[6 4 4,6]"},
		"IPv4 alone has IPv6 by it":   {[]Candidate{four("b"), four("a")}, "[4,6 ]"},
		"an internal one":             {[]Candidate{with(both("a"), inner), both("b")}, "[4,6 ]"},
		"none leads out":              {[]Candidate{with(both("a"), inner), with(both("b"), inner)}, "[ ]"},
		"without a route of IPv4":     {[]Candidate{with(both("a"), func(c *Candidate) { c.NoRoute4 = true }), both("b")}, "[4 6]"},
		"without a route of IPv6":     {[]Candidate{with(both("a"), func(c *Candidate) { c.NoRoute6 = true }), both("b")}, "[6 4]"},
		"IPv6 alone where none leads": {[]Candidate{with(four("a"), inner), six("b")}, "[6 ]"},
	} {
		words := make([]string, len(c.list))
		for i := range c.list {
			not := NotGateway(c.list, i)
			words[i] = JoinFamilies(not)
			if again, err := SplitFamilies(words[i]); err != nil || !slices.Equal(again, not) {
				t.Errorf("%s: %q is read as %v, %v", name, words[i], again, err)
			}
		}
		if got := fmt.Sprint(words); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	for _, text := range []string{"5", "4,", "46", " 4"} {
		if _, err := SplitFamilies(text); err == nil {
			t.Errorf("%q is read", text)
		}
	}
}
