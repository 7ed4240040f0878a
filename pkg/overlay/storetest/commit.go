package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"dcni/pkg/overlay"
)

func conditions(f *fixture) {
	made := f.commit(f.put("a", "1"), f.put("b", "1"))
	written := f.commit(f.put("a", "2"))
	condition := func(key string, created, modified int64) overlay.Condition {
		return overlay.Condition{Key: f.p + key, Created: created, Modified: modified}
	}
	for name, c := range map[string]struct {
		conditions []overlay.Condition
		holds      bool
	}{
		"none":                         {nil, true},
		"created":                      {[]overlay.Condition{condition("a", made, 0)}, true},
		"created, but later":           {[]overlay.Condition{condition("a", written, 0)}, false},
		"created, but earlier":         {[]overlay.Condition{condition("a", made-1, 0)}, false},
		"modified":                     {[]overlay.Condition{condition("a", 0, written)}, true},
		"modified, but since":          {[]overlay.Condition{condition("a", 0, made)}, false},
		"absent":                       {[]overlay.Condition{condition("c", 0, 0)}, true},
		"absent, but there":            {[]overlay.Condition{condition("a", 0, 0)}, false},
		"created, but absent":          {[]overlay.Condition{condition("c", made, 0)}, false},
		"modified, but absent":         {[]overlay.Condition{condition("c", 0, written)}, false},
		"all":                          {[]overlay.Condition{condition("a", made, 0), condition("a", 0, written), condition("b", 0, made), condition("c", 0, 0)}, true},
		"all but the last":             {[]overlay.Condition{condition("a", made, 0), condition("b", 0, 0)}, false},
		"all but the first":            {[]overlay.Condition{condition("c", made, 0), condition("a", made, 0)}, false},
		"of a key that another begins": {[]overlay.Condition{condition("", 0, 0)}, true},
	} {
		key := "result/" + strings.ReplaceAll(name, " ", "-")
		done, revision, err := f.s.Commit(f.Context(), overlay.Txn{If: c.conditions, Then: []overlay.Change{f.put(key, name)}})
		switch {
		case err != nil || done != c.holds || revision < written:
			f.Errorf("%s: Commit = %v, %d, %v, want %v", name, done, revision, err, c.holds)
		case c.holds:
			f.want(key, name, revision, revision)
		default:
			f.absent(key)
		}
	}
	f.commit(f.del("a"))
	again := f.commit(f.put("a", "3"))
	for _, revision := range []int64{made, written, again} {
		done, _, err := f.s.Commit(f.Context(), overlay.Txn{If: []overlay.Condition{condition("a", revision, 0)}})
		if err != nil || done != (revision == again) {
			f.Errorf("of a key that was made at %d again, created %d: %v, %v", again, revision, done, err)
		}
	}
}

func allOrNothing(f *fixture) {
	one := f.commit(f.put("a", "1"), f.put("b", "1"))
	f.want("a", "1", one, one)
	f.want("b", "1", one, one)

	two := f.commit(f.put("a", "2"), f.del("b"), f.put("c", "2"), f.del("never was"))
	f.want("a", "2", one, two)
	f.absent("b")
	f.want("c", "2", two, two)

	txn := overlay.Txn{
		If:   []overlay.Condition{{Key: f.p + "a", Modified: two}, {Key: f.p + "b", Created: one}},
		Then: []overlay.Change{f.put("a", "3"), f.del("c"), f.put("d", "3")},
	}
	done, revision, err := f.s.Commit(f.Context(), txn)
	if done || err != nil || revision < two {
		f.Errorf("Commit = %v, %d, %v, want false, %d or later", done, revision, err, two)
	}
	f.want("a", "2", one, two)
	f.want("c", "2", two, two)
	f.absent("d")
	f.commit(f.del("b")) // is no error
}

func many(f *fixture) {
	var t overlay.Txn
	for i := range overlay.MaxChanges {
		key := fmt.Sprint(i)
		t.If = append(t.If, overlay.Condition{Key: f.p + key})
		t.Then = append(t.Then, f.put(key, strings.Repeat(key, 100)))
	}
	done, revision, err := f.s.Commit(f.Context(), t)
	if err != nil || !done {
		f.Fatalf("Commit = %v, %v", done, err)
	}
	keys, _ := f.keys("")
	if len(keys) != overlay.MaxChanges {
		f.Errorf("%d keys", len(keys))
	}
	f.want("77", strings.Repeat("77", 100), revision, revision)
}

