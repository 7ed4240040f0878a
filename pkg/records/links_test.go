package records_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"dcni/pkg/records"
	"dcni/pkg/wire"
)

func TestLinkMarks(t *testing.T) {
	s := records.Store{Run: t.TempDir()}
	web := wire.Attachment{Network: "bridge", Container: "web", IfName: "eth0"}
	if list, err := s.MarkedLinks("bridge"); list != nil || err != nil {
		t.Errorf("none: %v, %v", list, err)
	}
	for range 2 {
		if err := s.MarkLinks(web); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := s.MarkedLinks("bridge"); !slices.Equal(list, []wire.Attachment{web}) || err != nil {
		t.Errorf("%v, %v", list, err)
	}
	for range 2 {
		if err := s.UnmarkLinks(web); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(s.Run, "links", "bridge")); !os.IsNotExist(err) {
		t.Errorf("the folder: %v", err)
	}
	if err := s.MarkLinks(wire.Attachment{Network: "../x", Container: "c", IfName: "e"}); err == nil {
		t.Error("a network's name that leaves the folder")
	}
}
