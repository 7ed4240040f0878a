package host

import (
	"strings"
	"testing"

	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// unknown is of no kind that a Host knows: it panics.
type unknown struct{ wire.Object }

func (unknown) String() string { return "unknown" }

// TestRemoveAllOutlivesPanic wants a panic of one removal to be its error, and the
// others to be done.
func TestRemoveAllOutlivesPanic(t *testing.T) {
	h, err := New(records.Store{Run: t.TempDir(), Lib: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	err = h.RemoveAll([]wire.Object{unknown{}, &wire.Permission{}})
	if err == nil || !strings.Contains(err.Error(), "remove unknown: panic: host: no such kind of object") {
		t.Errorf("error %v", err)
	}
}
