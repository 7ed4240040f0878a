package relay

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// breath is for how long a socket is left alone that could not be accepted from.
const breath = 100 * time.Millisecond

// eventsAtOnce is how many sockets are served before Set gets its turn, and
// each at most so often.
const (
	eventsAtOnce = 64
	turns        = 32
)

// run serves sockets that are ready until the epoll instance is closed. It waits
// with Go's own poller: a thread in a system call of its own would have the
// runtime look after it all the time.
func (r *Relay) run() {
	var events [eventsAtOnce]unix.EpollEvent
	n := 0
	ready := func(fd uintptr) bool {
		var err error
		n, err = unix.EpollWait(int(fd), events[:], 0)
		return n > 0 && err == nil
	}
	for {
		err := r.raw.Read(ready)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		r.mu.Lock()
		if err != nil {
			n = 0
			r.housekeep(time.Now())
		}
		for _, event := range events[:n] {
			if w := r.watched[event.Fd]; w != nil {
				w.ready(r)
			}
		}
		r.mu.Unlock()
	}
}

// wakeIn has the loop look after things in a while, or earlier. It is called
// with the lock held.
func (r *Relay) wakeIn(d time.Duration) {
	at := time.Now().Add(d)
	if r.tick.IsZero() || at.Before(r.tick) {
		r.tick = at
		_ = r.epoll.SetReadDeadline(at) // fails once it is closed
	}
}

// housekeep does what is due.
func (r *Relay) housekeep(now time.Time) {
	r.tick = time.Time{}
	_ = r.epoll.SetReadDeadline(r.tick) // fails once it is closed
	for _, s := range r.paused {
		s.watch(r, unix.EPOLLIN)
	}
	r.paused = nil
	for s := range r.busy {
		s.closeSilent(r, now)
	}
	if len(r.busy) > 0 {
		r.wakeIn(r.limits.sweep)
	}
	_ = r.settleAll(maps.Keys(r.waiting)) // says itself what comes of it
}

// pause leaves a socket alone for a moment, and what comes there in its queue:
// there are no descriptors or no memory.
func (r *Relay) pause(s *socket) {
	s.watch(r, 0)
	r.paused = append(r.paused, s)
	r.wakeIn(breath)
}

// add has a descriptor watched.
func (r *Relay) add(fd int, w watched) error {
	if err := r.control(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	r.watched[int32(fd)] = w
	return nil
}

// remove closes a descriptor that is watched. Closing alone would not do: where
// another process has the same socket, epoll would go on to tell of it.
func (r *Relay) remove(fd int) {
	delete(r.watched, int32(fd))
	_ = r.control(unix.EPOLL_CTL_DEL, fd, 0) // closing it is all that is left
	_ = unix.Close(fd)
}

func (r *Relay) control(op, fd int, events uint32) error {
	event := unix.EpollEvent{Events: events, Fd: int32(fd)}
	var err error
	if gone := r.raw.Control(func(epoll uintptr) { err = unix.EpollCtl(int(epoll), op, fd, &event) }); gone != nil {
		return gone
	}
	return err
}
