package dns

import (
	"testing"
	"testing/synctest"
	"time"
)

// a playedTurns lets turns begin and end by hand.
type playedTurns struct {
	turns
	clock time.Duration
	began chan *lane // of those that run
	late  chan *lane
	end   chan struct{}
}

func playTurns() *playedTurns {
	p := &playedTurns{began: make(chan *lane, 1e5), late: make(chan *lane, 1e5), end: make(chan struct{})}
	p.now = func() time.Duration { return p.clock }
	return p
}

// enter has n queries enter a lane.
func (p *playedTurns) enter(l *lane, n int) {
	for range n {
		p.turns.enter(l, &turn{run: func(left time.Duration) {
			if left == 0 {
				p.late <- l
				return
			}
			p.began <- l
			<-p.end
		}})
	}
	synctest.Wait()
}

// finish ends n queries that run, any ones.
func (p *playedTurns) finish(n int) {
	for range n {
		p.end <- struct{}{}
	}
	synctest.Wait()
}

// started counts the queries of a lane that began since the last look.
func (p *playedTurns) started() map[*lane]int {
	n := map[*lane]int{}
	for len(p.began) > 0 {
		n[<-p.began]++
	}
	return n
}

// TestTurns has a lane with many queries, and others with some: limits hold, each
// query gets its turn, and lanes alternate.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := playTurns()
		var many [5]lane
		for i := range many {
			p.enter(&many[i], 2*maxFlights)
		}
		n := p.started()
		for i := range many {
			if want := maxFlights; i < 4 && n[&many[i]] != want || i == 4 && n[&many[i]] != fewFlights {
				t.Errorf("lane %d: %d under way", i, n[&many[i]])
			}
		}
		var small lane
		p.enter(&small, fewFlights+1)
		if n := p.started(); n[&small] != fewFlights {
			t.Errorf("%d of a lane with few are under way", n[&small])
		}
		if got := p.underWay(); got != maxAllFlights+2*fewFlights {
			t.Errorf("%d are under way", got)
		}
		for p.underWay() > 0 {
			p.finish(1)
		}
		n = p.started()
		for i := range many {
			if total := n[&many[i]]; total != 2*maxFlights-maxFlights && i < 4 {
				t.Errorf("lane %d: %d more began", i, total)
			}
		}
		if n[&small] != 1 || len(p.ring) != 0 || len(p.late) != 0 {
			t.Errorf("the last of the small lane began %d times, %d lanes wait, %d were late", n[&small], len(p.ring), len(p.late))
		}
	})
}

// TestTurnsAlternate has two lanes wait while there is room for one query at a time.
func TestTurnsAlternate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := playTurns()
		p.active = maxAllFlights // of lanes elsewhere
		one, other := &lane{active: fewFlights}, &lane{active: fewFlights}
		p.enter(one, 10)
		p.enter(other, 3)
		for i := range 6 {
			p.leave(&lane{})
			synctest.Wait()
			if n := p.started(); n[one] != 1-i%2 || n[other] != i%2 {
				t.Errorf("turn %d: %d and %d began", i, n[one], n[other])
			}
		}
		close(p.end)
	})
}

// TestTurnsLate has queries whose turn does not come in time: each is told so, as
// soon as another ends.
func TestTurnsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := playTurns()
		var l lane
		p.enter(&l, maxFlights+10)
		p.clock = patience
		p.enter(&l, 2)
		p.finish(1)
		if len(p.late) != 10 || p.underWay() != maxFlights {
			t.Errorf("%d were late, %d are under way", len(p.late), p.underWay())
		}
		close(p.end)
	})
}

// TestTurnOfSeveral has clients of two endpoints wait for one query: it goes as soon as
// one of them has room, and once.
func TestTurnOfSeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := playTurns()
		full, empty := &lane{active: maxFlights}, &lane{}
		ran := 0
		shared := &turn{run: func(time.Duration) { ran++ }}
		p.turns.enter(full, shared)
		p.turns.enter(full, shared)
		synctest.Wait()
		if ran != 0 || len(full.queue) != 1 {
			t.Errorf("ran %d times, %d times in the queue", ran, len(full.queue))
		}
		p.turns.enter(empty, shared)
		synctest.Wait()
		p.leave(full)
		synctest.Wait()
		if ran != 1 || len(full.queue) != 0 || len(p.ring) != 0 {
			t.Errorf("ran %d times, %d wait", ran, len(full.queue))
		}
	})
}
