package cnitest

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"runtime/debug"
	"strings"
	"testing"

	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// Matrix is every way in which ADD and DEL may be interrupted, for a plugin and
// a configuration without prevResult. After each, the machine is as it should
// be: as before, or with the network's objects, which outlive attachments.
//
// The configuration should ask for all that the plugin can do, fixed host
// ports and addresses included: the last row wants another container to find
// them taken. The others are addresses that machines on the LAN have.
//
// With -short it is [Thin].
func Matrix(t *testing.T, plugin *network.Plugin, conf string, others ...string) {
	run(t, plugin, conf, testing.Short(), others)
}

// Thin is a part of the matrix that takes a tenth of the time: of each row the cases are
// taken in turn, so that each step of each verb is in some of them, but not each of two
// processes' steps beside each of the other's.
func Thin(t *testing.T, plugin *network.Plugin, conf string, others ...string) {
	run(t, plugin, conf, true, others)
}

func run(t *testing.T, plugin *network.Plugin, conf string, thin bool, others []string) {
	// A world is a few kilobytes and is left at once: collected after each 4 MB, they cost a sixth of the time.
	defer debug.SetGCPercent(debug.SetGCPercent(500))
	m := matrix{plugin, conf, map[netip.Addr]string{}, new(int), thin, new(int)}
	for _, a := range others {
		m.onLAN[netip.MustParseAddr(a)] = "02:00:00:00:00:99"
	}
	m.run(t)
	t.Logf("%d cases", *m.cases)
}

func (m matrix) run(t *testing.T) {
	t.Run("fail at every step", m.fail)
	t.Run("fail after every deed", m.failAfter)
	t.Run("die at every step of ADD, then DEL, itself dying", m.dieThenDel)
	t.Run("die at every step of ADD, then GC", m.dieThenGC)
	t.Run("die at every step of ADD, then ADD", m.dieThenAdd)
	t.Run("die at every step of DEL, then another takes its place", m.dieThenOther)
	t.Run("CHECK of what is not attached so", m.checkRefuses)
	t.Run("GC of what dnet made", m.gcOfDnet)
	t.Run("lose anything, then heal", m.loseThenHeal)
	t.Run("lose all, then heal, itself failing or dying", m.brokenHeal)
	t.Run("ADD beside another process", m.addBeside)
	t.Run("DEL beside another process", m.delBeside)
	t.Run("GC beside another process", m.gcBeside)
	t.Run("lose all, then heal, panicking", m.healPanicking)
	t.Run("lose all, then heal with a mode that panics", m.healPanickingMode)
	t.Run("heal beside another process", m.healBeside)
	t.Run("collect, itself dying", m.collect)
	t.Run("collect nothing that lives", m.collectNothing)
	t.Run("collect nothing that came while it looked", m.collectNothingNew)
}

type matrix struct {
	plugin *network.Plugin
	conf   string
	onLAN  map[netip.Addr]string
	cases  *int // how many ran
	thin   bool // only cases whose turn it is run
	turn   *int // counts what takes turns
}

// due reports whether the n-th case of a row runs: each does, or in a thin matrix one of
// so many, which is another one in the next row.
func (m matrix) due(n, of int) bool { return !m.thin || (n+*m.turn)%of == 0 }

func (m matrix) world(t *testing.T) *World {
	w := NewWorld(t, m.plugin)
	w.Others = m.onLAN
	return w
}

// again adds a container that died as it was added.
func (m matrix) again(t *testing.T, w *World, container, conf string) {
	t.Helper()
	r := w.Request(t, container, conf)
	if _, err := w.Engine.Add(r); err != nil {
		t.Fatalf("ADD %s again: %v", container, err)
	}
}

// In a thin matrix, of a row's steps, and of those of a verb beside another one, one of so
// many runs.
const (
	thinRow  = 3
	thinPair = 16
)