// race: of clients that each make a key if it is absent, one does.
func race(f *fixture) {
	const clients, rounds = 8, 20
	var mu sync.Mutex
	var wg sync.WaitGroup
	winners := map[string]int{}
	for i := range clients {
		wg.Go(func() {
			for r := range rounds {
				key := fmt.Sprint("round ", r)
				done, _, err := f.s.Commit(f.Context(), overlay.Txn{
					If:   []overlay.Condition{{Key: f.p + key}},
					Then: []overlay.Change{f.put(key, fmt.Sprint(i)), f.put(fmt.Sprintf("client/%d/%d", i, r), "")},
				})
				mu.Lock()
				if err != nil {
					f.Error(err)
				}
				if done {
					winners[key]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for r := range rounds {
		if n := winners[fmt.Sprint("round ", r)]; n != 1 {
			f.Errorf("round %d: %d clients made the key", r, n)
		}
	}
	if keys, _ := f.keys("client/"); len(keys) != rounds {
		f.Errorf("%d clients wrote what only the first may, want %d", len(keys), rounds)
	}
}

func invalid(f *fixture) {
	tooMany := overlay.Txn{}
	for i := range overlay.MaxChanges + 1 {
		tooMany.Then = append(tooMany.Then, f.put(fmt.Sprint(i), ""))
	}
	key := f.p + "a"
	for name, t := range map[string]overlay.Txn{
		"too many changes":     tooMany,
		"too many conditions":  {If: make([]overlay.Condition, overlay.MaxChanges+1)},
		"a key twice":          {Then: []overlay.Change{f.put("a", "1"), f.put("a", "2")}},
		"a key put, deleted":   {Then: []overlay.Change{f.put("a", "1"), f.del("a")}},
		"no key":               {Then: []overlay.Change{{Value: []byte("1")}}},
		"condition on no key":  {If: []overlay.Condition{{}}, Then: []overlay.Change{f.put("a", "1")}},
		"both revisions":       {If: []overlay.Condition{{Key: key, Created: 1, Modified: 1}}, Then: []overlay.Change{f.put("a", "1")}},
		"negative revision":    {If: []overlay.Condition{{Key: key, Created: -1}}, Then: []overlay.Change{f.put("a", "1")}},
		"negative TTL":         {Then: []overlay.Change{{Key: key, TTL: -1}}},
		"deletion with value":  {Then: []overlay.Change{{Key: key, Delete: true, Value: []byte("1")}}},
		"deletion with TTL":    {Then: []overlay.Change{{Key: key, Delete: true, TTL: 1}}},
		"one right, one wrong": {Then: []overlay.Change{f.put("b", "1"), {}}},
	} {
		done, _, err := f.s.Commit(f.Context(), t)
		if done || err == nil || errors.Is(err, overlay.ErrUnavailable) {
			f.Errorf("%s: Commit = %v, %v, want an error", name, done, err)
		}
	}
	if err := f.s.Keep(f.Context(), "", nil, 5); err == nil || errors.Is(err, overlay.ErrUnavailable) {
		f.Errorf("Keep of no key: %v", err)
	}
	if err := f.s.Keep(f.Context(), key, nil, 0); err == nil || errors.Is(err, overlay.ErrUnavailable) {
		f.Errorf("Keep for 0 seconds: %v", err)
	}
	if _, err := f.s.Get(f.Context(), ""); !errors.Is(err, overlay.ErrNotFound) {
		f.Errorf("Get of no key: %v", err)
	}
	if keys, _ := f.keys(""); len(keys) != 0 {
		f.Errorf("there are %q", keys)
	}
}

func ttl(f *fixture) {
	const seconds = 2
	short := func(key, value string) overlay.Change {
		c := f.put(key, value)
		c.TTL = seconds
		return c
	}
	begin := time.Now()
	one := f.commit(short("goes", "1"), short("stays", "1"), short("longer", "1"), f.put("beside", "1"))
	f.want("goes", "1", one, one)
	two := f.commit(f.put("stays", "2"))
	longer := short("longer", "2")
	longer.TTL = 3600
	three := f.commit(longer)
	done, _, err := f.s.Commit(f.Context(), overlay.Txn{If: []overlay.Condition{{Key: f.p + "beside"}}, Then: []overlay.Change{short("never", "")}})
	if done || err != nil {
		f.Errorf("Commit = %v, %v", done, err)
	}
	f.absent("never")

	f.watchUntil(f.p+"goes", one, func(revision int64, events []overlay.Event) bool {
		if len(events) != 1 || !events[0].Deleted || events[0].Modified != revision {
			f.Errorf("at the end of a TTL: %+v", events)
		}
		return true
	})
	if took := time.Since(begin); took < seconds*time.Second {
		f.Errorf("an entry of %d s went after %v", seconds, took)
	}
	f.absent("goes")
	time.Sleep(100 * time.Millisecond) // what is to go at the same time
	f.want("stays", "2", one, two)
	f.want("longer", "2", one, three)
	f.want("beside", "1", one, one)
}

// contexts: a method returns its context's error.
func contexts(f *fixture) {
	f.commit(f.put("a", "1"))
	canceled, cancel := context.WithCancel(f.Context())
	cancel()
	late, cancel := context.WithDeadline(f.Context(), time.Now())
	defer cancel()
	for _, ctx := range []context.Context{canceled, late} {
		want := ctx.Err()
		check := func(name string, err error) {
			if !errors.Is(err, want) {
				f.Errorf("%s: %v, want %v", name, err, want)
			}
		}
		_, err := f.s.Get(ctx, f.p+"a")
		check("Get", err)
		if late := errors.Is(want, context.DeadlineExceeded); late != errors.Is(err, overlay.ErrUnavailable) {
			f.Errorf("Get with context %v: %v, is it ErrUnavailable?", want, err)
		}
		_, err = f.s.List(ctx, f.p, func(overlay.Entry) error { return nil })
		check("List", err)
		_, _, err = f.s.Commit(ctx, overlay.Txn{Then: []overlay.Change{f.put("b", "1")}})
		check("Commit", err)
		check("Watch", f.s.Watch(ctx, f.p, 0, func(int64, []overlay.Event) error { return nil }))
		check("Keep", f.s.Keep(ctx, f.p+"c", nil, 5))
	}
	f.absent("b")
	f.absent("c")
}
