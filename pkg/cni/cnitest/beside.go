package cnitest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"

	"dcni/pkg/cni"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// These rows have two processes at work: before each step of a verb, another
// process carries out one of its own, and the step then goes on or fails.
//
// c0 to c3 are containers of the network. c1 and c2 ask for the same, the others for
// nothing. b1 and b2 are containers of another network of the same plugin.

// present says which containers are to be attached at the end; those not in it
// are to have left nothing.
type present map[string]bool

// A verb is what one of the two processes does.
type verb struct {
	name string
	do   func(w *World) error
	of   string // the container that it deletes, or ""
	// ends notes what becomes of the containers, given the verb's error.
	ends func(p present, err error)
	// again says that after an error the runtime asks once more.
	again bool
	// refusals are codes of errors with which it may be refused.
	refusals []wire.Code
}

// A scene is how the world is before.
type scene struct {
	name     string
	attached []string
	set      func(t *testing.T, w *World) // what else there is, or nil
}

var (
	cold = scene{name: "first"}
	warm = scene{name: "beside c0", attached: []string{"c0"}}
)

// taken are the codes of errors about what another container has.
var taken = []wire.Code{wire.CodeAddressTaken, wire.CodePortTaken}

func (m matrix) addBeside(t *testing.T) {
	add := m.add("c1")
	for _, s := range []scene{cold, warm} {
		others := append(m.others("c1"), m.add("c1"))
		if !m.shares(t) {
			others = append(others, m.exchange("c1"))
		}
		for _, other := range others {
			m.collide(t, s, add, other, nil)
		}
		for _, other := range []verb{m.add("c3"), m.add("b1"), m.del("c0")} {
			m.collide(t, s, add, other, errInjected)
		}
	}
}

func (m matrix) delBeside(t *testing.T) {
	for _, s := range []scene{
		{name: "last but b2", attached: []string{"c1", "b2"}},
		{name: "beside c0", attached: []string{"c0", "c1"}},
	} {
		for _, other := range append(m.others("c1"), m.exchange("c1"), m.add("c1"), m.add("c3")) {
			m.collide(t, s, m.del("c1"), other, nil)
		}
		for _, other := range []verb{m.add("c2"), m.add("c1"), m.add("b1")} {
			m.collide(t, s, m.del("c1"), other, errInjected)
		}
	}
}

func (m matrix) gcBeside(t *testing.T) {
	s := scene{name: "c1 is to go", attached: []string{"c0", "c1", "b2"}}
	if m.plugin.Kind == network.MakesInterface && !m.plugin.Inside { // else only its sandbox knows of it
		s.attached = append(s.attached, "c3")
		s.set = func(t *testing.T, w *World) { // c3's record is lost
			if err := w.Store.Delete(w.Request(t, "c3", m.confOf("c3")).Attachment, m.plugin.Type); err != nil {
				t.Fatal(err)
			}
		}
	}
	gc := m.gc("c0", "c2")
	gc.ends = func(p present, _ error) {
		delete(p, "c1")
		delete(p, "c3")
	}
	for _, other := range m.others("") {
		m.collide(t, s, gc, other, nil)
	}
	m.collide(t, s, gc, m.add("c2"), errInjected)
}

func (m matrix) healBeside(t *testing.T) {
	s := scene{"all is lost", []string{"c0", "c1"}, func(_ *testing.T, w *World) {
		for _, key := range w.Host.Keys() {
			w.Host.Lose(key)
		}
	}}
	for _, other := range []verb{m.add("c3"), m.del("c1"), m.gc("c0", "c1")} {
		m.collide(t, s, m.heal(""), other, nil)
	}
}

// others are the verbs that another process may be about. A verb may be busy
// with a container: that need not be valid for GC, and is left alone by heal.
func (m matrix) others(busy string) []verb {
	valid := []string{"c0", "c1", "c2"}
	if busy != "" {
		valid = slices.DeleteFunc(valid, func(c string) bool { return c == busy })
	}
	return []verb{
		m.add("c2"), m.add("b1"), m.del("c0"), m.del("b2"), m.del("c1"), m.gc(valid...), m.heal(busy),
	}
}

func (m matrix) add(container string) verb {
	v := verb{
		name: "ADD " + container,
		do:   func(w *World) error { _, err := w.add(w.t, container, m.confOf(container)); return err },
		ends: func(p present, err error) {
			if err == nil {
				p[container] = true
			}
		},
	}
	switch container {
	case "c1":
		v.refusals = append(v.refusals, wire.CodeEnv) // it is attached already
		fallthrough
	case "c2":
		v.refusals = append(v.refusals, taken...)
	}
	return v
}

func (m matrix) del(container string) verb {
	return verb{
		name: "DEL " + container,
		of:   container,
		do:   func(w *World) error { return w.Engine.Del(w.Request(w.t, container, m.confOf(container))) },
		ends: func(p present, err error) {
			if err == nil {
				delete(p, container)
			}
		},
		again: true,
	}
}

// gc keeps some containers of the network. Those that a verb is busy with it
// leaves alone.
func (m matrix) gc(valid ...string) verb {
	return verb{
		name:  "GC",
		do:    func(w *World) error { return w.Engine.GC(w.Request(w.t, "", m.valid(valid...))) },
		ends:  func(present, error) {},
		again: true,
	}
}

// heal wants one container left alone by Heal, with which the other process is
// busy.
func (m matrix) heal(busy string) verb {
	return verb{
		name: "heal",
		do: func(w *World) error {
			var wrong error
			err := w.Engine.Heal(cni.Scope{}, func(r wire.HealEvent) {
				if w.inOther && (busy != "" && r.Container == busy && r.Did != wire.Left || r.Error != "") {
					wrong = fmt.Errorf("healed %+v %s %s: %s", r.Attachment, r.Did, r.Object, r.Error)
				}
			})
			return errors.Join(err, wrong)
		},
		ends: func(present, error) {},
	}
}

