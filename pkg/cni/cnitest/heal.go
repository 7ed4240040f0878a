package cnitest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"dcni/pkg/cni"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// heal runs Heal and returns what it reports.
func (w *World) heal(t *testing.T) []wire.HealEvent {
	t.Helper()
	list, err := w.tryHeal()
	if err != nil {
		t.Fatal("heal:", err)
	}
	return list
}

// tryHeal runs Heal and returns what it reports, and its error. Where Heal is to
// die, it does.
func (w *World) tryHeal() (list []wire.HealEvent, err error) {
	err = w.Engine.Heal(cni.Scope{}, func(r wire.HealEvent) { list = append(list, r) })
	if w.dead {
		panic(errDead)
	}
	return list, err
}

// healed wants Heal to have nothing to complain of.
func (w *World) healed(t *testing.T) []wire.HealEvent {
	t.Helper()
	list := w.heal(t)
	for _, r := range list {
		if r.Error != "" {
			t.Fatalf("heal: %+v", r)
		}
	}
	return list
}

// whole is a world in which c0 and c1 are attached.
func (m matrix) whole(t *testing.T) *World {
	w := m.world(t)
	m.mustAdd(t, w, "c0", neighbour(m.conf))
	m.mustAdd(t, w, "c1", m.conf)
	return w
}

// check runs CHECK of a container.
func (m matrix) check(t *testing.T, w *World, container, conf string) error {
	rec := m.record(t, w, container)
	return w.Engine.Check(w.Request(t, container, with(conf, "prevResult", string(rec.Result))))
}

func (m matrix) record(t *testing.T, w *World, container string) *records.Record {
	t.Helper()
	rec, err := w.Store.Get(w.Request(t, container, m.conf).Attachment, m.plugin.Type)
	if err != nil {
		t.Fatalf("record of %s: %v", container, err)
	}
	return rec
}

// loseThenHeal: Heal puts back what CHECK misses, reports it once, and touches
// nothing else.
func (m matrix) loseThenHeal(t *testing.T) {
	keys := m.whole(t).Host.Keys()
	for _, key := range keys {
		t.Run(key, func(t *testing.T) {
			w := m.whole(t)
			before := w.State(t)
			if list := w.heal(t); len(list) > 0 {
				t.Fatalf("nothing is lost, and healed: %+v", list)
			}
			same(t, "after healing nothing", before, w.State(t))
			w.Host.Lose(key)
			missed := m.check(t, w, "c0", neighbour(m.conf)) != nil || m.check(t, w, "c1", m.conf) != nil
			list := w.healed(t)
			if missed != (len(list) > 0) {
				t.Fatalf("CHECK misses something: %t; put back: %+v", missed, list)
			}
			if missed {
				same(t, "healed", before, w.State(t))
			}
			if again := w.heal(t); len(again) > 0 {
				t.Fatalf("healed once more: %+v", again)
			}
		})
	}
}

// brokenHeal: the next Heal finishes what one did not that failed at any step, and
// DEL removes what one left that died.
func (m matrix) brokenHeal(t *testing.T) {
	heal := func(w *World) func() {
		return func() { _, _ = w.tryHeal() }
	}
	probe := m.lost(t)
	steps := probe.Steps(heal(probe))
	for n := 1; n <= steps; n++ {
		if !m.due(n, thinRow) {
			continue
		}
		*m.cases += 2
		w := m.lost(t)
		w.FailAt(n, heal(w))
		w.healed(t)
		m.checkConf(t, w, "c0", neighbour(m.conf))
		m.checkClean(t, w, "c1")
		if list := w.heal(t); len(list) > 0 {
			t.Fatalf("step %d: healed once more: %+v", n, list)
		}
		w = m.lost(t)
		w.DieAt(n, heal(w))
		m.mustDel(t, w, "c1")
		m.left(t, w, "c1")
		w.healed(t)
		m.checkConf(t, w, "c0", neighbour(m.conf))
	}
}

