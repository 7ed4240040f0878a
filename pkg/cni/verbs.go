package cni

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"path/filepath"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"dcni/pkg/firewall"
	"dcni/pkg/ipam"
	"dcni/pkg/names"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// A Machine is what the engine works on: the real one is [host.Host].
type Machine interface {
	wire.Host
	// Enter opens a sandbox. The error has code 8 when there is none at that
	// path.
	Enter(netns string) (wire.Sandbox, error)
	// Still reports whether a path still is the namespace that was entered.
	Still(netns string) bool
	// Leave lets go of a sandbox, "" for none, and forgets what links there are.
	Leave(netns string)
	// Lives reports whether the namespace of a cookie is still at a path. What
	// can't be told lives.
	Lives(netns string, cookie uint64) bool
	// Inhabited returns the cookies of the namespaces that somebody may still
	// mean, at whatever path.
	Inhabited() (map[uint64]bool, error)
	// HasLink reports whether a namespace has a link of that name.
	HasLink(netns, name string) (bool, error)
	// Survey looks at a sandbox for a plugin that makes no interface in it.
	Survey(netns string) (wire.Survey, error)
	// Inside lists the processes in a namespace, as "12 (sleep)".
	Inside(netns string) ([]string, error)
	// Addresses returns the addresses by which a namespace speaks to others,
	// at most one of each family; lo's where it can't, for "" the host's own.
	Addresses(netns string) ([]netip.Prefix, error)
	// Loopback returns the addresses that a namespace's lo has once it is up,
	// at most one of each family: 127.0.0.1/8 and ::1/128.
	Loopback(netns string) ([]netip.Prefix, error)
	// Bundle returns what the OCI bundle of a container says of its names, and
	// its ID without the runtime's namespace; nothing where no bundle is found.
	Bundle(container string) names.Identity
	// WayOutMTU returns the MTU in bytes of the link that leads out.
	WayOutMTU() int
	// Strays lists roots on the machine that look like ours, each with its
	// owner as far as that can be told, for garbage collection.
	Strays() ([]wire.Stray, error)
}

// A Book is where attachments are recorded, and locked: the real one is
// [records.Store].
type Book interface {
	LockAttachment(a wire.Attachment) (*records.Lock, error)
	TryLockAttachment(a wire.Attachment) (*records.Lock, bool, error)
	LockNetwork(name string) (*records.Lock, error)
	Put(r *records.Record) error
	Get(a wire.Attachment, plugin string) (*records.Record, error)
	Delete(a wire.Attachment, plugin string) error
	List(network string) ([]*records.Record, error)
	Keys() ([]records.RecordKey, error)
	GetAll(keys []records.RecordKey) ([]*records.Record, error)
	Others(a wire.Attachment) (bool, error)
	// Beside returns what the other plugins of the attachment's chain have
	// recorded of the network.
	Beside(a wire.Attachment, plugin string) (network.Traits, error)
	Prune(network string)
	// Probe tells whether an attachment could be recorded, and its leases in
	// data directories.
	Probe(dataDirs ...string) error
}

// Addresses is where an attachment's addresses come from.
type Addresses interface {
	// Claim gets them, and undoes what it did on an error.
	Claim(r *Request) (*Lease, error)
	// Abandon gives back what Claim got for an attachment that came to
	// nothing, and if the lease is fresh what it made for the network.
	Abandon(r *Request, l *Lease) error
	// Release gives them back; nil if there are none.
	Release(r *Request) error
	// Check compares them with what the attachment has.
	Check(r *Request, have []ipam.Assigned) error
	// Collect gives back those of attachments that are not valid.
	Collect(r *Request, valid func(wire.Attachment) bool) error
	// Status tells whether Claim could work.
	Status(r *Request) error
}

// An Engine carries out the verbs of one plugin.
type Engine struct {
	Plugin *Plugin
	Host   Machine
	Store  Book
	// Source returns where a network's addresses come from.
	Source func(n Network) Addresses
	// Relay tells whoever relays what netfilter can't publish that ports of an
	// attachment came or went; nil: nobody.
	Relay func(a wire.Attachment) error
	// Log takes a line for each thing of the host's that was changed.
	Log io.Writer
	// Program is the absolute path of the plugin, for who is to heal what it
	// attached.
	Program string
}

