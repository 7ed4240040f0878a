package storetest

import (
	"context"
	"errors"
	"time"

	"dcni/pkg/overlay"
)

// keepTTL is in seconds. A store may need some for its own work.
const keepTTL = 3

// keep keeps a key in a goroutine until the context ends, and waits until it is there.
func (f *fixture) keep(ctx context.Context, key, value string) <-chan error {
	f.Helper()
	result := make(chan error, 1)
	go func() { result <- f.s.Keep(ctx, f.p+key, []byte(value), keepTTL) }()
	f.until(key+" is to be kept", func() bool {
		e, err := f.s.Get(f.Context(), f.p+key)
		return err == nil && string(e.Value) == value
	})
	return result
}

func keep(f *fixture) {
	old := f.commit(f.put("b", "old"))
	ctx, cancel := context.WithCancel(f.Context())
	a := f.keep(ctx, "a", "1")
	b := f.keep(ctx, "b", "2")
	before, err := f.s.Get(f.Context(), f.p+"a")
	if err != nil {
		f.Fatal(err)
	}
	if e, err := f.s.Get(f.Context(), f.p+"b"); err != nil || e.Created != old {
		f.Errorf("Keep of a key that was there: %s, %v", show(e), err)
	}

	time.Sleep((2*keepTTL + 1) * time.Second)
	f.want("a", "1", before.Created, before.Modified) // renewed, not written
	cancel()
	for _, result := range []<-chan error{a, b} {
		if err := f.result("Keep", result); !errors.Is(err, context.Canceled) || errors.Is(err, overlay.ErrUnavailable) {
			f.Errorf("Keep of an ended context: %v", err)
		}
	}
	f.absent("a")
	f.absent("b")
}

// keepLoses: an entry that another deletes, or writes, is no longer kept, and the
// writer's is not deleted with the context.
func keepLoses(f *fixture) {
	ctx, cancel := context.WithCancel(f.Context())
	defer cancel()
	deleted, written, late := f.keep(ctx, "deleted", "1"), f.keep(ctx, "written", "1"), f.keep(ctx, "late", "1")
	f.commit(f.del("deleted"))
	f.commit(f.put("written", "2"))
	for _, result := range []<-chan error{deleted, written} {
		if err := f.result("Keep", result); !errors.Is(err, overlay.ErrUnavailable) {
			f.Errorf("Keep of what another changed: %v", err)
		}
	}
	revision := f.commit(f.put("late", "2"))
	cancel()
	_ = f.result("Keep", late) // it may have noticed, or not
	f.absent("deleted")
	e, err := f.s.Get(f.Context(), f.p+"late")
	if err != nil || e.Modified != revision {
		f.Errorf("what another wrote is %s, %v", show(e), err)
	}
}

// cutOff: all methods say that the store is away, within some seconds, and what a
// client kept goes. Then it is back.
func cutOff(f *fixture) {
	c, ok := f.s.(Cutter)
	if !ok {
		f.Skip("this store's client can't be cut off")
	}
	begin := f.commit(f.put("a", "1"))
	seen := make(chan int64, 10)
	watch := f.start(f.Context(), begin-1, func(revision int64, _ []overlay.Event) error { seen <- revision; return nil })
	<-seen
	kept := f.keep(f.Context(), "kept", "1")
	leaving, leave := context.WithCancel(f.Context())
	left := f.keep(leaving, "left", "1")

	c.Cut()
	leave()
	f.unavailable()
	for name, result := range map[string]<-chan error{"Watch": watch, "Keep": kept} {
		if err := f.result(name, result); !errors.Is(err, overlay.ErrUnavailable) {
			f.Errorf("%s: %v, want ErrUnavailable", name, err)
		}
	}
	if err := f.result("Keep", left); !errors.Is(err, context.Canceled) {
		f.Errorf("Keep of an ended context: %v", err)
	}
	c.Mend()

	f.until("the store is to be back", func() bool { _, err := f.s.Get(f.Context(), f.p+"a"); return err == nil })
	f.untilAbsent("kept")
	f.untilAbsent("left")
	f.want("a", "1", begin, begin)
	next := f.commit(f.put("a", "2"))
	f.watchUntil(f.p+"a", begin, func(revision int64, _ []overlay.Event) bool { return revision == next })
}

// unavailable calls all methods at once.
func (f *fixture) unavailable() {
	f.Helper()
	calls := map[string]func() error{
		"Get": func() error { _, err := f.s.Get(f.Context(), f.p+"a"); return err },
		"List": func() error {
			_, err := f.s.List(f.Context(), f.p, func(overlay.Entry) error { return nil })
			return err
		},
		"Commit": func() error {
			_, _, err := f.s.Commit(f.Context(), overlay.Txn{Then: []overlay.Change{f.put("b", "")}})
			return err
		},
		"Watch": func() error {
			return f.s.Watch(f.Context(), f.p+"none", 0, func(int64, []overlay.Event) error { return nil })
		},
		"Keep": func() error { return f.s.Keep(f.Context(), f.p+"c", nil, keepTTL) },
	}
	results := map[string]chan error{}
	for name, call := range calls {
		result := make(chan error, 1)
		go func() { result <- call() }()
		results[name] = result
	}
	for name, result := range results {
		if err := f.result(name, result); !errors.Is(err, overlay.ErrUnavailable) || errors.Is(err, overlay.ErrNotFound) {
			f.Errorf("%s of a store that is away: %v, want ErrUnavailable", name, err)
		}
	}
}
