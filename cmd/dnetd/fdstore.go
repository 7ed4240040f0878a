package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"dcni/pkg/dns"
	"dcni/pkg/host/agent"
	"dcni/pkg/host/systemd"
	"dcni/pkg/names"
)

// A storeKey says whose sockets are stored: those of one family of a sandbox.
type storeKey struct {
	cookie uint64
	family names.Family
}

// ipVersions are what the families are called.
var ipVersions = [families]int{names.IPv4: 4, names.IPv6: 6}

// String is the name of the descriptors in systemd's store.
func (k storeKey) String() string { return fmt.Sprintf("%d-ipv%d", k.cookie, ipVersions[k.family]) }

// parseStoreKey is the inverse of String.
func parseStoreKey(name string) (storeKey, bool) {
	var k storeKey
	var version int
	_, err := fmt.Sscanf(name, "%d-ipv%d", &k.cookie, &version)
	if version == ipVersions[names.IPv6] {
		k.family = names.IPv6
	}
	return k, err == nil && k.String() == name
}

// A pair is the descriptors of a UDP socket and of a TCP listener.
type pair struct{ udp, tcp int }

// A fdStore is systemd's file descriptor store. The next dnetd goes on reading the
// same sockets, which hold the queries that came in between.
type fdStore struct {
	service *systemd.Service
	log     *slog.Logger

	mu              sync.Mutex
	stored          map[storeKey]storedPair
	pendingRemovals map[storeKey]bool // are to be removed from the store, and could not be yet
	unsent          error             // why systemd could not be notified, most likely because it was busy: retryLoop tries again; or nil
	sent            int               // how many notifications systemd took
	fullLogged      bool              // a line in the log says that the store is full

	retry chan struct{} // has a value once a notification could not be sent
}

// A storedPair is what the process knows of a pair in the store.
type storedPair struct {
	pair         // as systemd handed it over; {-1, -1}: this process has stored it
	claimed bool // it is in use; if not, the store closes it
}

// newFDStore returns the store with the pairs that an earlier dnetd put there. It
// drops descriptors that make no pair.
func newFDStore(s *systemd.Service, log *slog.Logger, handed []systemd.Descriptor) *fdStore {
	f := &fdStore{service: s, log: log, stored: map[storeKey]storedPair{}, pendingRemovals: map[storeKey]bool{}, retry: make(chan struct{}, 1)}
	byName := map[string][]int{}
	for _, d := range handed {
		byName[d.Name] = append(byName[d.Name], d.FD)
	}
	for name, fds := range byName {
		key, known := parseStoreKey(name)
		p, paired := pairOf(fds)
		if known && paired {
			f.stored[key] = storedPair{pair: p}
			continue
		}
		agent.CloseAll(fds)
		log.Warn("systemd had kept what is no name server's", "name", name, "descriptors", len(fds), "error", s.Drop(name))
	}
	return f
}

// pairOf tells a UDP socket and a TCP socket apart.
func pairOf(fds []int) (pair, bool) {
	p := pair{-1, -1}
	for _, fd := range fds {
		switch kind, _ := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_TYPE); kind {
		case syscall.SOCK_DGRAM:
			p.udp = fd
		case syscall.SOCK_STREAM:
			p.tcp = fd
		}
	}
	return p, len(fds) == 2 && p.udp >= 0 && p.tcp >= 0
}

// put implements socketStore. A pair that was claimed is in the store already.
func (f *fdStore) put(cookie uint64, family names.Family, udp, tcp int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key, now := storeKey{cookie, family}, storedPair{pair{-1, -1}, true}
	if was := f.stored[key]; was.claimed && was.pair == (pair{udp, tcp}) {
		f.stored[key] = now
		return
	}
	f.remove(key)
	if f.unsent != nil || f.pendingRemovals[key] {
		return
	}
	if f.ok(f.service.Keep(key.String(), udp, tcp)) {
		f.stored[key] = now
	}
}

