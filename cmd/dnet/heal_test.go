package main

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"dcni/pkg/records"
)

// TestHeal cleans up after containers whose dnet was killed, whichever command
// comes next, and leaves alone those whose dnet runs.
func TestHeal(t *testing.T) {
	f := newFixture(t)
	f.plugin("first", "")
	f.plugin("second", "")
	someContainers(f) // with their dnets
	gone := records.Process{PID: 1, Start: 1}
	f.runs(strings.Repeat("c1", 32), "killed", gone)
	f.runs(strings.Repeat("c2", 32), "forgettable", gone)
	f.runs(strings.Repeat("c3", 32), "starting", gone)
	for id, change := range map[string]func(*records.Container){
		"c2": func(c *records.Container) { c.Remove = true },
		"c3": func(c *records.Container) { c.Stage = records.Created },
	} {
		c, err := f.store.Container(strings.Repeat(id, 32))
		f.must(err)
		change(c)
		f.must(f.store.PutContainer(c))
	}
	f.mkdir("run/containers/" + strings.Repeat("d1", 32)) // its record was never written
	shown := call{"ps -a --format '{{.Names}} {{.State}} {{.Status}}'", 0,
		"new created Created\nweb running Up 2 minutes\nold exited Exited (3) 40 minutes ago\nkilled exited Exited (137) ...", ""}
	f.check([]call{shown})
	if got := f.calls(); got != "" {
		t.Errorf("ps changes something:\n%s", got)
	}
	f.check([]call{{"rm -f nosuch", 0, "", ""}, shown})
	if got := f.calls(); strings.Count(got, " DEL ") != 6 || strings.Contains(got, idWeb) {
		t.Errorf("plugins called:\n%s", got)
	}
	if f.exists("run/containers/" + strings.Repeat("d1", 32)) {
		t.Error("a folder without a record is still there")
	}
	f.check([]call{{"rm -f nosuch", 0, "", ""}})
	if got := f.calls(); got != "" {
		t.Errorf("plugins called again:\n%s", got)
	}
}

// TestHealForeignVersion passes over a plugin that knows no such version: it did
// nothing for a container that never ran, and would refuse for ever.
func TestHealForeignVersion(t *testing.T) {
	f := newFixture(t)
	f.plugin("first", "")
	f.plugin("second", `echo '{"cniVersion": "1.0.0", "code": 1, "msg": "incompatible CNI versions"}'; exit 1`)
	f.runs(idWeb, "web", records.Process{PID: 1, Start: 1})
	f.check([]call{{"rm -f nosuch", 0, "", "dnet: warning: clean up container web: network lab: incompatible CNI versions\n"}})
	c, err := f.store.Container(idWeb)
	f.must(err)
	c.Stage = records.Created
	f.must(f.store.PutContainer(c))
	f.calls()
	f.check([]call{{"rm -f nosuch", 0, "", ""}})
	if got, want := f.calls(), "second DEL "+idWeb+" eth0 no-netns\nfirst DEL "+idWeb+" eth0 no-netns\n"; got != want {
		t.Errorf("plugins called:\n%s, want\n%s", got, want)
	}
}

// TestHealBroken moves a record away that can't be read, and goes on.
func TestHealBroken(t *testing.T) {
	f := newFixture(t)
	someContainers(f)
	f.must(os.WriteFile(f.dir+"/run/containers/"+idOld+"/config.json", []byte("{"), 0o600))
	f.check([]call{
		{"ps -a --format '{{.Names}} {{.Status}}'", 0, idOld[:12] + " Exited (its record can't be read)\nnew Created\nweb Up 2 minutes\n", "dnet: warning: DIR/run/containers/" + idOld + "/config.json can't be read: unexpected end of JSON input\n"},
		{"rm -f nosuch", 0, "", ""}, {"ps -a --format {{.Names}}", 0, "new\nweb\n", ""},
	})
	if _, err := os.Stat(f.dir + "/run/unreadable/containers+" + idOld + "+config.json"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(f.dir + "/run/containers/" + idOld); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the container's folder is there still")
	}
}

// TestHealNeverWaits: a FIFO in the place of what libcni remembers holds nothing up.
func TestHealNeverWaits(t *testing.T) {
	f := newFixture(t)
	f.plugin("first", "")
	f.plugin("second", "")
	f.runs(idWeb, "web", records.Process{PID: 1, Start: 1})
	f.mkdir("run/containers/" + idWeb + "/results")
	f.must(syscall.Mkfifo(f.dir+"/run/containers/"+idWeb+"/results/lab-"+idWeb+"-eth0", 0o600))
	f.check([]call{{"rm -f nosuch", 0, "", ""}})
	if got := f.stage(idWeb); got != records.Exited {
		t.Errorf("stage %q", got)
	}
}
