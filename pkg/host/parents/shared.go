package parents

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/links"
	"dcni/pkg/host/rtnl"
	"dcni/pkg/host/spaces"
	"dcni/pkg/records"
	"dcni/pkg/records/disk"
	"dcni/pkg/wire"
)

// sharedLink is a [wire.SharedLink].
type sharedLink struct {
	h *Parents
	o *wire.SharedLink
}

// Ensure makes the link where there is none of its name, and notes before that it is
// ours. The caller holds the host's lock.
func (s sharedLink) Ensure() (bool, error) {
	known, failed := s.h.Records.Change(s.o.Key())
	if failed != nil {
		return false, failed
	}
	_, l, err := s.h.Link("", s.o.Name)
	if err == nil && known != nil && !s.made(l, known) { // its owner made it since
		known, err = nil, s.h.Records.DeleteChange(s.o.Key())
	}
	if err == nil && known != nil && known.Index == 0 {
		err = s.note()
	}
	switch {
	case err == nil && known == nil:
		_, err = parent{s.h, &wire.Parent{Name: s.o.Name}}.find()
		return false, err
	case err == nil:
		return s.repair(l)
	case !spaces.NotFound(err):
		return false, err
	}
	if err := s.h.Records.PutChange(s.change()); err != nil {
		return false, err
	}
	if err = s.create(s.o.Kind); errors.Is(err, unix.EOPNOTSUPP) && s.o.Kind == wire.KindDummy {
		err = s.create("bridge") // without ports, it leads nowhere as well
	}
	switch {
	case errors.Is(err, unix.EEXIST) && s.there(): // another program was faster
		return false, s.h.Records.DeleteChange(s.o.Key())
	case err != nil:
		return false, errors.Join(s.explain(err), s.h.Records.DeleteChange(s.o.Key()))
	}
	return true, errors.Join(s.note(), s.quiet(), s.raise())
}

// repair sets what differs of a link that dcni made: its MTU, and that it is up.
func (s sharedLink) repair(l *rtnl.Link) (changed bool, err error) {
	if mtu := s.h.vlanMTU(l); mtu != 0 && mtu != l.MTU {
		defer s.h.Changed()
		err = s.h.Root.RT.Change(unix.RTM_NEWLINK, 0, func(m *rtnl.Message) {
			m.IfInfo(l.Index, 0, 0)
			m.Native(unix.IFLA_MTU, uint32(mtu))
		})
		changed = err == nil
	}
	if err != nil || l.Up() {
		return changed, err
	}
	return true, s.raise()
}

// vlanMTU returns the MTU in bytes that the interface of a VLAN is to have which dcni made,
// 0 for any other link: that of the link it is on. The kernel lowers it with that one, and
// never raises it (net/8021q/vlan.c).
func (h *Parents) vlanMTU(l *rtnl.Link) int {
	if l.Kind != wire.KindVLAN || l.NSID != rtnl.Here {
		return 0
	}
	known, err := h.Records.Change((&wire.SharedLink{Name: l.Name}).Key())
	if err != nil || known == nil || known.Index != 0 && known.Index != l.Index {
		return 0
	}
	on, err := h.Root.RT.LinkByIndex(l.Peer)
	switch {
	case err != nil:
		return 0
	case on.Kind == "macsec": // no room for the tag (netif_reduces_vlan_mtu)
		const tag = 4 // bytes
		return on.MTU - tag
	}
	return on.MTU
}

// note adds the index of the link that was made to what is on record of it.
func (s sharedLink) note() error {
	_, l, err := s.h.Link("", s.o.Name)
	if err != nil {
		return err
	}
	c := s.change()
	c.Index = l.Index
	return s.h.Records.PutChange(c)
}

// made reports whether a link is the one that dcni made. Of a change without an index,
// ADD died as it made the link, or its record can't be read.
func (s sharedLink) made(l *rtnl.Link, known *records.Change) bool {
	return (known.Index == 0 || known.Index == l.Index) &&
		(l.Kind == s.o.Kind || s.o.Kind == wire.KindDummy && l.Kind == "bridge")
}

