package cni

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"dcni/pkg/firewall"
	"dcni/pkg/ipam"
	"dcni/pkg/mode/names"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/records/disk"
	"dcni/pkg/wire"
)

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

// A Confirmer is an address source that settles the addresses once the link is
// there: it asks for them (DHCP), or makes sure that no other machine has them
// (duplicate detection). The link's MAC must not depend on them.
type Confirmer interface {
	Addresses
	// Confirm changes the lease to what the attachment gets.
	Confirm(r *Request, l *Lease) error
}

// A Replacer is an address source that has other addresses to give where machines on
// the LAN have those of a lease.
type Replacer interface {
	Addresses
	// Replace changes the lease to addresses that are not taken, and remembers which are.
	Replace(r *Request, l *Lease, taken []wire.Conflict) error
}

// An Engine carries out the verbs of one plugin.
type Engine struct {
	Plugin *network.Plugin

	Host           wire.Host // the machine, as are the next four: the real one is [host.Host]
	Namespaces     Namespaces
	Sandboxes      Sandboxes
	NetNSAddresses NetNSAddresses
	LAN            LAN
	Facts          HostFacts
	Owned          Owned
	Donors         Donors

	Locks   Locks
	Records Records
	Sharers Sharers
	Chains  Chains
	Index   Index

	// Source returns where a network's addresses come from.
	Source func(d network.Description) Addresses
	// Relay tells dnetd, which holds published ports and relays what netfilter can't
	// publish, that ports of an attachment came or went; nil: there is no relay.
	Relay func(a wire.Attachment) error
	// Announce has the services of a network have the tasks that are on record now; nil: there
	// are no services.
	Announce func(network string) error
	// Follow ends what dnet connected a container to when the runtime has detached it from
	// its last network. netns is CNI_NETNS. nil: dnet connects nothing.
	Follow func(gone wire.Attachment, netns string)
	// Log takes a line for each thing of the host's that was changed.
	Log io.Writer
	// Program is the absolute path of the plugin. It is recorded, so that an IPAM
	// plugin can be found beside it when the attachment is reaped.
	Program string
}

// Add attaches. If it fails, what this call made is undone and nothing else.
func (e *Engine) Add(r *Request) (*types100.Result, error) {
	mode, err := parse(e.Plugin, r.conf)
	if err != nil {
		return nil, err
	}
	d := mode.Describe()
	if err := kindOf(e.Plugin).readRuntime(r, d); err != nil {
		return nil, err
	}
	if !network.ValidLink(r.IfName) {
		return nil, wire.Errorf(wire.CodeEnv, "CNI_IFNAME %q: must be %s", r.IfName, network.LinkRule)
	}
	if !filepath.IsAbs(r.NetNS) {
		// It is recorded, for processes that work elsewhere.
		return nil, wire.Errorf(wire.CodeEnv, "CNI_NETNS %q: must be an absolute path", r.NetNS)
	}
	if !strings.HasPrefix(r.IfName, d.IfPrefix) {
		fmt.Fprintf(e.Log, "%s: %s %q: the runtime names the interface of %s, and not so\n", e.Plugin.Type, network.IfacePrefix, d.IfPrefix, r.Attachment)
	}
	if err := network.CheckCacheName(r.Attachment); err != nil {
		return nil, err
	}
	lock, err := e.Locks.LockAttachment(r.Attachment)
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()

	rec, err := e.begin(r, d)
	if err == nil {
		err = e.Records.Put(rec)
	}
	if err != nil {
		return nil, err
	}
	return e.attach(r, mode, rec)
}

// begin looks at the sandbox, makes way, and returns the record of an ADD that
// may begin.
func (e *Engine) begin(r *Request, d network.Description) (*records.Record, error) {
	found, err := e.enter(r, d)
	if err != nil {
		return nil, err
	}
	if err := e.clear(r, found); err != nil {
		return nil, err
	}
	rec := &records.Record{
		Attachment: r.Attachment, Plugin: e.Plugin.Type, Creator: r.creator(),
		NetNS: r.NetNS, Cookie: found.Cookie, Config: r.Conf, Program: e.Program,
		Name: r.Name, Names: e.names(r, d), Links: r.Links, Exposed: r.Exposed, Sysctls: r.Sysctls, Bandwidth: r.Bandwidth, Info: r.infoOf(d),
	}
	rec.Enter(records.Adding)
	r.claimed = rec.Names
	return rec, kindOf(e.Plugin).validate(e, r, d, rec)
}

