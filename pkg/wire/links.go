package wire

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// This file is about interfaces that are made on a link of the host's, which is their
// parent: the children (macvlan, ipvlan), and the parents that dcni makes itself.

// Kinds of links, as the kernel calls them.
const (
	KindMacvlan = "macvlan"
	KindIpvlan  = "ipvlan"
	KindVLAN    = "vlan"
	KindDummy   = "dummy"
)

// Child is an attachment's interface on a parent, created right in the sandbox: a
// macvlan or an ipvlan. The host has no end of it: it goes with the sandbox, and with
// its parent.
type Child struct {
	Owner  Attachment
	NetNS  string // path of the sandbox
	Cookie uint64 // of its namespace, see [Sandbox]: in another one nothing is removed
	Name   string // CNI_IFNAME
	Kind   string // KindMacvlan or KindIpvlan
	Parent string // a link of the host
	Mode   string // bridge, private, vepa or passthru; l2, l3 or l3s
	Flag   string // of an ipvlan: bridge, private or vepa; else ""
	MAC    string // "": the parent's
	MTU    int    // bytes; where the parent's has become less, that; 0: the parent's
	Tuned  Tuning // that it is made with besides, but for the MTU; not compared
	Made   bool   // set by Ensure: it was not there
}

// Key names the sandbox's interface: it has no other name.
func (c *Child) Key() string { return "link " + c.Name + at(c.NetNS) }

// Refers names the parent.
func (c *Child) Refers() []string { return []string{"link " + c.Parent} }

// Root marks the child as what DEL removes, with all that is on it.
func (c *Child) Root() {}

// Outside returns nil: nothing of it is on the host.
func (c *Child) Outside() Object { return nil }

// Alias is for people, and says whose the interface is.
func (c *Child) Alias() string { return c.Owner.String() }

func (c *Child) String() string {
	var b strings.Builder
	b.WriteString("link " + c.Name + " link " + c.Parent)
	if c.MAC != "" {
		b.WriteString(" address " + c.MAC)
	}
	if c.MTU != 0 {
		b.WriteString(" mtu " + strconv.Itoa(c.MTU))
	}
	b.WriteString(c.Tuned.String())
	fmt.Fprintf(&b, " alias %q type %s mode %s", c.Alias(), c.Kind, c.Mode)
	if c.Flag != "" {
		b.WriteString(" " + c.Flag)
	}
	return b.String() + in(c.NetNS)
}

// Parent says that a link of the host can have children, and that it is up: no packet
// passes while it is down. It is its owner's: Ensure makes nothing, and fails only where
// there can't be children.
type Parent struct{ Name string }

// Key names the link and the fact.
func (p *Parent) Key() string { return "parent " + p.Name }

func (p *Parent) String() string { return "link " + p.Name + " is a parent" }

// SharedLink is a link of the host's that dcni makes where there is none of its name:
// the interface of a VLAN, the parent of a network that has none, the host's own child.
// It is up, and goes with its last user. One that was there before is its owner's, and
// is used as it is.
type SharedLink struct {
	Name   string
	Kind   string // KindVLAN, KindDummy or KindMacvlan
	Parent string // a link of the host; "" for a dummy
	VLAN   int    // the ID of a VLAN
}

// Key names the link.
func (l *SharedLink) Key() string { return "link " + l.Name }

// Refers names the parent.
func (l *SharedLink) Refers() []string {
	if l.Parent == "" {
		return nil
	}
	return []string{"link " + l.Parent}
}

// Root marks the link as something that goes with its last user.
func (l *SharedLink) Root() {}

func (l *SharedLink) String() string {
	s := "link " + l.Name + " up"
	if l.Parent != "" {
		s += " link " + l.Parent
	}
	switch l.Kind {
	case KindVLAN:
		return s + " type vlan id " + strconv.Itoa(l.VLAN)
	case KindMacvlan:
		return s + " type macvlan mode bridge"
	}
	return s + " type " + l.Kind
}

// HostAccess says that the host reaches an attachment's addresses by a link beside the
// attachment's own, and speaks from an address that the attachment reaches by its.
type HostAccess struct {
	Owner     Attachment
	Link      string // a [SharedLink] of kind macvlan
	Parent    string // of both
	Addresses []netip.Addr
	// Sources are the host's addresses on the link, at most one of each family. Of a
	// family without, it is the parent's of the same subnet.
	Sources []netip.Addr
}

// Key names the attachment.
func (a *HostAccess) Key() string { return "host access " + a.Owner.String() }

// Refers names the link.
func (a *HostAccess) Refers() []string { return []string{"link " + a.Link} }

// Root marks it as what DEL removes: the routes outlive the attachment's interface.
func (a *HostAccess) Root() {}

// Metric marks the routes as the attachment's: it is made of its identity.
func (a *HostAccess) Metric() int {
	const bits = 31 // of the hash; a metric has 32, and 0 is none
	n, err := strconv.ParseUint(a.Owner.ID()[:8], 16, 32)
	if err != nil {
		panic(err) // hexadecimal by its making
	}
	return int(n)&(1<<bits-1) | 1
}

func (a *HostAccess) String() string {
	words := make([]string, len(a.Addresses))
	for i, to := range a.Addresses {
		words[i] = to.String()
	}
	s := "route " + strings.Join(words, " ") + " dev " + a.Link + " metric " + strconv.Itoa(a.Metric())
	for _, from := range a.Sources {
		s += " src " + from.String()
	}
	return s
}
