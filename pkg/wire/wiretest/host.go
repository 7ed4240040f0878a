// Package wiretest is a machine in memory: a [wire.Host] that refuses what the
// kernel refuses, prints like ip(8) and nft(8), and fails or dies where a test
// wants it to.
package wiretest

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"dcni/pkg/wire"
)

// Host is the in-memory machine. The zero value is not ready: use [New].
type Host struct {
	// Step, if set, is called before each operation takes effect. If it returns
	// an error, the operation fails without effect; if it panics, the caller dies.
	Step func(op string, o wire.Object) error
	// After, if set, is called once an operation has taken effect. If it returns
	// an error, the operation fails all the same: Ensure then reports what it
	// changed together with the error.
	After func(op string, o wire.Object) error

	there map[string]thing
}

// thing is one object as it was when it was made: later changes of the value
// by its owner change nothing here.
type thing struct {
	object   wire.Object
	line     string
	refers   []string
	provides []string
}

// New returns an empty machine.
func New() *Host { return &Host{there: map[string]thing{}} }

func describe(o wire.Object) thing {
	t := thing{object: o, line: o.String()}
	if r, ok := o.(wire.Referrer); ok {
		t.refers = slices.Clone(r.Refers())
	}
	if p, ok := o.(wire.Provider); ok {
		t.provides = slices.Clone(p.Provides())
	}
	return t
}

func call(hook func(string, wire.Object) error, op string, o wire.Object) error {
	if hook == nil {
		return nil
	}
	return hook(op, o)
}

// Ensure makes o so. It refuses what the kernel refuses, see [Host.refuse].
func (h *Host) Ensure(o wire.Object) (bool, error) {
	if err := call(h.Step, "ensure", o); err != nil {
		return false, err
	}
	changed, err := h.ensure(o)
	if err != nil {
		return false, err
	}
	return changed, call(h.After, "ensure", o)
}

func (h *Host) ensure(o wire.Object) (bool, error) {
	if isFact(o) {
		return false, nil
	}
	if v, ok := o.(*wire.Veth); ok && v.NetNS == "" {
		return false, h.compare(o) // of a pair that is there; one end is not made alone
	}
	want, key := describe(o), o.Key()
	if err := h.refuse(o, want); err != nil {
		return false, err
	}
	have, ok := h.there[key]
	if ok && have.line == want.line {
		return false, nil
	}
	if s, state := o.(*wire.XfrmState); state {
		if ok {
			return false, fmt.Errorf("file exists: %s", have.line)
		}
		s.Made = true
	}
	if _, bridge := o.(*wire.Bridge); ok && bridge {
		return false, nil // adopted as it is
	}
	remember(o, have)
	h.there[key] = want
	switch o := o.(type) {
	case *wire.Veth:
		o.Made = !ok
	case *wire.Child:
		o.Made = !ok
	}
	return true, nil
}

// refuse tells why the kernel would not make a thing, or nil: it refers to
// nothing, another thing provides what it does, or its address is another's.
func (h *Host) refuse(o wire.Object, want thing) error {
	for _, r := range want.refers {
		if !h.has(r) {
			return fmt.Errorf("no such thing: %s", r)
		}
	}
	for _, p := range want.provides {
		owner, ok := h.provider(p)
		switch {
		case !ok || owner == o.Key():
		case strings.HasPrefix(p, "port "):
			return wire.Errorf(wire.CodePortTaken, "%s: port is already allocated (%s)", p, owner)
		default:
			return fmt.Errorf("%s: file exists (%s)", p, owner)
		}
	}
	switch o := o.(type) {
	case *wire.Addr:
		return h.refuseAddr(o)
	case *wire.Route:
		return h.refuseRoute(o)
	case *wire.XfrmState:
		if o.Made && !h.has(o.Key()) {
			return wire.ErrLostState
		}
	}
	return nil
}

// refuseAddr refuses an address that another link of the same Ethernet segment
// has: only one of the two could be reached.
func (h *Host) refuseAddr(a *wire.Addr) error {
	if a.Prefix.Addr().IsLoopback() {
		return nil
	}
	segment := h.segment(a)
	for key, t := range h.there {
		b, ok := t.object.(*wire.Addr)
		if ok && key != a.Key() && b.Prefix.Addr() == a.Prefix.Addr() && h.segment(b) == segment {
			return fmt.Errorf("%s: address already in use (%s)", a.Prefix.Addr(), t.line)
		}
	}
	return nil
}

// segment names the Ethernet segment that an address's link is on: the bridge
// of a veth, the parent of a child, else the link itself.
func (h *Host) segment(a *wire.Addr) string {
	link := "link " + a.Dev + inNetNS(a.NetNS)
	if owner, ok := h.provider(link); ok {
		switch o := h.there[owner].object.(type) {
		case *wire.Veth:
			return "link " + o.Bridge
		case *wire.Child:
			return "link " + o.Parent
		}
	}
	return link
}

// refuseRoute refuses a route through a link that is down, and one whose gateway
// is not on the link.
func (h *Host) refuseRoute(r *wire.Route) error {
	if !h.has((&wire.Up{NetNS: r.NetNS, Dev: r.Dev}).Key()) {
		return errors.New("network is down")
	}
	if !r.Via.IsValid() || r.OnLink || h.onLink(r, r.Via) {
		return nil
	}
	return errors.New("network is unreachable")
}

