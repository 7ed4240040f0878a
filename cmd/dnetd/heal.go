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
	"dcni/pkg/host/agent"
	"dcni/pkg/host/watch"
	"dcni/pkg/mode"
	"dcni/pkg/mode/container"
	"dcni/pkg/mode/overlay"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// Healing puts back what other programs remove although the records say that it is
// there. The kernel notifies dnetd of changes (package watch). A moment later, when a
// whole transaction or script is done, the engines of the plugins put back what is
// missing, in this process. The kernel does not notify of everything, so all records
// are healed now and then, which also finds sandboxes that are gone.
const (
	healAfter  = 100 * time.Millisecond // from the first event
	healLate   = 300 * time.Millisecond // likewise, where resolving the events of many attachments takes long
	healLook   = 40                     // or so many times as long as that takes: 6 ms for 1,000 of them, while containers come and go
	healAgain  = 200 * time.Millisecond // where a plugin was at work
	healEvery  = 30 * time.Second       // everything
	healGuests = 500 * time.Millisecond // containers in another one's namespace, after lo was lowered
	healShare  = 50                     // or so many times as long as that takes: 0.7 s of CPU time for 1,000 attachments
	healTries  = 50                     // of an attachment that a plugin is at work on; later it is healed with everything
)

// A healKey says what is to be healed: an attachment, what a network's attachments
// share, or with the zero key everything.
type healKey struct{ wire.Attachment }

func (k healKey) String() string {
	if k.Container == "" {
		return k.Network
	}
	return k.Network + "/" + k.Container + "/" + k.IfName
}

// has reports whether an event about an attachment, or a network, is covered by the
// key.
func (k healKey) has(a wire.Attachment) bool {
	return k.Network == "" || k.Attachment == a || k.Container == "" && k.Network == a.Network
}

// covers reports whether a record has what the key says.
func (k healKey) covers(r records.RecordKey) bool {
	return k.Network == "" || k.Network == r.Network && (k.Container == "" || k.Attachment == r.Attachment)
}

// healCounts are for metrics.
type healCounts struct {
	PutBack atomic.Uint64 // objects
	Reaped  atomic.Uint64 // attachments without a sandbox
	Failed  atomic.Uint64 // objects that could not be put back, and attachments that could not be reaped
}

// byKind returns the counts under the names that metrics have for them.
func (c *healCounts) byKind() map[string]uint64 {
	return map[string]uint64{"put_back": c.PutBack.Load(), "collected": c.Reaped.Load(), "failed": c.Failed.Load()}
}

// A healer has one thing healed at a time.
type healer struct {
	store  *records.CachedStore
	log    *slog.Logger
	counts *healCounts
	run    func(p *network.Plugin, s cni.Scope, report func(wire.HealEvent)) error // heals one plugin's records
	reap   func() ([]wire.Attachment, error)                                       // ends connections of containers that are gone
	now    func() time.Time                                                        // for the limiters
	// blocked returns the networks whose bridges other programs' rules don't let pass.
	blocked func() ([]string, error)
	// lost tells whether something of what networks have by iptables is not there.
	lost func() (bool, error)
	// sweep removes what killed writers have left of networks' files.
	sweep func() error
	// sweepRules removes rules of what is not there any more, and returns what that was.
	sweepRules func() ([]string, error)
	// services puts back the ports of services, which no record of an attachment has; nil: there are none.
	services func() error

	mu     sync.Mutex
	events map[watch.Event]bool
	woken  chan struct{} // has a value as long as there are events
	recent []agent.Event // what was put back last, the oldest first

	// The rest is the loop's own.
	wait     time.Duration       // from an event on; 0: healAfter
	keys     []records.RecordKey // of this step, nil until needed
	queue    map[healKey]*queueItem
	limiters map[runKey]*limiter // of runs
	lines    map[runKey]*limiter // of lines in the log
	known    map[string]bool     // errors that are logged already
}

// A queueItem says when a key is to be healed, and how often that was tried.
type queueItem struct {
	at    time.Time
	tries int
}

func newHealer(store *records.CachedStore, log *slog.Logger) *healer {
	return &healer{
		store: store, log: log, counts: &healCounts{}, reap: connectionReaper(store.Store), blocked: blockedNetworks(store.Store), lost: lostByIPTables(store.Store), now: time.Now,
		sweep: confSweeper(store.Store), sweepRules: ruleSweeper(store.Store),
		events: map[watch.Event]bool{}, woken: make(chan struct{}, 1),
		queue: map[healKey]*queueItem{}, limiters: map[runKey]*limiter{}, lines: map[runKey]*limiter{}, known: map[string]bool{},
	}
}

// notify takes note of an event.
func (h *healer) notify(event watch.Event) {
	h.mu.Lock()
	h.events[event] = true
	h.mu.Unlock()
	select {
	case h.woken <- struct{}{}:
	default:
	}
}

