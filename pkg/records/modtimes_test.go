package records

import (
	"path/filepath"
	"testing"
	"time"

	"dcni/pkg/wire"
)

func TestModTimes(t *testing.T) {
	s := NewCachedStore(Store{Run: filepath.Join(t.TempDir(), "run")})
	if times, err := s.ModTimes(); err != nil || len(times) != 0 {
		t.Errorf("before the first record: %v, %v", times, err)
	}
	c1 := wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}
	one, second, other := RecordKey{c1, "ddns"}, RecordKey{c1, "dbridge"},
		RecordKey{wire.Attachment{Network: "lab", Container: "c1", IfName: "eth1"}, "ddns"}
	put := func(key RecordKey) {
		t.Helper()
		if err := s.Put(&Record{Attachment: key.Attachment, Plugin: key.Plugin, State: Up}); err != nil {
			t.Fatal(err)
		}
	}
	put(one)
	put(second)
	put(other)
	before, err := s.ModTimes()
	if err != nil || len(before) != 3 || before[one].IsZero() || before[second].IsZero() || before[other].IsZero() {
		t.Errorf("%v, %v: want %s, %s and %s", before, err, one, second, other)
	}
	time.Sleep(20 * time.Millisecond) // the clock of a file system may tick each 10 ms
	put(one)
	after, err := s.ModTimes()
	if err != nil || !after[one].After(before[one]) || !after[second].Equal(before[second]) || !after[other].Equal(before[other]) {
		t.Errorf("%v, %v: were %v", after, err, before)
	}
}
