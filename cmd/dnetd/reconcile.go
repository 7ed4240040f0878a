package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"dcni/pkg/host"
	"dcni/pkg/names"
	"dcni/pkg/wire"
)

// watchRecords compares the records with what is served again and again.
func (d *dnetd) watchRecords(ctx context.Context) {
	tick := time.NewTicker(d.reconcileEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			d.reconcile(ctx)
		}
	}
}

// reconcile forgets what has no record any more, takes up what is up and not
// known, and lets go of namespaces that nobody else has. It reads records that
// were written since it read them last.
func (d *dnetd) reconcile(ctx context.Context) {
	d.work.Lock()
	defer d.work.Unlock()
	if ctx.Err() != nil {
		return // a successor has everything
	}
	stamps, err := d.store.Stamps(plugin)
	if err != nil {
		d.log.Error("records can't be listed", "error", err)
		return
	}
	for a, written := range stamps {
		if d.seen[a].Equal(written) {
			continue
		}
		if err := d.compare(a); err != nil {
			d.log.Warn("a record is looked at again", "attachment", a, "error", err)
			continue
		}
		d.seen[a] = written
	}
	for _, a := range d.memory.attachments() {
		if _, there := stamps[a]; !there {
			if err := d.compare(a); err != nil {
				d.log.Debug("an attachment is looked at again", "attachment", a, "error", err)
			}
		}
	}
	for a := range d.seen {
		if _, there := stamps[a]; !there {
			delete(d.seen, a)
		}
	}
	d.leaveDeserted()
}

// errBusy says that a plugin works on an attachment.
var errBusy = errors.New("it is being changed")

// compare has an attachment served as its record says. An error is for another
// try.
func (d *dnetd) compare(a wire.Attachment) error {
	lock, ok, err := d.store.TryLockAttachment(a)
	if err != nil || !ok {
		return errors.Join(err, errBusy)
	}
	defer lock.Unlock()
	is, want := d.memory.get(a), d.recorded(a)
	switch {
	case want == nil && is != nil:
		d.log.Info("forgets what has no record", "attachment", a)
		d.memory.remove(a)
	case want != nil && (is == nil || len(differences(is, want)) > 0):
		return d.adopt(want)
	}
	return nil
}

// adopt serves an attachment that its record tells of. That its sandbox is gone
// is no error: it will not come back.
func (d *dnetd) adopt(r *names.Resolver) error {
	arrivals := []arrival{{resolver: r}}
	if port, _ := d.memory.ports(r.Cookie); port == 0 {
		var err error
		arrivals, err = d.reopen([]*names.Resolver{r})
		if errors.Is(err, host.ErrNoSandbox) {
			d.log.Info("a sandbox is gone", "attachment", r.Owner, "error", err)
			return nil
		}
		if err != nil {
			return err
		}
	}
	d.log.Info("serves what is on record", "attachment", r.Owner)
	return d.memory.add(arrivals...)
}

// leaveDeserted closes the sockets in namespaces that are not where their
// attachments say and that no process is in: nothing but the sockets keeps them.
func (d *dnetd) leaveDeserted() {
	var suspects []*sandbox
	for _, s := range d.memory.all() {
		if !d.inPlace(s) {
			suspects = append(suspects, s)
		}
	}
	if len(suspects) == 0 {
		return
	}
	inhabited := host.Inhabited()
	for _, s := range suspects {
		if ns, err := s.namespace(); err != nil || inhabited[ns] {
			continue
		}
		owners := d.memory.ownersOf(s)
		d.log.Info("leaves a sandbox that is gone", "attachments", owners)
		d.memory.remove(owners...)
	}
}

// inPlace reports whether a sandbox's namespace is at its path. What can't be
// told is.
func (d *dnetd) inPlace(s *sandbox) bool {
	ns, err := s.namespace()
	if err != nil {
		return true
	}
	return slices.ContainsFunc(d.memory.pathsOf(s), func(path string) bool {
		at, err := host.NamespaceAt(path)
		return err == nil && at == ns
	})
}
