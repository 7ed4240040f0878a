package cnitest

import (
	"os"
	"path/filepath"

	"dcni/pkg/cni"
	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// An owner says whose an object is, and so which lock its changes need.
type owner struct {
	wire.Attachment
	part part
	root bool // DEL removes it
}

// A part of a plan.
type part int

const (
	own part = iota
	ofNetwork
	ofHost
)

// noted is a mode whose plans tell the world whose each object is.
type noted struct {
	network.Mode
	w *World
}

func (n noted) Plan(e network.Endpoint) (wire.Plan, error) {
	plan, err := n.Mode.Plan(e)
	for part, objects := range map[part][]wire.Object{own: plan.Own, ofNetwork: plan.Network, ofHost: plan.Host} {
		for _, o := range objects {
			_, root := o.(wire.Root)
			n.w.owners[o.Key()] = owner{e.Attachment, part, root}
		}
	}
	return plan, err
}

// changing wants the lock that a change of an object needs. GC removes without a
// lock what no record tells of.
func (w *World) changing(o wire.Object) {
	of, known := w.owners[o.Key()]
	switch {
	case !known, !w.watching():
	case of.part == ofHost:
		if !locked(w.Store.TryLockHost()) {
			w.t.Errorf("%s is changed without the host's lock", o)
		}
	case of.part == ofNetwork:
		if !w.networkLocked(of.Network) {
			w.t.Errorf("%s is changed without the lock of network %s", o, of.Network)
		}
	case w.recorded(of.Attachment) && !locked(w.Store.TryLockAttachment(of.Attachment)):
		w.t.Errorf("%s is changed without the lock of %s", o, of.Attachment)
	}
}

// watching reports whether a verb is watched. What a test does before and after
// needs no look at the locks: the same verbs are watched elsewhere.
func (w *World) watching() bool { return w.fault != nil }

// locked reports whether a lock was not free. If it was, it is let go.
func locked(lock *records.Lock, free bool, err error) bool {
	lock.Unlock()
	return !free && err == nil
}

// holds wants an attachment's lock to be held.
func (w *World) holds(a wire.Attachment, what string) {
	if w.watching() && !locked(w.Store.TryLockAttachment(a)) {
		w.t.Errorf("%s is changed without the lock of %s", what, a)
	}
}

func (w *World) networkLocked(name string) bool { return locked(w.Store.TryLockNetwork(name)) }

// recorded reports whether an attachment has a record.
func (w *World) recorded(a wire.Attachment) bool {
	_, err := os.Stat(filepath.Join(w.Store.Run, "attachments", a.Network, a.Container, a.IfName))
	return err == nil
}

// store makes a step of each thing that the engine does with the records, and
// wants the locks that it needs.
type store struct {
	records.Store
	w *World
}

func (s store) ChainOf(wire.Attachment) network.Chain { return s.w.Chain }

func (s store) LockAttachment(a wire.Attachment) (*records.Lock, error) {
	return s.lock(func() (*records.Lock, bool, error) { return s.Store.TryLockAttachment(a) })
}

func (s store) TryLockAttachment(a wire.Attachment) (*records.Lock, bool, error) {
	lock, free, err := s.Store.TryLockAttachment(a)
	s.took(lock)
	return lock, free, err
}

func (s store) LockNetwork(name string) (*records.Lock, error) {
	if err := s.w.next(); err != nil {
		return nil, err
	}
	return s.lock(func() (*records.Lock, bool, error) { return s.Store.TryLockNetwork(name) })
}

func (s store) LockHost() (*records.Lock, error) {
	if err := s.w.next(); err != nil {
		return nil, err
	}
	return s.lock(s.Store.TryLockHost)
}

// lock waits for a lock.
func (s store) lock(try func() (*records.Lock, bool, error)) (lock *records.Lock, err error) {
	s.w.await(func() bool {
		var free bool
		lock, free, err = try()
		return free || err != nil
	})
	s.took(lock)
	return lock, err
}

func (s store) took(lock *records.Lock) {
	if !s.w.inOther {
		s.w.taken = append(s.w.taken, lock)
	}
}

func (s store) Put(r *records.Record) error {
	if err := s.w.next(); err != nil {
		return err
	}
	s.w.holds(r.Attachment, "its record")
	return s.Store.Put(r)
}

func (s store) Delete(a wire.Attachment, plugin string) error {
	if err := s.w.next(); err != nil {
		return err
	}
	s.w.holds(a, "its record")
	return s.Store.Delete(a, plugin)
}

func (s store) Get(a wire.Attachment, plugin string) (*records.Record, error) {
	if err := s.w.next(); err != nil {
		return nil, err
	}
	return s.Store.Get(a, plugin)
}

func (s store) List(network string) ([]*records.Record, error) {
	if err := s.w.next(); err != nil {
		return nil, err
	}
	return s.Store.List(network)
}

func (s store) OneOfEach() ([]*records.Record, error) {
	if err := s.w.next(); err != nil {
		return nil, err
	}
	return s.Store.OneOfEach()
}

func (s store) Keys() ([]records.RecordKey, error) {
	if err := s.w.next(); err != nil {
		return nil, err
	}
	return s.Store.Keys()
}

// addresses makes a step of each change of the leases. What a death within one
// does is for the tests of package records.
type addresses struct {
	cni.Addresses
	w       *World
	cluster bool // they are the cluster's
}

// begin is the step of a change. It waits for the network's lock, which package
// records takes for the time of one. The cluster's store does without.
func (a addresses) begin(r *cni.Request) error {
	if err := a.w.next(); err != nil {
		return err
	}
	if !a.cluster {
		a.w.await(func() bool { return !a.w.networkLocked(r.Network) })
	}
	return nil
}

func (a addresses) Claim(r *cni.Request) (*cni.Lease, error) {
	if err := a.begin(r); err != nil {
		return nil, err
	}
	a.w.holds(r.Attachment, "its lease")
	return a.Addresses.Claim(r)
}

// Replace is for a source that has other addresses to give.
func (a addresses) Replace(r *cni.Request, l *cni.Lease, taken []wire.Conflict) error {
	if err := a.begin(r); err != nil {
		return err
	}
	a.w.holds(r.Attachment, "its lease")
	return a.Addresses.(cni.Replacer).Replace(r, l, taken)
}

func (a addresses) Abandon(r *cni.Request, l *cni.Lease) error {
	if err := a.begin(r); err != nil {
		return err
	}
	a.w.holds(r.Attachment, "its lease")
	return a.Addresses.Abandon(r, l)
}

func (a addresses) Release(r *cni.Request) error {
	if err := a.begin(r); err != nil {
		return err
	}
	a.w.holds(r.Attachment, "its lease")
	if err := a.Addresses.Release(r); err != nil {
		return err
	}
	return a.w.done()
}

func (a addresses) Collect(r *cni.Request, valid func(wire.Attachment) bool) error {
	if err := a.begin(r); err != nil {
		return err
	}
	return a.Addresses.Collect(r, valid)
}

func (a addresses) Check(r *cni.Request, have []ipam.Assigned) error {
	if err := a.begin(r); err != nil {
		return err
	}
	return a.Addresses.Check(r, have)
}
