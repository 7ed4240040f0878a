package cni

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"dcni/pkg/ipam"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// A machine is what the engine works on: the real one is [host.Host].
type machine interface {
	wire.Host
	// Enter opens a sandbox and returns its namespace's cookie. The error has
	// code 8 when there is none at that path, or when it is the host's own.
	Enter(netns string) (cookie uint64, err error)
	// Still reports whether a path still is the namespace that was entered.
	Still(netns string) bool
	// HasLink reports whether a namespace has a link of that name.
	HasLink(netns, name string) (bool, error)
	// WayOutMTU returns the MTU in bytes of the link that leads out.
	WayOutMTU() int
	// Strays lists roots on the machine that look like ours, each with its
	// owner as far as that can be told, for garbage collection.
	Strays() ([]wire.Stray, error)
}

// A book is where attachments are recorded, and locked: the real one is
// [records.Store].
type book interface {
	LockAttachment(a wire.Attachment) (*records.Lock, error)
	TryLockAttachment(a wire.Attachment) (*records.Lock, bool, error)
	LockNetwork(name string) (*records.Lock, error)
	Put(r *records.Record) error
	Get(a wire.Attachment, plugin string) (*records.Record, error)
	Delete(a wire.Attachment, plugin string) error
	List(network string) ([]*records.Record, error)
	Others(a wire.Attachment) (bool, error)
}

// addresses is where an attachment's addresses come from.
type addresses interface {
	// claim gets them, and undoes what it did on an error.
	claim(r *Request) (*lease, error)
	// release gives them back; nil if there are none.
	release(r *Request) error
	// check compares them with what the attachment has.
	check(r *Request, have []ipam.Assigned) error
	// collect gives back those of attachments that are not valid.
	collect(r *Request, valid func(wire.Attachment) bool) error
	// status tells whether claim could work.
	status(r *Request) error
}

// engine carries out the verbs of one plugin.
type engine struct {
	plugin *Plugin
	host   machine
	store  book
	// source returns where a network's addresses come from.
	source func(n Network) addresses
}

// Add attaches. If it fails, what this call made is undone and nothing else.
func (e *engine) Add(r *Request) (*types100.Result, error) {
	mode, err := e.plugin.Parse(r.Conf)
	if err != nil {
		return nil, err
	}
	if err := r.wishes(); err != nil {
		return nil, err
	}
	lock, err := e.store.LockAttachment(r.Attachment)
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()

	cookie, err := e.host.Enter(r.NetNS)
	if err != nil {
		return nil, err
	}
	if err := e.clear(r, mode); err != nil {
		return nil, err
	}
	rec := &records.Record{
		Attachment: r.Attachment, Plugin: e.plugin.Name, State: records.Adding, Creator: r.creator(),
		NetNS: r.NetNS, Cookie: cookie, Config: r.Conf, Since: time.Now(),
	}
	if err := e.store.Put(rec); err != nil {
		return nil, err
	}
	result, err := e.attach(r, mode, rec)
	if err != nil {
		return nil, err
	}
	return result, nil
}

// clear makes way for ADD. What a process that died left, or an attachment
// whose interface went with its namespace, is deleted first; what is attached
// is an error, and is not touched.
func (e *engine) clear(r *Request, mode Mode) error {
	there, err := e.host.HasLink(r.NetNS, r.IfName)
	if err != nil {
		return err
	}
	old, err := e.store.Get(r.Attachment, e.plugin.Name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if there {
			return wire.Errorf(wire.CodeEnv, "CNI_IFNAME %q: the sandbox has an interface of that name", r.IfName)
		}
		return nil
	case err != nil:
		return err
	case old.State == records.Up && there:
		return wire.Errorf(wire.CodeEnv, "CNI_IFNAME %q: container %s is attached to %s by it; DEL comes first",
			r.IfName, r.Container, r.Network)
	}
	return e.detach(r, old, e.source(mode.Network()))
}

