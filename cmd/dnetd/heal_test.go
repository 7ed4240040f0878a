package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dcni/pkg/firewall"
	"dcni/pkg/host/watch"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// healFixture is a healer with records, whose runs are written down instead of run.
type healFixture struct {
	*healer
	t    *testing.T
	runs []string
	did  []wire.HealEvent // what each run reports
	said bytes.Buffer     // the log
}

func newHealFixture(t *testing.T) *healFixture {
	dir := t.TempDir()
	r := &healFixture{t: t}
	store := records.Store{Run: filepath.Join(dir, "run"), Lib: filepath.Join(dir, "lib")}
	r.healer = newHealer(records.NewCachedStore(store), slog.New(slog.NewTextHandler(&r.said, nil)))
	r.run = func(_ context.Context, program string, args []string) ([]wire.HealEvent, error) {
		r.runs = append(r.runs, strings.Join(append([]string{filepath.Base(program)}, args...), " "))
		return r.did, nil
	}
	return r
}

// attach writes a record.
func (r *healFixture) attach(plugin, network, container string) wire.Attachment {
	r.t.Helper()
	a := wire.Attachment{Network: network, Container: container, IfName: "eth0"}
	rec := &records.Record{Attachment: a, Plugin: plugin, State: records.Up, Program: "/opt/cni/bin/" + plugin}
	if plugin == "dbridge" {
		rec.Firewall = &firewall.Network{Name: network, Bridge: "br-" + network}
	}
	if err := r.store.Put(rec); err != nil {
		r.t.Fatal(err)
	}
	return a
}

// after returns the runs that hints bring.
func (r *healFixture) after(hints ...watch.Event) []string {
	r.runs = nil
	clear(r.due)
	r.understand(hints)
	r.visit(context.Background())
	return r.runs
}

// TestHealTargets: a hint has those plugins run that may know, and no more than
// what may be concerned is looked at.
func TestHealTargets(t *testing.T) {
	r := newHealFixture(t)
	c1 := r.attach("dbridge", "web", "c1")
	r.attach("ddns", "web", "c1")
	c2 := r.attach("dbridge", "web", "c2")
	r.attach("dbridge", "db", "c2")
	r.attach("dnone", "none", "c3")
	all := []string{"dbridge", "ddns", "dnone"}
	for _, c := range []struct {
		hints []watch.Event
		want  []string
	}{
		{[]watch.Event{{What: watch.Anything}}, all},
		{[]watch.Event{{What: watch.Rules}, {What: watch.Link, Link: c1.HostLink()}}, all},
		{[]watch.Event{{What: watch.Forwarding}}, all},
		{[]watch.Event{{What: watch.Link, Link: c1.HostLink()}}, []string{"dbridge web/c1/eth0", "ddns web/c1/eth0"}},
		{[]watch.Event{{What: watch.Inside, Link: c2.HostLink()}}, []string{"dbridge web/c2/eth0"}},
		{[]watch.Event{{What: watch.Link, Link: c1.HostLink()}, {What: watch.Inside, Link: c2.HostLink()}}, []string{"dbridge web/c1/eth0 web/c2/eth0", "ddns web/c1/eth0"}},
		{[]watch.Event{{What: watch.Link, Link: "br-db"}}, []string{"dbridge db"}},
		{[]watch.Event{{What: watch.Link, Link: "br-web"}}, []string{"dbridge web", "ddns web"}},
		{[]watch.Event{{What: watch.Link, Link: "docker0"}, {What: watch.Link, Link: "v00000000000000"}}, nil}, // no records tell of them
	} {
		if got := r.after(c.hints...); !slices.Equal(got, c.want) {
			t.Errorf("%v: ran %q, want %q", c.hints, got, c.want)
		}
	}
}

