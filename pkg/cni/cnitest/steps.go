package cnitest

import "errors"

// A step is each thing that a verb does, or asks, of the machine, the records
// and the leases. Before any of them the verb may fail, or die, or another
// process may carry out a verb of its own.

// errInjected is the fault of a step that is to fail.
var errInjected = errors.New("injected fault")

// errDead is what a verb panics with where it is to die, and at each step that it
// still tries: healing recovers. The kernel then frees its locks: DieAt does.
var errDead = errors.New("killed")

// next is one step of the verb that is watched. Steps of another process's verb
// are not counted, and don't fail.
func (w *World) next() error {
	if w.inOther {
		return nil
	}
	w.step++
	if w.other != nil {
		w.letOther() // it waits for a lock, which may be free by now
	}
	if w.fault == nil {
		return nil
	}
	return w.fault(w.step)
}

// Steps runs f and returns how many steps it took.
func (w *World) Steps(f func()) int {
	w.run(nil, f)
	return w.step
}

// run runs f with a fault, which is asked before each step.
func (w *World) run(fault func(step int) error, f func()) {
	w.step, w.fault, w.taken = 0, fault, nil
	defer func() { w.fault = nil }()
	f()
}

// FailAt runs f with its n-th step failing.
func (w *World) FailAt(n int, f func()) {
	w.run(func(step int) error {
		if step == n {
			return errInjected
		}
		return nil
	}, f)
}

// failAfter runs f with its n-th change of the machine or of the leases failing
// once it is done, and reports whether there were so many.
func (w *World) failAfter(n int, f func()) (failed bool) {
	deeds := 0
	w.deed = func() error {
		if deeds++; deeds == n {
			failed = true
			return errInjected
		}
		return nil
	}
	defer func() { w.deed = nil }()
	f()
	return failed
}

// done is the end of a change that took effect.
func (w *World) done() error {
	if w.deed == nil {
		return nil
	}
	return w.deed()
}

// DieAt runs f and has it die before its n-th step.
func (w *World) DieAt(n int, f func()) {
	defer func() {
		if r := recover(); r != nil && r != errDead { //nolint:errorlint // the very value
			panic(r)
		}
		for _, lock := range w.taken {
			lock.Unlock() // if it still is held
		}
		w.dead = false
	}()
	w.run(func(step int) error {
		if step >= n {
			w.dead = true
			panic(errDead)
		}
		return nil
	}, f)
}

// BesideAt runs f, and another process's verb before its n-th step, which then
// returns an error or nil. Where the other one has to wait for a lock that f
// holds, f goes on until the lock is free.
func (w *World) BesideAt(n int, fault error, f, other func()) {
	w.run(func(step int) error {
		if step != n {
			return nil
		}
		w.startOther(other)
		return fault
	}, f)
	if w.other != nil {
		w.letOther()
	}
	if w.other != nil {
		w.t.Fatal("the other process waits for a lock that nothing holds")
	}
}

// process is another process in the middle of a verb. Only one of the two is
// ever running: it runs until its verb ends or it waits for a lock.
type process struct {
	resume chan struct{}
	paused chan struct{}
	done   bool
	died   any // what it panicked with, or nil
}

func (w *World) startOther(verb func()) {
	p := &process{resume: make(chan struct{}), paused: make(chan struct{})}
	w.other = p
	go func() {
		defer func() {
			p.done, p.died = true, recover()
			p.paused <- struct{}{}
		}()
		<-p.resume
		verb()
	}()
	w.letOther()
}

// letOther lets the other process run until its verb ends, or it waits.
func (w *World) letOther() {
	p := w.other
	w.inOther = true
	p.resume <- struct{}{}
	<-p.paused
	w.inOther = false
	if p.done {
		w.other = nil
	}
	if p.died != nil {
		panic(p.died)
	}
}

// await returns when a lock is free. Where it is not, the other one of the two
// processes goes on.
func (w *World) await(free func() bool) {
	for !free() {
		if w.inOther {
			p := w.other
			p.paused <- struct{}{}
			<-p.resume
			continue
		}
		if w.other != nil {
			w.letOther()
		}
		if !free() {
			panic("deadlock: a verb waits for a lock that it holds, or that a process holds which waits for it")
		}
	}
}