// drop implements socketStore.
func (f *fdStore) drop(cookie uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for family := range families {
		f.remove(storeKey{cookie, family})
	}
}

// claim implements socketStore.
func (f *fdStore) claim(cookie uint64, family names.Family) (udp, tcp int, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := storeKey{cookie, family}
	s, ok := f.stored[key]
	if !ok || s.claimed {
		return -1, -1, false
	}
	f.stored[key] = storedPair{s.pair, true}
	return s.udp, s.tcp, true
}

// dropUnclaimed drops pairs that were not claimed: each keeps alive a namespace
// that has no record.
func (f *fdStore) dropUnclaimed() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, s := range f.stored {
		if !s.claimed {
			f.remove(key)
		}
	}
}

// remove removes a pair from the store, if it is there.
func (f *fdStore) remove(key storeKey) {
	s, ok := f.stored[key]
	if !ok {
		return
	}
	if !s.claimed {
		agent.CloseAll([]int{s.udp, s.tcp})
	}
	delete(f.stored, key)
	f.pendingRemovals[key] = true
	if f.unsent == nil {
		f.flushRemoval(key)
	}
}

// flushRemoval has systemd drop a pair whose removal is pending.
func (f *fdStore) flushRemoval(key storeKey) {
	if f.ok(f.service.Drop(key.String())) {
		delete(f.pendingRemovals, key)
	}
}

// ok reports whether systemd took a notification, and has it sent again if not.
// Without the store, the next dnetd opens sockets from the records, and queries
// that come until then are lost.
func (f *fdStore) ok(err error) bool {
	switch {
	case err == nil:
		f.sent++
		return true
	case !errors.Is(err, systemd.ErrFull):
		f.unsent = err
		select {
		case f.retry <- struct{}{}:
		default:
		}
	case !f.fullLogged:
		f.fullLogged = true
		f.log.Warn("not all sockets are stored", "error", err)
	}
	return false
}

// catchUpAfter is how long retryLoop waits before it notifies systemd again. Each
// time that systemd takes nothing it waits twice as long, up to notifyEvery.
const catchUpAfter = 20 * time.Millisecond

// retryLoop sends notifications that could not be sent, until the context ends. The
// store is not locked while it waits. It logs once if it takes long.
func (f *fdStore) retryLoop(ctx context.Context, eachEndpoint func(put func(storeKey, *dns.Endpoint))) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.retry:
		}
		since, said := time.Now(), false
		for wait := catchUpAfter; ; {
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
			some, err := f.catchUp(eachEndpoint)
			if err == nil {
				break
			}
			if wait = min(2*wait, notifyEvery); some {
				wait = catchUpAfter
			}
			if !said && time.Since(since) > notifyEvery {
				said = true
				f.log.Warn("systemd does not keep all sockets", "error", err)
			}
		}
		if said {
			f.log.Info("systemd keeps all sockets again", "after", time.Since(since))
		}
	}
}

// catchUp sends pending removals, and pairs of endpoints that the store lacks. It
// reports whether systemd took some of it, and why not all, or nil.
func (f *fdStore) catchUp(eachEndpoint func(put func(storeKey, *dns.Endpoint))) (some bool, err error) {
	f.mu.Lock()
	f.unsent = nil
	before := f.sent
	for key := range f.pendingRemovals {
		if f.unsent == nil {
			f.flushRemoval(key)
		}
	}
	f.mu.Unlock()
	eachEndpoint(func(key storeKey, e *dns.Endpoint) {
		if f.lacks(key) {
			_ = e.Control(func(udp, tcp int) { f.put(key.cookie, key.family, udp, tcp) }) // an error: it is closed by now
		}
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sent > before, f.unsent
}

// lacks reports whether a pair is not in the store, and may be put there.
func (f *fdStore) lacks(key storeKey) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, there := f.stored[key]
	return !there && f.unsent == nil
}
