package overlay

import (
	"maps"
	"slices"
	"strings"

	"dcni/pkg/names"
)

// The limits of what is believed of nodes that vanish, in milliseconds. Many that vanish
// at once are a sickness of the store, not of the nodes: their names stay a while.
const (
	massWindow = 10_000
	massHold   = 60_000
	massLeast  = 2 // nodes: one alone may well be dead
)

// Living is which nodes are alive, fed with entries and changes of the keys of
// Keys.Alive(""). Times are milliseconds of a clock that only goes forward.
type Living struct {
	Keys Keys

	alive   map[string]bool
	gone    map[string]int64 // when a node vanished that was alive
	kept    map[string]int64 // until when its names stay all the same
	holding int64            // until when those that vanish are kept
}

// Reset takes what a list of the keys returned.
func (l *Living) Reset(entries []Entry, now int64) {
	here := map[string]bool{}
	for _, e := range entries {
		here[l.name(e)] = true
	}
	for _, name := range slices.Sorted(maps.Keys(l.alive)) {
		if !here[name] {
			l.Apply(Event{Entry: Entry{Key: l.Keys.Alive(name)}, Deleted: true}, now)
		}
	}
	for _, e := range entries {
		l.Apply(Event{Entry: e}, now)
	}
}

// Apply takes a change.
func (l *Living) Apply(e Event, now int64) {
	if l.alive == nil {
		l.alive, l.gone, l.kept = map[string]bool{}, map[string]int64{}, map[string]int64{}
	}
	name := l.name(e.Entry)
	if !e.Deleted {
		l.alive[name] = true
		delete(l.gone, name)
		delete(l.kept, name)
		return
	}
	if !l.alive[name] {
		return
	}
	delete(l.alive, name)
	l.gone[name] = now
	var just []string
	for node, when := range l.gone {
		if now-when <= massWindow {
			just = append(just, node)
		}
	}
	if len(just) >= massLeast && len(just) >= len(l.alive) {
		l.holding = now + massHold
		for _, node := range just {
			l.kept[node] = l.holding
		}
	}
	if now < l.holding {
		l.kept[name] = l.holding
	}
}

func (l *Living) name(e Entry) string { return strings.TrimPrefix(e.Key, l.Keys.Alive("")) }

// Named returns a function that reports whether a node's endpoints have names at a time,
// and when it will say something else though nothing changes: 0 for never.
func (l *Living) Named(now int64) (named func(node string) bool, until int64) {
	for _, end := range l.kept {
		if end > now && (until == 0 || end < until) {
			until = end
		}
	}
	return func(node string) bool { return l.alive[node] || now < l.kept[node] }, until
}

// Names returns what the registry has of a network's endpoints on other nodes, but for
// those on nodes that have no names, see [Living.Named].
func (p *Picture) Names(named func(node string) bool) []names.Entry {
	if len(p.renamed) > renameAll { // each moves those behind it
		p.named, p.lines = p.named[:0], p.lines[:0]
		for _, o := range p.order {
			p.rename(o)
		}
	} else {
		for o := range p.renamed {
			p.rename(o)
		}
	}
	p.renamed = map[Owner]bool{} // after a list it has all
	out := make([]names.Entry, 0, len(p.lines))
	node, shown := "", false
	for i, o := range p.named {
		if i == 0 || o.Node != node {
			node, shown = o.Node, named(o.Node)
		}
		if shown {
			out = append(out, p.lines[i])
		}
	}
	return out
}

// renameAll is with how many endpoints it is cheaper to look at all.
const renameAll = 100

// rename enters an endpoint's names as they are now.
func (p *Picture) rename(o Owner) {
	at, found := slices.BinarySearchFunc(p.named, o, compareOwners)
	if found {
		p.named, p.lines = slices.Delete(p.named, at, at+1), slices.Delete(p.lines, at, at+1)
	}
	e := p.endpoints[o]
	if e == nil || o.Node == p.Self || len(e.Names) == 0 {
		return
	}
	if e = p.left(e); len(e.Addresses) > 0 {
		p.named = slices.Insert(p.named, at, o)
		p.lines = slices.Insert(p.lines, at, names.Entry{Container: e.Container, IfName: e.IfName, Names: e.Names, Addresses: e.Addresses})
	}
}
