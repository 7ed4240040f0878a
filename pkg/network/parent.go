package network

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"dcni/pkg/ipam"
	"dcni/pkg/wire"
)

// A Parent is the link of the host that the interfaces of a network are made on, see
// [wire.Child].
type Parent struct {
	Kind string `json:"kind"` // of the interfaces: wire.KindMacvlan or wire.KindIpvlan
	Name string `json:"name"` // of the link
	Mode string `json:"mode"` // of the interfaces
	Flag string `json:"flag,omitempty"`
	// Own says that the configuration names none: the network has a parent of its own
	// that leads nowhere, and is internal.
	Own bool `json:"own,omitempty"`

	// On is the link that a VLAN's interface is on, VLAN its ID: Name is the two.
	On   string `json:"on,omitempty"`
	VLAN int    `json:"vlan,omitempty"`
}

// ParseParent reads the key "parent" of a network. The prefix is that of Docker's name for
// a parent of the network's own.
func ParseParent(network, kind, prefix, name string) (Parent, error) {
	p := Parent{Kind: kind, Name: name}
	if name == "" {
		p.Name, p.Own = prefix+ID(network)[:ShortID], true
		return p, nil
	}
	on, tag, dotted := strings.Cut(name, ".")
	id, err := strconv.Atoi(tag)
	vlan := dotted && err == nil && on != ""
	switch {
	case vlan && (id < 1 || id > 4094):
		return p, wire.Invalid("parent", name, fmt.Sprintf("vlan id must be between 1-4094, received: %d", id))
	case vlan && len(name) > maxLinkLen:
		return p, wire.Invalid("parent", name, fmt.Sprintf("must be at most %d bytes, with the VLAN's ID: give the interface of the VLAN another name, and make it before", maxLinkLen))
	case !ValidLink(name):
		return p, wire.Invalid("parent", name, "must be "+LinkRule+", or such a name, a dot and the ID of a VLAN, as eth0.10")
	}
	if vlan && strconv.Itoa(id) == tag {
		p.On, p.VLAN = on, id
	}
	return p, nil
}

// Link is the link that is there before dcni makes any; "" where there need be none.
func (p Parent) Link() string {
	switch {
	case p.Own:
		return ""
	case p.On != "":
		return p.On
	}
	return p.Name
}

// Objects are what of the parent is the host's.
func (p Parent) Objects() []wire.Object {
	switch {
	case p.Own:
		return []wire.Object{&wire.SharedLink{Name: p.Name, Kind: wire.KindDummy}}
	case p.On != "":
		return []wire.Object{&wire.SharedLink{Name: p.Name, Kind: wire.KindVLAN, Parent: p.On, VLAN: p.VLAN}}
	}
	return []wire.Object{&wire.Parent{Name: p.Name}}
}

// Child is the interface of an attachment, with a MAC, "" for its parent's.
func (p Parent) Child(e Endpoint, mac string) *wire.Child {
	return &wire.Child{
		Owner: e.Attachment, NetNS: e.NetNS, Cookie: e.Cookie, Name: e.IfName,
		Kind: p.Kind, Parent: p.Name, Mode: p.Mode, Flag: p.Flag, MAC: mac, MTU: e.MTU,
	}
}

// Beside tells why a network can't have its parent beside another network, or nil. The
// kernel has macvlans or ipvlans on a link, not both; one macvlan in mode passthru, or
// any number in others; and ipvlans of one mode and flag: those of a second one would
// change the mode of all.
func (p Parent) Beside(other string, o Parent) error {
	if p.Name != o.Name {
		return nil
	}
	const passthru = "passthru"
	switch {
	case p.Kind != o.Kind:
		return wire.Invalid("parent", p.Name, fmt.Sprintf("%s network %s is already using parent interface %s: macvlan and ipvlan can't share one", o.Kind, other, p.Name))
	case o.Mode == passthru: // a mode of macvlan alone
		return wire.Invalid("parent", p.Name, fmt.Sprintf("macvlan network %s is already using parent interface %s in mode passthru", other, p.Name))
	case p.Mode == passthru:
		return wire.Invalid("mode", passthru, fmt.Sprintf("cannot use mode passthru, macvlan network %s is already using parent interface %s", other, p.Name))
	case p.Kind == wire.KindIpvlan && (p.Mode != o.Mode || p.Flag != o.Flag):
		return wire.Invalid("mode", strings.TrimSpace(p.Mode+" "+p.Flag), fmt.Sprintf("ipvlan network %s is already using parent interface %s in mode %s", other, p.Name, strings.TrimSpace(o.Mode+" "+o.Flag)))
	}
	return nil
}

// CheckMTU checks the MTU of a network on a parent, in bytes: 0 is the parent's.
func (f Families) CheckMTU(mtu int, subnets []ipam.Subnet) error {
	six := f.Need6 || slices.ContainsFunc(subnets, func(s ipam.Subnet) bool { return s.Prefix.Addr().Is6() })
	switch {
	case mtu < 0 || mtu > 0 && mtu < MinMTU:
		return wire.Invalid("mtu", mtu, "must be 0 (that of the parent), or 68 and more")
	case mtu != 0 && mtu < MinMTU6 && six:
		return wire.Invalid("mtu", mtu, "must be at least 1280 on a network with IPv6 (RFC 8200)")
	}
	return nil
}
