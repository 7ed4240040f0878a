package cni_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dcni/pkg/cni"
	"dcni/pkg/cni/cnitest"
	"dcni/pkg/mode/bridge"
	"dcni/pkg/mode/macvlan"
	"dcni/pkg/records/disk"
	"dcni/pkg/wire"
)

// TestReapLost: healing deletes an attachment whose record can't be read once no namespace
// has its interface any more, and not before. Its address is free then.
func TestReapLost(t *testing.T) {
	const grace = time.Minute
	w := cnitest.NewWorld(t, macvlan.Plugin)
	conf := fmt.Sprintf(lanConf, "")
	r := w.Request(t, "c1", conf)
	if _, err := w.Engine.Add(r); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.Store.Run, "attachments/web/c1/eth0/dmacvlan.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	heal := func() (did []string) {
		if err := w.Engine.Heal(cni.Scope{}, func(e wire.HealEvent) { did = append(did, e.Did+e.Error) }); err != nil && len(did) == 0 {
			t.Fatal(err)
		}
		return did
	}
	want := func(list ...string) {
		t.Helper()
		if got := heal(); !slices.Equal(got, list) {
			t.Errorf("healing did %v, want %v", got, list)
		}
	}
	want(wire.Lost)
	want() // its interface is there
	w.Vanish("c1")
	want(wire.Left) // for now
	lost, err := w.Store.Get(r.Attachment, "dmacvlan")
	if err != nil {
		t.Fatal(err)
	}
	lost.Since = lost.Since.Add(-grace)
	if err := w.Store.Put(lost); err != nil {
		t.Fatal(err)
	}
	want(wire.Reaped)
	if after := w.State(t); strings.Contains(after, "/attachments/") || strings.Contains(after, "/leases/") {
		t.Errorf("left:\n%s", after)
	}
}

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
