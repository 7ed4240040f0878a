package links

import (
	"errors"
	"fmt"
	"path"
	"slices"

	"dcni/pkg/host/rtnl"
	"dcni/pkg/host/spaces"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// borrowed is a [wire.Borrowed].
type borrowed struct {
	h *Links
	o *wire.Borrowed
}

// Ensure records how it was when the first attachment came, and changes what was not
// so. What its owner had so stays the owner's, also to put back: the owner may be making
// the bridge again. What was changed on a link that is gone is gone with it. The caller
// holds the host's lock.
func (b borrowed) Ensure() (bool, error) {
	missing := b.Check()
	if missing == nil && b.h.Records.HasChange(b.o.Key()) {
		return false, nil
	}
	known, err := b.h.Records.Change(b.o.Key())
	if err != nil {
		return false, err
	}
	if known != nil && known.Theirs {
		return false, fmt.Errorf("%w; it was the owner's of %s, who is to put it back", missing, b.dev())
	}
	_, l, err := b.h.Link("", b.dev())
	if spaces.NotFound(err) {
		return false, errors.Join(err, b.h.Records.DeleteChange(b.o.Key()))
	}
	if known != nil && !another(known, l) {
		return b.h.Of(b.o.Object).Ensure()
	}
	return b.first(missing == nil)
}

// first is Ensure for the first attachment.
func (b borrowed) first(theirs bool) (bool, error) {
	known, err := b.found()
	if err != nil {
		return false, err
	}
	known.Theirs = theirs
	if err := b.h.Records.PutChange(known); err != nil || theirs {
		return false, err
	}
	changed, err := b.h.Of(b.o.Object).Ensure()
	if !changed { // its owner was faster, or it can't be had
		err = errors.Join(err, b.h.Records.DeleteChange(b.o.Key()))
	}
	return changed, err
}

// another reports whether a link is not the one that was changed: its owner deleted
// that, and what was changed on it, and made it again.
func another(known *records.Change, l *rtnl.Link) bool {
	return known.Index != 0 && l != nil && known.Index != l.Index
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
	_, l, err := b.h.Link("", b.dev())
	if err != nil {
		return nil, err
	}
	c := &records.Change{Key: b.o.Key(), Index: l.Index}
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

// Check finds an address also with another prefix, and without an on-link route: both
// are its owner's to choose.
func (b borrowed) Check() error {
	o, ok := b.o.Object.(*wire.Addr)
	if !ok {
		return b.h.Of(b.o.Object).Check()
	}
	rt, l, err := b.h.Link("", o.Dev)
	if err != nil {
		return err
	}
	list, err := rt.Addrs(l.Index, int(rtnl.Family(o.Prefix.Addr())))
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

// Remove puts back how it was, if it was changed and is still as dcni made it. The
// caller holds the host's lock.
func (b borrowed) Remove() error {
	known, err := b.h.Records.Change(b.o.Key())
	if err != nil || known == nil {
		return err
	}
	if known.Theirs || known.Unreadable { // how it was is not known: it stays
		return b.h.Records.DeleteChange(b.o.Key())
	}
	if _, l, found := b.h.Link("", b.dev()); found == nil && another(known, l) {
		return b.h.Records.DeleteChange(b.o.Key())
	}
	switch o := b.o.Object.(type) {
	case *wire.Sysctl:
		err = b.putBack(o, known.Was[o.Path])
	case *wire.Up:
		err = b.takeDown(o)
	case *wire.Addr:
		err = b.h.takeAddr(o)
	}
	if err != nil {
		return err
	}
	return b.h.Records.DeleteChange(b.o.Key())
}

// putBack puts a setting back if it is still as dcni made it.
func (b borrowed) putBack(o *wire.Sysctl, was string) error {
	if changed := b.h.Of(o).Check(); changed != nil {
		return nil //nolint:nilerr // its owner has changed it since
	}
	back := *o
	back.Was = was
	return b.h.Of(&back).Remove()
}

// takeDown takes a bridge down unless it has got other ports: its owner uses it now.
func (b borrowed) takeDown(o *wire.Up) error {
	_, l, err := b.h.Link("", o.Dev)
	if err != nil {
		return b.h.Of(o).Remove() // gone, or not to be known
	}
	ports, err := b.h.Root.RT.Ports(l.Index)
	if err != nil || slices.ContainsFunc(ports, func(p *rtnl.Link) bool { return p.Master == l.Index }) {
		return err
	}
	return b.h.Of(o).Remove()
}

func (b borrowed) Probe() error { return b.h.Of(b.o.Object).Probe() }
