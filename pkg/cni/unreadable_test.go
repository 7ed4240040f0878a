package cni_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dcni/pkg/cni/cnitest"
	"dcni/pkg/mode/bridge"
	"dcni/pkg/records/disk"
)

// TestAddNewer: ADD leaves the record of what a newer version attached and is there.
func TestAddNewer(t *testing.T) {
	w := cnitest.NewWorld(t, bridge.Plugin)
	r := w.Request(t, "c1", bridgeConf(""))
	if _, err := w.Engine.Add(r); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(w.Store.Run, "attachments/web/c1/eth0/dbridge.json")
	if err := os.WriteFile(path, []byte(`{"version": 7}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := w.Engine.Add(r); err == nil || !strings.Contains(err.Error(), "newer version") {
			t.Errorf("ADD again: %v", err)
		}
	}
	var unread *disk.UnreadableError
	if _, err := w.Store.Get(r.Attachment, "dbridge"); !errors.As(err, &unread) || !unread.Newer {
		t.Errorf("its record: %v", err)
	}
	if err := w.Engine.Del(r); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Engine.Add(r); err != nil {
		t.Errorf("ADD after DEL: %v", err)
	}
}
