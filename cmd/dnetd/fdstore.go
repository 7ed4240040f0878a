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

// A storeKey is whose sockets are stored: those of one family of a sandbox.
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

// A fdStore is systemd's file descriptor store: the next dnetd goes on reading
// the same sockets, and what arrived meanwhile is in them.
type fdStore struct {
	service *systemd.Service
	log     *slog.Logger

	mu     sync.Mutex
	there  map[storeKey]stored
	owed   map[storeKey]bool // what is to be dropped, and could not be yet
	behind error             // why systemd can't be told just now, most likely that it is busy: keepUp will; or nil
	told   int               // how many times it was told
	full   bool              // that there is no room is said

	late chan struct{} // has something once systemd could not be told
}

// stored is what the process knows of sockets in the store.
type stored struct {
	pair       // as they were handed over; {-1, -1}: they were put there since
	taken bool // they are in use; if not, they are the store's to close
}

// newFDStore returns the store with what an earlier dnetd put there; of it what
// makes no pair is dropped.
func newFDStore(s *systemd.Service, log *slog.Logger, handed []systemd.Descriptor) *fdStore {
	f := &fdStore{service: s, log: log, there: map[storeKey]stored{}, owed: map[storeKey]bool{}, late: make(chan struct{}, 1)}
	byName := map[string][]int{}
	for _, d := range handed {
		byName[d.Name] = append(byName[d.Name], d.FD)
	}
	for name, fds := range byName {
		key, known := parseStoreKey(name)
		p, paired := pairOf(fds)
		if known && paired {
			f.there[key] = stored{pair: p}
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

// put implements vault. What was taken from the store is there already.
func (f *fdStore) put(cookie uint64, family names.Family, udp, tcp int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key, now := storeKey{cookie, family}, stored{pair{-1, -1}, true}
	if was := f.there[key]; was.taken && was.pair == (pair{udp, tcp}) {
		f.there[key] = now
		return
	}
	f.remove(key)
	if f.behind != nil || f.owed[key] {
		return
	}
	err := f.service.Keep(key.String(), udp, tcp)
	if f.heard(err) {
		f.there[key] = now
	}
}

// drop implements vault.
func (f *fdStore) drop(cookie uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for family := range families {
		f.remove(storeKey{cookie, family})
	}
}

// take implements vault.
func (f *fdStore) take(cookie uint64, family names.Family) (udp, tcp int, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := storeKey{cookie, family}
	s, ok := f.there[key]
	if !ok || s.taken {
		return -1, -1, false
	}
	f.there[key] = stored{s.pair, true}
	return s.udp, s.tcp, true
}

// settle drops what nobody took: it holds a namespace that has no record.
func (f *fdStore) settle() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, s := range f.there {
		if !s.taken {
			f.remove(key)
		}
	}
}

// remove takes sockets out of the store, if they are there.
func (f *fdStore) remove(key storeKey) {
	s, ok := f.there[key]
	if !ok {
		return
	}
	if !s.taken {
		agent.CloseAll([]int{s.udp, s.tcp})
	}
	delete(f.there, key)
	f.owed[key] = true
	if f.behind == nil {
		f.pay(key)
	}
}

// pay has systemd drop what it is owed.
func (f *fdStore) pay(key storeKey) {
	if f.heard(f.service.Drop(key.String())) {
		delete(f.owed, key)
	}
}

// heard reports whether systemd was told. Without the store, sockets are opened
// again from the records: queries of a moment are lost, no more.
func (f *fdStore) heard(err error) bool {
	switch {
	case err == nil:
		f.told++
		return true
	case !errors.Is(err, systemd.ErrFull):
		f.behind = err
		select {
		case f.late <- struct{}{}:
		default:
		}
	case !f.full:
		f.full = true
		f.log.Warn("not all sockets are stored", "error", err)
	}
	return false
}

// catchUpAfter is how long systemd is left alone that could not be told; longer
// each time that it takes nothing, up to tellEvery.
const catchUpAfter = 20 * time.Millisecond

// keepUp tells systemd what it could not be told, until the context ends. Nobody
// else waits meanwhile, and what lasts is logged.
func (f *fdStore) keepUp(ctx context.Context, served func(put func(storeKey, *dns.Endpoint))) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.late:
		}
		since, said := time.Now(), false
		for wait := catchUpAfter; ; {
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
			some, err := f.catchUp(served)
			if err == nil {
				break
			}
			if wait = min(2*wait, tellEvery); some {
				wait = catchUpAfter
			}
			if !said && time.Since(since) > tellEvery {
				said = true
				f.log.Warn("systemd does not keep all sockets", "error", err)
			}
		}
		if said {
			f.log.Info("systemd keeps all sockets again", "after", time.Since(since))
		}
	}
}

// catchUp tells systemd what to drop, and of all that is served what it lacks.
// It reports whether systemd took some of it, and why not all, or nil.
func (f *fdStore) catchUp(served func(put func(storeKey, *dns.Endpoint))) (some bool, err error) {
	f.mu.Lock()
	f.behind = nil
	before := f.told
	for key := range f.owed {
		if f.behind == nil {
			f.pay(key)
		}
	}
	f.mu.Unlock()
	served(func(key storeKey, e *dns.Endpoint) {
		if f.lacks(key) {
			_ = e.Control(func(udp, tcp int) { f.put(key.cookie, key.family, udp, tcp) }) // closed meanwhile
		}
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.told > before, f.behind
}

// lacks reports whether something is not in the store, and may be put there.
func (f *fdStore) lacks(key storeKey) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, there := f.there[key]
	return !there && f.behind == nil
}