// quiet keeps the host from taking router advertisements by the link: it is made for
// containers, and must not bring the host addresses and a way out.
func (s sharedLink) quiet() error {
	_, err := s.h.Links.Of(&wire.Sysctl{Path: "net/ipv6/conf/" + s.o.Name + "/accept_ra", Value: "0"}).Ensure()
	return err
}

func (s sharedLink) there() bool {
	_, _, err := s.h.Link("", s.o.Name)
	return err == nil
}

func (s sharedLink) create(kind string) error {
	on := 0
	if s.o.Parent != "" {
		l, err := parent{s.h, &wire.Parent{Name: s.o.Parent}}.find()
		if err != nil {
			return err
		}
		on = l.Index
	}
	defer s.h.Changed()
	return s.h.Root.RT.Change(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, func(m *rtnl.Message) {
		m.SharedLink(s.o, kind, on)
	})
}

// change returns what is on record of the link as long as it is there.
func (s sharedLink) change() *records.Change {
	return &records.Change{
		Key: s.o.Key(), Dev: s.o.Name, Kind: s.o.Kind, Parent: s.o.Parent, VLAN: s.o.VLAN,
	}
}

func (s sharedLink) explain(err error) error {
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return links.NoKind(s.o.Kind, err)
	case errors.Is(err, unix.EEXIST) && s.o.Kind == wire.KindVLAN:
		return wire.Invalid("parent", s.o.Name, fmt.Sprintf("link %s has an interface of VLAN %d already, which has another name", s.o.Parent, s.o.VLAN))
	}
	return err
}

// raise brings the link up. That of a VLAN is down while its parent is, and the kernel
// raises both.
func (s sharedLink) raise() error {
	_, l, err := s.h.Link("", s.o.Name)
	if err != nil {
		return err
	}
	defer s.h.Changed()
	if err = s.h.Root.RT.SetUp(l.Index, true); errors.Is(err, unix.ENETDOWN) {
		return nil
	}
	return err
}

func (s sharedLink) Check() error {
	_, l, err := s.h.Link("", s.o.Name)
	if err == nil {
		err = isUp(l)
		if err != nil && !s.h.Records.HasChange(s.o.Key()) {
			err = wire.Owners(err)
		}
	}
	if err != nil {
		return err
	}
	if err := s.h.Records.CheckChange(s.o.Key()); disk.IsUnreadable(err) {
		return err // Ensure writes it again
	}
	if mtu := s.h.vlanMTU(l); mtu != 0 && mtu != l.MTU {
		return fmt.Errorf("has mtu %d instead of %d", l.MTU, mtu)
	}
	return nil
}

// Remove deletes the link if dcni made it and nothing of another owner's uses it. One
// that its owner made again, or uses by now, is the owner's. The caller holds the host's
// lock.
func (s sharedLink) Remove() error {
	known, err := s.h.Records.Change(s.o.Key())
	if err != nil || known == nil {
		return err
	}
	defer s.h.Changed()
	rt := s.h.Root.RT
	l, err := rt.LinkByName(s.o.Name)
	if err == nil && s.made(l, known) {
		var used bool
		if used, err = s.used(l); err == nil && !used {
			err = rt.DelIndex(l.Index)
		}
	}
	if err != nil && !spaces.Gone(err) {
		return err
	}
	return s.h.Records.DeleteChange(s.o.Key())
}

// Probe tells whether the link is there, or could be made.
func (s sharedLink) Probe() error {
	switch {
	case s.there():
		_, err := parent{s.h, &wire.Parent{Name: s.o.Name}}.find()
		return err
	case s.o.Kind == wire.KindDummy:
		return links.ProbeKind("bridge")
	}
	_, err := parent{s.h, &wire.Parent{Name: s.o.Parent}}.find()
	return errors.Join(err, links.ProbeKind(s.o.Kind))
}
