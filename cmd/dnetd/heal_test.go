package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"dcni/pkg/cni"
	"dcni/pkg/firewall"
	"dcni/pkg/host/watch"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// healFixture is a healer with records, whose runs are noted and heal nothing.
type healFixture struct {
	*healer
	t      *testing.T
	runs   []string
	events []wire.HealEvent // what each run reports
	logged bytes.Buffer
	later  time.Duration // how far the clock of its limiters is ahead
}

func newHealFixture(t *testing.T) *healFixture {
	dir := t.TempDir()
	r := &healFixture{t: t}
	store := records.Store{Run: filepath.Join(dir, "run"), Lib: filepath.Join(dir, "lib")}
	r.healer = newHealer(records.NewCachedStore(store), slog.New(slog.NewTextHandler(&r.logged, nil)))
	start := time.Now()
	r.now = func() time.Time { return start.Add(r.later) }
	r.run = func(p *network.Plugin, s cni.Scope, report func(wire.HealEvent)) error {
		run := append([]string{p.Type}, s.Networks...)
		for _, a := range s.Attachments {
			run = append(run, healKey{a}.String())
		}
		r.runs = append(r.runs, strings.Join(run, " "))
		for _, event := range r.events {
			report(event)
		}
		return nil
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

// after returns the runs that events bring.
func (r *healFixture) after(events ...watch.Event) []string {
	r.runs = nil
	clear(r.queue)
	r.resolve(events)
	r.healDue(context.Background())
	return r.runs
}

// An event brings runs of the plugins that have records of what it is about, and no
// more is healed than that.
func TestHealKeys(t *testing.T) {
	r := newHealFixture(t)
	c1 := r.attach("dbridge", "web", "c1")
	r.attach("ddns", "web", "c1")
	c2 := r.attach("dbridge", "web", "c2")
	r.attach("dbridge", "db", "c2")
	r.attach("dnone", "none", "c3")
	all := []string{"dbridge", "dnone", "ddns"}
	for _, c := range []struct {
		events []watch.Event
		want   []string
	}{
		{[]watch.Event{{What: watch.Anything}}, all},
		{[]watch.Event{{What: watch.Rules}, {What: watch.Link, Link: c1.HostLink()}}, all},
		{[]watch.Event{{What: watch.Forwarding}}, all},
		{[]watch.Event{{What: watch.Link, Link: c1.HostLink()}}, []string{"dbridge web/c1/eth0", "ddns web/c1/eth0"}},
		{[]watch.Event{{What: watch.Inside, Link: c2.HostLink()}}, []string{"dbridge web/c2/eth0"}},
		{[]watch.Event{{What: watch.Link, Link: c1.HostLink()}, {What: watch.Inside, Link: c2.HostLink()}}, []string{"dbridge web/c1/eth0 web/c2/eth0", "ddns web/c1/eth0"}},
		{[]watch.Event{{What: watch.Link, Link: "br-db"}}, []string{"dbridge db"}},
		{[]watch.Event{{What: watch.Link, Link: "br-web"}}, []string{"dbridge web", "ddns web"}},
		{[]watch.Event{{What: watch.Link, Link: "docker0"}, {What: watch.Link, Link: "veth00000000000"}}, nil}, // not on record
	} {
		if got := r.after(c.events...); !slices.Equal(got, c.want) {
			t.Errorf("%v: ran %q, want %q", c.events, got, c.want)
		}
	}
}

// An lo that was lowered may be that of containers which have joined the sandbox: these are
// healed, whichever sandbox it was, and no others.
func TestHealGuests(t *testing.T) {
	r := newHealFixture(t)
	r.attach("dbridge", "web", "c1")
	if got := r.after(watch.Event{What: watch.Lo}); len(got) > 0 {
		t.Errorf("without guests: ran %q", got)
	}
	r.attach("dcontainer", "joined", "c4")
	r.attach("dhost", "host", "c5")
	if got := r.after(watch.Event{What: watch.Lo}); len(got) > 0 {
		t.Errorf("at once: ran %q", got)
	}
	for _, item := range r.queue {
		item.at = item.at.Add(-healGuests)
	}
	if r.healDue(t.Context()); !slices.Equal(r.runs, []string{"dcontainer joined/c4/eth0"}) {
		t.Errorf("a while later: ran %q", r.runs)
	}
}

// An attachment that a plugin is at work on is healed when that is done, unless it
// is gone by then.
func TestHealLeavesAlone(t *testing.T) {
	r := newHealFixture(t)
	c1 := r.attach("dbridge", "web", "c1")
	event := watch.Event{What: watch.Link, Link: c1.HostLink()}
	lock, err := r.store.LockAttachment(c1)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.after(event); got != nil || r.queue[healKey{c1}] == nil {
		t.Errorf("while it is locked: ran %q, queue %v", got, r.queue)
	}
	lock.Unlock()
	r.queue[healKey{c1}].at = time.Now()
	if r.healDue(t.Context()); !slices.Equal(r.runs, []string{"dbridge web/c1/eth0"}) || len(r.queue) > 0 {
		t.Errorf("when it is free: ran %q, queue %v", r.runs, r.queue)
	}

	lock, err = r.store.LockAttachment(c1)
	if err != nil {
		t.Fatal(err)
	}
	r.after(event)
	if err := r.store.Delete(c1, "dbridge"); err != nil {
		t.Fatal(err)
	}
	lock.Unlock()
	r.queue[healKey{c1}].at = time.Now()
	if r.healDue(t.Context()); r.runs != nil || len(r.queue) > 0 {
		t.Errorf("when it is gone: ran %q, queue %v", r.runs, r.queue)
	}

	// What a run had to leave is healed again as well.
	r.attach("dbridge", "web", "c1")
	r.events = []wire.HealEvent{{Attachment: c1, Did: wire.Left}}
	if r.after(event); r.queue[healKey{c1}] == nil || r.counts.Failed.Load() > 0 {
		t.Errorf("left: queue %v", r.queue)
	}
}

// An object that is removed again and again is not put back as fast as possible for
// ever. The log says so once.
func TestHealIsThrottled(t *testing.T) {
	r := newHealFixture(t)
	c1 := r.attach("dbridge", "web", "c1")
	r.attach("dbridge", "web", "c2")
	r.events = []wire.HealEvent{{Attachment: c1, Did: wire.PutBack, Object: "route"}}
	event := watch.Event{What: watch.Inside, Link: c1.HostLink()}
	ran := 0
	for range 10 * healBurst {
		ran += len(r.after(event))
	}
	if ran != healBurst {
		t.Errorf("%d runs, want %d", ran, healBurst)
	}
	if v := r.queue[healKey{c1}]; v == nil || time.Until(v.at) < healRefill/2 || time.Until(v.at) > healRefill {
		t.Errorf("queue %+v", r.queue)
	}
	if n := strings.Count(r.logged.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings: %s", n, r.logged.String())
	}
	if n := r.counts.PutBack.Load(); n != healBurst {
		t.Errorf("%d counted", n)
	}
	other := watch.Event{What: watch.Inside, Link: wire.Attachment{Network: "web", Container: "c2", IfName: "eth0"}.HostLink()}
	if got := r.after(other); len(got) != 1 {
		t.Errorf("another is throttled with it: %q", got)
	}
	r.later += healRefill
	if got := r.after(event); len(got) != 1 {
		t.Errorf("later: %q", got)
	}
	// Runs that find nothing amiss count for little.
	c3 := r.attach("dbridge", "web", "c3")
	r.events = nil
	ran = 0
	for range 20 * healBurst {
		ran += len(r.after(watch.Event{What: watch.Inside, Link: c3.HostLink()}))
	}
	if least, most := 9*healBurst, 11*healBurst; ran < least || ran > most {
		t.Errorf("%d runs that find nothing, want %d to %d", ran, least, most)
	}
}

// An attachment that something keeps changing is throttled although others are healed
// with it, and those are not.
func TestHealThrottlesEach(t *testing.T) {
	r := newHealFixture(t)
	bad := r.attach("dbridge", "web", "bad")
	r.events = []wire.HealEvent{{Attachment: bad, Did: wire.PutBack, Object: "route"}}
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
		t.Errorf("%d runs for the one that is changed, want %d, and %d for others, want %d", ran, healBurst, others, n)
	}
}

// An object that is removed for ever, as slowly as it may be, is counted, and does not
// fill the log.
func TestHealLogIsBounded(t *testing.T) {
	r := newHealFixture(t)
	c1 := r.attach("dbridge", "web", "c1")
	c2 := r.attach("dbridge", "web", "c2")
	r.events = []wire.HealEvent{{Attachment: c1, Did: wire.PutBack, Object: "route"}}
	const n = 10 * healBurst
	for range n {
		r.after(watch.Event{What: watch.Inside, Link: c1.HostLink()})
		clear(r.limiters) // as if it came slowly
	}
	if lines := strings.Count(r.logged.String(), "put back"); lines != healBurst || r.counts.PutBack.Load() != n {
		t.Errorf("%d lines, want %d; counted %d, want %d", lines, healBurst, r.counts.PutBack.Load(), n)
	}
	if lines := strings.Count(r.logged.String(), "more="); lines != 1 {
		t.Errorf("%d lines say that there will be less", lines)
	}
	r.events = []wire.HealEvent{{Attachment: c2, Did: wire.PutBack, Object: "route"}}
	if r.after(watch.Event{What: watch.Inside, Link: c2.HostLink()}); !strings.Contains(r.logged.String(), "container=c2") {
		t.Error("no line about another")
	}
	r.later += healLine
	r.events = []wire.HealEvent{{Attachment: c1, Did: wire.PutBack, Object: "route"}}
	if r.after(watch.Event{What: watch.Rules}); strings.Count(r.logged.String(), "container=c1") != healBurst+1 {
		t.Error("no line five minutes later")
	}
}

// An error is logged once, and counted each time.
func TestHealLogsOnce(t *testing.T) {
	r := newHealFixture(t)
	c1 := r.attach("dbridge", "web", "c1")
	r.events = []wire.HealEvent{{Attachment: c1, Did: wire.PutBack, Object: "link", Error: "no such device"}}
	for range 3 {
		r.after(watch.Event{What: watch.Rules})
	}
	if n := strings.Count(r.logged.String(), "no such device"); n != 1 || r.counts.Failed.Load() != 3 {
		t.Errorf("logged %d times, counted %d", n, r.counts.Failed.Load())
	}
}

// A panic of one plugin's engine is logged, and the next plugin's records are healed.
func TestHealPanics(t *testing.T) {
	r := newHealFixture(t)
	r.attach("dbridge", "web", "c1")
	r.attach("ddns", "web", "c1")
	run := r.run
	r.run = func(p *network.Plugin, s cni.Scope, report func(wire.HealEvent)) error {
		if p.Type == "dbridge" {
			panic("injected")
		}
		return run(p, s, report)
	}
	if got := r.after(watch.Event{What: watch.Anything}); !slices.Equal(got, []string{"ddns"}) {
		t.Errorf("ran %q", got)
	}
	if !strings.Contains(r.logged.String(), "panic: injected") {
		t.Errorf("logged %s", r.logged.String())
	}
}

// An engine that waits for a lock does not keep dnetd from ending.
func TestHealWhileEnding(t *testing.T) {
	r := newHealFixture(t)
	r.attach("dbridge", "web", "c1")
	ctx, cancel := context.WithCancel(t.Context())
	waits := make(chan struct{})
	defer close(waits)
	r.run = func(*network.Plugin, cni.Scope, func(wire.HealEvent)) error {
		cancel()
		<-waits
		return nil
	}
	r.add(healKey{}, 0)
	r.healDue(ctx)
}

// TestEventsAfter: what was put back is told by time, no two at the same, as much as a reply
// takes, and the oldest are forgotten.
func TestEventsAfter(t *testing.T) {
	h := newHealer(records.NewCachedStore(records.Store{Run: t.TempDir()}), slog.New(slog.DiscardHandler))
	h.now = func() time.Time { return time.Unix(0, 1000) }
	for i := range recentEvents + 10 {
		h.remember(wire.HealEvent{Attachment: wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}, Object: fmt.Sprint("route ", i), Was: strings.Repeat("é", eventText)})
	}
	first := h.eventsAfter(0)
	if len(first) == 0 || first[0].Object != "route 10" || first[0].Time != 1010 || len(first[0].Was) > eventText || !utf8.ValidString(first[0].Was) {
		t.Fatalf("%d events, the first %+v", len(first), first)
	}
	got := len(first)
	for last := first[len(first)-1].Time; ; {
		more := h.eventsAfter(last)
		if len(more) == 0 {
			break
		}
		if more[0].Time != last+1 {
			t.Errorf("after %d comes %d", last, more[0].Time)
		}
		last, got = more[len(more)-1].Time, got+len(more)
	}
	if got != recentEvents {
		t.Errorf("%d events, want %d", got, recentEvents)
	}
}
