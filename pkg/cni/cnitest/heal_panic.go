package cnitest

import (
	"slices"
	"strings"
	"testing"

	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// lost is a world in which c0 and c1 are attached, and the machine has nothing of
// that any more.
func (m matrix) lost(t *testing.T) *World {
	w := m.whole(t)
	for _, key := range w.Host.Keys() {
		w.Host.Lose(key)
	}
	return w
}

// healPanicking: a panic at any step is reported of the attachment, or of the
// network, that was healed. It keeps no other attachment from being healed, and it
// leaves no lock.
func (m matrix) healPanicking(t *testing.T) {
	probe := m.lost(t)
	steps, attachments := probe.Steps(func() { probe.healed(t) }), 0
	for n := 1; n <= steps; n++ {
		if !m.due(n, thinRow) {
			continue
		}
		w := m.lost(t)
		var list []wire.HealEvent
		w.run(func(step int) error {
			if step == n {
				panic("injected")
			}
			return nil
		}, func() {
			defer func() { _ = recover() }() // a panic that is over no attachment is the caller's
			list = w.heal(t)
		})
		i := slices.IndexFunc(list, func(r wire.HealEvent) bool { return r.Error == "panic: injected" })
		if i >= 0 && list[i].Container != "" {
			attachments++
			m.checkOther(t, w, list[i].Container)
		}
		w.healed(t)
		m.checkOther(t, w, "")
	}
	if attachments < 2 {
		t.Errorf("of %d panics %d were over attachments", steps, attachments)
	}
}

// checkOther wants CHECK to pass for the containers besides one.
func (m matrix) checkOther(t *testing.T, w *World, besides string) {
	t.Helper()
	if besides != "c0" {
		m.checkConf(t, w, "c0", neighbour(m.conf))
	}
	if besides != "c1" {
		m.checkClean(t, w, "c1")
	}
}

// healPanickingMode: a mode that panics over one attachment keeps neither the other
// one from being healed nor what they share.
func (m matrix) healPanickingMode(t *testing.T) {
	w := m.lost(t)
	broken := *m.plugin
	broken.Parse = func(conf network.Conf) (network.Mode, error) {
		mode, err := m.plugin.Parse(conf)
		return panickingMode{mode}, err
	}
	w.Engine.Plugin = &broken
	list := w.heal(t)
	w.Engine.Plugin = m.plugin
	if !slices.ContainsFunc(list, func(r wire.HealEvent) bool {
		return r.Container == "c1" && strings.Contains(r.Error, "panic: over c1")
	}) {
		t.Errorf("the panic is not reported: %+v", list)
	}
	m.checkOther(t, w, "c1")
	w.healed(t)
	m.checkOther(t, w, "")
}

// panickingMode panics over container c1.
type panickingMode struct{ network.Mode }

func (m panickingMode) Plan(e network.Endpoint) (wire.Plan, error) {
	if e.Container == "c1" {
		panic("over c1")
	}
	return m.Mode.Plan(e)
}
