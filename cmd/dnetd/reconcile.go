package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"dcni/pkg/host"
	"dcni/pkg/host/agent"
	"dcni/pkg/names"
	"dcni/pkg/wire"
)

// watchRecords compares the records with what is served again and again.
func (d *dnetd) watchRecords(ctx context.Context) {
	d.settleMoved(ctx)
	tick := time.NewTicker(d.reconcileEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if ctx.Err() != nil { // both may have come while a successor was asked
				return
			}
			d.yield()
			d.reconcile(ctx)
			d.ports.reconcile(ctx)
		}
	}
}

// yield ends dnetd if plugins speak to another one: somebody removed the socket,
// and that one could not know of us. It serves all that is on record.
// Where that is systemd's, being asked starts it.
func (d *dnetd) yield() {
	if !d.listener.replaced() {
		return
	}
	if _, err := agent.Call(d.options.socket, priorTime, agent.Request{Op: agent.Status}); err == nil {
		d.log.Error("another dnetd is at the socket", "socket", d.options.socket)
		d.succeeded.Store(true)
		d.end()
	}
}

// settleMoved has sandboxes lead to the ports that the start had to take.
func (d *dnetd) settleMoved(ctx context.Context) {
	d.work.Lock()
	defer d.work.Unlock()
	for _, a := range d.moved {
		if ctx.Err() != nil {
			return // a successor has everything
		}
		if err := d.compare(a); err != nil {
			d.log.Warn("a sandbox is looked at again", "attachment", a, "error", err)
		}
	}
	d.moved = nil
}

// reconcile forgets what no record has any more, takes up what is up and not
// known, and lets go of namespaces that nobody else has. Of what it knows it
// reads the records that were written since it read them last.
func (d *dnetd) reconcile(ctx context.Context) {
	d.work.Lock()
	defer d.work.Unlock()
	if ctx.Err() != nil {
		return // a successor has everything
	}
	stamps, err := d.store.ModTimes(plugin)
	if err != nil {
		d.log.Error("records can't be listed", "error", err)
		return
	}
	known := map[wire.Attachment]bool{}
	for _, a := range d.memory.attachments() {
		known[a] = true
		if _, there := stamps[a]; !there {
			stamps[a] = time.Time{}
		}
	}
	for a, written := range stamps {
		if known[a] && d.seen[a].Equal(written) && !written.IsZero() {
			continue
		}
		if err := d.compare(a); err != nil {
			d.log.Debug("a record is looked at again", "attachment", a, "error", err)
			delete(stamps, a)
		}
	}
	d.seen = stamps
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
	if want == nil {
		if is != nil {
			d.log.Info("forgets what has no record", "attachment", a)
			d.memory.remove(a)
		}
		return nil
	}
	if is != nil {
		is.Port, is.Port6 = want.Port, want.Port6 // are dealt with last
	}
	if is == nil || len(differences(is, want)) > 0 {
		if err := d.adopt(want); err != nil {
			return err
		}
	}
	return d.settle(want)
}

// adopt serves an attachment that its record tells of.
func (d *dnetd) adopt(r *names.Resolver) error {
	arrivals := []arrival{{resolver: r}}
	if port, _ := d.memory.ports(r.Cookie); port == 0 {
		var err error
		if arrivals, err = d.reopen([]*names.Resolver{r}); err != nil {
			return err
		}
	}
	d.log.Info("serves what is on record", "attachment", r.Owner)
	return d.memory.add(arrivals...)
}

// settle has a sandbox lead port 53 to the sockets that are read, and the record
// say so, where another port had to be taken than that on record.
func (d *dnetd) settle(r *names.Resolver) error {
	four, six := d.memory.ports(r.Cookie)
	if r.Port6 == 0 {
		six = 0 // another attachment's
	}
	if four == r.Port && six == r.Port6 {
		return nil
	}
	if !host.Lives(r.NetNS, r.Cookie) {
		return host.ErrNoSandbox
	}
	record, err := d.store.Get(r.Owner, plugin)
	if err != nil {
		return err
	}
	d.log.Info("another port is read than before", "attachment", r.Owner, "port", four, "port6", six)
	record.Resolver.Port, record.Resolver.Port6 = four, six
	h, err := host.New(d.store.Store)
	if err != nil {
		return err
	}
	defer h.Close()
	if err := h.LeadToNameServer(record.Resolver); err != nil {
		return err
	}
	return d.store.Put(record)
}

// leaveDeserted closes the sockets in namespaces that are not where their
// attachments say and that nobody may still mean: nothing but the sockets keeps
// them.
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
	inhabited, err := host.Inhabited()
	if err != nil {
		d.log.Warn("who is in which sandbox can't be told", "error", err)
		return
	}
	for _, s := range suspects {
		if inhabited[s.cookie] {
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
