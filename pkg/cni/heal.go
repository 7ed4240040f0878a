package cni

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"dcni/pkg/firewall"
	"dcni/pkg/host"
	"dcni/pkg/ipam"
	"dcni/pkg/names"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/records/disk"
	"dcni/pkg/wire"
)

// Grace is how old a record must be before its attachment may be collected: a
// runtime that takes its namespace away also says DEL, before or right after.
const Grace = 5 * time.Second

// healGC is how much of what is no longer needed may pile up, in percent: with
// 1,000 attachments, collecting it was a fifth of the time until rules are back.
const healGC = 800

// heal serves `<plugin> heal [NETWORK[/CONTAINER/IFNAME]...]`: it puts back what
// the records say, of all networks or some, or of single attachments, and prints
// a JSON object a line for each thing that was not as it should be
// ([wire.HealEvent]).
func heal(p *network.Plugin, args []string, stdout io.Writer) error {
	scope, err := parseScope(args)
	if err != nil {
		return fmt.Errorf("%s heal: %w", p.Type, err)
	}
	store := records.Default()
	machine, err := host.New(store)
	if err != nil {
		return err
	}
	defer machine.Close()
	debug.SetGCPercent(healGC)
	lines := json.NewEncoder(stdout)
	lines.SetEscapeHTML(false)
	var unsaid error
	failed := 0
	err = NewEngine(p, store, machine).Heal(scope, func(r wire.HealEvent) {
		if r.Error != "" {
			failed++
		}
		unsaid = errors.Join(unsaid, lines.Encode(r))
	})
	if err = errors.Join(err, unsaid); err == nil && failed > 0 {
		err = fmt.Errorf("%s heal: %d of the above could not be put back", p.Type, failed)
	}
	return err
}

// A Scope is what is to be healed: whole networks, and single attachments of
// others. The zero Scope is everything.
type Scope struct {
	Networks    []string
	Attachments []wire.Attachment
}

func parseScope(args []string) (Scope, error) {
	var s Scope
	for _, arg := range args {
		words := strings.Split(arg, "/")
		switch {
		case len(words) == 1 && network.ValidName(arg):
			s.Networks = append(s.Networks, arg)
		case len(words) == 3 && network.ValidName(words[0]) && network.ValidName(words[1]) && words[2] != "" && validIfName(words[2]):
			s.Attachments = append(s.Attachments, wire.Attachment{Network: words[0], Container: words[1], IfName: words[2]})
		default:
			return s, fmt.Errorf("%q: must be NETWORK or NETWORK/CONTAINER/IFNAME", arg)
		}
	}
	return s, nil
}

func (s Scope) all() bool { return len(s.Networks)+len(s.Attachments) == 0 }

// Heal makes what the records `up` say so again where it is not, and deletes
// attachments whose sandbox is gone for good and that no runtime says DEL for. It
// leaves alone what another process is at work on, goes on past errors, and reports each
// thing that was not as it should be. The error tells of records that can't be
// read.
func (e *Engine) Heal(s Scope, report func(wire.HealEvent)) error {
	list, err := e.scope(s)
	h := &healer{Engine: e, report: report}
	// What all share comes first: with the rules, all published ports are back.
	for _, name := range networksOf(list) {
		if s.all() || slices.Contains(s.Networks, name) {
			h.alone(wire.Attachment{Network: name}, func() { h.network(name, ofNetwork(list, name)) })
		}
	}
	for _, rec := range list {
		h.alone(rec.Attachment, func() { h.attachment(rec.Attachment) })
	}
	h.askLAN()
	h.sweep(s)
	return err
}

// alone heals one thing so that a panic ends nothing else, as one over what a
// container has written into its own tables. It does so in a goroutine of its own:
// with a goroutine that panicked in a container's namespace ends its thread, which
// is still there.
func (h *healer) alone(a wire.Attachment, f func()) {
	ended := make(chan error)
	go func() {
		defer func() {
			var err error
			if why := recover(); why != nil {
				err = panicError(why)
				fmt.Fprintf(h.Log, "%s: healing %s: %v\n%s", h.Plugin.Type, a, err, debug.Stack())
			}
			ended <- err
		}()
		f()
	}()
	if err := <-ended; err != nil {
		h.reporter(a)(nil, nil, err)
	}
}

func panicError(why any) error { return fmt.Errorf("panic: %v", why) }

// plan makes the plan of an attachment. It may panic over what is on record.
func (h *healer) plan(rec *records.Record) (plan wire.Plan, err error) {
	defer func() {
		if why := recover(); why != nil {
			err = panicError(why)
		}
	}()
	plan, _, err = h.replan(rec)
	return plan, err
}

