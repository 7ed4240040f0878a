package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// validKey is the key of the attachments that GC is to keep. libcni sends an
// older name beside it, which says the same.
const validKey = "cni.dev/valid-attachments"

// GC deletes what is attached and not valid any more, and what is left of
// attachments that no record tells of. It goes on past errors. Attachments
// that are locked are being worked on; those that dnet made are dnet's.
func (e *Engine) GC(r *Request) error {
	valid, ok, err := validAttachments(r)
	if err != nil || !ok {
		return err
	}
	// What is on the machine is listed before the records: a record is written
	// before and removed after what it tells of, so that what an ADD makes or
	// a DEL removes at the same time never looks like an orphan.
	orphans, err := e.orphans()
	errs := []error{err}
	list, err := e.Index.List("")
	errs = append(errs, err)
	for _, rec := range list {
		switch {
		case rec.Attachment.Network != r.Network || rec.Plugin != e.Plugin.Type:
		case !e.isOthers(rec) && !valid(rec.Attachment):
			errs = append(errs, e.collect(r, rec.Attachment))
		case rec.State == records.Lost:
			errs = append(errs, e.replaceLost(rec.Attachment))
		}
	}
	if err := errors.Join(errs...); err != nil {
		// Without all records, nothing can be called an orphan.
		return err
	}
	e.Index.Prune(r.Network)
	errs = append(errs, e.sweep(r, orphans, list), e.collectAddresses(r, list, valid), e.collectHost())
	return errors.Join(errs...)
}

// isOthers reports whether an attachment is not a runtime's to end: that of a container of
// dnet's, or one that dnet connected or that is the node's, as long as the sandbox is there.
func (e *Engine) isOthers(rec *records.Record) bool {
	switch rec.Creator {
	case records.ByDnet:
		return true
	case records.ByConnect, records.ByIngress:
		return rec.Cookie == 0 || e.Namespaces.NetNSAlive(rec.NetNS, rec.Cookie)
	}
	return false
}