// each runs f in a new world for every step of a verb: in one where c0 is attached
// already and again in one without, where the network is new as well.
func (m matrix) each(t *testing.T, verb func(w *World), f func(t *testing.T, w *World, n int)) {
	m.eachIn(t, []scene{cold, warm}, verb, f)
}

func (m matrix) eachIn(t *testing.T, scenes []scene, verb func(w *World), f func(t *testing.T, w *World, n int)) {
	for _, s := range scenes {
		*m.turn++
		probe, _ := m.scene(t, s)
		steps := probe.Steps(func() { verb(probe) })
		for n := 1; n <= steps; n++ {
			if !m.due(n, thinRow) {
				continue
			}
			w, _ := m.scene(t, s)
			*m.cases++
			t.Run(fmt.Sprintf("%s step %d", s.name, n), func(t *testing.T) { f(t, w, n) })
		}
	}
}

// fail: an ADD that fails leaves the world as it was, also where the network is
// known from before.
func (m matrix) fail(t *testing.T) {
	known := scene{name: "after c0", attached: []string{"c0"}, set: func(t *testing.T, w *World) { m.mustDel(t, w, "c0") }}
	add := func(w *World) error { _, err := w.add(t, "c1", m.conf); return err }
	m.eachIn(t, []scene{cold, warm, known}, func(w *World) { _ = add(w) }, func(t *testing.T, w *World, n int) {
		before := w.State(t)
		var err error
		w.FailAt(n, func() { err = add(w) })
		if err == nil {
			// The step only asked: what it could not learn, ADD made sure of.
			m.checkClean(t, w, "c1")
			return
		}
		same(t, "after a failed ADD", before, w.State(t))
	})
}

// failAfter: the machine does what it is asked for, and fails all the same. ADD
// takes back what was done, and DEL may be called again.
func (m matrix) failAfter(t *testing.T) {
	for _, s := range []scene{cold, warm} {
		for n, failed := 1, true; failed; n++ {
			w, _ := m.scene(t, s)
			before := w.State(t)
			*m.cases++
			var err error
			failed = w.failAfter(n, func() { _, err = w.add(t, "c1", m.conf) })
			if failed != (err != nil) {
				t.Fatalf("deed %d failed: %t, ADD: %v", n, failed, err)
			}
			if failed {
				same(t, fmt.Sprintf("after deed %d failed", n), before, w.State(t))
			}
		}
		for n, failed := 1, true; failed; n++ {
			w, _ := m.scene(t, s)
			m.mustAdd(t, w, "c1", m.conf)
			*m.cases++
			failed = w.failAfter(n, func() { _ = w.Engine.Del(w.Request(t, "c1", m.conf)) })
			m.mustDel(t, w, "c1")
			m.left(t, w, "c1")
		}
	}
}

// checkRefuses: CHECK is content with an attachment that is up, in its own
// sandbox, and with nothing else.
func (m matrix) checkRefuses(t *testing.T) {
	scenes := []scene{{name: "c1", attached: []string{"c1"}}}
	del := func(w *World) { _ = w.Engine.Del(w.Request(t, "c1", m.conf)) }
	m.eachIn(t, scenes, del, func(t *testing.T, w *World, n int) {
		up := m.record(t, w, "c1")
		w.DieAt(n, func() { del(w) })
		rec, err := w.Store.Get(up.Attachment, m.plugin.Type)
		isUp := err == nil && rec.State == records.Up
		if err := m.checkResult(t, w, "c1", up.Result); (err == nil) != isUp {
			t.Fatalf("the record is up: %t; CHECK: %v", isUp, err)
		}
	})
	if m.shares(t) {
		return
	}
	w, _ := m.scene(t, scenes[0])
	w.Exchange("c1")
	if err := m.check(t, w, "c1", m.conf); !refused(err, []wire.Code{wire.CodeNetNS}) {
		t.Errorf("CHECK in another sandbox: %v, want code %d", err, wire.CodeNetNS)
	}
}

