// Package storetest has the test that every [overlay.Store] passes: what the comments
// of package overlay say, case by case.
//
// It needs some 10 seconds, for entries that are to go after a time, and uses keys
// below /storetest/ only. A store that has other keys, and other clients that change
// them, passes as well.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"dcni/pkg/overlay"
)

// A Compacter is a store that can be told to forget what was before a revision. A store
// that can't is not asked about ErrCompacted.
type Compacter interface {
	Compact(ctx context.Context, revision int64) error
}

// A Cutter is a store whose client can be cut off from it, and back. A store that can't
// is not asked about ErrUnavailable.
type Cutter interface {
	Cut()
	Mend()
}

// patience is how long a store may take for what it is to do at some time. It costs
// nothing where all is well.
const patience = 30 * time.Second

// Contract tests the store that open returns. Each case opens one; it may be the same
// for all, as the cases run one after another and leave nothing.
func Contract(t *testing.T, open func(*testing.T) overlay.Store) {
	cases := []struct {
		name string
		run  func(*fixture)
	}{
		{"Get", get},
		{"List in the order of the keys", listOrder},
		{"List of pages is of one revision", listPages},
		{"List ends with an error of each", listError},
		{"Commit under conditions", conditions},
		{"Commit makes all or nothing, at one revision", allOrNothing},
		{"Commit of as many as allowed", many},
		{"Commit of one of several at once", race},
		{"Commit of what no store takes", invalid},
		{"TTL", ttl},
		{"Watch from a revision", watchFrom},
		{"Watch misses and repeats nothing", watchAll},
		{"Watch ends", watchEnds},
		{"Watch of what was forgotten", watchCompacted},
		{"Keep", keep},
		{"Keep loses its entry", keepLoses},
		{"ended contexts", contexts},
		{"cut off", cutOff},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := &fixture{T: t, s: open(t), p: fmt.Sprintf("/storetest/%s/%d/", strings.ReplaceAll(c.name, " ", "-"), time.Now().UnixNano())}
			c.run(f)
			f.clear()
		})
	}
}

// A fixture is a store with a prefix of a case's own.
type fixture struct {
	*testing.T
	s overlay.Store
	p string
}

// put returns a change that writes a key of the case.
func (f *fixture) put(key, value string) overlay.Change {
	return overlay.Change{Key: f.p + key, Value: []byte(value)}
}

func (f *fixture) del(key string) overlay.Change {
	return overlay.Change{Key: f.p + key, Delete: true}
}

// commit makes changes and returns the revision.
func (f *fixture) commit(changes ...overlay.Change) int64 {
	f.Helper()
	done, revision, err := f.s.Commit(f.Context(), overlay.Txn{Then: changes})
	if err != nil || !done {
		f.Fatalf("Commit = %v, %d, %v", done, revision, err)
	}
	return revision
}

// want fails unless a key is what is wanted, the zero entry if it is not there.
func (f *fixture) want(key, value string, created, modified int64) {
	f.Helper()
	e, err := f.s.Get(f.Context(), f.p+key)
	if err != nil {
		f.Fatalf("Get %s: %v", key, err)
	}
	f.same(e, overlay.Entry{Key: f.p + key, Value: []byte(value), Created: created, Modified: modified})
}

func (f *fixture) same(got, want overlay.Entry) {
	f.Helper()
	if got.Key != want.Key || string(got.Value) != string(want.Value) || got.Created != want.Created || got.Modified != want.Modified {
		f.Errorf("entry is %s\n    want     %s", show(got), show(want))
	}
}

func show(e overlay.Entry) string {
	return fmt.Sprintf("%s=%q created %d modified %d", e.Key, e.Value, e.Created, e.Modified)
}

// absent fails unless there is no such key.
func (f *fixture) absent(key string) {
	f.Helper()
	if e, err := f.s.Get(f.Context(), f.p+key); !errors.Is(err, overlay.ErrNotFound) {
		f.Errorf("Get %s = %s, %v, want ErrNotFound", key, show(e), err)
	}
}

// until waits for a condition.
func (f *fixture) until(what string, holds func() bool) {
	f.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			f.Errorf("%s: not within %v", what, patience)
			return
		}
	}
}

// untilAbsent waits until there is no such key.
func (f *fixture) untilAbsent(key string) {
	f.Helper()
	f.until(key+" is to go", func() bool {
		_, err := f.s.Get(f.Context(), f.p+key)
		return errors.Is(err, overlay.ErrNotFound)
	})
}