// sweep removes the empty directories that processes left which died as they
// wrote their first record or removed the last.
func (h *healer) sweep(s Scope) {
	if s.all() {
		h.Index.Prune("")
	}
	for _, name := range s.Networks {
		h.Index.Prune(name)
	}
}

// scope lists this plugin's records within a scope.
func (e *Engine) scope(s Scope) (list []*records.Record, err error) {
	var unlisted error
	var wanted []records.RecordKey
	if s.all() || len(s.Networks) > 0 {
		wanted, unlisted = e.Index.Keys()
		wanted = slices.DeleteFunc(wanted, func(m records.RecordKey) bool {
			return m.Plugin != e.Plugin.Type || !s.all() && !slices.Contains(s.Networks, m.Network)
		})
	}
	for _, a := range s.Attachments {
		if !slices.Contains(s.Networks, a.Network) {
			wanted = append(wanted, records.RecordKey{Attachment: a, Plugin: e.Plugin.Type})
		}
	}
	list, err = e.Index.GetAll(wanted)
	return list, errors.Join(unlisted, err)
}

// networksOf returns the networks of records that are sorted by them, but for those of single
// attachments behind.
func networksOf(list []*records.Record) []string {
	var names []string
	for _, rec := range list {
		names = append(names, rec.Network)
	}
	return slices.Compact(names)
}

func ofNetwork(list []*records.Record, name string) []*records.Record {
	return slices.DeleteFunc(slices.Clone(list), func(rec *records.Record) bool { return rec.Network != name })
}

// A healer is at work once.
type healer struct {
	*Engine
	report func(wire.HealEvent)

	counted    time.Time // when referenced was found out; zero: not yet
	referenced map[uint64]bool
	unasked    []wire.Attachment // see askLAN
}

// network puts back what a network's attachments share. While it does, it holds
// the lock of one that is up, so that the network is not removed at that time.
func (h *healer) network(name string, list []*records.Record) {
	report := h.reporter(wire.Attachment{Network: name})
	host, network := h.shared(list)
	defer h.Namespaces.CloseNetNS("")
	if wire.So(h.Host, host) && wire.So(h.Host, network) {
		return
	}
	guard := h.guard(list)
	if guard == nil {
		return // all are about to go, or to be attached, and those look as well
	}
	defer guard.Unlock()
	if len(host) > 0 {
		h.healUnder(h.Locks.LockHost, func() []wire.Object { return host }, report)
	}
	if len(network) > 0 {
		h.healUnder(func() (*records.Lock, error) { return h.lockUnchanging(name) }, func() []wire.Object {
			now, _ := h.scope(Scope{Networks: []string{name}}) // what can't be read was reported
			_, network := h.shared(now)                        // an ADD may have changed it since
			return network
		}, report)
	}
}

// How long healing waits for an ADD that changes a network, and how often it looks. One that takes longer
// may hang, and its network is healed all the same.
const (
	changeTime  = 5 * time.Second
	changeEvery = 20 * time.Millisecond
)

// lockUnchanging takes a network's lock at a time when no ADD is changing the network: until that one's
// attachment is up, the records say what the network was before, and that would be put back.
func (h *healer) lockUnchanging(name string) (lock *records.Lock, err error) {
	for end := time.Now().Add(changeTime); lock == nil && err == nil; {
		if lock, err = h.tryUnchanging(name, time.Now().After(end)); lock == nil {
			time.Sleep(changeEvery)
		}
	}
	return lock, err
}

// tryUnchanging returns the lock, or none if an ADD is changing the network, unless that is no matter.
func (h *healer) tryUnchanging(name string, anyway bool) (held *records.Lock, err error) {
	lock, err := h.Locks.LockNetwork(name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if held == nil { // also after a panic
			lock.Unlock()
		}
	}()
	if !anyway && h.changing(name) {
		return nil, nil
	}
	return lock, nil
}

// changing reports whether an ADD is under way by another configuration than those of the network's
// attachments that are up.
func (h *healer) changing(name string) bool {
	list, _ := h.scope(Scope{Networks: []string{name}}) // what can't be read was reported
	var last *records.Record
	for _, rec := range list {
		if rec.State == records.Up && (last == nil || rec.Compare(last) > 0) {
			last = rec
		}
	}
	return last != nil && slices.ContainsFunc(list, func(rec *records.Record) bool {
		if rec.State != records.Adding || bytes.Equal(ofNetworkAlone(rec.Config), ofNetworkAlone(last.Config)) {
			return false
		}
		lock, free, err := h.Locks.TryLockAttachment(rec.Attachment)
		if free && err == nil {
			lock.Unlock() // the ADD died
		}
		return !free && err == nil
	})
}

