package records

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"dcni/pkg/wire"
)

// TestGetAll: records come in the order that they were asked for; what vanished
// is left out, and what can't be read is lost.
func TestGetAll(t *testing.T) {
	dir := t.TempDir()
	s := Store{Run: dir, Lib: dir}
	var keys []RecordKey
	for i := range 50 {
		key := RecordKey{wire.Attachment{Network: "web", Container: fmt.Sprint("c", i), IfName: "eth0"}, "dbridge"}
		if err := s.Put(&Record{Attachment: key.Attachment, Plugin: key.Plugin}); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	slices.Reverse(keys)
	if err := s.Delete(keys[7].Attachment, "dbridge"); err != nil {
		t.Fatal(err)
	}
	want := slices.Delete(slices.Clone(keys), 7, 8)
	check := func(list []*Record) {
		t.Helper()
		var got []RecordKey
		for _, r := range list {
			got = append(got, RecordKey{r.Attachment, r.Plugin})
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	list, err := s.GetAll(keys)
	if err != nil {
		t.Error(err)
	}
	check(list)

	if err := os.WriteFile(s.recordPath(want[3].Attachment, "dbridge"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err = s.GetAll(keys)
	if err != nil || list[3].State != Lost {
		t.Errorf("a broken record: %s, %v", list[3].State, err)
	}
	check(list)
	if list, err := s.GetAll(nil); len(list) > 0 || err != nil {
		t.Errorf("of none: %v, %v", list, err)
	}
}