// result waits for what a goroutine returns.
func (f *fixture) result(what string, c <-chan error) error {
	f.Helper()
	select {
	case err := <-c:
		return err
	case <-time.After(patience):
		f.Fatalf("%s does not return", what)
		return nil
	}
}

// keys returns the case's keys in the order of List, and the revision.
func (f *fixture) keys(prefix string) (keys []string, revision int64) {
	f.Helper()
	revision, err := f.s.List(f.Context(), f.p+prefix, func(e overlay.Entry) error {
		keys = append(keys, strings.TrimPrefix(e.Key, f.p))
		return nil
	})
	if err != nil {
		f.Fatalf("List %s: %v", prefix, err)
	}
	return keys, revision
}

// clear deletes the case's keys.
func (f *fixture) clear() {
	f.Helper()
	keys, _ := f.keys("")
	for len(keys) > 0 {
		n := min(len(keys), overlay.MaxChanges)
		var changes []overlay.Change
		for _, k := range keys[:n] {
			changes = append(changes, f.del(k))
		}
		f.commit(changes...)
		keys = keys[n:]
	}
}

func get(f *fixture) {
	f.absent("a")
	one := f.commit(f.put("a", "1"))
	f.want("a", "1", one, one)
	two := f.commit(f.put("a", "2"), f.put("empty", ""))
	if two <= one {
		f.Errorf("revision %d came after %d", two, one)
	}
	f.want("a", "2", one, two)
	f.want("empty", "", two, two)
	f.absent("a/b")
	f.commit(f.del("a"))
	f.absent("a")
	again := f.commit(f.put("a", "\x00\xff"))
	f.want("a", "\x00\xff", again, again)
}

func listOrder(f *fixture) {
	if keys, revision := f.keys(""); len(keys) != 0 || revision < 1 {
		f.Errorf("List of nothing = %v at %d", keys, revision)
	}
	last := f.commit(f.put("d/b", ""), f.put("d/", ""), f.put("d/a/x", ""), f.put("d0", ""), f.put("d", ""), f.put("c", ""), f.put("d/é", ""), f.put("d/B", ""))
	keys, revision := f.keys("d/")
	if want := []string{"d/", "d/B", "d/a/x", "d/b", "d/é"}; !reflect.DeepEqual(keys, want) {
		f.Errorf("List = %q, want %q", keys, want)
	}
	if revision < last {
		f.Errorf("List is of revision %d, the last is %d", revision, last)
	}
	_, err := f.s.List(f.Context(), f.p+"c", func(e overlay.Entry) error {
		f.same(e, overlay.Entry{Key: f.p + "c", Created: last, Modified: last})
		return nil
	})
	if err != nil {
		f.Error(err)
	}
}

// listPages: what is written while a list is read is not in it, however many pages it has.
func listPages(f *fixture) {
	const n = 1203
	var last int64
	for i := 0; i < n; i += 100 {
		var changes []overlay.Change
		for k := i; k < min(i+100, n); k++ {
			changes = append(changes, f.put(fmt.Sprintf("%05d", k), "old"))
		}
		last = f.commit(changes...)
	}
	count := 0
	revision, err := f.s.List(f.Context(), f.p, func(e overlay.Entry) error {
		if count == 0 {
			f.commit(f.put("01100", "new"), f.put("01202x", "new"), f.del("01201"), f.del("00000"))
		}
		if want := fmt.Sprintf("%s%05d", f.p, count); e.Key != want || string(e.Value) != "old" {
			return fmt.Errorf("entry %d is %s", count, show(e))
		}
		count++
		return nil
	})
	if err != nil || count != n {
		f.Errorf("List called each %d times, want %d: %v", count, n, err)
	}
	if revision < last {
		f.Errorf("List is of revision %d, the last was %d", revision, last)
	}
	changed := 0
	f.watchUntil(f.p, revision, func(_ int64, events []overlay.Event) bool { changed += len(events); return true })
	if changed != 4 {
		f.Errorf("a watch from the list on sees %d changes first, want the 4 of one revision that it lacked", changed)
	}
}

func listError(f *fixture) {
	f.commit(f.put("a", ""), f.put("b", ""))
	enough, calls := errors.New("enough"), 0
	_, err := f.s.List(f.Context(), f.p, func(overlay.Entry) error { calls++; return enough })
	if calls != 1 || !errors.Is(err, enough) {
		f.Errorf("List called each %d times and returned %v", calls, err)
	}
	f.commit(f.put("c", "")) // the store goes on
	if keys, _ := f.keys(""); len(keys) != 3 {
		f.Errorf("List = %q", keys)
	}
}
