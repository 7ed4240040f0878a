package records

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"dcni/pkg/wire"
)

// TestListing has records come and go, and asks who remembers and who looks anew.
func TestListing(t *testing.T) {
	s := Store{Run: filepath.Join(t.TempDir(), "run")}
	listing := NewListing(s)
	for step := range 300 {
		a := wire.Attachment{
			Network: fmt.Sprint("n", rand.IntN(3)), Container: fmt.Sprint("c", rand.IntN(4)), IfName: fmt.Sprint("eth", rand.IntN(2)),
		}
		plugin := []string{"dbridge", "ddns"}[rand.IntN(2)]
		var err error
		if rand.IntN(2) == 0 {
			err = s.Put(&Record{Attachment: a, Plugin: plugin, State: Up})
		} else {
			err = s.Delete(a, plugin)
		}
		if err != nil {
			t.Fatal(err)
		}
		if step%100 == 50 {
			time.Sleep(2 * settleTime) // so that there is something to remember
			if _, err := listing.Marks(); err != nil {
				t.Fatal(err)
			}
		}
		want, err := s.Marks()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := listing.Marks(); err != nil || !slices.Equal(got, want) {
			t.Fatalf("step %d: %v, %v: want %v", step, got, err, want)
		}
	}
}

// TestListingRemembers: what was read long after its last change is not read again
// until the next.
func TestListingRemembers(t *testing.T) {
	listing := NewListing(Store{Run: filepath.Join(t.TempDir(), "run")})
	a := wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}
	expect := func(want ...string) {
		t.Helper()
		var plugins []string
		marks, err := listing.Marks()
		for _, m := range marks {
			plugins = append(plugins, m.Plugin)
		}
		if err != nil || !slices.Equal(plugins, want) {
			t.Errorf("%v, %v: want %v", plugins, err, want)
		}
	}
	put := func(plugin string) {
		t.Helper()
		if err := listing.Put(&Record{Attachment: a, Plugin: plugin, State: Up}); err != nil {
			t.Fatal(err)
		}
	}
	put("dbridge")
	dir := filepath.Dir(listing.recordPath(a, "dbridge"))
	forge := func() { // nobody who opens the directory finds that
		c := listing.dirs[dir]
		c.names = []string{"forged.json"}
		listing.dirs[dir] = c
	}
	expect("dbridge")
	forge()
	expect("dbridge") // it has just changed, and may again within the same tick
	time.Sleep(2 * settleTime)
	expect("dbridge")
	forge()
	expect("forged")
	put("ddns")
	expect("dbridge", "ddns")
}

func TestMarks(t *testing.T) {
	s := Store{Run: filepath.Join(t.TempDir(), "run")}
	if marks, err := s.Marks(); err != nil || len(marks) > 0 {
		t.Errorf("before the first record: %v, %v", marks, err)
	}
	web, lab := wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}, wire.Attachment{Network: "lab", Container: "c1", IfName: "eth1"}
	for _, m := range []Mark{{web, "ddns"}, {web, "dbridge"}, {lab, "dbridge"}} {
		if err := s.Put(&Record{Attachment: m.Attachment, Plugin: m.Plugin, State: Up}); err != nil {
			t.Fatal(err)
		}
	}
	for _, stray := range []string{"stray", "web/stray", "web/c1/stray", "web/c1/eth0/stray"} {
		if err := os.WriteFile(filepath.Join(s.attachments(), stray), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := []Mark{{lab, "dbridge"}, {web, "dbridge"}, {web, "ddns"}}
	if marks, err := s.Marks(); err != nil || !slices.Equal(marks, want) {
		t.Errorf("%v, %v: want %v", marks, err, want)
	}
}
