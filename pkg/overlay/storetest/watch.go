package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"dcni/pkg/overlay"
)

var errEnough = errors.New("enough")

// watchUntil watches until each returns true.
func (f *fixture) watchUntil(prefix string, after int64, each func(int64, []overlay.Event) bool) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	err := f.s.Watch(ctx, prefix, after, func(revision int64, events []overlay.Event) error {
		if each(revision, events) {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		f.Errorf("Watch of %s after %d: %v", prefix, after, err)
	}
}

// lines are a revision's changes as text: "+a=1" is a key that was made, "a=2" one that
// was written, "-a" one that was deleted.
func (f *fixture) lines(revision int64, events []overlay.Event) string {
	var list []string
	for _, e := range events {
		key := strings.TrimPrefix(e.Key, f.p)
		switch {
		case e.Modified != revision:
			f.Errorf("at revision %d: %s", revision, show(e.Entry))
		case e.Deleted && (e.Created != 0 || len(e.Value) > 0):
			f.Errorf("a deletion has contents: %s", show(e.Entry))
		case e.Deleted:
			list = append(list, "-"+key)
		case e.Created == revision:
			list = append(list, "+"+key+"="+string(e.Value))
		default:
			list = append(list, key+"="+string(e.Value))
		}
	}
	return strings.Join(list, " ")
}

func watchFrom(f *fixture) {
	one := f.commit(f.put("d/a", "1"), f.put("d/b", "1"), f.put("e", "1"))
	f.commit(f.put("e", "2"))
	two := f.commit(f.put("d/a", "2"), f.put("d/c", "2"), f.put("e", "3"), f.del("d/b"))
	three := f.commit(f.del("d/a"), f.del("d/never was"))
	f.commit(f.del("d/a")) // changes nothing
	four := f.commit(f.put("d/a", "4"))

	whole := map[int64]string{one: "+d/a=1 +d/b=1", two: "d/a=2 +d/c=2 -d/b", three: "-d/a", four: "+d/a=4"}
	for _, after := range []int64{one - 1, one, two - 1, two, three} {
		want := map[int64]string{}
		for revision, changes := range whole {
			if revision > after {
				want[revision] = changes
			}
		}
		got := map[int64]string{}
		f.watchUntil(f.p+"d/", after, func(revision int64, events []overlay.Event) bool {
			if got[revision] != "" {
				f.Errorf("revision %d comes twice", revision)
			}
			got[revision] = f.lines(revision, events)
			return revision >= four
		})
		if !reflect.DeepEqual(got, want) {
			f.Errorf("after %d there came\n%v, want\n%v", after, got, want)
		}
	}
	f.watchLater(four)
}

// watchLater watches from a revision that is still to come.
func (f *fixture) watchLater(last int64) {
	f.Helper()
	first := make(chan int64, 1)
	result := f.start(f.Context(), last+2, func(revision int64, _ []overlay.Event) error {
		first <- revision
		return errEnough
	})
	time.Sleep(100 * time.Millisecond) // mostly the watch has begun
	var revision int64
	for revision < last+3 {
		revision = f.commit(f.put("d/a", "later"))
	}
	if err := f.result("Watch", result); !errors.Is(err, errEnough) {
		f.Fatal(err)
	}
	if got := <-first; got <= last+2 || got > revision {
		f.Errorf("a watch after %d sees revision %d first", last+2, got)
	}
}

// start watches the case's prefix in a goroutine.
func (f *fixture) start(ctx context.Context, after int64, each func(int64, []overlay.Event) error) <-chan error {
	result := make(chan error, 1)
	go func() { result <- f.s.Watch(ctx, f.p, after, each) }()
	return result
}

// watchAll: watches that begin before, while and after several clients write see each
// revision once, in order.
func watchAll(f *fixture) {
	const clients, each = 4, 60
	first := f.commit(f.put("first", ""))
	var mu sync.Mutex
	made := map[int64]string{}
	revisions := func() int { mu.Lock(); defer mu.Unlock(); return len(made) }

	var writers, watchers sync.WaitGroup
	for c := range clients {
		writers.Go(func() {
			for i := range each {
				value := fmt.Sprint(i)
				done, revision, err := f.s.Commit(f.Context(), overlay.Txn{Then: []overlay.Change{f.put(fmt.Sprintf("%d/a", c), value), f.put(fmt.Sprintf("%d/b", c), value)}})
				if err != nil || !done {
					f.Errorf("Commit = %v, %v", done, err)
				}
				mu.Lock()
				made[revision] = fmt.Sprintf("%d/a=%s %d/b=%s", c, value, c, value)
				mu.Unlock()
			}
		})
	}
	for w := range 3 {
		watchers.Go(func() {
			for revisions() < w*clients*each/2 && !f.Failed() { // from the beginning, in the middle, at the end
				time.Sleep(time.Millisecond)
			}
			f.watchClients(first, clients*each, &mu, made)
		})
	}
	writers.Wait()
	watchers.Wait()
}

// watchClients watches until it has seen so many revisions, and compares them with what
// was written.
func (f *fixture) watchClients(first int64, count int, mu *sync.Mutex, made map[int64]string) {
	last, got := first, map[int64]string{}
	f.watchUntil(f.p, first, func(revision int64, events []overlay.Event) bool {
		if revision <= last {
			f.Errorf("revision %d came after %d", revision, last)
		}
		last = revision
		got[revision] = strings.ReplaceAll(f.lines(revision, events), "+", "")
		return len(got) == count
	})
	f.until("writers have noted their revisions", func() bool { mu.Lock(); defer mu.Unlock(); return len(made) == count })
	mu.Lock()
	defer mu.Unlock()
	if !reflect.DeepEqual(got, made) {
		f.Errorf("a watch saw other changes than were made:\n%v\n%v", got, made)
	}
}

func watchEnds(f *fixture) {
	begin := f.commit(f.put("a", "1"))
	calls := 0
	err := f.s.Watch(f.Context(), f.p, begin-1, func(int64, []overlay.Event) error { calls++; return errEnough })
	if calls != 1 || !errors.Is(err, errEnough) {
		f.Errorf("Watch called each %d times and returned %v", calls, err)
	}

	ctx, cancel := context.WithCancel(f.Context())
	seen := make(chan int64, 10)
	result := f.start(ctx, begin, func(revision int64, _ []overlay.Event) error { seen <- revision; return nil })
	revision := f.commit(f.put("a", "2"))
	if got := <-seen; got != revision {
		f.Errorf("saw revision %d, want %d", got, revision)
	}
	cancel()
	if err := f.result("Watch", result); !errors.Is(err, context.Canceled) || errors.Is(err, overlay.ErrUnavailable) {
		f.Errorf("Watch of an ended context: %v", err)
	}
	f.commit(f.put("a", "3"))
	if len(seen) > 0 {
		f.Error("a watch that has returned goes on")
	}
}

func watchCompacted(f *fixture) {
	c, ok := f.s.(Compacter)
	if !ok {
		f.Skip("this store can't be told to forget")
	}
	begin := f.commit(f.put("a", "1"), f.put("b", "1"))
	var last int64
	for i := range 5 {
		last = f.commit(f.put("a", fmt.Sprint(i)))
	}
	if err := c.Compact(f.Context(), last); err != nil {
		f.Fatal(err)
	}
	err := f.s.Watch(f.Context(), f.p, begin, func(int64, []overlay.Event) error { return errEnough })
	if !errors.Is(err, overlay.ErrCompacted) || errors.Is(err, overlay.ErrUnavailable) {
		f.Errorf("Watch of what was compacted: %v, want ErrCompacted", err)
	}

	// Nothing else was forgotten, and from the list on a watch sees all.
	f.want("b", "1", begin, begin)
	keys, revision := f.keys("")
	if len(keys) != 2 || revision < last {
		f.Errorf("List = %q at %d", keys, revision)
	}
	next := f.commit(f.del("a"))
	f.watchUntil(f.p, revision, func(revision int64, events []overlay.Event) bool {
		if got := f.lines(revision, events); revision != next || got != "-a" {
			f.Errorf("at revision %d: %s", revision, got)
		}
		return true
	})
}
