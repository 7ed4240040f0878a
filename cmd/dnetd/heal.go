package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dcni/pkg/cni"
	"dcni/pkg/host"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// Healing: whatever else works on this machine may take away what the records
// say is there. The kernel tells (host.Watcher); a moment later, when all of a
// transaction or a script has come, the plugins concerned are run to put back
// what is missing (`dbridge heal`), and nobody else knows how. What the kernel
// does not tell, and sandboxes that are gone, are found by running them all now
// and then.
const (
	healAfter  = 100 * time.Millisecond // from the first hint
	healAgain  = 200 * time.Millisecond // where a plugin was at work
	healEvery  = 30 * time.Second       // everything
	healShare  = 50                     // or in so many times as long as it takes: 0.7 s of CPU time for 1,000 attachments
	healTries  = 50                     // of what somebody is at work on; then everything's turn will come
	healBatch  = 64                     // attachments in one run; more are a network
	healBurst  = 60                     // runs for one target that mend, one after the other
	healRefill = 5 * time.Second        // and then one in so much time
	healIdle   = 0.1                    // what a run counts for that finds nothing amiss
)

// A target is what is to be healed: an attachment, a network, or for the zero
// target everything.
type target struct{ wire.Attachment }

func (t target) arg() string {
	if t.Container == "" {
		return t.Network
	}
	return t.Network + "/" + t.Container + "/" + t.IfName
}

// healCounts are what is counted.
type healCounts struct {
	PutBack   atomic.Uint64 // objects
	Collected atomic.Uint64 // attachments without a sandbox
	Failed    atomic.Uint64 // things that could not be put back
}

// byKind returns the counts under the names that metrics have for them.
func (c *healCounts) byKind() map[string]uint64 {
	return map[string]uint64{"put_back": c.PutBack.Load(), "collected": c.Collected.Load(), "failed": c.Failed.Load()}
}

// A healer has one thing healed at a time.
type healer struct {
	store  records.Store
	log    *slog.Logger
	counts *healCounts
	run    func(ctx context.Context, program string, args []string) ([]wire.Repair, error)

	mu    sync.Mutex
	hints map[host.Hint]bool
	woken chan struct{} // has one as long as there are hints

	// The rest is the loop's own.
	due    map[target]*visit
	brakes map[string]*brake
	known  map[string]bool // errors that are logged already
}

// A visit is when a target is to be looked at, and how often it was.
type visit struct {
	at    time.Time
	tries int
}

func newHealer(store records.Store, log *slog.Logger) *healer {
	return &healer{
		store: store, log: log, counts: &healCounts{}, run: runHeal,
		hints: map[host.Hint]bool{}, woken: make(chan struct{}, 1),
		due: map[target]*visit{}, brakes: map[string]*brake{}, known: map[string]bool{},
	}
}

// hint takes note of a hint.
func (h *healer) hint(hint host.Hint) {
	h.mu.Lock()
	h.hints[hint] = true
	h.mu.Unlock()
	select {
	case h.woken <- struct{}{}:
	default:
	}
}

func (h *healer) takeHints() []host.Hint {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []host.Hint
	for hint := range h.hints {
		list = append(list, hint)
	}
	clear(h.hints)
	return list
}

// isOurs reports whether a program's changes of rules are no losses: plugins
// remove what they put there.
func isOurs(program string) bool { return slices.Contains(programs, program) }

// programs are dcni's, as the kernel knows them.
var programs = []string{
	"dbridge", "dhost", "dnone", "dcontainer", "dmacvlan", "dipvlan", "doverlay", "dipam", "ddns", "dnet", "dnetd",
}

