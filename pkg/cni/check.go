package cni

import (
	"errors"
	"io/fs"

	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// Check compares an attachment with its record and returns every difference.
func (e *Engine) Check(r *Request) error {
	mode, err := parse(e.Plugin, r.conf)
	if err != nil {
		return err
	}
	d, k := mode.Describe(), kindOf(e.Plugin)
	if err := k.readRuntime(r, d); err != nil {
		return err
	}
	if r.Prev == nil {
		return errNoPrev("CHECK needs the result of ADD")
	}
	lock, err := e.Locks.LockAttachment(r.Attachment)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	rec, err := e.attached(r, d)
	if err != nil {
		return err
	}
	rec.NetNS = r.NetNS // the same namespace, by whichever path
	plan, _, err := e.replan(rec)
	if err != nil {
		return err
	}
	return errors.Join(
		wire.Check(e.Host, plan.Host), wire.Check(e.Host, plan.Network), wire.Check(e.Host, plan.Own),
		sameResult(r, rec), k.source(e, d).Check(r, rec.Addresses))
}

// attached returns the record of an attachment that is up, in the sandbox that
// the runtime names.
func (e *Engine) attached(r *Request, d network.Description) (*records.Record, error) {
	rec, err := e.Records.Get(r.Attachment, e.Plugin.Type)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, wire.Errorf(wire.CodeUnknown, "%s is not attached", r.Attachment)
	case err != nil:
		return nil, err
	case rec.State != records.Up:
		return nil, wire.Errorf(wire.CodeInternal, "%s is not up: its record says %s", r.Attachment, rec.State)
	}
	found, err := e.enter(r, d)
	if err != nil {
		return nil, err
	}
	if !at(rec, found) {
		return nil, wire.Errorf(wire.CodeNetNS, "CNI_NETNS %q: is another namespace than the one attached (%s)", r.NetNS, rec.NetNS)
	}
	return rec, nil
}
