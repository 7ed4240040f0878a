package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const before = `package p

const big = 1 < 2

func f(a, b int) int {
	if n := a; n < b && ok(b) {
		b += 2
	}
	for i := 0; i != 3; i++ {
		g()
	}
	for a++; ok(a); {
	}
	return a + b
}
`

const after = `package p

const big = 1 < 2

func f(a, b int) int {
	if n := a; func() bool { switch { ` +
	`case mutate(2): return func() bool { switch { case mutate(0): return n <= b;case mutate(1): return n >= b; }; return n < b }(); ` +
	`case mutate(3): return ok(b) }; ` +
	`return func() bool { switch { case mutate(0): return n <= b;case mutate(1): return n >= b; }; return n < b }() && ok(b) }() {
		if !mutate(4) { b += 2 }
	}
	for i := 0; func() bool { switch { case mutate(5): return i == 3; }; return i != 3 }(); i++ {
		if !mutate(6) { g() }
	}
	for a++; ok(a); {
	}
	return a + b
}
`

func TestMutator(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.go")
	if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	m := &mutator{}
	got, err := m.file(path)
	if err != nil || string(got) != after {
		t.Errorf("%v, got\n%s\nwant\n%s", err, got, after)
	}
	const faults = `p.go:6:13: <= for <
p.go:6:13: >= for <
p.go:6:13: only the left of &&
p.go:6:13: only the right of &&
p.go:7:3: left out
p.go:9:14: == for !=
p.go:10:3: left out`
	if got := strings.Join(m.faults, "\n"); got != faults {
		t.Errorf("got\n%s\nwant\n%s", got, faults)
	}
}

func TestChoose(t *testing.T) {
	for _, c := range []struct{ n, sample, want int }{{5, 0, 5}, {5, 3, 3}, {5, 5, 5}, {5, 9, 5}} {
		got := choose(c.n, c.sample)
		if again := choose(c.n, c.sample); !slices.Equal(got, again) {
			t.Errorf("choose(%d, %d): %v, then %v", c.n, c.sample, got, again)
		}
		slices.Sort(got)
		if got = slices.Compact(got); len(got) != c.want || got[0] < 0 || got[len(got)-1] >= c.n {
			t.Errorf("choose(%d, %d): %v, want %d different ones", c.n, c.sample, got, c.want)
		}
	}
}
