package main

import (
	"log/slog"
	"maps"
	"slices"
	"time"

	"dcni/pkg/wire"
)

// How often one plugin is run for one target where something keeps taking away
// what it puts back.
const (
	healBurst  = 60              // runs of one plugin for one target that mend, one after the other
	healRefill = 5 * time.Second // and then one in so much time
	healIdle   = 0.1             // what a run counts for that finds nothing amiss
	healLine   = 5 * time.Minute // after as many lines about one target, one more in so much time
)

// A brake keeps a plugin from being run for a target for ever, as fast as can be,
// where something else removes what comes back, or makes much noise: a bucket of
// runs, which count for more if they mend or take long, that fills up again
// slowly. Another one is of lines in the log.
type brake struct {
	every time.Duration // in which there is room for one more
	used  float64       // runs, or lines
	at    time.Time
	told  bool // the log says so, once until the brake has come to rest
}

// wait returns how long it takes until another one may be.
func (b *brake) wait(now time.Time) time.Duration {
	b.refill(now)
	if b.used <= healBurst-1 {
		return 0
	}
	return time.Duration((b.used - (healBurst - 1)) * float64(b.every))
}

func (b *brake) use(now time.Time, cost float64) {
	b.refill(now)
	b.used += cost
}

func (b *brake) refill(now time.Time) {
	b.used = max(0, b.used-float64(now.Sub(b.at))/float64(b.every))
	b.at = now
}

func (b *brake) idle(now time.Time) bool {
	b.refill(now)
	return b.used == 0
}

// slow reports whether a plugin is not to be run for a target now, because what
// it puts back goes as fast as it comes, and puts that off.
func (h *healer) slow(program, arg string) bool {
	b := h.brakes[program+" "+arg]
	if b == nil {
		return false
	}
	wait := b.wait(time.Now())
	if wait == 0 {
		return false
	}
	h.add(parseTarget(arg), wait)
	if !b.told {
		b.told = true
		h.log.Warn("something keeps changing what is looked after; from now on that is done less often",
			"program", program, "of", arg, "every", healRefill)
	}
	return true
}

// charge counts a run. Each target has a brake of its own, whatever company it is
// healed in: else who always comes with another would never be slowed down, and
// who comes with such a one would.
func (h *healer) charge(j job, list []wire.HealEvent, took time.Duration) {
	args := j.args
	if len(args) == 0 {
		args = []string{""}
	}
	for _, arg := range args {
		cost := healIdle
		if slices.ContainsFunc(list, func(r wire.HealEvent) bool { return isAmiss(r) && parseTarget(arg).has(r.Attachment) }) {
			cost = 1
		}
		key := j.program + " " + arg
		if h.brakes[key] == nil {
			h.brakes[key] = &brake{every: healRefill}
		}
		h.brakes[key].use(time.Now(), max(cost, took.Seconds()/float64(len(args))))
	}
}

// tell logs that something was put back, unless there were too many such lines:
// the log may be in memory, and what comes and goes for ever must not fill it.
func (h *healer) tell(log *slog.Logger, key string) {
	b := h.lines[key]
	if b == nil {
		b = &brake{every: healLine}
		h.lines[key] = b
	}
	if b.wait(time.Now()) > 0 {
		return
	}
	b.use(time.Now(), 1)
	if b.wait(time.Now()) > 0 {
		log = log.With("more", "is counted, and a line of it logged once in "+healLine.String())
	}
	log.Info("put back")
}

// forgetBrakes drops those that have come to rest.
func (h *healer) forgetBrakes() {
	atRest := func(_ string, b *brake) bool { return b.idle(time.Now()) }
	maps.DeleteFunc(h.brakes, atRest)
	maps.DeleteFunc(h.lines, atRest)
}
