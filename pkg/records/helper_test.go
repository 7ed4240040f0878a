package records

import (
	"path/filepath"
	"testing"

	"dcni/pkg/records/recordstest"
)

var owner, code, want = recordstest.Owner, recordstest.Code, recordstest.Want

func testStore(t testing.TB) Store {
	dir := t.TempDir()
	return Store{Run: filepath.Join(dir, "run"), Lib: filepath.Join(dir, "lib")}
}
