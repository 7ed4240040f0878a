package relay

import (
	"errors"
	"maps"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"dcni/pkg/poll"
)

// pauseTime is how long a socket is not watched after accepting failed for lack of
// descriptors or memory.
const pauseTime = 100 * time.Millisecond

// At most eventsAtOnce sockets are served before Set gets the lock, and each gets at
// most readsAtOnce connections or datagrams.
const (
	eventsAtOnce = 64
	readsAtOnce  = 32
)

// run serves sockets that are ready, and does what is due, until the Relay is
// closed.
func (r *Relay) run() {
	for errors.Is(r.epoll.Each(eventsAtOnce, r.serveReady), os.ErrDeadlineExceeded) {
		r.mu.Lock()
		r.housekeep(time.Now())
		r.mu.Unlock()
	}
}

// serveReady serves sockets that are ready, by their descriptors.
func (r *Relay) serveReady(fds []int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, fd := range fds {
		if w := r.watched[fd]; w != nil {
			w.ready(r)
		}
	}
}

// wakeIn has the loop call housekeep after some time, or earlier. The lock must be
// held.
func (r *Relay) wakeIn(d time.Duration) {
	at := time.Now().Add(d)
	if r.tick.IsZero() || at.Before(r.tick) {
		r.tick = at
		_ = r.epoll.SetDeadline(at) // it fails only if the Relay is closed
	}
}

// housekeep does what is due.
func (r *Relay) housekeep(now time.Time) {
	r.tick = time.Time{}
	_ = r.epoll.SetDeadline(r.tick) // it fails only if the Relay is closed
	for _, s := range r.paused {
		s.watch(r, poll.Readable)
	}
	r.paused = nil
	for s := range r.busy {
		s.closeSilent(r, now)
	}
	if len(r.busy) > 0 {
		r.wakeIn(r.limits.sweep)
	}
	_ = r.updateAll(maps.Keys(r.waiting)) // it logs what comes of it
}

// pause stops watching a socket for a moment, since there are no descriptors or no
// memory. Clients wait in its queue.
func (r *Relay) pause(s *socket) {
	s.watch(r, 0)
	r.paused = append(r.paused, s)
	r.wakeIn(pauseTime)
}

// add has a descriptor watched.
func (r *Relay) add(fd int, w watched) error {
	if err := r.epoll.Add(fd, int32(fd), poll.Readable); err != nil {
		return err
	}
	r.watched[int32(fd)] = w
	return nil
}

// remove closes a descriptor that is watched.
func (r *Relay) remove(fd int) {
	delete(r.watched, int32(fd))
	_ = r.epoll.Remove(fd) // it fails only if the Relay is closed
	_ = unix.Close(fd)
}