// serve heals until the context ends. Without the kernel's word for what is lost,
// it looks after everything now and then all the same.
func (h *healer) serve(ctx context.Context) {
	watcher, err := host.Watch(isOurs, h.hint)
	if err != nil {
		h.log.Error("losses are found late", "error", err, "every", healEvery)
	} else {
		stop := context.AfterFunc(ctx, watcher.Close)
		defer stop()
		go func() {
			if err := watcher.Run(); ctx.Err() == nil {
				h.log.Error("losses are found late", "error", err, "every", healEvery)
			}
		}()
	}
	h.add(target{}, 0)
	for ctx.Err() == nil {
		h.step(ctx)
	}
}

// step waits for hints or for what is due, and sees to it.
func (h *healer) step(ctx context.Context) {
	timer := time.NewTimer(time.Until(h.next()))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return
	case <-timer.C:
	case <-h.woken:
		select {
		case <-ctx.Done():
			return
		case <-time.After(healAfter):
		}
		h.understand(h.takeHints())
	}
	h.visit(ctx)
}

// add has a target looked at after a while.
func (h *healer) add(t target, after time.Duration) {
	at := time.Now().Add(after)
	if v := h.due[t]; v == nil {
		h.due[t] = &visit{at: at}
	} else if at.Before(v.at) {
		v.at = at
	}
}

// next returns when the next target is due.
func (h *healer) next() time.Time {
	at := time.Now().Add(healEvery)
	for _, v := range h.due {
		if v.at.Before(at) {
			at = v.at
		}
	}
	return at
}

// understand turns hints into targets.
func (h *healer) understand(hints []host.Hint) {
	links := map[string]bool{}
	for _, hint := range hints {
		switch hint.What {
		case host.Link, host.Inside:
			links[hint.Link] = true
		default:
			h.add(target{}, 0)
			return
		}
	}
	if len(links) == 0 {
		return
	}
	marks, err := h.store.Marks()
	if err != nil {
		h.complain(err)
	}
	for _, m := range marks {
		if links[m.HostLink()] {
			h.add(target{m.Attachment}, 0)
		}
	}
	for link := range links {
		if !wire.IsHostLink(link) {
			h.addBridge(link, marks)
		}
	}
}

// addBridge has the networks looked at that are on a bridge: it is on record
// with each of their attachments.
func (h *healer) addBridge(name string, marks []records.Mark) {
	known := map[string]bool{}
	for _, m := range marks {
		if known[m.Network] {
			continue
		}
		if r, err := h.store.Get(m.Attachment, m.Plugin); err == nil && r.Firewall != nil {
			known[m.Network] = true
			if r.Firewall.Bridge == name {
				h.add(target{wire.Attachment{Network: m.Network}}, 0)
			}
		}
	}
}

// visit heals what is due.
func (h *healer) visit(ctx context.Context) {
	now := time.Now()
	var list []target
	for t, v := range h.due {
		if !v.at.After(now) {
			list = append(list, t)
		}
	}
	if len(list) == 0 {
		return
	}
	marks, err := h.store.Marks()
	if err != nil {
		h.complain(err)
	}
	if slices.Contains(list, target{}) {
		clear(h.due) // everything is just that
		h.heal(ctx, marks, nil)
		h.add(target{}, max(healEvery, healShare*time.Since(now)))
		return
	}
	list = slices.DeleteFunc(list, func(t target) bool { return !h.ready(t, marks) })
	if len(list) > 0 {
		h.heal(ctx, marks, list)
	}
}

// ready reports whether a target is there and nobody is at work on it. If it is
// busy, its turn comes again.
func (h *healer) ready(t target, marks []records.Mark) bool {
	there := slices.ContainsFunc(marks, func(m records.Mark) bool {
		return m.Attachment == t.Attachment || t.Container == "" && m.Network == t.Network
	})
	if !there || t.Container == "" {
		delete(h.due, t)
		return there
	}
	lock, free, err := h.store.TryLockAttachment(t.Attachment)
	lock.Unlock()
	if free || err != nil {
		delete(h.due, t)
		return true
	}
	v := h.due[t]
	if v.tries++; v.tries > healTries {
		delete(h.due, t)
	}
	v.at = time.Now().Add(healAgain)
	return false
}

