package parents

import (
	"cmp"
	"fmt"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/rtnl"
	"dcni/pkg/host/spaces"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// parent is a [wire.Parent].
type parent struct {
	h *Parents
	o *wire.Parent
}

func (p parent) Ensure() (bool, error) {
	_, err := p.find()
	return false, err
}

// Check finds only what is the owner's to mend.
func (p parent) Check() error {
	l, err := p.find()
	if err == nil {
		err = isUp(l)
	}
	return wire.Owners(err)
}

// isUp tells of a link that is down.
func isUp(l *rtnl.Link) error {
	if !l.Up() {
		return fmt.Errorf("it is down, and no packet passes")
	}
	return nil
}

// Remove does nothing: the link is its owner's.
func (p parent) Remove() error { return nil }

func (p parent) Probe() error {
	if err := p.h.others(p.o.Name); err != nil {
		return err
	}
	_, err := p.find()
	return err
}

// others refuses the parent that dcni made for a network that names none. It goes with the
// last container of that network, and a second one would keep it for ever.
func (h *Parents) others(name string) error {
	known, err := h.Records.Change((&wire.SharedLink{Name: name}).Key())
	if err == nil && known != nil && known.Kind == wire.KindDummy {
		err = wire.Invalid("parent", name, "must not be the own parent of a network that names none: attach the container to that network")
	}
	return err
}

// find returns the link, or says why it can't have children.
func (p parent) find() (*rtnl.Link, error) {
	_, l, err := p.h.Link("", p.o.Name)
	switch {
	case spaces.NotFound(err):
		return nil, p.h.noParent(p.o.Name)
	case err != nil:
		return nil, err
	case l.Flags&unix.IFF_LOOPBACK != 0:
		return nil, wire.Invalid("parent", p.o.Name, "must not be the loopback link")
	case l.Type != unix.ARPHRD_ETHER: // drivers/net/macvlan.c, macvlan_port_create; ipvlan_main.c likewise
		return nil, wire.Invalid("parent", p.o.Name, "must be an Ethernet link: a tunnel has no MACs, and no children")
	}
	switch l.Kind {
	case wire.KindMacvlan, wire.KindIpvlan, "macvtap", "ipvtap":
		return nil, wire.Invalid("parent", p.o.Name, "must not be "+article(l.Kind)+" itself: give the link that it is on")
	}
	if l.Master == 0 {
		return l, nil
	}
	master, err := p.h.Root.RT.LinkByIndex(l.Master)
	if err == nil && master.Kind != "vrf" {
		err = wire.Invalid("parent", p.o.Name, "must not belong to another link: it is a port of "+master.Name+"; give that one")
	}
	return l, err
}

func article(kind string) string {
	if kind[0] == 'i' {
		return "an " + kind
	}
	return "a " + kind
}

// noParent is the error for a parent that is not there. It names the nearest link that
// is.
func (h *Parents) noParent(name string) error {
	links, err := h.Root.RT.Links()
	if err != nil {
		return err
	}
	var names []string
	for _, l := range links {
		if l.Flags&unix.IFF_LOOPBACK == 0 {
			names = append(names, l.Name)
		}
	}
	why := "no such link on this host"
	if near := network.Nearest(name, names); near != "" {
		why += fmt.Sprintf(": did you mean %q?", near)
	}
	return wire.Invalid("parent", name, why)
}

// Parent returns what the first of the links is like that is there, for one that is to
// have children.
func (h *Parents) Parent(names ...string) (wire.LinkInfo, error) {
	name := names[0]
	for _, other := range names[1:] {
		if _, _, err := h.Link("", name); spaces.NotFound(err) {
			name = other
		}
	}
	if err := h.others(name); err != nil {
		return wire.LinkInfo{}, err
	}
	l, err := parent{h, &wire.Parent{Name: name}}.find()
	if err != nil {
		return wire.LinkInfo{}, err
	}
	info := wire.LinkInfo{Name: name, MTU: cmp.Or(h.vlanMTU(l), l.MTU), MAC: l.MAC.String(), Up: l.Up()}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		list, err := h.Root.RT.Addrs(l.Index, family)
		if err != nil {
			return info, err
		}
		for _, p := range list {
			if !p.Addr().IsLinkLocalUnicast() {
				info.Addresses = append(info.Addresses, p)
			}
		}
	}
	return info, nil
}
