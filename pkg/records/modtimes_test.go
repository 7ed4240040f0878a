package records

import (
	"path/filepath"
	"testing"
	"time"

	"dcni/pkg/wire"
)

func TestModTimes(t *testing.T) {
	s := NewCachedStore(Store{Run: filepath.Join(t.TempDir(), "run")})
	if times, err := s.ModTimes("ddns"); err != nil || len(times) != 0 {
		t.Errorf("before the first record: %v, %v", times, err)
	}
	one, two, other := wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"},
		wire.Attachment{Network: "web", Container: "c2", IfName: "eth0"},
		wire.Attachment{Network: "lab", Container: "c1", IfName: "eth1"}
	put := func(a wire.Attachment, plugin string) {
		t.Helper()
		if err := s.Put(&Record{Attachment: a, Plugin: plugin, State: Up}); err != nil {
			t.Fatal(err)
		}
	}
	put(one, "ddns")
	put(one, "dbridge")
	put(two, "dbridge")
	put(other, "ddns")
	before, err := s.ModTimes("ddns")
	if err != nil || len(before) != 2 || before[one].IsZero() || before[other].IsZero() {
		t.Errorf("%v, %v: want %s and %s", before, err, one, other)
	}
	time.Sleep(20 * time.Millisecond) // the clock of a file system may tick each 10 ms
	put(one, "ddns")
	after, err := s.ModTimes("ddns")
	if err != nil || !after[one].After(before[one]) || !after[other].Equal(before[other]) {
		t.Errorf("%v, %v: were %v", after, err, before)
	}
}
