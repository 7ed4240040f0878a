package records

import (
	"testing"

	"dcni/pkg/records/recordstest"
)

var owner, code, want, errText = recordstest.Owner, recordstest.Code, recordstest.Want, recordstest.ErrText

func testStore(t testing.TB) Store {
	run, lib := recordstest.Dirs(t)
	return Store{Run: run, Lib: lib}
}
