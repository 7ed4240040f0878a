package host

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"dcni/pkg/firewall"
	"dcni/pkg/host/rtnl"
	"dcni/pkg/host/spaces"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// borrowed is a [wire.Borrowed].
type borrowed struct {
	h *Host
	o *wire.Borrowed
}

// ensure records how it was when the first attachment came, and changes what was not
// so. What its owner had so stays the owner's, also to put back: the owner may be making
// the bridge again. What was changed on a link that is gone is gone with it. The caller
// holds the host's lock.
func (b borrowed) ensure() (bool, error) {
	missing := b.check()
	if missing == nil && b.h.records.HasChange(b.o.Key()) {
		return false, nil
	}
	known, err := b.h.records.Change(b.o.Key())
	if err != nil {
		return false, err
	}
	if known != nil && known.Theirs {
		return false, fmt.Errorf("%w; it was the owner's of %s, who is to put it back", missing, b.dev())
	}
	if _, _, err := b.h.spaces.Link("", b.dev()); spaces.NotFound(err) {
		return false, errors.Join(err, b.h.records.DeleteChange(b.o.Key()))
	}
	if known != nil {
		return b.h.Ensure(b.o.Object)
	}
	return b.first(missing == nil)
}

// first is ensure for the first attachment.
func (b borrowed) first(theirs bool) (bool, error) {
	known, err := b.found()
	if err != nil {
		return false, err
	}
	known.Theirs = theirs
	if err := b.h.records.PutChange(known); err != nil || theirs {
		return false, err
	}
	changed, err := b.h.Ensure(b.o.Object)
	if !changed { // its owner was faster, or it can't be had
		err = errors.Join(err, b.h.records.DeleteChange(b.o.Key()))
	}
	return changed, err
}

// dev returns the link that the object is about.
func (b borrowed) dev() string {
	switch o := b.o.Object.(type) {
	case *wire.Addr:
		return o.Dev
	case *wire.Up:
		return o.Dev
	case *wire.Sysctl:
		return path.Base(path.Dir(o.Path))
	}
	return ""
}

// found returns the object as a change, with how it is before.
func (b borrowed) found() (*records.Change, error) {
	c := &records.Change{Key: b.o.Key()}
	switch o := b.o.Object.(type) {
	case *wire.Addr:
		c.Dev, c.Address = o.Dev, o.Prefix
	case *wire.Up:
		c.Dev = o.Dev
	case *wire.Sysctl:
		was, err := setting{b.h, o}.read()
		if err != nil {
			return nil, err
		}
		c.Setting, c.Value, c.Was = o.Path, o.Value, map[string]string{o.Path: was}
	default:
		return nil, fmt.Errorf("%T can't be borrowed", o)
	}
	return c, nil
}

// check finds an address also with another prefix, and without an on-link route: both
// are its owner's to choose.
func (b borrowed) check() error {
	o, ok := b.o.Object.(*wire.Addr)
	if !ok {
		return b.h.Check(b.o.Object)
	}
	rt, l, err := b.h.spaces.Link("", o.Dev)
	if err != nil {
		return err
	}
	list, err := rt.Addrs(l.Index, family(o.Prefix.Addr()))
	if err != nil {
		return err
	}
	for _, have := range list {
		if have.Addr() == o.Prefix.Addr() {
			return nil
		}
	}
	return fmt.Errorf("missing")
}

// remove puts back how it was, if it was changed and is still as dcni made it. The
// caller holds the host's lock.
func (b borrowed) remove() error {
	known, err := b.h.records.Change(b.o.Key())
	if err != nil || known == nil {
		return err
	}
	if known.Theirs || known.Unreadable { // how it was is not known: it stays
		return b.h.records.DeleteChange(b.o.Key())
	}
	switch o := b.o.Object.(type) {
	case *wire.Sysctl:
		err = b.putBack(o, known.Was[o.Path])
	case *wire.Up:
		err = b.takeDown(o)
	case *wire.Addr:
		err = b.takeAddr(o)
	}
	if err != nil {
		return err
	}
	return b.h.records.DeleteChange(b.o.Key())
}

