package main

import (
	"os"
	"strings"
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
	f.check([]call{{"ps -a --format '{{.Names}} {{.State}} {{.Status}}'", 0,
		"new created Created\nweb running Up 2 minutes\nold exited Exited (3) 40 minutes ago\nkilled exited Exited (137) ...", ""}})
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
	f.check([]call{{"ps -aq", 0, "a1a1a1a1a1a1\n", "dnet: warning: clean up container web: network lab: incompatible CNI versions\n"}})
	c, err := f.store.Container(idWeb)
	f.must(err)
	c.Stage = records.Created
	f.must(f.store.PutContainer(c))
	f.calls()
	f.check([]call{{"ps -aq", 0, "", ""}})
	if got, want := f.calls(), "second DEL "+idWeb+" eth0 no-netns\nfirst DEL "+idWeb+" eth0 no-netns\n"; got != want {
		t.Errorf("plugins called:\n%s, want\n%s", got, want)
	}
}

// TestHealWarns tells of records that can't be read, and goes on.
func TestHealWarns(t *testing.T) {
	f := newFixture(t)
	someContainers(f)
	f.must(os.WriteFile(f.dir+"/run/containers/"+idOld+"/config.json", []byte("{"), 0o600))
	status, stdout, stderr := f.dnet("ps -a --format {{.Names}}")
	if status != 0 || stdout != "new\nweb\n" || !printed(stderr, "dnet: warning: ...") || !strings.Contains(stderr, idOld) {
		t.Errorf("status %d, %q, %q", status, stdout, stderr)
	}
}
