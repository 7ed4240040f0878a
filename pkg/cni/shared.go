package cni

import (
	"errors"
	"fmt"
	"slices"

	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// This file is about what attachments share: objects of their network, and of the
// host, which networks share as well.

// shared are objects that an ADD made and that are not the attachment's alone.
type shared struct{ host, network []wire.Object }

// ensureShared makes the host's and the network's objects so. It returns those
// that it changed. A lock is taken only if something is to be changed.
func (e *Engine) ensureShared(rec *records.Record, plan wire.Plan) (made shared, err error) {
	if made.host, err = e.ensureHost(rec, plan.Host); err != nil {
		return made, err
	}
	if wire.So(e.Host, plan.Network) {
		return made, nil
	}
	lock, err := e.Locks.LockNetwork(rec.Network)
	if err != nil {
		return made, err
	}
	defer lock.Unlock()
	made.network, err = wire.Ensure(e.Host, plan.Network)
	return made, err
}

// ensureHost makes the host's objects so. Those that go with their last user (a
// [wire.Root], as the interface of a VLAN) are first recorded as used, and looked
// at only under the lock: the last user may be about to remove them.
func (e *Engine) ensureHost(rec *records.Record, objects []wire.Object) ([]wire.Object, error) {
	rec.Host = rootKeys(objects)
	if len(rec.Host) > 0 {
		if err := e.Records.Put(rec); err != nil {
			return nil, err
		}
	} else if wire.So(e.Host, objects) {
		return nil, nil
	}
	lock, err := e.Locks.LockHost()
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	made, err := wire.Ensure(e.Host, objects)
	for _, o := range made {
		if f, ok := o.(*wire.Forwarding); ok {
			fmt.Fprintf(e.Log, "%s: switched on: %s\n", e.Plugin.Type, f)
		}
	}
	return made, err
}

func rootKeys(objects []wire.Object) []string {
	var keys []string
	for _, o := range objects {
		if _, ok := o.(wire.Root); ok {
			keys = append(keys, o.Key())
		}
	}
	return keys
}

// deleteRecord deletes the record of an attachment, and before it those of the
// host's objects that the attachment was the last to use, of whatever network. The
// record is there until they are gone, so that a DEL that dies here is done again.
// All of it is under the host's lock: of two attachments that go at once, the
// second must not take the first for one that still uses them.
func (e *Engine) deleteRecord(rec *records.Record) error {
	if len(rec.Host) == 0 {
		return e.Records.Delete(rec.Attachment, rec.Plugin)
	}
	mode, err := e.parseRecorded(rec)
	if err != nil {
		return err
	}
	plan, err := mode.Plan(endpointOf(rec))
	if err != nil {
		return err
	}
	lock, err := e.Locks.LockHost()
	if err != nil {
		return err
	}
	defer lock.Unlock()
	list, err := e.Index.List("")
	if err != nil {
		return err
	}
	unused := slices.DeleteFunc(plan.Host, func(o wire.Object) bool {
		return slices.ContainsFunc(list, func(other *records.Record) bool {
			return other.Attachment != rec.Attachment && slices.Contains(other.Host, o.Key())
		})
	})
	if err := wire.Del(e.Host, unused); err != nil {
		return err
	}
	return e.Records.Delete(rec.Attachment, rec.Plugin)
}

// unmake takes away what an ADD made for the network and for the host before it
// failed, unless another attachment has come to use it: an ADD writes its record
// before it looks whether such things are there. The addresses go back last.
func (e *Engine) unmake(r *Request, source Addresses, l *Lease, made shared) error {
	lock, err := e.Locks.LockNetwork(r.Network)
	if err != nil {
		return err
	}
	others, err := e.Records.Others(r.Network, r.Attachment)
	if err == nil && !others {
		err = wire.Undo(e.Host, made.network)
	}
	lock.Unlock()
	if err = errors.Join(err, e.unmakeHost(r, made.host)); err != nil {
		return err
	}
	l.Fresh = l.Fresh && !others
	return source.Abandon(r, l)
}

// unmakeHost is unmake for what is the host's: networks share it.
func (e *Engine) unmakeHost(r *Request, made []wire.Object) error {
	if len(made) == 0 {
		return nil
	}
	lock, err := e.Locks.LockHost()
	if err != nil {
		return err
	}
	defer lock.Unlock()
	others, err := e.Records.Others("", r.Attachment)
	if err != nil || others {
		return err
	}
	return wire.Undo(e.Host, made)
}