// putBack puts a setting back if it is still as dcni made it.
func (b borrowed) putBack(o *wire.Sysctl, was string) error {
	if changed := b.h.Check(o); changed != nil {
		return nil //nolint:nilerr // its owner has changed it since
	}
	back := *o
	back.Was = was
	return b.h.Remove(&back)
}

// takeDown takes a bridge down unless it has got other ports: its owner uses it now.
func (b borrowed) takeDown(o *wire.Up) error {
	_, l, err := b.h.spaces.Link("", o.Dev)
	if err != nil {
		return b.h.Remove(o) // gone, or not to be known
	}
	ports, err := b.h.spaces.Root.RT.Ports(l.Index)
	if err != nil || slices.ContainsFunc(ports, func(p *rtnl.Link) bool { return p.Master == l.Index }) {
		return err
	}
	return b.h.Remove(o)
}

// takeAddr takes an address. Those of its subnet that its owner has added since must
// not go with it, as the kernel has it otherwise.
func (b borrowed) takeAddr(o *wire.Addr) error {
	keep := setting{b.h, &wire.Sysctl{Path: "net/ipv4/conf/" + o.Dev + "/promote_secondaries", Value: "1"}}
	if o.Prefix.Addr().Is4() {
		if _, err := keep.ensure(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return errors.Join(b.h.Remove(o), keep.remove())
}

func (b borrowed) probe() error { return b.h.Probe(b.o.Object) }

// HostObjects lists the host's objects that dcni made and that go with their last user,
// in the order in which they are made.
func (h *Host) HostObjects() ([]wire.Object, error) {
	changes, err := h.records.Changes()
	if err != nil {
		return nil, err
	}
	var all, parents, links, first, last []wire.Object
	for _, c := range changes {
		if l := (&wire.SharedLink{Name: c.Dev}); c.Unreadable && c.Key == l.Key() {
			c.Kind = h.sharedKind(c.Dev)
		}
		switch {
		case c.Kind != "":
			l := &wire.SharedLink{Name: c.Dev, Kind: c.Kind, Parent: c.Parent, VLAN: c.VLAN}
			if c.Kind == wire.KindMacvlan {
				links = append(links, l)
			} else {
				parents = append(parents, l)
			}
		case c.Port != 0:
			all = append(all, &firewall.Underlay{Port: c.Port})
		case c.Encrypted != 0:
			all = append(all, &firewall.Encrypted{Port: c.Encrypted, IPv6: c.Family == 6})
		case c.ForAll:
			all = append(all, &wire.ForwardAll{Family: c.Family})
		case c.Family != 0:
			first = append(first, &wire.Forwarding{Family: c.Family})
		case c.Setting != "":
			first = append(first, &wire.Borrowed{Object: &wire.Sysctl{Path: c.Setting, Value: c.Value}})
		case c.Address.IsValid():
			first = append(first, &wire.Borrowed{Object: &wire.Addr{Dev: c.Dev, Prefix: c.Address}})
		case c.Dev != "":
			last = append(last, &wire.Borrowed{Object: &wire.Up{Dev: c.Dev}})
		}
	}
	return slices.Concat(all, parents, links, first, last), nil
}

// sharedKind returns the kind of a link that dcni made, by what is there now: the record
// of it can't be read. A link of another kind is not dcni's.
func (h *Host) sharedKind(name string) string {
	if _, l, err := h.spaces.Link("", name); err == nil && (l.Kind == wire.KindVLAN || l.Kind == wire.KindMacvlan) {
		return l.Kind
	}
	return wire.KindDummy
}

// Adopts reports whether a bridge is there and is another owner's.
func (h *Host) Adopts(o *wire.Bridge) (bool, error) {
	b := bridge{h, o}
	l, err := b.find()
	if spaces.NotFound(err) {
		return false, nil
	}
	return err == nil && !b.ours(l), err
}
