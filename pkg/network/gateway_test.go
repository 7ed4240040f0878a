package network

import (
	"fmt"
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

// Metrics come in the order of Compare, for what has default routes at all and
// differs in more than the end of its name. They fit what the kernel takes.
func TestMetric(t *testing.T) {
	var all []Candidate
	for _, priority := range []int{-1 << 40, -999, -2, -1, 0, 1, 2, 999, 1 << 40} {
		for _, name := range []string{"-", ".a", "0", "9z", "A", "Ab", "B", "_", "a", "ab", "ac", "b", "web", "z", "zz"} {
			for _, six := range []bool{false, true} {
				all = append(all, Candidate{Name: name, Priority: priority, IPv4: true, IPv6: six})
			}
		}
	}
	for _, a := range all {
		if m := a.Metric(); m <= 0 || m >= 1<<31 {
			t.Errorf("%v: metric %d", a, m)
		}
		for _, b := range all {
			if got, want := a.Metric() < b.Metric(), a.Compare(b) < 0; got != want && a.Metric() != b.Metric() {
				t.Errorf("%v has %d, %v has %d: %s", a, a.Metric(), b, b.Metric(), fmt.Sprint(want))
			}
		}
	}
	if a, b := (Candidate{Name: "aba"}), (Candidate{Name: "abb"}); a.Metric() != b.Metric() {
		t.Error("more than two letters count: which routes are put in order then?")
	}
	if a, b := (Candidate{Name: "a"}), (Candidate{Name: "b"}); a.Metric() == b.Metric() {
		t.Error("names do not count")
	}
}