// age makes a record one that may be collected.
func (m matrix) age(t *testing.T, w *World, container string, more ...func(*records.Record)) {
	t.Helper()
	rec := m.record(t, w, container)
	rec.Since, rec.SinceBoot = rec.Since.Add(-cni.Grace-time.Second), 0
	for _, change := range more {
		change(rec)
	}
	if err := w.Store.Put(rec); err != nil {
		t.Fatal(err)
	}
}

// collect: Heal deletes an attachment whose sandbox is gone, in whatever state its
// record is, and a Heal that dies at any step is made good by the next one.
func (m matrix) collect(t *testing.T) {
	states := []func(*records.Record){
		func(*records.Record) {},
		func(r *records.Record) { r.State = records.Adding },
		func(r *records.Record) { r.State = records.Deleting },
	}
	for i, state := range states {
		for n := 1; ; n++ {
			if !m.due(n+i, len(states)) {
				continue
			}
			w := m.whole(t)
			w.Vanish("c1")
			if list := w.healed(t); len(list) > 0 && slices.ContainsFunc(list, func(r wire.HealEvent) bool { return r.Did == wire.Reaped }) {
				t.Fatalf("collected at once: %+v", list)
			}
			m.age(t, w, "c1", state)
			alive := true
			w.DieAt(n, func() { w.heal(t); alive = false })
			if alive && strings.Contains(w.State(t), "/c1/eth0/") {
				m.age(t, w, "c1") // DEL had begun, just now
			}
			w.healed(t)
			m.left(t, w, "c1")
			m.checkConf(t, w, "c0", neighbour(m.conf))
			if !alive {
				break
			}
		}
	}
}

// collectNothing: a sandbox that is only hidden from its path is not gone, and
// Heal leaves it to dnet to delete what dnet made.
func (m matrix) collectNothing(t *testing.T) {
	w := m.whole(t)
	w.Hide("c1")
	m.age(t, w, "c1")
	w.healed(t)
	m.record(t, w, "c1")

	// Nor is it gone if its link is lost.
	for _, key := range w.Host.Keys() {
		w.Host.Lose(key)
	}
	w.heal(t)
	m.record(t, w, "c1")

	w = m.whole(t)
	w.Vanish("c1")
	m.age(t, w, "c1", func(r *records.Record) { r.Creator = records.ByDnet })
	if list := w.heal(t); len(list) > 0 {
		t.Errorf("of dnet's: %+v", list)
	}
	m.record(t, w, "c1")
}

// collectNothingNew: while Heal looks for sandboxes that are gone, c1 is attached
// again in a sandbox that Heal can't see by its path, and its link is lost. It came
// after Heal looked at which sandboxes are in use, so Heal looks again.
func (m matrix) collectNothingNew(t *testing.T) {
	gone := scene{"c0's sandbox is gone", []string{"c0", "c1"}, func(t *testing.T, w *World) {
		w.Vanish("c0")
		m.age(t, w, "c0")
	}}
	var list []wire.HealEvent
	heal := func(w *World) {
		list = nil
		_ = w.Engine.Heal(cni.Scope{}, func(e wire.HealEvent) { list = append(list, e) })
	}
	m.eachIn(t, []scene{gone}, heal, func(t *testing.T, w *World, n int) {
		var err error
		w.BesideAt(n, nil, func() { heal(w) }, func() {
			if err = w.Engine.Del(w.Request(t, "c1", m.conf)); err != nil {
				return
			}
			w.Exchange("c1")
			if _, err = w.add(t, "c1", m.conf); err != nil {
				return
			}
			a := w.Request(t, "c1", m.conf).Attachment
			w.Hide("c1")
			w.Host.Lose("link " + a.HostLink())
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if e.Container == "c1" && strings.Contains(e.Was, "is gone") {
				t.Fatalf("c1 is taken for gone: %+v", e)
			}
		}
		m.record(t, w, "c1")
	})
}