// ofNetworkAlone returns a configuration without what runtimes put into it for one attachment.
func ofNetworkAlone(conf []byte) []byte {
	var keys map[string]json.RawMessage
	if json.Unmarshal(conf, &keys) != nil {
		return conf
	}
	for _, key := range []string{"runtimeConfig", "prevResult", "args"} {
		delete(keys, key)
	}
	text, _ := json.Marshal(keys) // what was JSON is
	return text
}

// healUnder puts objects back under a lock.
func (h *healer) healUnder(take func() (*records.Lock, error), list func() []wire.Object, report reporter) {
	lock, err := take()
	if err != nil {
		report(nil, nil, err)
		return
	}
	defer lock.Unlock()
	h.Namespaces.CloseNetNS("") // links may have changed by now
	wire.Heal(h.Host, list(), report)
}

// shared returns what attachments that are up share, the host's and the network's.
// Where the network's configuration has changed, the youngest attachment has its
// way, as with ADD.
func (h *healer) shared(list []*records.Record) (host, network []wire.Object) {
	known := map[string]bool{}
	add := func(to, objects []wire.Object) []wire.Object {
		for _, o := range objects {
			if !known[o.Key()] {
				known[o.Key()] = true
				to = append(to, o)
			}
		}
		return to
	}
	youngest := slices.SortedStableFunc(slices.Values(list), func(a, b *records.Record) int { return b.Compare(a) })
	for _, rec := range youngest {
		if rec.State != records.Up {
			continue
		}
		plan, err := h.plan(rec)
		if err != nil {
			continue // reported with its own objects
		}
		host, network = add(host, plan.Host), add(network, plan.Network)
	}
	return host, network
}

// guard returns the lock of an attachment that is up and that no verb is at work on,
// or nil.
func (h *healer) guard(list []*records.Record) *records.Lock {
	for _, rec := range list {
		if lock := h.lockUp(rec); lock != nil {
			return lock
		}
	}
	return nil
}

// lockUp returns the lock of an attachment if it is free and the attachment is up.
func (h *healer) lockUp(rec *records.Record) (held *records.Lock) {
	lock, free, err := h.Locks.TryLockAttachment(rec.Attachment)
	if err != nil || !free {
		return nil
	}
	defer func() {
		if held == nil { // also after a panic
			lock.Unlock()
		}
	}()
	if now, err := h.Records.Get(rec.Attachment, rec.Plugin); err == nil && now.State == records.Up {
		return lock
	}
	return nil
}

// attachment puts back what is one attachment's own, or deletes it if its sandbox
// is gone.
func (h *healer) attachment(a wire.Attachment) {
	report := h.reporter(a)
	lock, free, err := h.Locks.TryLockAttachment(a)
	if err != nil {
		report(nil, nil, err)
		return
	}
	if !free {
		h.report(wire.HealEvent{Attachment: a, Did: wire.Left, Was: "being attached, checked or deleted"})
		return
	}
	defer lock.Unlock()
	rec, err := h.Records.Get(a, h.Plugin.Type)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return // a DEL was faster
	case isOld(err):
		_, unsaid := h.Records.Replace(a, h.Plugin.Type, err)
		h.report(wire.HealEvent{Attachment: a, Did: wire.Lost, Was: err.Error(), Error: errorText(unsaid)})
		return
	case err != nil:
		report(nil, nil, err)
		return
	}
	defer h.Namespaces.CloseNetNS(rec.NetNS)
	found, err := h.Namespaces.OpenNetNS(rec.NetNS)
	there := err == nil && at(rec, found)
	if !there && h.reap(rec) || rec.State != records.Up {
		return // of what is not up, its process died: DEL, or the next ADD, sees to it
	}
	h.own(rec, there, report)
}

// reclaim deletes an attachment if its sandbox is gone.
func (h *healer) reclaim(a wire.Attachment) {
	lock, free, err := h.Locks.TryLockAttachment(a)
	if err != nil || !free {
		return
	}
	defer lock.Unlock()
	rec, err := h.Records.Get(a, h.Plugin.Type)
	if err != nil {
		return // a DEL was faster, or healing tells of it
	}
	defer h.Namespaces.CloseNetNS(rec.NetNS)
	if found, err := h.Namespaces.OpenNetNS(rec.NetNS); err != nil || !at(rec, found) {
		h.reap(rec)
	}
}

