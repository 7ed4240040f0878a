package main

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"dcni/pkg/host"
	"dcni/pkg/host/agent"
	"dcni/pkg/host/dnssock"
	"dcni/pkg/host/proc"
	"dcni/pkg/names"
	"dcni/pkg/netns"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// watchRecords compares the records with what is served, again and again.
func (d *dnetd) watchRecords(ctx context.Context) {
	d.redirectMoved(ctx)
	tick := time.NewTicker(d.reconcileEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if ctx.Err() != nil { // both may be ready after a slow exitIfReplaced
				return
			}
			d.exitIfReplaced()
			d.reconcile(ctx)
			d.registry.gateways.Sync()
			d.ports.reconcile(ctx)
		}
	}
}

// exitIfReplaced ends dnetd if plugins connect to another one. The socket's file was
// removed, so the other dnetd could not take over; it serves all that is on record.
// If the new socket is systemd's, the request starts that dnetd.
func (d *dnetd) exitIfReplaced() {
	if !d.listener.replaced() {
		return
	}
	if _, err := agent.Call(d.options.socket, probeTimeout, agent.Request{Op: agent.Status}); err == nil {
		d.log.Error("another dnetd is at the socket", "socket", d.options.socket)
		d.handedOver.Store(true)
		d.end()
	}
}

// redirectMoved redirects port 53 in the sandboxes whose sockets could not be opened
// at the port on record.
func (d *dnetd) redirectMoved(ctx context.Context) {
	d.work.Lock()
	defer d.work.Unlock()
	for _, a := range d.moved {
		if ctx.Err() != nil {
			return // a successor has everything
		}
		if _, err := d.compare(a); err != nil {
			d.log.Warn("a sandbox is looked at again", "attachment", a, "error", err)
		}
	}
	d.moved = nil
}

// onRecord are the records of one attachment, which were not read: when that of each
// plugin was written. The newest time alone would not do: after the clock was set back, a record that is
// written has an older one.
type onRecord map[string]time.Time

// settled reports whether each record is sure to have another time when it is written
// again: its own is some time ago, or to come, as the clock was set back.
func (r onRecord) settled(now time.Time) bool {
	for _, written := range r {
		if now.Sub(written).Abs() <= settleTime {
			return false
		}
	}
	return true
}

// seenRecords are records that reconcile has dealt with.
type seenRecords struct {
	onRecord
	hasResolver bool
}

// settleTime is the age at which a record is sure to have another time when it is
// written again: the kernel's clock for files goes in ticks of at most 10 ms.
const settleTime = 100 * time.Millisecond

// reconcile unregisters attachments that have no record any more, registers those
// whose record is up, and closes sockets in deserted namespaces. It reads the records
// of attachments that were written since it read them last, and of those that have a
// resolver on record and are not registered.
func (d *dnetd) reconcile(ctx context.Context) {
	d.work.Lock()
	defer d.work.Unlock()
	if ctx.Err() != nil {
		return // a successor has everything
	}
	begun := time.Now()
	all, err := d.onRecord()
	if err != nil {
		d.log.Error("records can't be listed", "error", err)
		return
	}
	registered := map[wire.Attachment]bool{}
	for _, a := range d.registry.attachments() {
		registered[a] = true
		if _, there := all[a]; !there {
			all[a] = nil // without a record, too
		}
	}
	seen := make(map[wire.Attachment]seenRecords, len(all))
	for a, now := range all {
		before, known := d.seen[a]
		if known && maps.EqualFunc(before.onRecord, now, time.Time.Equal) && before.hasResolver == registered[a] {
			seen[a] = before
			continue
		}
		hasResolver, err := d.compare(a)
		switch {
		case err != nil:
			d.log.Debug("a record is looked at again", "attachment", a, "error", err)
		case now.settled(begun):
			seen[a] = seenRecords{now, hasResolver}
		}
	}
	d.seen = seen
	d.leaveDeserted()
}

// onRecord returns the attachments that have records.
func (d *dnetd) onRecord() (map[wire.Attachment]onRecord, error) {
	written, err := d.store.ModTimes()
	all := make(map[wire.Attachment]onRecord, len(written))
	for key, at := range written {
		if all[key.Attachment] == nil {
			all[key.Attachment] = onRecord{}
		}
		all[key.Attachment][key.Plugin] = at
	}
	return all, err
}

// errLost says that an attachment's record can't be read.
var errLost = errors.New("its record is lost")