// heal runs the plugins that have targets among their records, main plugins
// before those behind them in the chain; nil: all.
func (h *healer) heal(ctx context.Context, marks []records.Mark, targets []target) {
	for _, j := range plan(h.store, marks, targets) {
		key := j.program
		for _, arg := range j.args {
			key += " " + arg
		}
		b := h.brakes[key]
		if b == nil {
			b = &brake{}
			h.brakes[key] = b
		}
		if wait := b.wait(time.Now()); wait > 0 {
			h.slow(b, j, targets, wait)
			continue
		}
		h.log.Debug("heals", "program", j.program, "of", j.args)
		start := time.Now()
		list, err := h.run(ctx, j.program, j.args)
		if ctx.Err() != nil {
			return
		}
		cost := healIdle
		if h.account(list, err) {
			cost = 1
		}
		b.use(time.Now(), max(cost, time.Since(start).Seconds()))
	}
	h.forgetBrakes()
}

// slow puts off what something else takes away as fast as it is put back.
func (h *healer) slow(b *brake, j job, targets []target, wait time.Duration) {
	if targets == nil {
		targets = []target{{}}
	}
	for _, t := range targets {
		h.add(t, wait)
	}
	if !b.told {
		b.told = true
		h.log.Warn("something keeps changing what is looked after; from now on that is done less often",
			"program", j.program, "of", j.args, "every", healRefill)
	}
}

// account counts and logs what a run did, and reports whether it found anything
// amiss.
func (h *healer) account(list []wire.Repair, err error) (amiss bool) {
	if err != nil {
		h.complain(err)
	}
	for _, r := range list {
		log := h.log.With("network", r.Network, "container", r.Container, "interface", r.IfName)
		switch {
		case r.Error != "":
			amiss = true
			h.counts.Failed.Add(1)
			h.complain(errors.New(r.Attachment.String() + ": " + r.Object + ": " + r.Error))
		case r.Did == wire.PutBack:
			amiss = true
			h.counts.PutBack.Add(1)
			log.Info("put back", "object", r.Object, "was", r.Was)
		case r.Did == wire.Collected:
			h.counts.Collected.Add(1)
			log.Info("collected", "reason", r.Was)
		case r.Did == wire.Left:
			h.add(target{r.Attachment}, cni.Grace)
		}
	}
	return amiss
}

// complain logs an error once, until there are too many to remember.
func (h *healer) complain(err error) {
	const most = 1000
	if len(h.known) > most {
		clear(h.known)
	}
	if text := err.Error(); !h.known[text] {
		h.known[text] = true
		h.log.Warn("can't put back", "error", text)
	}
}

func (h *healer) forgetBrakes() {
	for key, b := range h.brakes {
		if b.idle(time.Now()) {
			delete(h.brakes, key)
		}
	}
}

// A brake keeps a target from being healed for ever, as fast as can be, where
// something else removes what comes back, or makes much noise: a bucket of runs,
// which count for more if they mend or take long, that fills up again slowly.
type brake struct {
	used float64 // runs
	at   time.Time
	told bool
}

// wait returns how long it takes until another run may begin.
func (b *brake) wait(now time.Time) time.Duration {
	b.refill(now)
	if b.used <= healBurst-1 {
		return 0
	}
	return time.Duration((b.used - (healBurst - 1)) * float64(healRefill))
}

func (b *brake) use(now time.Time, cost float64) {
	b.refill(now)
	b.used += cost
}

func (b *brake) refill(now time.Time) {
	b.used = max(0, b.used-float64(now.Sub(b.at))/float64(healRefill))
	b.at = now
	if b.used < healBurst/2 {
		b.told = false
	}
}

func (b *brake) idle(now time.Time) bool {
	b.refill(now)
	return b.used == 0
}
