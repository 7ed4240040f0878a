// Package memory is an [overlay.Store] in the process's own memory, for tests and the
// benchmark. It forgets nothing but what [Store.Compact] is told to.
package memory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"dcni/pkg/overlay"
)

// A Store is one client of a store in memory. It can be cut off from it, alone.
type Store struct {
	db *db

	mu  sync.Mutex
	cut chan struct{} // closed while the client is cut off
}

// New returns the client of a new store, which is empty and at revision 1, as etcd's is.
func New() *Store {
	return client(&db{revision: 1, compacted: 1, entries: map[string]*entry{}, changed: make(chan struct{})})
}

// Another returns another client of the same store.
func (s *Store) Another() *Store { return client(s.db) }

func client(d *db) *Store { return &Store{db: d, cut: make(chan struct{})} }

// Cut cuts the client off: what it does fails with ErrUnavailable, until Mend.
func (s *Store) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !closed(s.cut) {
		close(s.cut)
	}
}

// Mend ends what Cut did.
func (s *Store) Mend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if closed(s.cut) {
		s.cut = make(chan struct{})
	}
}

// away returns what is closed when the client is cut off.
func (s *Store) away() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cut
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// ready returns why nothing can be asked of the store.
func (s *Store) ready(ctx context.Context) error {
	if closed(s.away()) {
		return fmt.Errorf("%w: this client is cut off", overlay.ErrUnavailable)
	}
	return ended(ctx)
}

// ended returns the error of a context that has ended.
func ended(ctx context.Context) error {
	if err := ctx.Err(); errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", overlay.ErrUnavailable, err)
	} else if err != nil {
		return err
	}
	return nil
}

// Get returns an entry.
func (s *Store) Get(ctx context.Context, key string) (overlay.Entry, error) {
	if err := s.ready(ctx); err != nil {
		return overlay.Entry{}, err
	}
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	e := s.db.entries[key]
	if e == nil {
		return overlay.Entry{}, fmt.Errorf("%s: %w", key, overlay.ErrNotFound)
	}
	return e.copy(), nil
}

// List calls each with the entries below a prefix.
func (s *Store) List(ctx context.Context, prefix string, each func(overlay.Entry) error) (int64, error) {
	if err := s.ready(ctx); err != nil {
		return 0, err
	}
	entries, revision := s.db.list(prefix)
	for _, e := range entries {
		if err := s.ready(ctx); err != nil {
			return 0, err
		}
		if err := each(e); err != nil {
			return 0, err
		}
	}
	return revision, nil
}

// Commit makes changes if the conditions hold.
func (s *Store) Commit(ctx context.Context, t overlay.Txn) (bool, int64, error) {
	if err := t.Validate(); err != nil {
		return false, 0, err
	}
	if err := s.ready(ctx); err != nil {
		return false, 0, err
	}
	done, revision := s.db.commit(t)
	return done, revision, nil
}

// Watch calls each with changes.
func (s *Store) Watch(ctx context.Context, prefix string, after int64, each func(int64, []overlay.Event) error) error {
	away := s.away()
	for {
		if err := s.ready(ctx); err != nil {
			return watchEnd(ctx, err)
		}
		batches, next, err := s.db.since(after)
		if err != nil {
			return err
		}
		for _, b := range batches {
			after = b.revision
			changes := b.below(prefix)
			if len(changes) == 0 {
				continue
			}
			if err := s.ready(ctx); err != nil {
				return watchEnd(ctx, err)
			}
			if err := each(b.revision, changes); err != nil {
				return err
			}
		}
		select {
		case <-next:
		case <-away:
		case <-ctx.Done():
		}
	}
}

// watchEnd returns the context's error where it has ended: a watch has no answer that
// could be late.
func watchEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// Keep keeps an entry.
func (s *Store) Keep(ctx context.Context, key string, value []byte, ttl int) error {
	t := overlay.Txn{Then: []overlay.Change{{Key: key, Value: value, TTL: ttl}}}
	if err := t.Validate(); err != nil {
		return err
	}
	if ttl < 1 {
		return fmt.Errorf("%s: kept with a TTL of %d s, must be 1 or more", key, ttl)
	}
	if err := s.ready(ctx); err != nil {
		return err
	}
	e := s.db.keep(key, value)
	return s.renew(ctx, key, e, time.Duration(ttl)*time.Second)
}

// renew waits until the context ends, the entry has gone, or the client was cut off
// for its TTL.
func (s *Store) renew(ctx context.Context, key string, e *entry, ttl time.Duration) error {
	for {
		select {
		case <-ctx.Done():
			s.db.drop(key, e)
			return ctx.Err()
		case <-e.gone:
			return fmt.Errorf("%w: %s was deleted, or written by another", overlay.ErrUnavailable, key)
		case <-s.away():
		}
		select {
		case <-ctx.Done():
			s.db.dropIn(ttl, key, e) // the store doesn't hear of it
			return ctx.Err()
		case <-time.After(ttl):
		}
		if closed(s.away()) {
			s.db.drop(key, e)
			return fmt.Errorf("%w: %s was not renewed for %v", overlay.ErrUnavailable, key, ttl)
		}
	}
}

