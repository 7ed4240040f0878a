package cni

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"dcni/pkg/firewall"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// This file is about what attachments share: objects of their network, and of the
// host, which networks share as well.

// shared are objects that an ADD made and that are not the attachment's alone.
type shared struct{ host, network []wire.Object }

// ensureShared makes the host's and the network's objects so. It returns those
// that it changed. A lock is taken only if something is to be changed, or if the network's
// objects go with its last attachment, which may be about to go: they are looked at under
// the lock only then.
func (e *Engine) ensureShared(rec *records.Record, plan wire.Plan, going bool) (made shared, err error) {
	if made.host, err = e.ensureHost(rec, plan.Host); err != nil {
		return made, err
	}
	if !going && wire.So(e.Host, plan.Network) {
		return made, nil
	}
	lock, err := e.Locks.LockNetwork(rec.Network)
	if err != nil {
		return made, err
	}
	defer lock.Unlock()
	if going && wire.So(e.Host, plan.Network) {
		return made, nil
	}
	if err := e.stays(rec, plan.Network); err != nil {
		return made, err
	}
	made.network, err = wire.Ensure(e.Host, plan.Network)
	return made, err
}

// stays refuses a network whose file has changed so that the rules would forget attachments
// on record. The records are read only here, where something of the network is to be made.
func (e *Engine) stays(rec *records.Record, objects []wire.Object) error {
	for _, o := range objects {
		n, ok := o.(*firewall.Network)
		if !ok {
			continue
		}
		others, err := e.Index.List(rec.Network)
		if err != nil {
			return err
		}
		for _, other := range others {
			if other.Attachment == rec.Attachment || other.Firewall == nil {
				continue
			}
			if err := cmp.Or(sameBridge(n, other), sameICC(n, other), e.sameSubnets(n, other)); err != nil {
				return err
			}
		}
	}
	return nil
}

// sameBridge refuses to move a network to another bridge than an attachment is on: that
// bridge would be open to all.
func sameBridge(n *firewall.Network, other *records.Record) error {
	if have := other.Firewall.Bridge; have != n.Bridge {
		return wire.Errorf(wire.CodeConfig, "bridge %q: must be %s while network %s has containers on that, as %s: put it back, or delete those first",
			n.Bridge, have, n.Name, other.Container)
	}
	return nil
}

// sameICC refuses to keep containers apart while there are some that are not: where their ports
// are isolated, one that is not is reached by all.
func sameICC(n *firewall.Network, other *records.Record) error {
	if n.ICC || !other.Firewall.ICC {
		return nil
	}
	return wire.Errorf(wire.CodeConfig, "icc false: must be true while network %s has containers that reach all, as %s: put it back, or delete those first",
		n.Name, other.Container)
}

// sameSubnets refuses to take a subnet from a network that an attachment has an address of:
// what it sends would leave with that. Subnets that its file did not have, but the runtime or
// another IPAM plugin named, are not the file's to take; one that was chosen for it is.
func (e *Engine) sameSubnets(n *firewall.Network, other *records.Record) error {
	for _, a := range other.Addresses {
		address := a.Address.Addr()
		if slices.ContainsFunc(n.Subnets, func(p netip.Prefix) bool { return p.Contains(address) }) {
			continue
		}
		for _, p := range e.subnetsOfFile(other, address.Is6()) {
			if p.Contains(address) {
				return wire.Errorf(wire.CodeConfig, "ipam subnets %s: must have %s while network %s has containers there, as %s: put it back, or delete those first",
					n.Subnets, p, n.Name, other.Container)
			}
		}
	}
	return nil
}

// subnetsOfFile returns the subnets of a family that the file of an attachment's network had: those
// that it named, or that were chosen where it named none. Of a file that can't be read, CHECK and
// DEL tell.
func (e *Engine) subnetsOfFile(rec *records.Record, v6 bool) (list []netip.Prefix) {
	mode, err := e.parseRecorded(rec)
	if err != nil {
		return nil
	}
	from := mode.Describe().IPAM
	subnets := from.Own.Subnets
	if !network.HasFamily(subnets, v6) && from.Type == "dipam" && !namesRanges(rec) {
		subnets = rec.Subnets
	}
	for _, s := range subnets {
		if s.Prefix.Addr().Is6() == v6 {
			list = append(list, s.Prefix)
		}
	}
	return list
}

// namesRanges reports whether the runtime named the ranges of an attachment's addresses.
func namesRanges(rec *records.Record) bool {
	conf, err := network.ReadConf(rec.Config)
	if err != nil {
		return false
	}
	asked, err := network.Pick(conf.Pick("runtimeConfig")["runtimeConfig"], "runtimeConfig", "ipRanges")
	return err == nil && given(asked["ipRanges"])
}

