// Package wiretest is a machine in memory: a [wire.Host] that checks
// references as the kernel does, prints like ip(8) and nft(8), and fails or
// dies where a test wants it to.
package wiretest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"dcni/pkg/wire"
)

// Host is the in-memory machine. The zero value is not ready: use [New].
type Host struct {
	// Step, if set, is called before each operation takes effect. Returning an
	// error makes the operation fail without effect; panicking is dying. It is
	// the one seam that faults and crashes come through.
	Step func(op string, o wire.Object) error

	there map[string]thing
}

// thing is one object as it was when it was made: later changes of the value
// by its owner change nothing here.
type thing struct {
	object   wire.Object
	line     string
	refers   []string
	provides []string
}

// New returns an empty machine.
func New() *Host { return &Host{there: map[string]thing{}} }

func describe(o wire.Object) thing {
	t := thing{object: o, line: o.String()}
	if r, ok := o.(wire.Referrer); ok {
		t.refers = slices.Clone(r.Refers())
	}
	if p, ok := o.(wire.Provider); ok {
		t.provides = slices.Clone(p.Provides())
	}
	return t
}

func (h *Host) step(op string, o wire.Object) error {
	if h.Step == nil {
		return nil
	}
	return h.Step(op, o)
}

// Ensure makes o so. It refuses what refers to nothing, and what another
// object provides already.
func (h *Host) Ensure(o wire.Object) (bool, error) {
	if err := h.step("ensure", o); err != nil {
		return false, err
	}
	if isFact(o) {
		return false, nil
	}
	want, key := describe(o), o.Key()
	if v, ok := o.(*wire.Veth); ok && v.NetNS == "" {
		return false, h.Check(o) // of a pair that is there; one end is not made alone
	}
	for _, r := range want.refers {
		if !h.has(r) {
			return false, fmt.Errorf("no such thing: %s", r)
		}
	}
	for _, p := range want.provides {
		if owner, ok := h.provider(p); ok && owner != key {
			return false, fmt.Errorf("%s: file exists (%s)", p, owner)
		}
	}
	have, ok := h.there[key]
	if ok && have.line == want.line {
		return false, nil
	}
	if _, bridge := o.(*wire.Bridge); ok && bridge {
		return false, nil // adopted as it is
	}
	h.there[key] = want
	return true, nil
}

// Check returns nil, or how the machine differs from o.
func (h *Host) Check(o wire.Object) error {
	if err := h.step("check", o); err != nil {
		return err
	}
	if isFact(o) {
		return nil
	}
	have, ok := h.there[o.Key()]
	switch {
	case !ok && isBind(o):
		return nil // until the container's first process has joined
	case !ok:
		return fmt.Errorf("missing")
	case have.line != o.String():
		return fmt.Errorf("is %s", have.line)
	}
	return nil
}

// Remove takes o away and, as the kernel does, everything that hangs on it.
func (h *Host) Remove(o wire.Object) error {
	if err := h.step("remove", o); err != nil {
		return err
	}
	if b, ok := o.(*wire.Bind); ok && b.Path == "" {
		return nil // who knows no path can't unmount
	}
	h.drop(o.Key())
	return nil
}

// isFact reports whether an object says what is so, and makes nothing: that
// there are no flows, that root allows it.
func isFact(o wire.Object) bool {
	switch o := o.(type) {
	case *wire.Flows, *wire.Permission:
		return true
	case *wire.Bind:
		return o.Over == o.Target // the path leads there already
	}
	return false
}

func isBind(o wire.Object) bool {
	_, ok := o.(*wire.Bind)
	return ok
}

// Probe says that everything could be made.
func (h *Host) Probe(o wire.Object) error { return h.step("probe", o) }

// Vanish is the end of a network namespace: its links die, whichever end, and
// all that is in it.
func (h *Host) Vanish(netns string) {
	for key, t := range h.there {
		for _, k := range append(t.provides, key) {
			if strings.HasSuffix(k, " netns "+netns) {
				h.drop(key)
			}
		}
	}
}

// Lose takes a thing away, or what provides it, and what hangs on that, as
// another program would.
func (h *Host) Lose(key string) {
	if owner, ok := h.provider(key); ok {
		key = owner
	}
	h.drop(key)
}

// Keys lists the things on the machine, sorted.
func (h *Host) Keys() []string { return slices.Sorted(maps.Keys(h.there)) }

func (h *Host) drop(key string) {
	t, ok := h.there[key]
	if !ok {
		return
	}
	delete(h.there, key)
	gone := append([]string{key}, t.provides...)
	for k, o := range h.there {
		if slices.ContainsFunc(o.refers, func(r string) bool { return slices.Contains(gone, r) }) {
			h.drop(k)
		}
	}
}

// Has reports whether there is a thing of that key, be it an object or what one
// provides.
func (h *Host) Has(key string) bool { return h.has(key) }

// Strays lists every root on the machine with its owner.
func (h *Host) Strays() []wire.Stray {
	var out []wire.Stray
	for key, t := range h.there {
		root, ok := t.object.(wire.Root)
		if !ok {
			continue
		}
		out = append(out, wire.Stray{
			Object: root,
			Of: func(a wire.Attachment) bool {
				return strings.HasSuffix(key, a.String()) || key == "link "+a.HostLink()
			},
			In: func(network string) bool {
				return strings.HasPrefix(key, "link ") || strings.Contains(key, " "+network+" ")
			},
		})
	}
	return out
}

func (h *Host) has(key string) bool {
	if _, ok := h.there[key]; ok {
		return true
	}
	_, ok := h.provider(key)
	return ok || strings.HasPrefix(key, "link lo netns ") // every namespace has one
}

func (h *Host) provider(key string) (string, bool) {
	for k, t := range h.there {
		if slices.Contains(t.provides, key) {
			return k, true
		}
	}
	return "", false
}

// String prints the machine, a line a thing, sorted: what goldens compare.
func (h *Host) String() string {
	var lines []string
	for _, t := range h.there {
		lines = append(lines, t.line+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}