// validAttachments reads which attachments GC keeps. Three forms are told
// apart: without the key there is nothing to do (ok is false), null and the
// empty list say that none is valid.
func validAttachments(r *Request) (valid func(wire.Attachment) bool, ok bool, err error) {
	var conf map[string]json.RawMessage
	if err := json.Unmarshal(r.Conf, &conf); err != nil {
		return nil, false, wire.Errorf(wire.CodeDecode, "configuration: %v", err)
	}
	raw, ok := conf[validKey]
	if !ok {
		return nil, false, nil
	}
	var list []struct {
		ContainerID string `json:"containerID"`
		IfName      string `json:"ifname"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, false, wire.Errorf(wire.CodeConfig, "%s: must be a list of {containerID, ifname}", validKey)
	}
	for i, v := range list {
		if v.ContainerID == "" || v.IfName == "" {
			// It names nothing to keep, and something was meant.
			return nil, false, wire.Errorf(wire.CodeConfig, "%s[%d]: must have containerID and ifname", validKey, i)
		}
	}
	return func(a wire.Attachment) bool {
		for _, v := range list {
			if v.ContainerID == a.Container && v.IfName == a.IfName {
				return true
			}
		}
		return false
	}, true, nil
}

// collect deletes one attachment unless its lock is held.
func (e *Engine) collect(r *Request, a wire.Attachment) error {
	lock, free, err := e.Locks.TryLockAttachment(a)
	if err != nil || !free {
		return err
	}
	defer lock.Unlock()
	rec, err := e.record(a)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a DEL was faster
	}
	if err != nil {
		return err
	}
	dead := *r
	dead.Attachment, dead.NetNS = a, ""
	if err := e.detach(&dead, rec, e.describe(&dead, rec)); err != nil {
		return fmt.Errorf("collect %s: %w", a, err)
	}
	return nil
}

// replaceLost moves a record away that can't be read, unless its lock is held. One of
// a newer version stays.
func (e *Engine) replaceLost(a wire.Attachment) error {
	lock, free, err := e.Locks.TryLockAttachment(a)
	if err != nil || !free {
		return err
	}
	defer lock.Unlock()
	_, err = e.Records.Get(a, e.Plugin.Type)
	if isOld(err) {
		_, err = e.Records.Replace(a, e.Plugin.Type, err)
		return err
	}
	return nil
}

// orphans lists what may have no record: links and set elements,
// which only plugins that make interfaces have.
func (e *Engine) orphans() ([]wire.Orphan, error) {
	if e.Plugin.Kind != network.MakesInterface {
		return nil, nil
	}
	return e.Owned.Orphans()
}

// sweep removes roots that belong to no record.
func (e *Engine) sweep(r *Request, orphans []wire.Orphan, list []*records.Record) error {
	var errs []error
	for _, s := range orphans {
		owned := slices.ContainsFunc(list, func(rec *records.Record) bool { return s.Of(rec.Attachment) })
		if owned || !s.In(r.Network) {
			continue
		}
		if err := e.Host.Remove(s.Object); err != nil {
			errs = append(errs, fmt.Errorf("collect %s: %w", s.Object.Key(), err))
		}
	}
	return errors.Join(errs...)
}

// collectAddresses gives back the addresses of attachments that are neither
// valid nor on record nor being made.
func (e *Engine) collectAddresses(r *Request, list []*records.Record, valid func(wire.Attachment) bool) error {
	return kindOf(e.Plugin).source(e, e.describe(r, nil)).Collect(r, func(a wire.Attachment) bool {
		if valid(a) || slices.ContainsFunc(list, func(rec *records.Record) bool {
			return rec.Attachment == a && rec.Creator != records.ByCNI
		}) {
			return true
		}
		lock, free, err := e.Locks.TryLockAttachment(a)
		lock.Unlock()
		return err != nil || !free
	})
}

// Status tells whether ADD could be served: nil, or an error of code 50 with
// everything that is missing. That no address is free it only writes to the log: DEL is what
// gives some back, and Nomad sends no DEL as long as STATUS fails.
func (e *Engine) Status(r *Request) error {
	mode, err := parse(e.Plugin, r.conf)
	if err != nil {
		return err
	}
	d, k := mode.Describe(), kindOf(e.Plugin)
	plan, err := mode.Plan(k.example(r, d))
	if err != nil {
		return err
	}
	var leases []string // what gives no addresses of its own keeps none
	if d.IPAM.Type == "dipam" {
		leases = append(leases, d.IPAM.Own.DataDir)
	}
	objects := slices.Concat(plan.Host, plan.Network, plan.Own)
	if err := errors.Join(e.Index.Probe(leases...), wire.Probe(e.Host, objects)); err != nil {
		return &wire.Error{Code: wire.CodeUnavailable, Msg: "network " + d.Name + " can't be served", Err: err}
	}
	err = k.source(e, d).Status(r)
	if ipam.IsExhausted(err) && e.reclaim(r) {
		err = k.source(e, d).Status(r)
	}
	if ipam.IsExhausted(err) {
		fmt.Fprintf(e.Log, "%s: %v\n", e.Plugin.Type, err)
		return nil
	}
	return err
}

// reclaim deletes the network's attachments whose sandboxes are gone, as healing does, and
// reports whether there were any: a runtime may end containers without a DEL, and no dnetd may
// run that collects them.
func (e *Engine) reclaim(r *Request) (any bool) {
	h := &healer{Engine: e, report: func(was wire.HealEvent) { any = any || was.Did == wire.Reaped && was.Error == "" }}
	list, _ := e.Index.List(r.Network) // one that can't be read hides no other
	for _, rec := range list {
		if rec.Plugin == e.Plugin.Type && rec.Attachment != r.Attachment {
			h.reclaim(rec.Attachment)
		}
	}
	return any
}
