package etcd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"dcni/pkg/overlay"
)

const (
	// stale is how long a watch hears nothing until it gives up.
	stale = 10 * time.Second
	// askAfter is how long it hears nothing until it asks whether etcd is there, up to
	// half as much more: all watches hear the answer, so that mostly one asks.
	askAfter = 2 * time.Second
	// probeTimeout is how long it looks for the reason then.
	probeTimeout = 200 * time.Millisecond
)

// Watch calls each with changes.
func (s *Store) Watch(ctx context.Context, prefix string, after int64, each func(int64, []overlay.Event) error) error {
	// A member that has lost its leader ends the watch, instead of being silent.
	watch, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	responses, err := s.begin(ctx, watch, cancel, prefix, after)
	if err != nil {
		return err
	}
	w := watcher{store: s, ctx: ctx, watch: watch, each: each, last: after, silent: time.NewTimer(stale), ask: time.NewTimer(pause())}
	defer w.silent.Stop()
	defer w.ask.Stop()
	for {
		if err := w.next(responses); err != nil {
			return err
		}
	}
}

// begin returns the responses of a watch once etcd has taken it. It cancels it if etcd
// does not.
func (s *Store) begin(ctx, watch context.Context, cancel context.CancelFunc, prefix string, after int64) (clientv3.WatchChan, error) {
	key, end := scope(prefix)
	timer := time.AfterFunc(s.timeout, cancel)
	responses := s.client.Watch(watch, key, end, clientv3.WithRev(max(after, 0)+1))
	switch {
	case timer.Stop():
		return responses, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	s.probe(ctx)
	return nil, fmt.Errorf("watch of %s: %w", prefix, s.silent(s.timeout))
}

// probe asks for something, to learn why a watch is not answered: all watches have one
// stream, which goes on waiting for a connection.
func (s *Store) probe(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	_, _ = s.client.Get(limited, "\x00", clientv3.WithCountOnly())
}

// A watcher is a watch that etcd has taken.
type watcher struct {
	store       *Store
	ctx, watch  context.Context // the caller's, and the watch's
	each        func(int64, []overlay.Event) error
	last        int64 // revision that was heard of
	silent, ask *time.Timer
}

// next waits for what comes next. Its error ends the watch.
func (w *watcher) next(responses clientv3.WatchChan) error {
	select {
	case <-w.ctx.Done():
		return w.ctx.Err()
	case <-w.silent.C:
		return fmt.Errorf("watch: %w", w.store.silent(stale))
	case <-w.ask.C:
		go w.askProgress()
		w.ask.Reset(pause())
	case r, ok := <-responses:
		if err := w.take(r, ok); err != nil {
			return err
		}
		w.silent.Reset(stale) // each may have taken long
		w.ask.Reset(pause())
	}
	return nil
}

// askProgress has etcd say on the watches' stream how far it is. It waits where the
// stream is not up.
func (w *watcher) askProgress() {
	ctx, cancel := context.WithTimeout(w.watch, stale)
	defer cancel()
	_ = w.store.client.RequestProgress(ctx) // without an answer the watch ends
}

func pause() time.Duration { return askAfter + rand.N(askAfter/2) }

// take hands a response on, revision by revision.
func (w *watcher) take(r clientv3.WatchResponse, ok bool) error {
	if !ok || r.Err() != nil {
		return w.ended(r)
	}
	if now := r.Header.Revision; now != 0 && now < w.last { // the client went on watching, at another store
		return fmt.Errorf("%w: the store is at %d and was at %d: it was made anew", overlay.ErrCompacted, now, w.last)
	}
	w.last = max(w.last, r.Header.Revision)
	for events := r.Events; len(events) > 0; {
		revision, n := events[0].Kv.ModRevision, 1
		for n < len(events) && events[n].Kv.ModRevision == revision {
			n++
		}
		if w.ctx.Err() != nil {
			return w.ctx.Err()
		}
		if err := w.each(revision, changes(events[:n])); err != nil {
			return err
		}
		events = events[n:]
	}
	return nil
}

// ended returns why a watch has.
func (w *watcher) ended(r clientv3.WatchResponse) error {
	switch {
	case r.CompactRevision != 0:
		return fmt.Errorf("%w, the first is %d", overlay.ErrCompacted, r.CompactRevision)
	case w.ctx.Err() != nil:
		return w.ctx.Err()
	case r.Err() != nil:
		return w.store.failed(w.ctx, r.Err())
	}
	return w.store.failed(w.ctx, errors.New("the watch ended"))
}

func changes(events []*clientv3.Event) []overlay.Event {
	list := make([]overlay.Event, 0, len(events))
	for _, e := range events {
		if e.Type == clientv3.EventTypeDelete {
			list = append(list, overlay.Event{Entry: overlay.Entry{Key: string(e.Kv.Key), Modified: e.Kv.ModRevision}, Deleted: true})
		} else {
			list = append(list, overlay.Event{Entry: entry(e.Kv)})
		}
	}
	return list
}
