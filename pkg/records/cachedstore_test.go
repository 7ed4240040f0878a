package records

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"dcni/pkg/records/filecache"
	"dcni/pkg/wire"
)

// TestCachedStore adds and removes records, and compares a cached store's answer with
// that of a new one.
func TestCachedStore(t *testing.T) {
	s := Store{Run: filepath.Join(t.TempDir(), "run")}
	cached := NewCachedStore(s)
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
			time.Sleep(2 * filecache.SettleTime) // so that directories are settled and cached
			if _, err := cached.Keys(); err != nil {
				t.Fatal(err)
			}
		}
		want, err := s.Keys()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := cached.Keys(); err != nil || !slices.Equal(got, want) {
			t.Fatalf("step %d: %v, %v: want %v", step, got, err, want)
		}
	}
}

// TestCachedStoreRemembers: a directory that was read long after its last change is not
// read again until the next change.
func TestCachedStoreRemembers(t *testing.T) {
	cached := NewCachedStore(Store{Run: filepath.Join(t.TempDir(), "run")})
	a := wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}
	expect := func(want ...string) {
		t.Helper()
		var plugins []string
		keys, err := cached.Keys()
		for _, key := range keys {
			plugins = append(plugins, key.Plugin)
		}
		if err != nil || !slices.Equal(plugins, want) {
			t.Errorf("%v, %v: want %v", plugins, err, want)
		}
	}
	put := func(plugin string) {
		t.Helper()
		if err := cached.Put(&Record{Attachment: a, Plugin: plugin, State: Up}); err != nil {
			t.Fatal(err)
		}
	}
	put("dbridge")
	dir := filepath.Dir(cached.recordPath(a, "dbridge"))
	forge := func() { // a name that is only in the cache
		c := cached.dirs[dir]
		c.names = []string{"forged.json"}
		cached.dirs[dir] = c
	}
	expect("dbridge")
	forge()
	expect("dbridge") // it has just changed, and may again within the same tick
	time.Sleep(2 * filecache.SettleTime)
	expect("dbridge")
	forge()
	expect("forged")
	put("ddns")
	expect("dbridge", "ddns")

	// Of a time to come, as after the clock was set back: the next change has another.
	soon := time.Now().Add(time.Hour)
	if err := os.Chtimes(dir, soon, soon); err != nil {
		t.Fatal(err)
	}
	expect("dbridge", "ddns")
	forge()
	expect("forged")
	put("dmeta")
	expect("dbridge", "ddns", "dmeta")
}

func TestKeys(t *testing.T) {
	s := Store{Run: filepath.Join(t.TempDir(), "run")}
	if keys, err := s.Keys(); err != nil || len(keys) > 0 {
		t.Errorf("before the first record: %v, %v", keys, err)
	}
	web, lab := wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}, wire.Attachment{Network: "lab", Container: "c1", IfName: "eth1"}
	for _, key := range []RecordKey{{web, "ddns"}, {web, "dbridge"}, {lab, "dbridge"}} {
		if err := s.Put(&Record{Attachment: key.Attachment, Plugin: key.Plugin, State: Up}); err != nil {
			t.Fatal(err)
		}
	}
	for _, stray := range []string{"stray", "web/stray", "web/c1/stray", "web/c1/eth0/stray"} {
		if err := os.WriteFile(filepath.Join(s.attachments(), stray), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := []RecordKey{{lab, "dbridge"}, {web, "dbridge"}, {web, "ddns"}}
	if keys, err := s.Keys(); err != nil || !slices.Equal(keys, want) {
		t.Errorf("%v, %v: want %v", keys, err, want)
	}
}
