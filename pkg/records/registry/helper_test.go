package registry

import (
	"os"
	"path/filepath"
	"testing"

	"dcni/pkg/records"
	"dcni/pkg/records/recordstest"
)

var owner, code, want, config, request = recordstest.Owner, recordstest.Code, recordstest.Want, recordstest.Config, recordstest.Request

func testStore(t testing.TB) records.Store {
	dir := t.TempDir()
	return records.Store{Run: filepath.Join(dir, "run"), Lib: filepath.Join(dir, "lib")}
}

// reboot is what a boot does: /run is empty.
func reboot(t testing.TB, s records.Store) {
	if err := os.RemoveAll(s.Run); err != nil {
		t.Fatal(err)
	}
}