// enter opens the sandbox. The host's own namespace is refused: there, a
// container's address and default route would become the host's. Only a sandbox
// that is to share another namespace may be there already.
func (e *Engine) enter(r *Request, d network.Description) (wire.Sandbox, error) {
	found, err := e.Namespaces.OpenNetNS(r.NetNS)
	if err == nil && found.Own && !d.Shared() {
		err = wire.Errorf(wire.CodeNetNS, "CNI_NETNS %q: must not be the host's own network namespace", r.NetNS)
	}
	return found, err
}

// clear makes way for ADD. What a process that died left, or an attachment
// whose interface went with its namespace, is deleted first; what is attached
// is an error, and is not touched, nor is its record.
func (e *Engine) clear(r *Request, found wire.Sandbox) error {
	old, there, err := e.present(r, found)
	switch {
	case err != nil:
		return err
	case old == nil && there:
		return wire.Errorf(wire.CodeEnv, "CNI_IFNAME %q: the sandbox has an interface of that name", r.IfName)
	case old == nil:
		return nil
	case (old.State == records.Up || old.State == records.Lost) && there:
		return wire.Errorf(wire.CodeEnv, "CNI_IFNAME %q: container %s is attached to %s by it; DEL comes first",
			r.IfName, r.Container, r.Network)
	}
	return e.detach(r, old, e.describe(r, old))
}

// present returns the record of an attachment, nil if there is none, and whether the
// sandbox has what ADD would make. The record of a newer version stays where it is
// while that is there.
func (e *Engine) present(r *Request, found wire.Sandbox) (*records.Record, bool, error) {
	old, unread := e.Records.Get(r.Attachment, e.Plugin.Type)
	if unread != nil && !disk.IsUnreadable(unread) && !errors.Is(unread, fs.ErrNotExist) {
		return nil, false, unread
	}
	there, err := kindOf(e.Plugin).attached(e, r, found, old)
	switch {
	case err != nil || !disk.IsUnreadable(unread):
		return old, there, err
	case there && !isOld(unread):
		return nil, there, wire.Errorf(wire.CodeEnv, "CNI_IFNAME %q: the sandbox has an interface of that name; DEL comes first: %v", r.IfName, unread)
	}
	old, err = e.record(r.Attachment)
	return old, there, err
}

// at reports whether a sandbox is the one on record, or what that was made to
// share.
func at(rec *records.Record, found wire.Sandbox) bool {
	return found.Cookie == rec.Cookie || rec.Target != 0 && found.Cookie == rec.Target
}

// attach does what ADD does between its two records, and undoes it on error:
// the kernel's part first, then the addresses, then the record, so that what
// can't be undone stays on record.
func (e *Engine) attach(r *Request, mode network.Mode, rec *records.Record) (*types100.Result, error) {
	a := addition{Engine: e, r: r, mode: mode, rec: rec, source: kindOf(e.Plugin).source(e, r.withoutParents(mode.Describe()))}
	var err error
	leftovers := mode.Describe().Leftovers
	a.lease, err = a.source.Claim(r)
	if ipam.IsExhausted(err) && e.reclaim(r) {
		a.lease, err = a.source.Claim(r)
	}
	if err != nil {
		return nil, errors.Join(err, e.deleteRecord(rec, leftovers))
	}
	if rec.IPAM, rec.Overlay = a.lease.From, a.lease.Overlay; rec.Overlay != nil {
		rec.Info = r.infoOf(a.describe()) // as the cluster has it
	}
	result, made, err := a.make()
	if err == nil {
		e.relay(rec)
		e.announce(rec)
		return result, nil
	}
	if undo := e.unmake(r, a.source, a.lease, made); undo != nil {
		return nil, errors.Join(err, undo)
	}
	return nil, errors.Join(err, e.deleteRecord(rec, leftovers))
}

// An addition is an ADD that has its addresses.
type addition struct {
	*Engine
	r      *Request
	mode   network.Mode
	rec    *records.Record
	source Addresses
	lease  *Lease

	mac      string    // that the link has while its addresses are settled; "": it goes with them
	ipv6Off  bool      // IPv6 is switched off in the sandbox
	plan     wire.Plan // for the endpoint
	endpoint network.Endpoint
}