// TestHealLeavesAlone: who is being attached or deleted is looked at when that
// is done, and is forgotten if it is gone by then.
func TestHealLeavesAlone(t *testing.T) {
	r := newHealFixture(t)
	c1 := r.attach("dbridge", "web", "c1")
	hint := watch.Event{What: watch.Link, Link: c1.HostLink()}
	lock, err := r.store.LockAttachment(c1)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.after(hint); got != nil || r.due[target{c1}] == nil {
		t.Errorf("while it is locked: ran %q, due %v", got, r.due)
	}
	lock.Unlock()
	r.due[target{c1}].at = time.Now()
	if r.visit(t.Context()); !slices.Equal(r.runs, []string{"dbridge web/c1/eth0"}) || len(r.due) > 0 {
		t.Errorf("when it is free: ran %q, due %v", r.runs, r.due)
	}

	lock, err = r.store.LockAttachment(c1)
	if err != nil {
		t.Fatal(err)
	}
	r.after(hint)
	if err := r.store.Delete(c1, "dbridge"); err != nil {
		t.Fatal(err)
	}
	lock.Unlock()
	r.due[target{c1}].at = time.Now()
	if r.visit(t.Context()); r.runs != nil || len(r.due) > 0 {
		t.Errorf("when it is gone: ran %q, due %v", r.runs, r.due)
	}

	// What a run had to leave is looked at again as well.
	r.attach("dbridge", "web", "c1")
	r.did = []wire.HealEvent{{Attachment: c1, Did: wire.Left}}
	if r.after(hint); r.due[target{c1}] == nil || r.counts.Failed.Load() > 0 {
		t.Errorf("left: due %v", r.due)
	}
}

// TestHealSlowsDown: what comes back and goes at once is not put back for ever as
// fast as can be; the log says so once.
func TestHealSlowsDown(t *testing.T) {
	r := newHealFixture(t)
	c1 := r.attach("dbridge", "web", "c1")
	r.attach("dbridge", "web", "c2")
	r.did = []wire.HealEvent{{Attachment: c1, Did: wire.PutBack, Object: "route"}}
	hint := watch.Event{What: watch.Inside, Link: c1.HostLink()}
	ran := 0
	for range 10 * healBurst {
		ran += len(r.after(hint))
	}
	if ran != healBurst {
		t.Errorf("%d runs, want %d", ran, healBurst)
	}
	if v := r.due[target{c1}]; v == nil || time.Until(v.at) < healRefill/2 || time.Until(v.at) > healRefill {
		t.Errorf("due %+v", r.due)
	}
	if n := strings.Count(r.said.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings: %s", n, r.said.String())
	}
	if n := r.counts.PutBack.Load(); n != healBurst {
		t.Errorf("%d counted", n)
	}
	other := watch.Event{What: watch.Inside, Link: wire.Attachment{Network: "web", Container: "c2", IfName: "eth0"}.HostLink()}
	if got := r.after(other); len(got) != 1 {
		t.Errorf("another waits for it: %q", got)
	}
	for _, b := range r.brakes {
		b.at = b.at.Add(-healRefill)
	}
	if got := r.after(hint); len(got) != 1 {
		t.Errorf("later: %q", got)
	}
	// Runs that find nothing amiss count for little.
	c3 := r.attach("dbridge", "web", "c3")
	r.did = nil
	ran = 0
	for range 20 * healBurst {
		ran += len(r.after(watch.Event{What: watch.Inside, Link: c3.HostLink()}))
	}
	if least, most := 9*healBurst, 11*healBurst; ran < least || ran > most {
		t.Errorf("%d runs that find nothing, want %d to %d", ran, least, most)
	}
}

// TestHealSlowsDownEach: who is bad is slowed down in whatever company, and the
// company is not.
func TestHealSlowsDownEach(t *testing.T) {
	r := newHealFixture(t)
	bad := r.attach("dbridge", "web", "bad")
	r.did = []wire.HealEvent{{Attachment: bad, Did: wire.PutBack, Object: "route"}}
	ran, others := 0, 0
	const n = 3 * healBurst
	for i := range n {
		other := r.attach("dbridge", "web", fmt.Sprintf("c%d", i%10))
		for _, run := range r.after(watch.Event{What: watch.Inside, Link: bad.HostLink()}, watch.Event{What: watch.Inside, Link: other.HostLink()}) {
			ran += strings.Count(run, "/bad/")
			others += strings.Count(run, "/c")
		}
	}
	if ran != healBurst || others != n {
		t.Errorf("%d runs for the bad one, want %d, and %d for others, want %d", ran, healBurst, others, n)
	}
}