// own puts back what is one attachment's own, without its sandbox that of the host's.
func (h *healer) own(rec *records.Record, there bool, report reporter) {
	if there {
		if err := h.followIPv6(rec); err != nil {
			report(nil, nil, err)
		}
	}
	plan, err := h.plan(rec)
	if err != nil {
		report(nil, nil, err)
		return
	}
	own := plan.Own
	if there {
		own = h.inSandbox(rec, own)
		defer h.remaking(rec, own, report)()
	} else {
		own = wire.Outside(own)
	}
	if there && len(h.away(rec, own)) > 0 {
		h.unasked = append(h.unasked, rec.Attachment)
		_, own = wire.NeedAddresses(own)
	}
	wire.Heal(h.Host, own, h.exceptIPv6Off(rec, report))
}

// remaking records that an interface is about to be made again which plugins behind have set
// something of: they are not called for that, and if healing dies in between, the next one
// knows. It returns what is to be called once the interface is made.
func (h *healer) remaking(rec *records.Record, own []wire.Object, report reporter) (made func()) {
	link, isMade := linkOf(own)
	if link == nil || h.Host.Check(link) == nil {
		return func() {}
	}
	chained, before := h.chained(rec), rec.Remade
	if !chained.Any() {
		return func() {}
	}
	put := func(remade bool) {
		if rec.Remade == remade {
			return
		}
		rec.Remade = remade
		if err := h.Records.Put(rec); err != nil {
			report(link, nil, err)
		}
	}
	put(true)
	return func() {
		if !*isMade { // it was repaired where it is, or can't be made
			put(before)
		} else if err := h.lacks(rec, chained.Others); err != nil {
			report(link, nil, err)
		}
	}
}

// linkOf returns the object of an attachment's interface, nil where there is none, and where that
// says that it was made.
func linkOf(own []wire.Object) (link wire.Object, made *bool) {
	for _, o := range own {
		switch o := o.(type) {
		case *wire.Veth:
			return o, &o.Made
		case *wire.Child:
			return o, &o.Made
		}
	}
	return nil, nil
}

// exceptIPv6Off reports all but what can't be put back because IPv6 has been switched off
// in the sandbox since healing began: the next healing knows.
func (h *healer) exceptIPv6Off(rec *records.Record, report reporter) reporter {
	return func(o wire.Object, was, err error) {
		if err != nil && len(wire.WithoutIPv6([]wire.Object{o})) == 0 {
			h.Namespaces.CloseNetNS(rec.NetNS) // what was known of its links
			if off, failed := h.Sandboxes.IPv6Off(rec.NetNS, rec.IfName); failed == nil && off {
				return
			}
		}
		report(o, was, err)
	}
}