// make makes the plan so. On an error the attachment's own objects are undone,
// and the host's and the network's that it made are returned.
func (a *addition) make() (*types100.Result, shared, error) {
	if err := a.makePlan(); err != nil {
		return nil, shared{}, err
	}
	made, err := a.ensureShared(a.rec, a.plan, a.describe().Leftovers != nil)
	if err != nil {
		return nil, made, err
	}
	own, err := a.ensureOwn()
	if err != nil {
		return nil, made, errors.Join(err, wire.Undo(a.Host, own))
	}
	if h, ok := a.Host.(wire.Finisher); ok {
		h.Finish()
	}
	result, err := a.finish()
	if err != nil {
		return nil, made, errors.Join(err, wire.Undo(a.Host, own))
	}
	return result, shared{}, nil
}

// describe returns what the engine must know of the network: as it is configured, and as
// the cluster has it.
func (a *addition) describe() network.Description { return a.lease.Overlay.Settle(a.mode.Describe()) }

// makePlan makes the plan of the attachment with its addresses.
func (a *addition) makePlan() (err error) {
	d, r, l := a.describe(), a.r, a.lease
	_, settles := a.source.(Confirmer)
	if err := fit(d.Families, l.Addresses); err != nil {
		return err
	}
	l.Addresses, l.Subnets = d.WithoutGateways(l.Addresses, l.Subnets)
	l.Routes = d.RoutesOf(l.Routes)
	a.endpoint = network.Endpoint{
		Attachment: r.Attachment, NetNS: r.NetNS, Cookie: a.rec.Cookie, Target: a.rec.Target, Source: a.rec.Source, MAC: cmp.Or(r.MAC, a.mac), MTU: d.MTU,
		Addresses: l.Addresses, Subnets: l.Subnets, Routes: l.Routes, Ports: publish(d.Ports, r.Ports), NotGateway: r.NotGateway,
		Name: r.Name, Names: a.rec.Names, Links: r.Links, Services: r.Services, Exposed: r.Exposed, Sysctls: r.Sysctls, Bandwidth: r.Bandwidth, Info: a.rec.Info, Reused: l.Reused || r.MAC != "", OnLAN: d.OnLAN(), UpFirst: settles || d.ConflictDetection,
		Routed: d.Routed, Overlay: l.Overlay,
	}
	if d.Bridge != nil {
		if a.endpoint.Adopted, err = a.Owned.Adopts(d.Bridge); err != nil {
			return err
		}
		a.endpoint.Info.OwnSubnets = !a.endpoint.Adopted
	}
	switch {
	case d.Parent != nil:
		err = a.onParent(d)
	case d.MTU == 0 && a.Plugin.Kind == network.MakesInterface:
		a.endpoint.MTU = a.ownMTU()
	}
	if err != nil {
		return err
	}
	if a.ipv6Off {
		a.endpoint = a.endpoint.WithoutIPv6()
	}
	if err := a.endpoint.Bandwidth.Validate(a.endpoint.MTU); err != nil {
		return err
	}
	a.plan, err = a.mode.Plan(a.endpoint)
	return err
}

// ownMTU returns the MTU in bytes of an interface whose network gives none: that of the way out,
// and at least what IPv6 needs. The kernel has no IPv6 on an interface with less.
func (a *addition) ownMTU() int {
	mtu := a.Facts.DefaultRouteMTU()
	if a.endpoint.Has6() && !a.ipv6Off {
		return max(mtu, network.MinMTU6)
	}
	return mtu
}

// finish records the attachment as up, and returns its result.
func (a *addition) finish() (*types100.Result, error) {
	if !a.Namespaces.SameNetNS(a.r.NetNS) {
		return nil, wire.Errorf(wire.CodeNetNS, "CNI_NETNS %q: vanished during ADD", a.r.NetNS)
	}
	whole, recorded := kindOf(a.Plugin).results(a.r, resultOf(a.plan, a.endpoint, a.lease.DNS))
	if err := fillRecord(a.rec, a.plan, a.endpoint, recorded); err != nil {
		return nil, err
	}
	if publishes(a.rec) {
		a.rec.Holder = a.Facts.PortHolder()
	}
	if a.ipv6Off { // it may be switched on one day
		a.rec.IPv6Off, a.rec.Addresses, a.rec.Routes = true, a.lease.Addresses, a.lease.Routes
	}
	return whole, a.Records.Put(a.rec)
}