// gcOfDnet: a runtime's list of what is valid says nothing of what dnet made.
func (m matrix) gcOfDnet(t *testing.T) {
	for _, c := range []struct {
		by    records.Creator
		gone  bool // the sandbox
		stays bool
	}{
		{by: records.ByDnet, stays: true},
		{by: records.ByConnect, stays: true},
		{by: records.ByConnect, gone: true}, // no other runtime says DEL for it
		{by: records.ByIngress, stays: true},
		{by: records.ByIngress, gone: true},
	} {
		if c.by != records.ByDnet && m.shares(t) {
			continue // dnet connects to networks that make interfaces, and a node is on such
		}
		w, _ := m.scene(t, scene{attached: []string{"c0", "c1"}})
		m.age(t, w, "c1", func(r *records.Record) { r.Creator = c.by })
		if c.gone {
			w.Vanish("c1")
		}
		if err := w.Engine.GC(w.Request(t, "", m.valid())); err != nil {
			t.Fatal("GC:", err)
		}
		left := present{}
		if c.stays {
			left["c1"] = true
		}
		m.settled(t, w, left)
	}
}

func (m matrix) dieThenDel(t *testing.T) {
	m.each(t, func(w *World) { _, _ = w.add(t, "c1", m.conf) }, func(t *testing.T, w *World, n int) {
		first := 1
		if m.thin {
			first = n
		}
		for k := first; ; k++ {
			w.DieAt(n, func() { _, _ = w.add(t, "c1", m.conf) })
			del := func() { _ = w.Engine.Del(w.Request(t, "c1", m.conf)) }
			alive := true
			w.DieAt(k, func() { del(); alive = false })
			m.mustDel(t, w, "c1")
			m.left(t, w, "c1")
			if !alive || m.thin {
				return // DEL had no k-th step
			}
		}
	})
}

func (m matrix) dieThenGC(t *testing.T) {
	m.each(t, func(w *World) { _, _ = w.add(t, "c1", m.conf) }, func(t *testing.T, w *World, n int) {
		w.DieAt(n, func() { _, _ = w.add(t, "c1", m.conf) })
		if err := w.Engine.GC(w.Request(t, "", m.valid("c0"))); err != nil {
			t.Fatal("GC:", err)
		}
		m.left(t, w, "c1")
		if strings.Contains(w.State(t), "/c0/") {
			m.checkConf(t, w, "c0", neighbour(m.conf))
		}
	})
}

func (m matrix) dieThenAdd(t *testing.T) {
	m.each(t, func(w *World) { _, _ = w.add(t, "c1", m.conf) }, func(t *testing.T, w *World, n int) {
		w.DieAt(n, func() { _, _ = w.add(t, "c1", m.conf) })
		m.again(t, w, "c1", m.conf)
		m.checkClean(t, w, "c1")
	})
	// The second may ask for less: nothing of the first may stay.
	m.each(t, func(w *World) { _, _ = w.add(t, "c1", m.conf) }, func(t *testing.T, w *World, n int) {
		w.DieAt(n, func() { _, _ = w.add(t, "c1", m.conf) })
		if rec, err := w.Store.Get(w.Request(t, "c1", m.conf).Attachment, m.plugin.Type); err == nil && rec.State == records.Up {
			return
		}
		m.again(t, w, "c1", neighbour(m.conf))
		m.checkConf(t, w, "c1", neighbour(m.conf))
		m.mustDel(t, w, "c1")
		m.left(t, w, "c1")
	})
}

