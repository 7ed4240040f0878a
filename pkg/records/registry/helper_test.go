package registry

import (
	"testing"

	"dcni/pkg/records"
	"dcni/pkg/records/recordstest"
)

var owner, code, want, config, request = recordstest.Owner, recordstest.Code, recordstest.Want, recordstest.Config, recordstest.Request

var reboot = recordstest.Reboot

func testStore(t testing.TB) records.Store {
	run, lib := recordstest.Dirs(t)
	return records.Store{Run: run, Lib: lib}
}