// A db is what the clients share.
type db struct {
	mu        sync.Mutex
	revision  int64
	compacted int64 // what was before is forgotten
	entries   map[string]*entry
	history   []batch       // of revisions after compacted
	changed   chan struct{} // closed with the next change
}

// An entry is one as it was last written.
type entry struct {
	overlay.Entry
	gone chan struct{} // closed when it was deleted or written again
}

func (e *entry) copy() overlay.Entry {
	c := e.Entry
	c.Value = slices.Clone(c.Value)
	return c
}

// A batch is the changes of a revision.
type batch struct {
	revision int64
	changes  []overlay.Event
}

// below returns the changes of keys that begin with a prefix.
func (b batch) below(prefix string) []overlay.Event {
	var list []overlay.Event
	for _, c := range b.changes {
		if strings.HasPrefix(c.Key, prefix) {
			c.Value = slices.Clone(c.Value)
			list = append(list, c)
		}
	}
	return list
}

func (d *db) list(prefix string) ([]overlay.Entry, int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []overlay.Entry
	for key, e := range d.entries {
		if strings.HasPrefix(key, prefix) {
			list = append(list, e.copy())
		}
	}
	slices.SortFunc(list, func(a, b overlay.Entry) int { return strings.Compare(a.Key, b.Key) })
	return list, d.revision
}

// since returns the changes after a revision, and what is closed with the next one.
func (d *db) since(after int64) ([]batch, <-chan struct{}, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if after < d.compacted-1 { // there was no change before revision 2
		return nil, nil, fmt.Errorf("watch after revision %d: %w, the first is %d", after, overlay.ErrCompacted, d.compacted)
	}
	i, _ := slices.BinarySearchFunc(d.history, after+1, func(b batch, r int64) int { return cmp.Compare(b.revision, r) })
	return d.history[i:len(d.history):len(d.history)], d.changed, nil
}

func (d *db) commit(t overlay.Txn) (bool, int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range t.If {
		if !d.holds(c) {
			return false, d.revision
		}
	}
	d.change(t.Then)
	return true, d.revision
}

func (d *db) holds(c overlay.Condition) bool {
	e := d.entries[c.Key]
	switch {
	case e == nil:
		return c.Created == 0 && c.Modified == 0
	case c.Created != 0:
		return e.Created == c.Created
	}
	return e.Modified == c.Modified // never 0
}

// change makes changes at the next revision, if there are any.
func (d *db) change(changes []overlay.Change) {
	b := batch{revision: d.revision + 1}
	for _, c := range changes {
		if c.Delete {
			d.remove(&b, c.Key)
		} else {
			d.write(&b, c)
		}
	}
	if len(b.changes) == 0 {
		return
	}
	d.revision = b.revision
	d.history = append(d.history, b)
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *db) remove(b *batch, key string) {
	e := d.entries[key]
	if e == nil {
		return
	}
	close(e.gone)
	delete(d.entries, key)
	b.changes = append(b.changes, overlay.Event{Entry: overlay.Entry{Key: key, Modified: b.revision}, Deleted: true})
}

func (d *db) write(b *batch, c overlay.Change) *entry {
	e := &entry{gone: make(chan struct{}), Entry: overlay.Entry{
		Key: c.Key, Value: slices.Clone(c.Value), Created: b.revision, Modified: b.revision,
	}}
	if old := d.entries[c.Key]; old != nil {
		e.Created = old.Created
		close(old.gone)
	}
	d.entries[c.Key] = e
	b.changes = append(b.changes, overlay.Event{Entry: e.Entry})
	if c.TTL > 0 {
		d.dropIn(time.Duration(c.TTL)*time.Second, c.Key, e)
	}
	return e
}

// keep writes an entry without a TTL and returns it.
func (d *db) keep(key string, value []byte) *entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.change([]overlay.Change{{Key: key, Value: value}})
	return d.entries[key]
}

// drop deletes an entry if it is still the one that was written.
func (d *db) drop(key string, e *entry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.entries[key] == e {
		d.change([]overlay.Change{{Key: key, Delete: true}})
	}
}

func (d *db) dropIn(ttl time.Duration, key string, e *entry) {
	time.AfterFunc(ttl, func() { d.drop(key, e) })
}

// Compact forgets what was before a revision: a watch from there on sees all of it, an
// earlier one gets ErrCompacted.
func (s *Store) Compact(_ context.Context, revision int64) error {
	d := s.db
	d.mu.Lock()
	defer d.mu.Unlock()
	if revision > d.revision {
		return fmt.Errorf("compact at revision %d: the last is %d", revision, d.revision)
	}
	d.compacted = max(d.compacted, revision)
	d.history = slices.DeleteFunc(slices.Clone(d.history), func(b batch) bool { return b.revision < d.compacted })
	return nil
}