// Del detaches. It works from the record; without one, from the identity. It
// may be called any number of times, with a namespace or without.
func (e *Engine) Del(r *Request) error {
	err := e.del(r)
	if err == nil && e.Follow != nil && r.creator() == records.ByCNI {
		e.Follow(r.Attachment, r.NetNS)
	}
	return err
}

func (e *Engine) del(r *Request) error {
	lock, err := e.Locks.LockAttachment(r.Attachment)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	rec, err := e.record(r.Attachment)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return e.detach(r, rec, e.describe(r, rec))
}

// record returns the record of an attachment, whose lock the caller holds. If it can't
// be read, the attachment is lost: it is known by its identity, and can be deleted.
func (e *Engine) record(a wire.Attachment) (*records.Record, error) {
	rec, err := e.Records.Get(a, e.Plugin.Type)
	if !disk.IsUnreadable(err) {
		return rec, err
	}
	rec, unsaid := e.Records.Replace(a, e.Plugin.Type, err)
	if unsaid != nil {
		fmt.Fprintf(e.Log, "%s: %v; %v\n", e.Plugin.Type, err, unsaid)
	}
	return rec, nil
}

// describe returns what is known of the network that an attachment is to be
// deleted from: as it was recorded, or as it is configured now. A configuration
// that can't be read leaves dipam in its usual place.
func (e *Engine) describe(r *Request, rec *records.Record) network.Description {
	if rec != nil {
		if mode, err := e.parseRecorded(rec); err == nil {
			return mode.Describe()
		}
	}
	if mode, err := parse(e.Plugin, r.conf); err == nil {
		return mode.Describe()
	}
	return network.Description{Name: r.Network, IPAM: looseIPAM(r.Conf)}
}

// parseRecorded reads the configuration that an attachment was made with.
func (e *Engine) parseRecorded(rec *records.Record) (network.Mode, error) {
	conf, err := network.ReadConf(rec.Config)
	if err != nil {
		return nil, err
	}
	return parse(e.Plugin, conf)
}

// detach removes an attachment: the kernel's part, the record, and last the
// addresses, which another may get the moment they are free. The caller holds
// the attachment's lock; rec is nil where nothing is on record.
func (e *Engine) detach(r *Request, rec *records.Record, d network.Description) error {
	source := kindOf(e.Plugin).source(e, d)
	if _, foreign := source.(delegated); foreign && rec != nil {
		return e.takeAway(r, rec, d, source.Release)
	}
	if err := e.takeAway(r, rec, d, nil); err != nil {
		return err
	}
	err := source.Release(r)
	if missing := (errNoPlugin{}); rec == nil && errors.As(err, &missing) {
		return nil // ADD failed for it, too: it gave nothing
	}
	return err
}

// publishes reports whether an attachment has published ports on record.
func publishes(rec *records.Record) bool {
	return rec != nil && rec.Endpoint != nil && len(rec.Endpoint.Ports) > 0
}

// relay has an attachment's ports held and relayed that came, or no more those that
// went. It is no error where that can't be: all the rest of the attachment is there, or
// gone.
func (e *Engine) relay(rec *records.Record) {
	if e.Relay == nil || !publishes(rec) {
		return
	}
	if err := e.Relay(rec.Attachment); err != nil {
		fmt.Fprintf(e.Log, "%s: not all ports of %s are relayed: %v\n", e.Plugin.Type, rec.Attachment, err)
	}
}

// takeAway removes the kernel's part of an attachment, and its record. Between the two
// it calls release, if that is not nil: of what could not be released, the record stays.
func (e *Engine) takeAway(r *Request, rec *records.Record, d network.Description, release func(*Request) error) error {
	unsaid, err := e.remove(r, rec, d)
	if err == nil && release != nil {
		err = release(r)
	}
	if rec == nil {
		rec = &records.Record{Attachment: r.Attachment, Plugin: e.Plugin.Type}
	}
	if err == nil {
		err = e.deleteRecord(rec, d.Leftovers)
	}
	if err != nil {
		return errors.Join(err, unsaid)
	}
	e.relay(rec)
	e.announce(rec)
	return nil
}