// ensureHost makes the host's objects so. All go with their last user, which may be
// about to remove them: they are looked at under the lock only. Until the record says
// which of them it needs, it counts as one that needs all.
func (e *Engine) ensureHost(rec *records.Record, objects []wire.Object) ([]wire.Object, error) {
	if rec.Host = rootKeys(objects); len(rec.Host) == 0 && wire.So(e.Host, objects) {
		return nil, nil
	}
	lock, err := e.Locks.LockHost()
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	made, err := wire.Ensure(e.Host, objects)
	for _, o := range made {
		if f, ok := o.(*wire.Forwarding); ok && !f.Found {
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

// deleteRecord deletes the record of an attachment. Before it go the network's objects on
// the host, where they go with its last attachment and this is that ([network.Description]
// has them), and those of the host's objects that the attachment was the last to use, of
// whatever network. The record is there until they are gone, so that a DEL that dies here
// is done again. All of it is under the locks of the network and the host: of two
// attachments that go at once, the second must not take the first for one that still uses
// them.
func (e *Engine) deleteRecord(rec *records.Record, leftovers []wire.Object) error {
	if leftovers != nil {
		lock, err := e.Locks.LockNetwork(rec.Network)
		if err != nil {
			return err
		}
		defer lock.Unlock()
		others, err := e.Sharers.Others(rec.Network, rec.Attachment)
		if err == nil && !others {
			e.Namespaces.CloseNetNS("") // links may have changed by now
			err = wire.Undo(e.Host, leftovers)
		}
		if err != nil {
			return err
		}
	}
	return e.deleteLast(rec)
}

// deleteLast is deleteRecord for what is the host's.
func (e *Engine) deleteLast(rec *records.Record) error {
	// What another ADD makes from now on, that one's record says it needs.
	if objects, err := e.Owned.HostObjects(); err != nil || len(objects) == 0 {
		return errors.Join(err, e.Records.Delete(rec.Attachment, rec.Plugin))
	}
	lock, err := e.Locks.LockHost()
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if err := e.removeUnused(rec.Attachment); err != nil {
		return err
	}
	return e.Records.Delete(rec.Attachment, rec.Plugin)
}

// removeUnused removes the host's objects that no attachment needs but one. The
// caller holds the host's lock.
func (e *Engine) removeUnused(besides wire.Attachment) error {
	return removeUnused(e.Host, e.Owned, e.Sharers, besides)
}

// collectHost removes the host's objects that no attachment needs any more. Mostly there
// are none: the last DEL removes them. But the records may have been lost.
func (e *Engine) collectHost() error {
	return CollectHost(e.Host, e.Owned, e.Locks.LockHost, e.Sharers)
}

// A Changes lists what dcni made of the host's own.
type Changes interface {
	HostObjects() ([]wire.Object, error)
}

// Users knows which of the host's objects attachments need, see [Sharers].
type Users interface {
	Unused(keys []string, besides wire.Attachment) ([]string, error)
}

// CollectHost removes the host's objects that dcni made and that no attachment needs.
func CollectHost(h wire.Host, changes Changes, lockHost func() (*records.Lock, error), users Users) error {
	if objects, err := changes.HostObjects(); err != nil || len(objects) == 0 {
		return err
	}
	lock, err := lockHost()
	if err != nil {
		return err
	}
	defer lock.Unlock()
	return removeUnused(h, changes, users, wire.Attachment{})
}

// removeUnused removes the host's objects that no attachment needs but one. The caller
// holds the host's lock.
func removeUnused(h wire.Host, changes Changes, users Users, besides wire.Attachment) error {
	objects, err := changes.HostObjects()
	if err != nil {
		return err
	}
	unused, err := users.Unused(rootKeys(objects), besides)
	if err != nil {
		return err
	}
	return wire.Undo(h, slices.DeleteFunc(objects, func(o wire.Object) bool { return !slices.Contains(unused, o.Key()) }))
}

// unmake takes away what an ADD made for the network and for the host before it
// failed, unless another attachment has come to use it: an ADD writes its record
// before it looks whether such things are there. The addresses go back last.
func (e *Engine) unmake(r *Request, source Addresses, l *Lease, made shared) error {
	lock, err := e.Locks.LockNetwork(r.Network)
	if err != nil {
		return err
	}
	others, err := e.Sharers.Others(r.Network, r.Attachment)
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
	return e.removeUnused(r.Attachment)
}