// attach does what ADD does between its two records, and undoes it on error:
// the kernel's part first, then the addresses, then the record, so that what
// can't be undone stays on record.
func (e *engine) attach(r *Request, mode Mode, rec *records.Record) (*types100.Result, error) {
	source := e.source(mode.Network())
	undone := func(err error) error {
		if err := errors.Join(err, source.release(r)); err != nil {
			return err
		}
		return e.store.Delete(r.Attachment, e.plugin.Name)
	}
	lease, err := source.claim(r)
	if err != nil {
		return nil, errors.Join(err, undone(nil))
	}
	rec.IPAM = lease.from
	plan, site, err := e.plan(r, mode, lease)
	if err != nil {
		return nil, errors.Join(err, undone(nil))
	}
	shared, err := e.share(r.Network, plan.Shared)
	if err != nil {
		return nil, errors.Join(err, undone(nil))
	}
	own, err := wire.Ensure(e.host, plan.Own)
	if err == nil {
		var result *types100.Result
		if result, err = e.finish(r, rec, plan, site, lease); err == nil {
			return result, nil
		}
		err = errors.Join(err, wire.Undo(e.host, own))
	}
	return nil, errors.Join(err, undone(e.unshare(r.Attachment, shared)))
}

// plan makes the plan of an attachment with its addresses.
func (e *engine) plan(r *Request, mode Mode, l *lease) (wire.Plan, Site, error) {
	n := mode.Network()
	if err := n.Families.fit(l.addresses); err != nil {
		return wire.Plan{}, Site{}, err
	}
	s := Site{
		Attachment: r.Attachment, NetNS: r.NetNS, MAC: r.MAC, MTU: n.MTU,
		Addresses: l.addresses, Subnets: l.subnets, Routes: l.routes,
	}
	if s.MTU == 0 {
		s.MTU = e.host.WayOutMTU()
	}
	if !n.Ports.Ignore {
		s.Ports = n.Ports.bind(r.Ports)
	}
	plan, err := mode.Plan(s)
	return plan, s, err
}

// share makes the network's objects so. It returns those that it changed. The
// network's lock is taken only if something is to be changed.
func (e *engine) share(network string, objects []wire.Object) ([]wire.Object, error) {
	if wire.So(e.host, objects) {
		return nil, nil
	}
	lock, err := e.store.LockNetwork(network)
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	changed, err := wire.Ensure(e.host, objects)
	for _, o := range changed {
		if f, ok := o.(*wire.Forwarding); ok {
			fmt.Fprintf(os.Stderr, "%s: switched on: %s\n", e.plugin.Name, f)
		}
	}
	return changed, err
}

// unshare takes away the network's objects that an ADD made before it failed,
// unless somebody else is attached by now, or about to be: they have written
// their record before they looked whether the objects are there.
func (e *engine) unshare(a wire.Attachment, changed []wire.Object) error {
	if len(changed) == 0 {
		return nil
	}
	lock, err := e.store.LockNetwork(a.Network)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if others, err := e.store.Others(a); others || err != nil {
		return err
	}
	return wire.Undo(e.host, changed)
}

// finish records the attachment as up and returns its result.
func (e *engine) finish(r *Request, rec *records.Record, plan wire.Plan, s Site, l *lease) (*types100.Result, error) {
	if !e.host.Still(r.NetNS) {
		return nil, wire.Errorf(wire.CodeNetNS, "CNI_NETNS %q: vanished during ADD", r.NetNS)
	}
	result := resultOf(plan, s, l.dns)
	if err := remember(rec, plan, s, result); err != nil {
		return nil, err
	}
	rec.Names = r.names()
	if err := e.store.Put(rec); err != nil {
		return nil, err
	}
	return merge(r.Prev, result), nil
}

