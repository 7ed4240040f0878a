package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"dcni/pkg/cni"
	"dcni/pkg/host/watch"
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
	healAfter = 100 * time.Millisecond // from the first hint
	healLate  = 300 * time.Millisecond // likewise, where there are many attachments to look through
	healLook  = 40                     // or in so many times as long as that takes: 6 ms for 1,000 of them, while containers come and go
	healAgain = 200 * time.Millisecond // where a plugin was at work
	healEvery = 30 * time.Second       // everything
	healShare = 50                     // or in so many times as long as it takes: 0.7 s of CPU time for 1,000 attachments
	healTries = 50                     // of what somebody is at work on; then everything's turn will come
	healBatch = 64                     // attachments in one run; more are a network
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

// parseTarget reads what arg returns; for "" it is everything.
func parseTarget(arg string) (t target) {
	t.Network, arg, _ = strings.Cut(arg, "/")
	t.Container, t.IfName, _ = strings.Cut(arg, "/")
	return t
}

// has reports whether the target comprises an attachment, or is what those of a
// network share.
func (t target) has(a wire.Attachment) bool {
	return t.Network == "" || t.Attachment == a || t.Container == "" && t.Network == a.Network
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
	store  *records.CachedStore
	log    *slog.Logger
	counts *healCounts
	run    func(ctx context.Context, program string, args []string) ([]wire.HealEvent, error)

	mu    sync.Mutex
	hints map[watch.Event]bool
	woken chan struct{} // has one as long as there are hints

	// The rest is the loop's own.
	wait   time.Duration       // from a hint on; 0: healAfter
	keys   []records.RecordKey // of this step, nil until needed
	due    map[target]*visit
	brakes map[string]*brake // by program and target
	lines  map[string]*brake // likewise
	known  map[string]bool   // errors that are logged already
}

// A visit is when a target is to be looked at, and how often it was.
type visit struct {
	at    time.Time
	tries int
}

func newHealer(store *records.CachedStore, log *slog.Logger) *healer {
	return &healer{
		store: store, log: log, counts: &healCounts{}, run: runHeal,
		hints: map[watch.Event]bool{}, woken: make(chan struct{}, 1),
		due: map[target]*visit{}, brakes: map[string]*brake{}, lines: map[string]*brake{}, known: map[string]bool{},
	}
}

// hint takes note of a hint.
func (h *healer) hint(hint watch.Event) {
	h.mu.Lock()
	h.hints[hint] = true
	h.mu.Unlock()
	select {
	case h.woken <- struct{}{}:
	default:
	}
}

func (h *healer) takeHints() []watch.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []watch.Event
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
	watcher, err := watch.New(isOurs, h.hint)
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
		case <-time.After(max(h.wait, healAfter)):
		}
		start := time.Now()
		h.understand(h.takeHints())
		h.wait = min(healLook*time.Since(start), healLate)
	}
	h.visit(ctx)
}

// list returns all records by their names, as they are in this step.
func (h *healer) list() []records.RecordKey {
	if h.keys == nil {
		var err error
		if h.keys, err = h.store.Keys(); err != nil {
			h.complain(err)
		}
	}
	return h.keys
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
func (h *healer) understand(hints []watch.Event) {
	links := map[string]bool{}
	for _, hint := range hints {
		switch hint.What {
		case watch.Link, watch.Inside:
			links[hint.Link] = true
		default:
			h.add(target{}, 0)
			return
		}
	}
	if len(links) == 0 {
		return
	}
	keys := h.list()
	for _, m := range keys {
		if links[m.HostLink()] {
			h.add(target{m.Attachment}, 0)
		}
	}
	for link := range links {
		if !wire.IsHostLink(link) {
			h.addBridge(link, keys)
		}
	}
}

// addBridge has the networks looked at that are on a bridge: it is on record
// with each of their attachments.
func (h *healer) addBridge(name string, keys []records.RecordKey) {
	known := map[string]bool{}
	for _, m := range keys {
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
	defer func() { h.keys = nil }() // the next step's are others
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
	keys := h.list()
	if slices.Contains(list, target{}) {
		clear(h.due) // everything is just that
		h.heal(ctx, keys, nil)
		h.add(target{}, max(healEvery, healShare*time.Since(now)))
		return
	}
	list = slices.DeleteFunc(list, func(t target) bool { return !h.ready(t, keys) })
	if len(list) > 0 {
		h.heal(ctx, keys, list)
	}
}

// ready reports whether a target is there and nobody is at work on it. If it is
// busy, its turn comes again.
func (h *healer) ready(t target, keys []records.RecordKey) bool {
	there := slices.ContainsFunc(keys, func(m records.RecordKey) bool {
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
func (h *healer) heal(ctx context.Context, keys []records.RecordKey, targets []target) {
	for _, j := range plan(h.store.Store, keys, targets) {
		j.args = slices.DeleteFunc(j.args, func(arg string) bool { return h.slow(j.program, arg) })
		if targets != nil && len(j.args) == 0 || targets == nil && h.slow(j.program, "") {
			continue
		}
		h.log.Debug("heals", "program", j.program, "of", j.args)
		start := time.Now()
		list, err := h.run(ctx, j.program, j.args)
		if ctx.Err() != nil {
			return
		}
		h.account(j.program, list, err)
		h.charge(j, list, time.Since(start))
	}
	h.forgetBrakes()
}

// isAmiss reports whether something was not as it should be.
func isAmiss(r wire.HealEvent) bool { return r.Error != "" || r.Did == wire.PutBack }

// account counts and logs what a run did.
func (h *healer) account(program string, list []wire.HealEvent, err error) {
	if err != nil {
		h.complain(err)
	}
	for _, r := range list {
		log := h.log.With("network", r.Network, "container", r.Container, "interface", r.IfName)
		switch {
		case r.Error != "":
			h.counts.Failed.Add(1)
			h.complain(errors.New(r.Attachment.String() + ": " + r.Object + ": " + r.Error))
		case r.Did == wire.PutBack:
			h.counts.PutBack.Add(1)
			h.tell(log.With("object", r.Object, "was", r.Was), program+" "+target{r.Attachment}.arg())
		case r.Did == wire.Reaped:
			h.counts.Collected.Add(1)
			log.Info("collected", "reason", r.Was)
		case r.Did == wire.Left:
			h.add(target{r.Attachment}, cni.Grace)
		}
	}
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
