package main

import (
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"dcni/pkg/host/agent"
	"dcni/pkg/wire"
)

// How often one plugin's engine is run for one key while another program keeps
// removing what it puts back.
const (
	healBurst  = 60              // runs that put something back, one after the other
	healRefill = 5 * time.Second // then one in so much time
	healTokens = 10              // that such a run takes
	healIdle   = 1               // tokens that a run takes that finds nothing amiss
	healLine   = 5 * time.Minute // after healBurst lines about one key, one more in so much time
)

// A runKey is what is limited: runs of a plugin's engine for one key, and lines
// about them.
type runKey struct {
	plugin string
	healKey
}

// A limiter is a token bucket of runs, or of lines in the log.
type limiter struct {
	*rate.Limiter
	logged bool // the log says that runs are limited
}

func newRunLimiter() *limiter {
	return &limiter{Limiter: rate.NewLimiter(rate.Every(healRefill/healTokens), healBurst*healTokens)}
}

func newLineLimiter() *limiter {
	return &limiter{Limiter: rate.NewLimiter(rate.Every(healLine), healBurst)}
}

// throttled reports whether a plugin's engine is not to be run for a key now, and
// then puts the key back into the queue.
func (h *healer) throttled(run runKey) bool {
	l := h.limiters[run]
	if l == nil {
		return false
	}
	missing := healTokens - l.TokensAt(h.now())
	if missing <= 0 {
		return false
	}
	h.add(run.healKey, time.Duration(missing*float64(healRefill)/healTokens))
	if !l.logged {
		l.logged = true
		h.log.Warn("something keeps changing what is looked after; from now on that is done less often",
			"plugin", run.plugin, "of", run.healKey.String(), "every", healRefill)
	}
	return true
}

// consume takes tokens for a run: more if it put something back, or took long. Each
// key is limited by itself. If the limit were per run, a key that something keeps
// changing could hide behind others, and those would be throttled with it.
func (h *healer) consume(plugin string, keys []healKey, list []wire.HealEvent, took time.Duration) {
	long := int(math.Ceil(took.Seconds() * healTokens / float64(len(keys))))
	for _, k := range keys {
		tokens := healIdle
		if slices.ContainsFunc(list, func(r wire.HealEvent) bool { return isAmiss(r) && k.has(r.Attachment) }) {
			tokens = healTokens
		}
		run := runKey{plugin, k}
		if h.limiters[run] == nil {
			h.limiters[run] = newRunLimiter()
		}
		h.limiters[run].ReserveN(h.now(), min(max(tokens, long), healBurst*healTokens))
	}
}

// logPutBack logs that something was put back, unless there were too many such
// lines: the log may be in memory.
func (h *healer) logPutBack(log *slog.Logger, key runKey) {
	l := h.lines[key]
	if l == nil {
		l = newLineLimiter()
		h.lines[key] = l
	}
	now := h.now()
	if !l.AllowN(now, 1) {
		return
	}
	if l.TokensAt(now) < 1 {
		log = log.With("more", "is counted, and a line of it logged once in "+healLine.String())
	}
	log.Info("put back")
}

// How much is remembered of what was put back, for those who ask.
const (
	recentEvents = 256
	eventText    = 512 // bytes of a text of an event
)

// remember keeps an event for those who ask.
func (h *healer) remember(r wire.HealEvent) {
	cut := func(text string) string {
		if len(text) > eventText {
			return strings.ToValidUTF8(text[:eventText], "")
		}
		return text
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	e := agent.Event{
		Time: h.now().UnixNano(), Network: r.Network, Container: r.Container, IfName: r.IfName,
		Object: cut(r.Object), Was: cut(r.Was), Error: cut(r.Error),
	}
	if n := len(h.recent); n > 0 {
		e.Time = max(e.Time, h.recent[n-1].Time+1)
	}
	h.recent = append(h.recent, e)
	if len(h.recent) > recentEvents {
		h.recent = slices.Clone(h.recent[1:])
	}
}

// eventsAfter returns what was put back after a time in nanoseconds since 1970, the oldest
// first, as much as a reply takes.
func (h *healer) eventsAfter(after int64) (list []agent.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	size := 0
	for _, e := range h.recent {
		if e.Time <= after {
			continue
		}
		if size += e.Bytes(); size > agent.MaxEvents {
			break
		}
		list = append(list, e)
	}
	return list
}

// forgetLimiters drops those that are full again.
func (h *healer) forgetLimiters() {
	now := h.now()
	full := func(_ runKey, l *limiter) bool { return l.TokensAt(now) >= float64(l.Burst()) }
	maps.DeleteFunc(h.limiters, full)
	maps.DeleteFunc(h.lines, full)
}