func (h *healer) takeEvents() []watch.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []watch.Event
	for event := range h.events {
		list = append(list, event)
	}
	clear(h.events)
	return list
}

// isOurs reports whether a program is dcni's: the rules that it removes are not
// put back.
func isOurs(program string) bool {
	return mode.Of(program) != nil || slices.Contains([]string{"dipam", "dnet", "dnetd"}, program)
}

// serve heals until the context ends. If the kernel can't notify it, it heals
// everything now and then all the same.
func (h *healer) serve(ctx context.Context) {
	watcher, err := watch.New(isOurs, h.notify)
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
	h.add(healKey{}, 0)
	for ctx.Err() == nil {
		h.step(ctx)
	}
}

// step waits for events or until a key is due, and heals what is due.
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
		h.resolve(h.takeEvents())
		h.wait = min(healLook*time.Since(start), healLate)
	}
	h.healDue(ctx)
}

// list returns the names of all records, read once in a step.
func (h *healer) list() []records.RecordKey {
	if h.keys == nil {
		var err error
		if h.keys, err = h.store.Keys(); err != nil {
			h.logOnce(err)
		}
	}
	return h.keys
}

// add has a key healed after a while.
func (h *healer) add(k healKey, after time.Duration) {
	at := time.Now().Add(after)
	if item := h.queue[k]; item == nil {
		h.queue[k] = &queueItem{at: at}
	} else if at.Before(item.at) {
		item.at = at
	}
}

// next returns when the next key is due.
func (h *healer) next() time.Time {
	at := time.Now().Add(healEvery)
	for _, item := range h.queue {
		if item.at.Before(at) {
			at = item.at
		}
	}
	return at
}

// resolve adds the keys that events are about.
func (h *healer) resolve(events []watch.Event) {
	links, parents, nsids := map[string]bool{}, map[string]bool{}, map[int]bool{}
	for _, event := range events {
		switch event.What {
		case watch.Parent:
			parents[event.Link] = true
		case watch.Lo:
			h.addGuests()
		case watch.Foreign:
			h.addBlocked()
		case watch.IPTables:
			h.addLost()
		case watch.Link, watch.Inside:
			if event.Link == "" {
				nsids[event.NSID] = true
			} else {
				links[event.Link] = true
			}
		default:
			h.add(healKey{}, 0)
			return
		}
	}
	if len(parents)+len(nsids) > 0 {
		h.addChildren(parents, nsids)
	}
	if len(links) == 0 {
		return
	}
	keys := h.list()
	for _, r := range keys {
		if links[r.HostLink()] || links[wire.FormerHostLink(r.HostLink())] {
			h.add(healKey{r.Attachment}, 0)
		}
	}
	for link := range links {
		if !wire.IsHostLink(link) {
			h.addBridge(link, keys)
		}
	}
}

// addChildren adds the attachments whose interfaces are on one of some links of the host,
// or in a sandbox of some numbers, and their networks.
func (h *healer) addChildren(parents map[string]bool, nsids map[int]bool) {
	numbers, err := watch.OpenNSIDs()
	if err != nil {
		h.logOnce(err)
		return
	}
	defer numbers.Close()
	onParent := map[string]*network.Parent{} // by plugin and network; nil: on none
	for _, key := range h.list() {
		on, known := onParent[key.Plugin+" "+key.Network]
		if known && on == nil {
			continue
		}
		r, err := h.store.Get(key.Attachment, key.Plugin)
		if err != nil {
			continue
		}
		onParent[key.Plugin+" "+key.Network] = r.Parent
		if r.Parent == nil {
			continue
		}
		if parents[r.Parent.Name] || parents[r.Parent.On] {
			h.add(healKey{wire.Attachment{Network: key.Network}}, 0)
			h.add(healKey{key.Attachment}, 0)
		} else if id, err := numbers.Of(r.NetNS); len(nsids) > 0 && err == nil && nsids[id] {
			h.add(healKey{key.Attachment}, 0)
		}
	}
}

// addGuests adds the containers that are in another one's namespace. Which one that is their
// records don't tell by a number, for the path to it may be gone: its runtime has stopped it.
// They wait a little: a runtime that stops a container may take lo down more than once.
func (h *healer) addGuests() {
	for _, key := range h.list() {
		if key.Plugin == container.Plugin.Type {
			h.add(healKey{key.Attachment}, healGuests)
		}
	}
}

// addBlocked adds the networks whose bridges other programs' rules stopped letting pass.
func (h *healer) addBlocked() {
	list, err := h.blocked()
	if err != nil {
		h.logOnce(err)
	}
	for _, name := range list {
		h.add(healKey{wire.Attachment{Network: name}}, 0)
	}
}