// errBusy says that a plugin is at work on an attachment.
var errBusy = errors.New("it is being changed")

// compare has an attachment served as its record with a resolver says, and reports
// whether it has one. After an error it is to be called again. It takes the
// attachment's lock only where names are concerned: GC and healing leave an
// attachment alone whose lock is taken.
func (d *dnetd) compare(a wire.Attachment) (hasResolver bool, err error) {
	record, err := d.withResolver(a)
	if errors.Is(err, errLost) {
		return true, nil // what is served goes on
	}
	if err != nil || record == nil && d.registry.get(a) == nil {
		return false, err
	}
	lock, ok, err := d.store.TryLockAttachment(a)
	if err != nil || !ok {
		return false, errors.Join(err, errBusy)
	}
	defer lock.Unlock()
	if record, err = d.withResolver(a); err != nil {
		return false, err
	}
	is := d.registry.get(a)
	if record == nil || !d.isServed(record) {
		if is != nil {
			d.log.Info("forgets what has no record", "attachment", a)
			d.registry.remove(a)
		}
		return record != nil, nil
	}
	want := record.Resolver
	if is != nil {
		is.Port, is.Port6 = want.Port, want.Port6 // updateRedirect compares these
	}
	if is == nil || len(differences(is, want)) > 0 {
		if err := d.adopt(want); err != nil {
			return true, err
		}
	}
	return true, d.updateRedirect(record)
}

// withResolver returns an attachment's record that has a resolver; nil if there is
// none.
func (d *dnetd) withResolver(a wire.Attachment) (*records.Record, error) {
	list, err := d.store.OfAttachment(a)
	i := slices.IndexFunc(list, func(r *records.Record) bool { return r.Resolver != nil })
	if i >= 0 {
		return list[i], nil
	}
	if err == nil && slices.ContainsFunc(list, isLost) {
		err = errLost
	}
	return nil, err
}

func isLost(r *records.Record) bool { return r.State == records.Lost }

// adopt serves an attachment as its record says.
func (d *dnetd) adopt(r *names.Resolver) error {
	registrations := []registration{{resolver: r}}
	if port, _ := d.registry.ports(r.Cookie); port == 0 {
		var err error
		if registrations, err = d.reopen([]*names.Resolver{r}); err != nil {
			return err
		}
	}
	d.log.Info("serves what is on record", "attachment", r.Owner)
	return d.registry.add(registrations...)
}

// updateRedirect redirects a sandbox's port 53 to the sockets that are served, and
// writes their ports to the record, if these are not the ports on record.
func (d *dnetd) updateRedirect(record *records.Record) error {
	r := record.Resolver
	four, six := d.registry.ports(r.Cookie)
	if r.Port6 == 0 {
		six = 0 // another attachment asked for it
	}
	if four == r.Port && six == r.Port6 {
		return nil
	}
	if !netns.Alive(r.NetNS, r.Cookie) {
		return dnssock.ErrNoSandbox
	}
	d.log.Info("another port is served than before", "attachment", r.Owner, "port", four, "port6", six)
	r.Port, r.Port6 = four, six
	h, err := host.New(d.store.Store)
	if err != nil {
		return err
	}
	defer h.Close()
	if err := h.LeadToNameServer(r); err != nil {
		return err
	}
	return d.store.Put(record)
}

// leaveDeserted closes the sockets in namespaces that are not at the paths of their
// attachments and that no process uses: only the sockets keep them alive.
func (d *dnetd) leaveDeserted() {
	var suspects []*sandbox
	for _, s := range d.registry.all() {
		if !d.inPlace(s) {
			suspects = append(suspects, s)
		}
	}
	if len(suspects) == 0 {
		return
	}
	inhabited, err := proc.ReferencedNetNS()
	if err != nil {
		d.log.Warn("who is in which sandbox can't be told", "error", err)
		return
	}
	for _, s := range suspects {
		if inhabited[s.cookie] {
			continue
		}
		owners := d.registry.ownersOf(s)
		d.log.Info("leaves a sandbox that is gone", "attachments", owners)
		d.registry.remove(owners...)
	}
}

// inPlace reports whether a sandbox's namespace is at its path. If that can't be
// found out, it reports true.
func (d *dnetd) inPlace(s *sandbox) bool {
	ns, err := s.namespace()
	if err != nil {
		return true
	}
	return slices.ContainsFunc(d.registry.pathsOf(s), func(path string) bool {
		at, err := netns.At(path)
		return err == nil && at == ns
	})
}
