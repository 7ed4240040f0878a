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
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/records/disk"
	"dcni/pkg/wire"
)

// TestReapLost: healing deletes an attachment whose record can't be read once no namespace
// has its interface any more, and not before. Its address is free then.
func TestReapLost(t *testing.T) {
	const grace = time.Minute
	for _, c := range []struct {
		plugin *network.Plugin
		conf   string
	}{{macvlan.Plugin, fmt.Sprintf(lanConf, "")}, {bridge.Plugin, bridgeConf("")}} {
		w := cnitest.NewWorld(t, c.plugin)
		r := w.Request(t, "c1", c.conf)
		if _, err := w.Engine.Add(r); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(w.Store.Run, "attachments/web/c1/eth0", c.plugin.Type+".json"), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		was := ""
		heal := func() (did []string) {
			if err := w.Engine.Heal(cni.Scope{}, func(e wire.HealEvent) { did, was = append(did, e.Did+e.Error), e.Was }); err != nil && len(did) == 0 {
				t.Fatal(err)
			}
			return did
		}
		want := func(list ...string) {
			t.Helper()
			if got := heal(); !slices.Equal(got, list) {
				t.Errorf("%s: healing did %v, want %v", c.plugin.Type, got, list)
			}
		}
		want(wire.Lost)
		want() // its interface is there
		w.Vanish("c1")
		want(wire.Left) // for now
		lost, err := w.Store.Get(r.Attachment, c.plugin.Type)
		if err != nil {
			t.Fatal(err)
		}
		lost.Since = lost.Since.Add(-grace)
		if err := w.Store.Put(lost); err != nil {
			t.Fatal(err)
		}
		want(wire.Reaped)
		if was != "its record is lost, and its interface is gone" {
			t.Errorf("%s: it was so: %s", c.plugin.Type, was)
		}
		if after := w.State(t); strings.Contains(after, "/attachments/") || strings.Contains(after, "/leases/") {
			t.Errorf("%s: left:\n%s", c.plugin.Type, after)
		}
	}
}

// TestReapNot: an attachment is not taken for one whose sandbox is gone as long as its sandbox
// is at its path, nor if it is not known which one that is. What a verb is at work on is left.
func TestReapNot(t *testing.T) {
	for name, c := range map[string]struct {
		vanish bool
		change func(r *records.Record)
		locked bool
		did    []string
	}{
		"alive, without its link": {did: []string{wire.PutBack}},
		"not known":               {vanish: true, change: func(r *records.Record) { r.Cookie = 0 }},
		"locked":                  {vanish: true, locked: true, did: []string{wire.Left}},
		"gone":                    {vanish: true, did: []string{wire.Reaped}},
	} {
		w := cnitest.NewWorld(t, bridge.Plugin)
		r := w.Request(t, "c1", bridgeConf(""))
		if _, err := w.Engine.Add(r); err != nil {
			t.Fatal(err)
		}
		changed(t, w, r.Attachment, func(rec *records.Record) {
			rec.SinceBoot -= time.Minute
			if c.change != nil {
				c.change(rec)
			}
		})
		w.Host.Lose("link " + r.HostLink())
		if c.vanish {
			w.Vanish("c1")
		}
		if c.locked {
			lock, err := w.Store.LockAttachment(r.Attachment)
			if err != nil {
				t.Fatal(err)
			}
			defer lock.Unlock()
		}
		var did []string
		if err := w.Engine.Heal(cni.Scope{}, func(e wire.HealEvent) {
			if e.Container != "" && e.Error == "" {
				did = append(did, e.Did)
			}
		}); err != nil {
			t.Fatal(err)
		}
		if did = slices.Compact(did); !slices.Equal(did, c.did) {
			t.Errorf("%s: did %v, want %v", name, did, c.did)
		}
		if _, err := w.Store.Get(r.Attachment, "dbridge"); (err == nil) == (name == "gone") {
			t.Errorf("%s: its record: %v", name, err)
		}
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
