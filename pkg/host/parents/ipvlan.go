package parents

import (
	"fmt"

	"dcni/pkg/host/rtnl"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// This file is about the mode and flag of ipvlans. They are the parent's: a new ipvlan of
// another mode changes that of all others, in whichever namespace they are, and cuts them
// off (drivers/net/ipvlan/ipvlan_main.c, ipvlan_link_new).

// createAlone makes an ipvlan under the host's lock. Else two networks that make their
// first one at the same moment would both find the parent without any.
func (c child) createAlone() (bool, error) {
	lock, err := c.h.Records.LockHost()
	if err != nil {
		return false, err
	}
	defer lock.Unlock()
	return c.create()
}

// modeFree tells why an ipvlan can't be made on a parent: there are others of another
// mode or flag. One of dcni's tells how they all are; without one, others are looked for
// in every namespace.
func (c child) modeFree(on *rtnl.Link) error {
	if c.o.Kind != wire.KindIpvlan {
		return nil
	}
	other := c.sibling(on)
	if other == nil {
		other = c.stranger(on)
	}
	if other == nil || c.modeOf(other) == nil {
		return nil
	}
	mode, flag := other.IpvlanMode()
	return wire.Invalid("mode", c.o.Mode+" "+c.o.Flag, fmt.Sprintf(
		"parent interface %s is already in use by %s in mode %s %s, which a second mode would change", c.o.Parent, other.Name, mode, flag))
}

// modeOf tells how the mode or flag of an interface differs from the plan's, or nil.
func (c child) modeOf(l *rtnl.Link) error {
	if c.o.Kind != wire.KindIpvlan {
		return nil
	}
	if mode, flag := l.IpvlanMode(); mode != c.o.Mode || flag != c.o.Flag {
		return fmt.Errorf("has mode %s %s instead of %s %s", mode, flag, c.o.Mode, c.o.Flag)
	}
	return nil
}

// sibling returns the interface of another attachment on the parent, or nil.
func (c child) sibling(on *rtnl.Link) *rtnl.Link {
	keys, _ := c.h.Records.Keys() // what can't be read tells nothing
	var own, others []records.RecordKey
	for _, key := range keys {
		switch {
		case key.Attachment == c.o.Owner:
		case key.Network == c.o.Owner.Network:
			own = append(own, key)
		default:
			others = append(others, key)
		}
	}
	for _, key := range append(own, others...) {
		rec, err := c.h.Records.Get(key.Attachment, key.Plugin)
		if err != nil || rec.Parent == nil || rec.Parent.Name != c.o.Parent {
			continue
		}
		if _, l, err := c.h.Link(rec.NetNS, rec.IfName); err == nil && isOn(l, on) {
			return l
		}
	}
	return nil
}

// stranger returns an ipvlan on the parent in any namespace, or nil. Namespaces that
// can't be looked at are passed over.
func (c child) stranger(on *rtnl.Link) (found *rtnl.Link) {
	eachNetNS(func(rt *rtnl.Conn) (done bool, err error) {
		list, err := rt.LinksOf(wire.KindIpvlan)
		for _, l := range list {
			if isOn(l, on) {
				found = l
			}
		}
		return found != nil, err
	})
	return found
}

// isOn reports whether a link, of whichever namespace, is an ipvlan on a parent: it has
// the parent's MAC, always.
func isOn(l, on *rtnl.Link) bool {
	return l.Kind == wire.KindIpvlan && l.Peer == on.Index && l.MAC.String() == on.MAC.String()
}
