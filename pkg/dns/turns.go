package dns

import (
	"slices"
	"sync"
	"time"
)

// Limits of queries to upstreams.
const (
	maxFlights    = 256  // under way for an endpoint
	maxAllFlights = 1024 // under way for a server
	spareFlights  = 1024 // more, for endpoints with few
	fewFlights    = 16   // fewer than this many
)

// turns says which query to an upstream goes next. An endpoint's queries go in the
// order in which they came, and endpoints with queries that wait take turns: one with
// many delays its own, and no other endpoint's.
type turns struct {
	now    func() time.Duration
	mu     sync.Mutex
	active int     // queries under way
	ring   []*lane // those with turns that wait; the first is the next one
}

// A lane is the turns of one endpoint.
type lane struct {
	active int
	queue  []*turn
}

// A turn is one query to an upstream. Its function is called once, on a goroutine of
// its own, with what is left of the clients' patience: 0 if the turn came too late.
type turn struct {
	run   func(left time.Duration)
	until time.Duration
	lanes []*lane // those of all clients that wait for it; the first with room takes it
	taken bool
}

// enter has a client of a lane wait for a turn. The turn begins at once if there is
// room.
func (t *turns) enter(l *lane, one *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if one.taken {
		return
	}
	one.until = t.now() + patience
	if slices.Contains(one.lanes, l) {
		return
	}
	one.lanes = append(one.lanes, l)
	l.queue = append(l.queue, one)
	if len(l.queue) == 1 {
		t.ring = append(t.ring, l)
	}
	t.advance()
}

// leave ends a query of a lane.
func (t *turns) leave(l *lane) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l.active--
	t.active--
	t.advance()
}

// advance begins as many turns as there is room for, one of each lane after the other.
func (t *turns) advance() {
	for blocked := 0; blocked < len(t.ring); {
		l := t.ring[0]
		t.ring = t.ring[1:]
		if t.next(l) {
			blocked = 0
		} else if len(l.queue) > 0 {
			blocked++
		}
		if len(l.queue) > 0 {
			t.ring = append(t.ring, l)
		}
	}
}

// next begins a lane's next turn if there is room, and reports whether one began. Turns
// that come too late need none.
func (t *turns) next(l *lane) bool {
	for len(l.queue) > 0 {
		one, now := l.queue[0], t.now()
		late := now >= one.until
		if !one.taken && !late && !t.room(l) {
			return false
		}
		l.queue[0] = nil
		l.queue = l.queue[1:]
		switch {
		case one.taken:
			continue
		case late:
			one.taken = true
			go one.run(0)
			continue
		}
		one.taken = true
		l.active++
		t.active++
		go func() {
			one.run(one.until - now)
			t.leave(l)
		}()
		return true
	}
	return false
}

// room reports whether one more query may be under way for a lane.
func (t *turns) room(l *lane) bool {
	most := maxAllFlights
	if l.active < fewFlights {
		most += spareFlights
	}
	return l.active < maxFlights && t.active < most
}

// underWay returns how many queries are.
func (t *turns) underWay() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.active
}