// exchange is a runtime that puts another sandbox at a container's path.
func (m matrix) exchange(container string) verb {
	return verb{
		name: "another sandbox for " + container,
		do:   func(w *World) error { w.Exchange(container); return nil },
		ends: func(present, error) {},
	}
}

// collide runs a case for each step of a verb: another process carries out
// another verb before it, and the step then fails if there is a fault. A DEL of a
// container that is not there is no case.
func (m matrix) collide(t *testing.T, s scene, watched, other verb, fault error) {
	if other.of != "" && other.of != "c1" && !slices.Contains(s.attached, other.of) {
		return
	}
	name := fmt.Sprintf("%s, %s, %s", watched.name, s.name, other.name)
	if fault != nil {
		name += ", step fails"
	}
	*m.turn++
	t.Run(name, func(t *testing.T) {
		w, _ := m.scene(t, s)
		steps := w.Steps(func() { _ = watched.do(w) })
		for n := 1; n <= steps; n++ {
			if !m.due(n, thinPair) {
				continue
			}
			t.Run(fmt.Sprintf("step %d", n), func(t *testing.T) { m.collideAt(t, s, watched, other, fault, n, steps) })
		}
	})
}

func (m matrix) collideAt(t *testing.T, s scene, watched, other verb, fault error, n, steps int) {
	*m.cases++
	w, want := m.scene(t, s)
	var err, otherErr error
	w.BesideAt(n, fault, func() { err = watched.do(w) }, func() { otherErr = other.do(w) })
	refusals := watched.refusals
	if other.name == m.exchange("c1").name {
		refusals = append(slices.Clone(refusals), wire.CodeNetNS)
	}
	if err != nil && fault == nil && !refused(err, refusals) {
		t.Fatalf("%s: %v", watched.name, err)
	}
	if otherErr != nil && !refused(otherErr, other.refusals) {
		t.Fatalf("%s: %v", other.name, otherErr)
	}
	if err != nil && watched.again && other.name != m.add("c1").name {
		if err = watched.do(w); err != nil {
			t.Fatalf("%s once more: %v", watched.name, err)
		}
	}
	watched.ends(want, err)
	other.ends(want, otherErr)
	if want["c1"] && !m.shares(t) && m.exchanged(t, w, "c1") {
		// ADD was about to say that it is up, and had looked at the sandbox before.
		m.mustDel(t, w, "c1")
		delete(want, "c1")
		if n != steps {
			t.Fatal("c1 is attached in a sandbox that is gone")
		}
	}
	m.settled(t, w, want)
}

func refused(err error, codes []wire.Code) bool {
	var coded *wire.Error
	return errors.As(err, &coded) && slices.Contains(codes, coded.Code)
}

// shares reports whether the plugin itself makes the paths of sandboxes lead to
// another namespace. It can't tell then that a runtime did so, too.
func (m matrix) shares(t *testing.T) bool {
	conf, err := network.ReadConf([]byte(m.conf))
	if err != nil {
		t.Fatal(err)
	}
	mode, err := m.plugin.Parse(conf)
	if err != nil {
		t.Fatal(err)
	}
	return mode.Describe().Shared()
}

// exchanged reports whether a container's sandbox is another one than that on
// record.
func (m matrix) exchanged(t *testing.T, w *World, container string) bool {
	return m.record(t, w, container).Cookie != w.cookieOf(sandboxes+container)
}

// scene makes a world, and says which containers are in it.
func (m matrix) scene(t *testing.T, s scene) (*World, present) {
	t.Helper()
	w, p := m.world(t), present{}
	for _, c := range s.attached {
		m.mustAdd(t, w, c, m.confOf(c))
		p[c] = true
	}
	if s.set != nil {
		s.set(t, w)
	}
	return w, p
}

// settled wants the containers attached that are to be, and nothing left of any
// other: nothing is to be healed, and once all are deleted, nothing is left.
func (m matrix) settled(t *testing.T, w *World, want present) {
	t.Helper()
	for c := range want {
		m.checkConf(t, w, c, m.confOf(c))
	}
	if list := w.heal(t); len(list) > 0 {
		t.Fatalf("healed: %+v", list)
	}
	for c := range want {
		m.mustDel(t, w, c)
	}
	m.left(t, w, everyone...)
	for key, of := range w.owners {
		if of.part == ofHost && of.root && w.Host.Has(key) {
			t.Fatalf("all are gone, and left %s", key)
		}
	}
}

// everyone is all containers there are.
var everyone = []string{"c0", "c1", "c2", "c3", "b1", "b2"}

// confOf is a container's configuration.
func (m matrix) confOf(container string) string {
	switch container {
	case "c1", "c2":
		return m.conf
	case "b1", "b2":
		return beta(m.conf)
	}
	return neighbour(m.conf)
}

// beta is the configuration of another network, for a container that asks for
// nothing.
func beta(conf string) string {
	conf = with(neighbour(conf), "name", `"beta"`)
	var c struct{ IPAM map[string]json.RawMessage }
	if err := json.Unmarshal([]byte(conf), &c); err != nil {
		panic(err)
	}
	if c.IPAM == nil {
		return conf
	}
	c.IPAM["subnet"] = json.RawMessage(`"10.2.0.0/24"`)
	ipam, err := json.Marshal(c.IPAM)
	if err != nil {
		panic(err)
	}
	return with(conf, "ipam", string(ipam))
}