// isOld reports whether a record can't be read, and is not of a newer version.
func isOld(err error) bool {
	unread, is := errors.AsType[*disk.UnreadableError](err)
	return is && !unread.Newer
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// followIPv6 records whether IPv6 is switched off in the sandbox. That is its owner's to
// do, at any time: the addresses are away or back with it, and so are the names' and
// the published ports'.
func (h *healer) followIPv6(rec *records.Record) error {
	has6 := slices.ContainsFunc(rec.Addresses, func(a ipam.Assigned) bool { return a.Address.Addr().Is6() })
	if !has6 || h.Plugin.Kind == network.NoInterface {
		return nil
	}
	off, err := h.Sandboxes.IPv6Off(rec.NetNS, rec.IfName)
	if err != nil || off == rec.IPv6Off {
		return nil //nolint:nilerr // without a link it is as it was
	}
	rec.IPv6Off = off
	plan, err := h.plan(rec)
	if err != nil {
		return err
	}
	before := rec.Endpoint
	var changed []wire.Object
	for _, o := range plan.Own {
		switch o := o.(type) {
		case *firewall.Endpoint:
			rec.Endpoint, changed = o, append(changed, o)
		case *names.Resolver:
			rec.Resolver, changed = o, append(changed, o)
		case *firewall.Member:
			rec.Member, changed = o, append(changed, o)
		case *firewall.BridgePort:
			rec.BridgePort, changed = o, append(changed, o)
		}
	}
	if err := h.Records.Put(rec); err != nil {
		return err
	}
	if before != nil {
		err = h.Host.Remove(before)
	}
	_, failed := wire.Ensure(h.Host, changed)
	h.relay(rec)
	return errors.Join(err, failed)
}

// reap deletes an attachment whose sandbox is gone for good, and reports whether
// it is gone. One that dnet made is dnet's to end.
func (h *healer) reap(rec *records.Record) bool {
	orphaned, err := h.orphaned(rec)
	if err != nil || !orphaned {
		if err != nil {
			h.reporter(rec.Attachment)(nil, nil, err)
		}
		return false
	}
	if rec.Creator == records.ByDnet {
		return true
	}
	event := wire.HealEvent{Attachment: rec.Attachment, Did: wire.Reaped, Was: "network namespace " + rec.NetNS + " is gone"}
	if rec.State == records.Lost {
		event.Was = "its record is lost, and its interface is gone"
	}
	if rec.Age() < Grace {
		event.Did = wire.Left
	} else if err := h.detachOrphan(rec); err != nil {
		event.Error = err.Error()
	}
	h.report(event)
	return true
}

// hasHostLink reports whether the host has the attachment's link, also by the name of versions before.
func (h *healer) hasHostLink(a wire.Attachment) (bool, error) {
	there, err := h.Sandboxes.HasLink("", a.HostLink())
	if there || err != nil {
		return there, err
	}
	return h.Sandboxes.HasLink("", wire.FormerHostLink(a.HostLink()))
}

// orphaned reports whether a sandbox is gone for good. A path that leads nowhere
// does not prove it: the path may lead there in another mount namespace. But a
// namespace that lives keeps the other end of its veth alive, and so the host's.
// Where there is no veth, the namespace lives as long as a process is in it, or has
// it mounted or open. An interface that the host has no end of, of an attachment that is
// lost, is looked for in all of those. Where there never is one, DEL or GC ends what is lost.
func (h *healer) orphaned(rec *records.Record) (bool, error) {
	if rec.State == records.Lost && h.Plugin.Inside {
		there, err := h.Sandboxes.HasChild(rec.Attachment)
		return !there, err
	}
	if rec.State == records.Lost {
		there, err := h.hasHostLink(rec.Attachment)
		return h.Plugin.Kind == network.MakesInterface && !there, err
	}
	if rec.Cookie == 0 || h.Namespaces.NetNSAlive(rec.NetNS, rec.Cookie) {
		return false, nil
	}
	if there, err := h.hasHostLink(rec.Attachment); there || err != nil {
		return false, err
	}
	if h.counted.IsZero() || rec.Age() <= time.Since(h.counted) {
		now := time.Now()
		referenced, err := h.Namespaces.ReferencedNetNS()
		if err != nil {
			return false, fmt.Errorf("who uses network namespaces: %w", err)
		}
		h.counted, h.referenced = now, referenced
	}
	return !h.referenced[rec.Cookie], nil
}

// detachOrphan deletes an attachment that no runtime says DEL for. The record goes
// last, so that the next healing finds it if this one dies. Of an attachment whose DEL
// had begun nothing is removed by its address, which may be another's by now. The IPAM plugin that gave them is looked for where the plugin was that
// attached.
func (h *healer) detachOrphan(rec *records.Record) error {
	path := ""
	if program := cmp.Or(rec.Program, h.Program); program != "" {
		path = filepath.Dir(program)
	}
	conf := rec.Config
	if len(conf) == 0 { // lost
		conf = fmt.Appendf(nil, `{"cniVersion": "1.0.0", "name": %q}`, rec.Network)
	}
	r, err := ParseRequest(&Call{ContainerID: rec.Container, IfName: rec.IfName, Conf: conf, Path: path})
	if err != nil {
		return err
	}
	d := h.describe(r, rec)
	if unsaid, err := h.remove(r, rec, d); err != nil {
		return errors.Join(err, unsaid)
	}
	source := kindOf(h.Plugin).source(h.Engine, d)
	if foreign, ok := source.(delegated); ok {
		if err := foreign.trusted(r.Path); err != nil {
			return err
		}
	}
	if err := source.Release(r); err != nil {
		return err
	}
	err = h.deleteRecord(rec, d.Leftovers)
	h.announce(rec)
	return err
}

// A reporter reports one object: how it was, and why it still is so.
type reporter func(o wire.Object, was, err error)

func (h *healer) reporter(a wire.Attachment) reporter {
	return func(o wire.Object, was, err error) {
		r := wire.HealEvent{Attachment: a, Did: wire.PutBack}
		if o != nil {
			r.Object = o.String()
		}
		if was != nil {
			r.Was = was.Error()
		}
		if err != nil {
			r.Error = err.Error()
		}
		h.report(r)
	}
}