// announce has others know of an attachment that came or went, and may be a task of a service.
// It is no error where that can't be: dnetd looks at the records now and then.
func (e *Engine) announce(rec *records.Record) {
	if e.Announce == nil || e.Plugin.Kind != network.MakesInterface {
		return
	}
	if err := e.Announce(rec.Network); err != nil {
		fmt.Fprintf(e.Log, "%s: services of network %s: %v\n", e.Plugin.Type, rec.Network, err)
	}
}

// remove removes the kernel's part of an attachment. What may still be there on an
// error keeps its record and its addresses. On a full disk the record can't say that
// it is going, but it can go: that is unsaid.
func (e *Engine) remove(r *Request, rec *records.Record, d network.Description) (unsaid, err error) {
	endpoint := network.Endpoint{Attachment: r.Attachment}
	if rec != nil {
		endpoint.NetNS, endpoint.Cookie, endpoint.Target = rec.NetNS, rec.Cookie, rec.Target
	}
	e.whereNow(r, &endpoint)
	roots := e.Plugin.Roots(endpoint)
	if d.Names != nil && e.Plugin.Kind == network.MakesInterface {
		roots = append(roots, names.Roots(endpoint)...)
	}
	if d.Bridge != nil && e.Plugin.Kind == network.MakesInterface {
		roots = append(roots, clientOf(endpoint))
	}
	if rec != nil {
		known := *rec
		known.NetNS, known.Cookie = endpoint.NetNS, endpoint.Cookie
		if own := e.recorded(&known); own != nil {
			roots = own
		}
		rec.Enter(records.Deleting)
		unsaid = e.Records.Put(rec)
	}
	return unsaid, wire.Del(e.Host, roots)
}

// whereNow has an attachment whose interface the host has no end of looked for where the
// runtime says that the sandbox is: the path on record may be gone while the namespace
// lives, and without a record there is none. An interface's alias says whose it is.
func (e *Engine) whereNow(r *Request, endpoint *network.Endpoint) {
	if !e.Plugin.Inside || r.NetNS == "" || r.NetNS == endpoint.NetNS {
		return
	}
	found, err := e.Namespaces.OpenNetNS(r.NetNS)
	if err != nil || found.Own || endpoint.Cookie != 0 && found.Cookie != endpoint.Cookie {
		return
	}
	endpoint.NetNS, endpoint.Cookie = r.NetNS, found.Cookie
}

// recorded returns the own objects of an attachment as its record has them:
// nil if the record does not say all, for its ADD or an earlier DEL died.
func (e *Engine) recorded(rec *records.Record) []wire.Object {
	if rec.State != records.Up {
		return nil
	}
	whole := *rec
	whole.IPv6Off = false
	plan, _, err := e.replan(&whole)
	if err != nil {
		return nil
	}
	if rec.IPv6Off { // other ports than these may be published
		for i, o := range plan.Own {
			if p, ok := o.(*firewall.Endpoint); ok {
				plan.Own[i] = &firewall.Endpoint{Owner: p.Owner}
			}
		}
	}
	return plan.Own
}

// replan makes the plan of a recorded attachment again.
func (e *Engine) replan(rec *records.Record) (wire.Plan, network.Endpoint, error) {
	if rec.NetNS == "" {
		return wire.Plan{}, network.Endpoint{}, fmt.Errorf("record of %s: netns: must not be empty", rec.Attachment)
	}
	mode, err := e.parseRecorded(rec)
	if err != nil {
		return wire.Plan{}, network.Endpoint{}, err
	}
	endpoint := endpointOf(rec)
	d := mode.Describe()
	endpoint.OnLAN, endpoint.Routed, endpoint.UpFirst = d.OnLAN(), d.Routed, d.ConflictDetection
	if len(rec.Addresses) == 0 && e.Plugin.Kind != network.Meta {
		return wire.Plan{}, endpoint, fmt.Errorf("record of %s: no addresses", rec.Attachment)
	}
	plan, err := mode.Plan(endpoint)
	return plan, endpoint, err
}