// Del detaches. It works from the record; without one, from the identity. It
// may be called any number of times, with a namespace or without.
func (e *engine) Del(r *Request) error {
	lock, err := e.store.LockAttachment(r.Attachment)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	rec, err := e.store.Get(r.Attachment, e.plugin.Name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return e.detach(r, rec, e.source(e.network(r, rec)))
}

// network returns what is known of the network that an attachment is to be
// deleted from: as it was recorded, or as it is configured now. A configuration
// that can't be read leaves dipam in its usual place.
func (e *engine) network(r *Request, rec *records.Record) Network {
	confs := [][]byte{r.Conf}
	if rec != nil {
		confs = [][]byte{rec.Config, r.Conf}
	}
	for _, conf := range confs {
		if mode, err := e.plugin.Parse(conf); err == nil {
			return mode.Network()
		}
	}
	return Network{Name: r.Network, IPAM: looseIPAM(r.Conf)}
}

// detach removes an attachment: the kernel's part, the record, and last the
// addresses, which another may get the moment they are free. The caller holds
// the attachment's lock; rec is nil where nothing is on record.
func (e *engine) detach(r *Request, rec *records.Record, source addresses) error {
	roots := e.plugin.Roots(r.Attachment)
	if rec != nil {
		if known := e.recorded(rec); known != nil {
			roots = known
		}
		rec.State, rec.Since = records.Deleting, time.Now()
		if err := e.store.Put(rec); err != nil {
			return err
		}
	}
	if err := wire.Del(e.host, roots); err != nil {
		// What may still be there keeps its record and its addresses.
		return err
	}
	if err := e.store.Delete(r.Attachment, e.plugin.Name); err != nil {
		return err
	}
	return source.release(r)
}

// recorded returns the own objects of an attachment as its record has them:
// nil if the record does not say all, for its ADD or an earlier DEL died.
func (e *engine) recorded(rec *records.Record) []wire.Object {
	if rec.State != records.Up {
		return nil
	}
	plan, _, err := e.replan(rec)
	if err != nil {
		return nil
	}
	return plan.Own
}

// replan makes the plan of a recorded attachment again.
func (e *engine) replan(rec *records.Record) (wire.Plan, Site, error) {
	mode, err := e.plugin.Parse(rec.Config)
	if err != nil {
		return wire.Plan{}, Site{}, err
	}
	s, err := recall(rec)
	if err != nil {
		return wire.Plan{}, Site{}, err
	}
	plan, err := mode.Plan(s)
	return plan, s, err
}

// Check compares an attachment with its record and returns every difference.
func (e *engine) Check(r *Request) error {
	mode, err := e.plugin.Parse(r.Conf)
	if err != nil {
		return err
	}
	if err := r.wishes(); err != nil {
		return err
	}
	if r.Prev == nil {
		return wire.Errorf(wire.CodeConfig, "prevResult: missing; CHECK needs the result of ADD")
	}
	lock, err := e.store.LockAttachment(r.Attachment)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	rec, err := e.store.Get(r.Attachment, e.plugin.Name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return wire.Errorf(wire.CodeUnknown, "%s is not attached", r.Attachment)
	case err != nil:
		return err
	case rec.State != records.Up:
		return wire.Errorf(wire.CodeInternal, "%s is not up: its record says %s", r.Attachment, rec.State)
	}
	cookie, err := e.host.Enter(r.NetNS)
	if err != nil {
		return err
	}
	if cookie != rec.Cookie {
		return wire.Errorf(wire.CodeNetNS, "CNI_NETNS %q: is another namespace than the one attached (%s)", r.NetNS, rec.NetNS)
	}
	rec.NetNS = r.NetNS // the same namespace, by whichever path
	plan, _, err := e.replan(rec)
	if err != nil {
		return err
	}
	return errors.Join(
		wire.Check(e.host, plan.Shared), wire.Check(e.host, plan.Own),
		sameResult(r, rec), e.source(mode.Network()).check(r, rec.Addresses))
}