// Add attaches. If it fails, what this call made is undone and nothing else.
func (e *Engine) Add(r *Request) (*types100.Result, error) {
	mode, err := e.Plugin.Parse(r.conf)
	if err != nil {
		return nil, err
	}
	if err := e.Plugin.wishes(r); err != nil {
		return nil, err
	}
	if !network.ValidLink(r.IfName) {
		return nil, wire.Errorf(wire.CodeEnv, "CNI_IFNAME %q: must be %s", r.IfName, network.LinkRule)
	}
	if !filepath.IsAbs(r.NetNS) {
		// It is recorded, for processes that work elsewhere.
		return nil, wire.Errorf(wire.CodeEnv, "CNI_NETNS %q: must be an absolute path", r.NetNS)
	}
	lock, err := e.Store.LockAttachment(r.Attachment)
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()

	rec, err := e.begin(r, mode)
	if err == nil {
		err = e.Store.Put(rec)
	}
	if err != nil {
		return nil, err
	}
	return e.attach(r, mode, rec)
}

// begin looks at the sandbox, makes way, and returns the record of an ADD that
// may begin.
func (e *Engine) begin(r *Request, mode Mode) (*records.Record, error) {
	found, err := e.enter(r, mode)
	if err != nil {
		return nil, err
	}
	if err := e.clear(r, found); err != nil {
		return nil, err
	}
	rec := &records.Record{
		Attachment: r.Attachment, Plugin: e.Plugin.Name, State: records.Adding, Creator: r.creator(),
		NetNS: r.NetNS, Cookie: found.Cookie, Config: r.Conf, Since: time.Now().UTC(), Program: e.Program,
		Names: e.names(r), Traits: mode.Network().Traits,
	}
	if e.Plugin.chained() {
		rec.Traits, err = e.Store.Beside(r.Attachment, e.Plugin.Name)
	}
	if err == nil && e.Plugin.Guest != nil {
		err = e.admit(r, mode, rec)
	}
	return rec, err
}

// enter opens the sandbox. The host's own namespace is refused: there, a
// container's address and default route would become the host's. Only a sandbox
// that is to share another namespace may be there already.
func (e *Engine) enter(r *Request, mode Mode) (wire.Sandbox, error) {
	found, err := e.Host.Enter(r.NetNS)
	if err == nil && found.Own && mode.Network().Shares == "" {
		err = wire.Errorf(wire.CodeNetNS, "CNI_NETNS %q: must not be the host's own network namespace", r.NetNS)
	}
	return found, err
}