// onLink reports whether a prefix of the route's own link contains an address.
func (h *Host) onLink(r *wire.Route, via netip.Addr) bool {
	for _, t := range h.there {
		a, ok := t.object.(*wire.Addr)
		if ok && a.NetNS == r.NetNS && a.Dev == r.Dev && a.Prefix.Contains(via) {
			return true
		}
	}
	return false
}

// remember notes in a setting what it was before, for Remove to write back.
func remember(o wire.Object, have thing) {
	if o, ok := o.(*wire.Sysctl); ok {
		o.Was = "unset"
		if s, ok := have.object.(*wire.Sysctl); ok {
			o.Was = s.Value
		}
	}
}

// written reports whether Remove has something to write back: only the value
// whose Ensure changed a setting knows what it was.
func written(o wire.Object) bool {
	s, ok := o.(*wire.Sysctl)
	return !ok || s.Was != ""
}

func inNetNS(netns string) string {
	if netns == "" {
		return ""
	}
	return " netns " + netns
}

// Check returns nil, or how the machine differs from o.
func (h *Host) Check(o wire.Object) error {
	if err := call(h.Step, "check", o); err != nil {
		return err
	}
	return h.compare(o)
}

func (h *Host) compare(o wire.Object) error {
	if isFact(o) {
		return nil
	}
	have, ok := h.there[o.Key()]
	switch {
	case !ok && isBind(o):
		return nil // until the container's first process has joined
	case !ok:
		return fmt.Errorf("missing")
	case have.line != o.String():
		return fmt.Errorf("is %s", have.line)
	}
	return nil
}

// Remove takes o away and, as the kernel does, everything that hangs on it.
func (h *Host) Remove(o wire.Object) error {
	if err := call(h.Step, "remove", o); err != nil {
		return err
	}
	// Without its path, a bind can't be unmounted.
	if b, ok := o.(*wire.NetNSBind); (!ok || b.Path != "") && written(o) {
		h.drop(o.Key())
	}
	return call(h.After, "remove", o)
}

// isFact reports whether an object says what is so, and makes nothing: that
// there are no flows or addresses, that root allows it, what neighbours were told.
func isFact(o wire.Object) bool {
	switch o := o.(type) {
	case *wire.Flows, *wire.NoAddr, *wire.Permission, *wire.SharedLo, *wire.Parent, *wire.Announcement:
		return true
	case *wire.NetNSBind:
		return o.Original == o.Shared // the path leads there already
	}
	return false
}

func isBind(o wire.Object) bool {
	_, ok := o.(*wire.NetNSBind)
	return ok
}

// Probe says that everything could be made.
func (h *Host) Probe(o wire.Object) error { return call(h.Step, "probe", o) }

// Vanish is the end of a network namespace: its links die, whichever end, and
// all that is in it.
func (h *Host) Vanish(netns string) {
	for key, t := range h.there {
		for _, k := range append(t.provides, key) {
			if strings.HasSuffix(k, " netns "+netns) {
				h.drop(key)
			}
		}
	}
}

// Lose takes a thing away, or what provides it, and what hangs on that, as
// another program would.
func (h *Host) Lose(key string) {
	if owner, ok := h.provider(key); ok {
		key = owner
	}
	h.drop(key)
}

// Keys lists the things on the machine, sorted.
func (h *Host) Keys() []string { return slices.Sorted(maps.Keys(h.there)) }

func (h *Host) drop(key string) {
	t, ok := h.there[key]
	if !ok {
		return
	}
	delete(h.there, key)
	gone := append([]string{key}, t.provides...)
	for k, o := range h.there {
		if slices.ContainsFunc(o.refers, func(r string) bool { return slices.Contains(gone, r) }) {
			h.drop(k)
		}
	}
}

// Get returns the thing of a key as it was made, nil if there is none.
func (h *Host) Get(key string) wire.Object { return h.there[key].object }

// Has reports whether there is a thing of that key, be it an object or what one
// provides.
func (h *Host) Has(key string) bool { return h.has(key) }

// Orphans lists the roots on the machine that look like those of attachments, with
// their owners.
func (h *Host) Orphans() []wire.Orphan {
	var out []wire.Orphan
	for key, t := range h.there {
		root, ok := t.object.(wire.Root)
		link, isLink := strings.CutPrefix(key, "link ")
		if !ok || isLink && !wire.IsHostLink(link) {
			continue
		}
		out = append(out, wire.Orphan{
			Object: root,
			Of: func(a wire.Attachment) bool {
				return strings.HasSuffix(key, a.String()) || key == "link "+a.HostLink() || key == "link "+wire.FormerHostLink(a.HostLink())
			},
			In: func(network string) bool {
				return strings.HasPrefix(key, "link ") || strings.Contains(key, " "+network+" ")
			},
		})
	}
	return out
}

func (h *Host) has(key string) bool {
	if _, ok := h.there[key]; ok {
		return true
	}
	_, ok := h.provider(key)
	// Every namespace has a lo, and the host a way out.
	return ok || strings.HasPrefix(key, "link lo netns ") || key == "link eth0"
}

func (h *Host) provider(key string) (string, bool) {
	if _, ok := h.there[key]; ok {
		return key, true
	}
	for k, t := range h.there {
		if slices.Contains(t.provides, key) {
			return k, true
		}
	}
	return "", false
}

// String prints the machine, a line a thing, sorted: what goldens compare.
func (h *Host) String() string {
	var lines []string
	for _, t := range h.there {
		lines = append(lines, t.line+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}
