package follow

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"dcni/pkg/names"
	"dcni/pkg/overlay"
	"dcni/pkg/service"
	"dcni/pkg/wire"
)

// A view is a network as the store has it.
type view struct {
	keys    overlay.Keys
	picture *overlay.Picture
	living  *overlay.Living
	start   time.Time
	until   *time.Timer // when names change by themselves; nil: never
	unread  error       // of a value that can't be read: it changes nothing

	heard map[string]int64 // by prefix, the revision that it is of; nil: to be listed

	recovery string    // the value of the store's key of that name
	seen     bool      // the view has been up to date
	settles  time.Time // when a store that was made anew has what all living nodes have
	ended    time.Time // when changes were last heard of
}

// An event is what happened in the store: changes, or the end of a watch.
type event struct {
	prefix   string
	revision int64
	changes  []overlay.Event
	err      error
}

func newView(store *Store, p wire.Peers) *view {
	return &view{
		keys: store.Keys, start: time.Now(), living: &overlay.Living{Keys: store.Keys},
		picture: &overlay.Picture{
			Keys: store.Keys, Self: store.Node, Network: p.Network, Flood: p.Flood, NoIPv6: p.NoIPv6, Bridge: p.Bridge, Vxlan: p.Vxlan,
		},
	}
}

// now returns the time as package overlay has it.
func (v *view) now(t time.Time) int64 { return t.Sub(v.start).Milliseconds() }

// begin brings the view up to date, and returns what changes afterwards.
func (v *view) begin(ctx context.Context, store *Store) (<-chan event, error) {
	if err := v.settled(ctx, store); err != nil {
		return nil, err
	}
	resumes, err := v.resumes(ctx, store)
	if err != nil {
		return nil, err
	}
	if !resumes {
		if err := v.list(ctx, store); err != nil {
			return nil, err
		}
	}
	events := make(chan event)
	for prefix, revision := range v.heard {
		go v.follow(ctx, store, prefix, revision, events)
	}
	return events, nil
}

// settled returns an error where the store was made anew since the view was up to date, and
// the nodes may not have put into it yet what they have: what is missing has not gone.
func (v *view) settled(ctx context.Context, store *Store) error {
	if _, err := store.Get(ctx, v.keys.Meta()); errors.Is(err, overlay.ErrNotFound) {
		return fmt.Errorf("%w: it has no cluster", overlay.ErrUnavailable)
	} else if err != nil {
		return err
	}
	e, err := store.Get(ctx, v.keys.Recovery())
	if err != nil && !errors.Is(err, overlay.ErrNotFound) {
		return err
	}
	if id := string(e.Value); id != v.recovery {
		v.recovery, v.heard = id, nil
		if v.seen {
			v.settles = time.Now().Add(settleTime)
		}
	}
	if left := time.Until(v.settles); left > 0 {
		return fmt.Errorf("%w: it was made anew, and other nodes have %v to put into it what they have", overlay.ErrUnavailable, settleTime)
	}
	return nil
}

// resumes reports whether the store can say what has changed since the view was up to
// date.
func (v *view) resumes(ctx context.Context, store *Store) (bool, error) {
	if v.heard == nil || time.Since(v.ended) > resumeWithin {
		return false, nil
	}
	revision, err := store.List(ctx, v.keys.Meta(), func(overlay.Entry) error { return nil })
	for _, heard := range v.heard {
		if revision < heard { // it is another store, with what an older one had
			return false, err
		}
	}
	return true, err
}

// list lists all that the picture is made of. If that was done before, other nodes do so
// too, and the view waits for its turn.
func (v *view) list(ctx context.Context, store *Store) error {
	if nodes := len(v.picture.Underlay()); nodes > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rand.N(time.Duration(nodes) * listPause)):
		}
	}
	alive, heard := v.keys.Alive(""), map[string]int64{}
	for _, prefix := range append(v.picture.Prefixes(), alive) {
		var list []overlay.Entry
		revision, err := store.List(ctx, prefix, func(e overlay.Entry) error {
			list = append(list, e)
			return nil
		})
		switch {
		case err != nil:
			return err
		case prefix == alive:
			v.living.Reset(list, v.now(time.Now()))
		default:
			v.unread = errors.Join(v.unread, v.picture.Reset(prefix, list))
		}
		heard[prefix] = revision
	}
	v.heard, v.seen = heard, true
	return nil
}

// end notes that nothing is heard of any more.
func (v *view) end() { v.ended = time.Now() }

// follow sends what changes below a prefix, and last why it could not go on.
func (v *view) follow(ctx context.Context, store *Store, prefix string, after int64, events chan<- event) {
	send := func(e event) error {
		select {
		case events <- e:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	err := store.Watch(ctx, prefix, after, func(revision int64, changes []overlay.Event) error {
		return send(event{prefix: prefix, revision: revision, changes: changes})
	})
	_ = send(event{err: errors.Join(err, errWatchEnded)}) // on an error the follower has ended, and takes no more
}

// errWatchEnded says that changes are not heard of any more.
var errWatchEnded = errors.New("the watch has ended")

// take takes an event, and all others that come until then.
func (v *view) take(e event, more <-chan event, until <-chan time.Time) error {
	for {
		if errors.Is(e.err, overlay.ErrCompacted) {
			v.heard = nil
		}
		if e.err != nil {
			return e.err
		}
		for _, change := range e.changes {
			if strings.HasPrefix(change.Key, v.keys.Alive("")) {
				v.living.Apply(change, v.now(time.Now()))
			} else if err := v.picture.Apply(change); err != nil {
				v.unread = err
			}
			v.heard[e.prefix] = e.revision
		}
		select {
		case e = <-more:
		case <-until:
			return nil
		}
	}
}

// names returns the names of endpoints on other nodes.
func (v *view) names(t time.Time) []names.Entry {
	named, until := v.living.Named(v.now(t))
	if v.until = nil; until > 0 {
		v.until = time.NewTimer(v.start.Add(time.Duration(until) * time.Millisecond).Sub(t))
	}
	return v.picture.Names(named)
}

// services returns the services with their tasks on all nodes that have names.
func (v *view) services(t time.Time) service.Picture {
	named, _ := v.living.Named(v.now(t))
	return v.picture.Services(named)
}

// changes has a value when names change by themselves.
func (v *view) changes() <-chan time.Time {
	if v.until == nil {
		return nil
	}
	return v.until.C
}