// TestHealLogIsBounded: what comes and goes as slowly as it may do for ever is
// counted, and does not fill the log.
func TestHealLogIsBounded(t *testing.T) {
	r := newHealFixture(t)
	c1 := r.attach("dbridge", "web", "c1")
	c2 := r.attach("dbridge", "web", "c2")
	r.did = []wire.HealEvent{{Attachment: c1, Did: wire.PutBack, Object: "route"}}
	const n = 10 * healBurst
	for range n {
		r.after(watch.Event{What: watch.Inside, Link: c1.HostLink()})
		for _, b := range r.brakes {
			b.at = b.at.Add(-healRefill)
		}
	}
	if lines := strings.Count(r.said.String(), "put back"); lines != healBurst || r.counts.PutBack.Load() != n {
		t.Errorf("%d lines, want %d; counted %d, want %d", lines, healBurst, r.counts.PutBack.Load(), n)
	}
	if lines := strings.Count(r.said.String(), "more="); lines != 1 {
		t.Errorf("%d lines say that there will be less", lines)
	}
	r.did = []wire.HealEvent{{Attachment: c2, Did: wire.PutBack, Object: "route"}}
	if r.after(watch.Event{What: watch.Inside, Link: c2.HostLink()}); !strings.Contains(r.said.String(), "container=c2") {
		t.Error("no line about another")
	}
	for _, b := range r.lines {
		b.at = b.at.Add(-healLine)
	}
	r.did = []wire.HealEvent{{Attachment: c1, Did: wire.PutBack, Object: "route"}}
	if r.after(watch.Event{What: watch.Rules}); strings.Count(r.said.String(), "container=c1") != healBurst+1 {
		t.Error("no line five minutes later")
	}
}

func TestHealComplainsOnce(t *testing.T) {
	r := newHealFixture(t)
	c1 := r.attach("dbridge", "web", "c1")
	r.did = []wire.HealEvent{{Attachment: c1, Did: wire.PutBack, Object: "link", Error: "no such device"}}
	for range 3 {
		r.after(watch.Event{What: watch.Rules})
	}
	if n := strings.Count(r.said.String(), "no such device"); n != 1 || r.counts.Failed.Load() != 3 {
		t.Errorf("said %d times, counted %d", n, r.counts.Failed.Load())
	}
}

// TestCoarse: a command line does not grow with the number of containers.
func TestCoarse(t *testing.T) {
	var args []string
	for i := range healBatch + 1 {
		args = append(args, fmt.Sprintf("web/c%d/eth0", i))
	}
	if got := coarse(slices.Clone(args[1:])); !slices.Equal(got, args[1:]) {
		t.Errorf("got %q", got)
	}
	if got := coarse(append(args, "db/c1/eth0")); !slices.Equal(got, []string{"db", "web"}) {
		t.Errorf("got %q", got)
	}
}

// TestTrusted: a record's program is run only if nobody but root, or who owns
// dnetd, can have put it there.
func TestTrusted(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte("#!/bin/sh\n"), 0o600), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, open := file("good", 0o755), file("open", 0o777)
	link := filepath.Join(dir, "link")
	if err := os.Symlink(good, link); err != nil {
		t.Fatal(err)
	}
	cases := map[string]string{
		open: "must be root's, and nobody else's to write to", link: "must be a file", dir: "must be a file",
		"dbridge": "must be an absolute path", filepath.Join(dir, "gone"): "no such file",
	}
	if os.Getuid() == 0 {
		cases[good] = ""
		others := file("others", 0o755)
		if err := os.Chown(others, 1234, 1234); err != nil {
			t.Fatal(err)
		}
		cases[others] = "must be root's"
	}
	for path, want := range cases {
		if err := trusted(path); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
}

// TestRunHeal reads what a plugin prints, and what it does not.
func TestRunHeal(t *testing.T) {
	for _, c := range []struct {
		script string
		n      int
		want   string
	}{
		{`echo '{"network":"web","container":"c1","ifName":"eth0","did":"put back","object":"x"}'; echo '{"network":"web","did":"collected"}'`, 2, ""},
		{`echo '{"network":"web","did":"put back","error":"no"}'; exit 1`, 1, ""},
		{`echo broken >&2; exit 1`, 0, "heal: exit status 1: broken"},
		{`echo nonsense`, 0, "what it prints"},
		{`[ "$*" = "heal web db/c1/eth0" ] || exit 1`, 0, ""},
	} {
		path := filepath.Join(t.TempDir(), "plugin")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+c.script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		if os.Getuid() != 0 {
			t.Skip("not root: nothing else is run")
		}
		list, err := runHeal(t.Context(), path, []string{"web", "db/c1/eth0"})
		if len(list) != c.n || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v", c.script, list, err)
		}
	}
}