// dieThenOther: c1's DEL dies; c2 asks for the same ports and addresses, and
// gets them or is refused. What is done about c1 after that does not touch c2.
func (m matrix) dieThenOther(t *testing.T) {
	del := func(w *World) {
		m.mustAdd(t, w, "c1", m.conf)
		w.step = 0 // the steps of DEL only
		_ = w.Engine.Del(w.Request(t, "c1", m.conf))
	}
	m.each(t, del, func(t *testing.T, w *World, n int) {
		m.mustAdd(t, w, "c1", m.conf)
		w.DieAt(n, func() { _ = w.Engine.Del(w.Request(t, "c1", m.conf)) })
		_, err := w.add(t, "c2", m.conf)
		m.mustDel(t, w, "c1")
		if gc := w.Engine.GC(w.Request(t, "", m.valid("c0", "c2"))); gc != nil {
			t.Fatal("GC:", gc)
		}
		m.left(t, w, "c1")
		if err != nil {
			m.left(t, w, "c2")
			m.mustAdd(t, w, "c2", m.conf)
		}
		m.checkClean(t, w, "c2")
	})
}

func (m matrix) mustAdd(t *testing.T, w *World, container, conf string) {
	t.Helper()
	if _, err := w.add(t, container, conf); err != nil {
		t.Fatalf("ADD %s: %v", container, err)
	}
}

func (m matrix) mustDel(t *testing.T, w *World, container string) {
	t.Helper()
	if err := w.Engine.Del(w.Request(t, container, m.confOf(container))); err != nil {
		t.Fatalf("DEL %s: %v", container, err)
	}
}

func (m matrix) checkClean(t *testing.T, w *World, container string) {
	t.Helper()
	m.checkConf(t, w, container, m.conf)
}

func (m matrix) checkConf(t *testing.T, w *World, container, conf string) {
	t.Helper()
	rec, err := w.Store.Get(w.Request(t, container, conf).Attachment, m.plugin.Type)
	if err != nil {
		t.Fatalf("record of %s: %v", container, err)
	}
	if err := w.Engine.Check(w.Request(t, container, with(conf, "prevResult", string(rec.Result)))); err != nil {
		t.Fatalf("CHECK %s: %v", container, err)
	}
}

// checkResult runs CHECK of a container with the result of its ADD.
func (m matrix) checkResult(t *testing.T, w *World, container string, result []byte) error {
	return w.Engine.Check(w.Request(t, container, with(m.confOf(container), "prevResult", string(result))))
}

// left fails if anything tells of the containers.
func (m matrix) left(t *testing.T, w *World, containers ...string) {
	t.Helper()
	state, orphans := w.State(t), w.Host.Orphans()
	for _, container := range containers {
		a := w.Request(t, container, m.confOf(container)).Attachment
		for line := range strings.Lines(state) {
			if strings.Contains(line, "/"+container+"/") || strings.Contains(line, container+"/eth0") {
				t.Fatalf("%s is gone, and left:\n%s\nof\n%s", container, line, state)
			}
		}
		for _, o := range orphans {
			if o.Of(a) {
				t.Fatalf("%s is gone, and left %s", container, o.Object)
			}
		}
		if w.Host.Has("path " + sandboxes + container) {
			t.Fatalf("%s is gone, and its path leads to another sandbox", container)
		}
	}
}

func same(t *testing.T, when, before, after string) {
	t.Helper()
	if before != after {
		t.Fatalf("%s the world is\n%s\nand was\n%s", when, after, before)
	}
}

// with sets a key of a configuration.
func with(conf, key, value string) string {
	var c map[string]json.RawMessage
	if err := json.Unmarshal([]byte(conf), &c); err != nil {
		panic(err)
	}
	c[key] = json.RawMessage(value)
	out, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	return string(out)
}

// neighbour is the configuration for a container that asks for nothing.
func neighbour(conf string) string { return with(conf, "runtimeConfig", "{}") }

// valid is the configuration for GC that keeps some containers.
func (m matrix) valid(containers ...string) string {
	type attachment struct {
		ContainerID string `json:"containerID"`
		IfName      string `json:"ifname"`
	}
	list := []attachment{}
	for _, c := range containers {
		list = append(list, attachment{c, "eth0"})
	}
	raw, err := json.Marshal(list)
	if err != nil {
		panic(err)
	}
	return with(neighbour(m.conf), "cni.dev/valid-attachments", string(raw))
}
