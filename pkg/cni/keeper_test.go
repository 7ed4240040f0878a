package cni_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dcni/pkg/cni"
	"dcni/pkg/cni/cnitest"
	"dcni/pkg/ipam"
	"dcni/pkg/mode/bridge"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// nowhere is a host that has nothing.
type nowhere struct{}

func (nowhere) Routes() ([]ipam.HostRoute, error) { return nil, nil }
func (nowhere) Nameservers() []netip.Addr         { return nil }
func (nowhere) ID() string                        { return "host" }

// keeper is an IPAM plugin that has a file for each container with an address.
const keeper = `#!/bin/sh
lease=$(dirname "$0")/leases/$CNI_CONTAINERID
case $CNI_COMMAND in
ADD) mkdir -p "$(dirname "$lease")"; : >"$lease"; echo '{"cniVersion": "1.1.0", "ips": [{"address": "10.1.0.9/24", "gateway": "10.1.0.1"}]}';;
DEL) rm -f "$lease";;
esac
`

const keeperConf = `{"cniVersion": "1.1.0", "name": "web", "type": "dbridge", "ipam": {"type": "keeper"}}`

// kept is a world in which c1 is attached with an address of the keeper, which is beside the
// plugin.
func kept(t *testing.T) (w *cnitest.World, r *cni.Request, file string, leased func() bool) {
	t.Helper()
	w = cnitest.NewWorld(t, bridge.Plugin)
	dir := t.TempDir()
	file = filepath.Join(dir, "keeper")
	if err := errors.Join(os.WriteFile(file, []byte(keeper), 0o755), os.Chmod(file, 0o755)); err != nil {
		t.Fatal(err)
	}
	w.Engine.Source, w.Engine.Program = cni.Source(w.Store, nowhere{}, nil), filepath.Join(dir, "dbridge")
	r = w.Request(t, "c1", keeperConf)
	r.Path = dir
	if _, err := w.Engine.Add(r); err != nil {
		t.Fatal(err)
	}
	return w, r, file, func() bool {
		_, err := os.Stat(filepath.Join(dir, "leases", "c1"))
		return err == nil
	}
}

// TestKeeperMissing: what an IPAM plugin of another suite gave stays on record until it has
// taken that back. All the rest of the attachment goes at once.
func TestKeeperMissing(t *testing.T) {
	w, r, file, leased := kept(t)
	if err := os.Rename(file, file+".away"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.Engine.Del(r); err == nil || !strings.Contains(err.Error(), "no such plugin") {
			t.Errorf("DEL without the plugin: %v", err)
		}
	}
	if rec, err := w.Store.Get(r.Attachment, "dbridge"); err != nil || rec.State != records.Deleting || strings.Contains(w.Host.String(), "c1/eth0") || !leased() {
		t.Errorf("after it: %+v, %v, and there is\n%s", rec, err, w.Host)
	}
	unknown := w.Request(t, "c2", keeperConf)
	unknown.Path = r.Path
	if err := w.Engine.Del(unknown); err != nil {
		t.Errorf("DEL of what was never attached: %v", err)
	}
	if err := errors.Join(os.Rename(file+".away", file), w.Engine.Del(r)); err != nil || leased() {
		t.Errorf("DEL with the plugin: %v", err)
	}
	if _, err := w.Store.Get(r.Attachment, "dbridge"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its record: %v", err)
	}
}

// TestKeeperLast: an address is taken back once nothing of the attachment can be there.
func TestKeeperLast(t *testing.T) {
	w, r, _, leased := kept(t)
	step := w.Host.Step
	w.Host.Step = func(op string, o wire.Object) error {
		if op == "remove" {
			return errors.New("device busy")
		}
		return step(op, o)
	}
	if err := w.Engine.Del(r); err == nil || !leased() {
		t.Errorf("what could not be removed: %v, and its address is leased: %t", err, leased())
	}
	w.Host.Step = step
	if err := w.Engine.Del(r); err != nil || leased() {
		t.Errorf("%v", err)
	}
}

// TestKeeperReaped: healing has the plugin that is beside ours take the address back, if only
// root, or the owner of ours, can have put it there.
func TestKeeperReaped(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(file string) error
		want  string // error
	}{
		"there":     {func(string) error { return nil }, ""},
		"missing":   {os.Remove, "no such plugin"},
		"untrusted": {func(file string) error { return os.Chmod(file, 0o777) }, "must be root's, and no other user's to write to"},
	} {
		w, r, file, leased := kept(t)
		w.Vanish("c1")
		changed(t, w, r.Attachment, func(rec *records.Record) { rec.SinceBoot -= time.Minute })
		if err := c.spoil(file); err != nil {
			t.Fatal(err)
		}
		var events []wire.HealEvent
		if err := w.Engine.Heal(cni.Scope{}, func(e wire.HealEvent) { events = append(events, e) }); err != nil {
			t.Fatal(err)
		}
		if len(events) != 1 || events[0].Did != wire.Reaped || !strings.Contains(events[0].Error, c.want) || (events[0].Error == "") != (c.want == "") {
			t.Errorf("%s: %q", name, events)
		}
		_, err := w.Store.Get(r.Attachment, "dbridge")
		if gone := errors.Is(err, os.ErrNotExist); gone != (c.want == "") || leased() == gone {
			t.Errorf("%s: its record: %v; it is leased: %t", name, err, leased())
		}
	}
}