// clear makes way for ADD. What a process that died left, or an attachment
// whose interface went with its namespace, is deleted first; what is attached
// is an error, and is not touched.
func (e *Engine) clear(r *Request, found wire.Sandbox) error {
	old, err := e.Store.Get(r.Attachment, e.Plugin.Name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	there, err := e.there(r, found, old)
	switch {
	case err != nil:
		return err
	case old == nil && there:
		return wire.Errorf(wire.CodeEnv, "CNI_IFNAME %q: the sandbox has an interface of that name", r.IfName)
	case old == nil:
		return nil
	case old.State == records.Up && there:
		return wire.Errorf(wire.CodeEnv, "CNI_IFNAME %q: container %s is attached to %s by it; DEL comes first",
			r.IfName, r.Container, r.Network)
	}
	return e.detach(r, old, e.source(e.network(r, old)))
}

// there reports whether the sandbox has what ADD would make: the interface, or
// for a guest, which makes none, what is on record.
func (e *Engine) there(r *Request, found wire.Sandbox, old *records.Record) (bool, error) {
	if e.Plugin.Guest == nil {
		return e.Host.HasLink(r.NetNS, r.IfName)
	}
	return old != nil && at(old, found), nil
}

// at reports whether a sandbox is the one on record, or what that was made to
// share.
func at(rec *records.Record, found wire.Sandbox) bool {
	return found.Cookie == rec.Cookie || rec.Target != 0 && found.Cookie == rec.Target
}

// source returns where a network's addresses come from.
func (e *Engine) source(n Network) Addresses {
	switch {
	case e.Plugin.chained():
		return inherited{borrowed{e.Host, n}}
	case e.Plugin.Guest != nil:
		return borrowed{e.Host, n}
	}
	return e.Source(n)
}

// attach does what ADD does between its two records, and undoes it on error:
// the kernel's part first, then the addresses, then the record, so that what
// can't be undone stays on record.
func (e *Engine) attach(r *Request, mode Mode, rec *records.Record) (*types100.Result, error) {
	source := e.source(mode.Network())
	lease, err := source.Claim(r)
	if err != nil {
		return nil, errors.Join(err, e.Store.Delete(r.Attachment, e.Plugin.Name))
	}
	rec.IPAM = lease.From
	result, shared, err := e.make(r, mode, rec, lease)
	if err == nil {
		e.relay(rec)
		return result, nil
	}
	if undo := e.unmake(r, source, lease, shared); undo != nil {
		return nil, errors.Join(err, undo)
	}
	return nil, errors.Join(err, e.Store.Delete(r.Attachment, e.Plugin.Name))
}

// make makes the plan so. On an error the attachment's own objects are undone,
// and the network's that it made are returned.
func (e *Engine) make(r *Request, mode Mode, rec *records.Record, l *Lease) (*types100.Result, []wire.Object, error) {
	plan, site, err := e.plan(r, mode, rec, l)
	if err != nil {
		return nil, nil, err
	}
	shared, err := e.share(r.Network, plan.Shared)
	if err != nil {
		return nil, nil, err
	}
	own, err := wire.Ensure(e.Host, plan.Own)
	if err != nil {
		return nil, shared, err
	}
	result, err := e.finish(r, rec, plan, site, l)
	if err != nil {
		return nil, shared, errors.Join(err, wire.Undo(e.Host, own))
	}
	return result, nil, nil
}

// unmake takes away what an ADD made for the network before it failed, unless
// somebody else is attached by now, or about to be: they write their record
// before they look whether the network is there. The addresses go back last.
func (e *Engine) unmake(r *Request, source Addresses, l *Lease, shared []wire.Object) error {
	lock, err := e.Store.LockNetwork(r.Network)
	if err != nil {
		return err
	}
	others, err := e.Store.Others(r.Attachment)
	if err == nil && !others {
		err = wire.Undo(e.Host, shared)
	}
	lock.Unlock()
	if err != nil {
		return err
	}
	l.Fresh = l.Fresh && !others
	return source.Abandon(r, l)
}

// plan makes the plan of an attachment with its addresses.
func (e *Engine) plan(r *Request, mode Mode, rec *records.Record, l *Lease) (wire.Plan, Site, error) {
	n := mode.Network()
	if err := n.Families.fit(l.Addresses); err != nil {
		return wire.Plan{}, Site{}, err
	}
	s := Site{
		Attachment: r.Attachment, NetNS: r.NetNS, Cookie: rec.Cookie, Target: rec.Target, MAC: r.MAC, MTU: n.MTU,
		Addresses: l.Addresses, Subnets: l.Subnets, Routes: l.Routes,
		Names: rec.Names, Traits: rec.Traits, Reused: l.Reused || r.MAC != "",
	}
	if s.MTU == 0 && e.Plugin.Guest == nil {
		s.MTU = e.Host.WayOutMTU()
	}
	if !n.Ports.Ignore {
		s.Ports = n.Ports.bind(r.Ports)
	}
	plan, err := mode.Plan(s)
	return plan, s, err
}

// share makes the network's objects so. It returns those that it changed. The
// network's lock is taken only if something is to be changed.
func (e *Engine) share(name string, objects []wire.Object) ([]wire.Object, error) {
	if wire.So(e.Host, objects) {
		return nil, nil
	}
	lock, err := e.Store.LockNetwork(name)
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	changed, err := wire.Ensure(e.Host, objects)
	for _, o := range changed {
		if f, ok := o.(*wire.Forwarding); ok {
			fmt.Fprintf(e.Log, "%s: switched on: %s\n", e.Plugin.Name, f)
		}
	}
	return changed, err
}

// results returns what ADD prints, and what of it is the plugin's own, which is
// recorded.
func (e *Engine) results(r *Request, plan wire.Plan, s Site, l *Lease) (whole, own *types100.Result) {
	own = resultOf(plan, s, l.DNS)
	if !e.Plugin.chained() {
		return merge(r.Prev, own), own
	}
	own.IPs = nil // as they are in the result before
	whole = merge(r.Prev, own)
	return whole, whole
}

// finish records the attachment as up, and returns its result.
func (e *Engine) finish(r *Request, rec *records.Record, plan wire.Plan, s Site, l *Lease) (*types100.Result, error) {
	if !e.Host.Still(r.NetNS) {
		return nil, wire.Errorf(wire.CodeNetNS, "CNI_NETNS %q: vanished during ADD", r.NetNS)
	}
	whole, own := e.results(r, plan, s, l)
	if err := remember(rec, plan, s, own); err != nil {
		return nil, err
	}
	return whole, e.Store.Put(rec)
}

// Del detaches. It works from the record; without one, from the identity. It
// may be called any number of times, with a namespace or without.
func (e *Engine) Del(r *Request) error {
	lock, err := e.Store.LockAttachment(r.Attachment)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	rec, err := e.Store.Get(r.Attachment, e.Plugin.Name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return e.detach(r, rec, e.source(e.network(r, rec)))
}

// network returns what is known of the network that an attachment is to be
// deleted from: as it was recorded, or as it is configured now. A configuration
// that can't be read leaves dipam in its usual place.
func (e *Engine) network(r *Request, rec *records.Record) Network {
	if rec != nil {
		if mode, err := e.Plugin.parse(rec.Config); err == nil {
			return mode.Network()
		}
	}
	if mode, err := e.Plugin.Parse(r.conf); err == nil {
		return mode.Network()
	}
	return Network{Name: r.Network, IPAM: looseIPAM(r.Conf)}
}

// detach removes an attachment: the kernel's part, the record, and last the
// addresses, which another may get the moment they are free. The caller holds
// the attachment's lock; rec is nil where nothing is on record.
func (e *Engine) detach(r *Request, rec *records.Record, source Addresses) error {
	if err := e.takeAway(r, rec); err != nil {
		return err
	}
	e.relay(rec)
	err := source.Release(r)
	if missing := (errNoPlugin{}); rec == nil && errors.As(err, &missing) {
		return nil // ADD failed for it, too: it gave nothing
	}
	return err
}

// relay has an attachment's ports relayed that came, or no more those that went,
// if some want to be. It is no error where that can't be: all the rest of the
// attachment is there, or gone.
func (e *Engine) relay(rec *records.Record) {
	if e.Relay == nil || rec == nil || rec.Endpoint == nil || len(firewall.Relays(rec.Endpoint)) == 0 {
		return
	}
	if err := e.Relay(rec.Attachment); err != nil {
		fmt.Fprintf(e.Log, "%s: not all ports of %s are relayed: %v\n", e.Plugin.Name, rec.Attachment, err)
	}
}

// takeAway removes the kernel's part of an attachment, and its record.
func (e *Engine) takeAway(r *Request, rec *records.Record) error {
	unsaid, err := e.remove(r, rec)
	if err == nil {
		err = e.Store.Delete(r.Attachment, e.Plugin.Name)
	}
	if err != nil {
		return errors.Join(err, unsaid)
	}
	return nil
}

// remove removes the kernel's part of an attachment. What may still be there on
// an error keeps its record and its addresses. On a full disk the record can't
// say that it is going, but it can go: that is unsaid.
func (e *Engine) remove(r *Request, rec *records.Record) (unsaid, err error) {
	site := Site{Attachment: r.Attachment}
	if rec != nil {
		site.NetNS, site.Cookie, site.Target = rec.NetNS, rec.Cookie, rec.Target
	}
	roots := e.Plugin.Roots(site)
	if rec != nil {
		if known := e.recorded(rec); known != nil {
			roots = known
		}
		rec.State, rec.Since = records.Deleting, time.Now().UTC()
		unsaid = e.Store.Put(rec)
	}
	return unsaid, wire.Del(e.Host, roots)
}

// recorded returns the own objects of an attachment as its record has them:
// nil if the record does not say all, for its ADD or an earlier DEL died.
func (e *Engine) recorded(rec *records.Record) []wire.Object {
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
func (e *Engine) replan(rec *records.Record) (wire.Plan, Site, error) {
	mode, err := e.Plugin.parse(rec.Config)
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