// addLost adds everything where something of what networks have by iptables is lost: by whom a change
// was, as one of a plugin's, its programs don't tell.
func (h *healer) addLost() {
	lost, err := h.lost()
	if err != nil {
		h.logOnce(err)
	}
	if lost {
		h.add(healKey{}, 0)
	}
}

// addBridge adds the networks that have a bridge, or a VXLAN device: what is on record with
// each of their attachments tells.
func (h *healer) addBridge(name string, keys []records.RecordKey) {
	known := map[string]bool{}
	for _, key := range keys {
		if known[key.Network] {
			continue
		}
		if r, err := h.store.Get(key.Attachment, key.Plugin); err == nil && r.Firewall != nil {
			known[key.Network] = true
			if r.Firewall.Bridge == name || r.Overlay != nil && overlay.Device(key.Network) == name {
				h.add(healKey{wire.Attachment{Network: key.Network}}, 0)
			}
		}
	}
}

// healDue heals the keys that are due.
func (h *healer) healDue(ctx context.Context) {
	defer func() { h.keys = nil }() // other records in the next step
	now := time.Now()
	var list []healKey
	for k, item := range h.queue {
		if !item.at.After(now) {
			list = append(list, k)
		}
	}
	if len(list) == 0 {
		return
	}
	slices.SortFunc(list, func(a, b healKey) int { return strings.Compare(a.String(), b.String()) })
	keys := h.list()
	if slices.Contains(list, healKey{}) {
		clear(h.queue) // everything has all of them
		h.heal(ctx, keys, []healKey{{}})
		h.healServices(ctx)
		h.reapConnections(ctx)
		h.add(healKey{}, max(healEvery, healShare*time.Since(now)))
		h.sweepAll() // after that: it waits for plugins' locks, which is no time of healing
		return
	}
	list = slices.DeleteFunc(list, func(k healKey) bool { return !h.ready(k, keys) })
	h.heal(ctx, keys, list)
}

// sweepAll removes what no record mentions.
func (h *healer) sweepAll() {
	swept, err := h.sweepRules()
	for _, what := range swept {
		h.log.Info("rules that were put back are removed", "what", what)
	}
	if err := errors.Join(err, h.sweep()); err != nil {
		h.logOnce(err)
	}
}

// healServices puts back the ports of services.
func (h *healer) healServices(ctx context.Context) {
	if h.services == nil || ctx.Err() != nil {
		return
	}
	if err := recovered(h.services); err != nil {
		h.logOnce(err)
	}
}

// ready reports whether a key is on record and no plugin is at work on it. A key
// that is busy stays in the queue.
func (h *healer) ready(k healKey, keys []records.RecordKey) bool {
	there := slices.ContainsFunc(keys, k.covers)
	if !there || k.Container == "" {
		delete(h.queue, k)
		return there
	}
	lock, free, err := h.store.TryLockAttachment(k.Attachment)
	lock.Unlock()
	if free || err != nil {
		delete(h.queue, k)
		return true
	}
	item := h.queue[k]
	if item.tries++; item.tries > healTries {
		delete(h.queue, k)
	}
	item.at = time.Now().Add(healAgain)
	return false
}

// isAmiss reports whether something was not as it should be.
func isAmiss(r wire.HealEvent) bool { return r.Error != "" || r.Did == wire.PutBack }

// account counts and logs what healing a plugin's records did.
func (h *healer) account(plugin string, list []wire.HealEvent, err error) {
	if err != nil {
		h.logOnce(err)
	}
	for _, r := range list {
		log := h.log.With("network", r.Network, "container", r.Container, "interface", r.IfName)
		switch {
		case r.Error != "":
			h.remember(r)
			h.counts.Failed.Add(1)
			h.logOnce(errors.New(strings.TrimSuffix(r.Attachment.String(), " /") + ": " + r.Object + ": " + r.Error))
		case r.Did == wire.PutBack:
			h.remember(r)
			h.counts.PutBack.Add(1)
			h.logPutBack(log.With("object", r.Object, "was", r.Was), runKey{plugin, healKey{r.Attachment}})
		case r.Did == wire.Reaped:
			h.counts.Reaped.Add(1)
			log.Info("collected", "reason", r.Was)
		case r.Did == wire.Lost:
			// The store said so as it moved the record away.
		case r.Did == wire.Left:
			h.add(healKey{r.Attachment}, cni.Grace)
		}
	}
}

// logOnce logs an error the first time that it occurs, until there are too many to
// remember.
func (h *healer) logOnce(err error) {
	const most = 1000
	if len(h.known) > most {
		clear(h.known)
	}
	if text := err.Error(); !h.known[text] {
		h.known[text] = true
		h.log.Warn("can't put back", "error", text)
	}
}
