package parents

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/links"
	"dcni/pkg/host/proc"
	"dcni/pkg/host/rtnl"
	"dcni/pkg/host/spaces"
	"dcni/pkg/netns"
	"dcni/pkg/wire"
)

// child is a [wire.Child].
type child struct {
	h *Parents
	o *wire.Child
}

// Ensure creates the interface right in the sandbox, down. A child that is there stays,
// with all that is on it, unless its parent was moved away and there is another link of
// that name.
func (c child) Ensure() (bool, error) {
	rt, l, err := c.h.Link(c.o.NetNS, c.o.Name)
	switch {
	case err == nil && !c.ours(l):
		return false, wire.Errorf(wire.CodeEnv, "CNI_IFNAME %q: the sandbox has an interface of that name", c.o.Name)
	case err == nil:
		_, on, err := c.h.Link("", c.o.Parent)
		if err != nil {
			return false, err
		}
		if c.leads(l, on) == nil {
			return c.repair(rt, l, on)
		}
		if err := c.removeIn(rt); err != nil {
			return false, err
		}
	case !spaces.NotFound(err):
		return false, err
	}
	if named, err := c.rename(); named || err != nil {
		return named, err
	}
	if c.o.Kind == wire.KindIpvlan {
		return c.createAlone()
	}
	return c.create()
}

// ours reports whether an interface of the sandbox is the attachment's: by the name that
// only its identity gives, by its alias, or by its place, if its alias is no attachment's.
// The place is none for an attachment of which no more than the identity is known: what an
// ADD met there that failed for it is another's, and DEL comes after that as well.
func (c child) ours(l *rtnl.Link) bool {
	owner := c.o.Owner
	return l.Kind == c.o.Kind && (l.Name == owner.HostLink() || l.Alias == c.alias() ||
		c.o.Parent != "" && l.Name == c.o.Name && !strings.HasSuffix(l.Alias, " "+owner.Container+"/"+owner.IfName))
}

// alias is the object's, as far as the kernel keeps it.
func (c child) alias() string {
	const most = 255 // bytes (IFALIASZ - 1)
	alias := c.o.Alias()
	return alias[:min(len(alias), most)]
}

// rename gives the attachment's interface its name, if it is in the sandbox under another:
// what made it died before that, or the container renamed it.
func (c child) rename() (bool, error) {
	sb, err := c.h.Open(c.o.NetNS)
	if err != nil {
		return false, err
	}
	links, err := sb.RT.Links()
	if err != nil {
		return false, err
	}
	for _, l := range links {
		if !c.ours(l) {
			continue
		}
		defer c.h.Changed()
		if err := sb.RT.SetUp(l.Index, false); err != nil { // before Linux 6.0 it keeps its name as long as it is up
			return false, err
		}
		return true, c.name(sb.RT, l, nil)
	}
	return false, nil
}

// create makes the interface under the name that its owner's identity gives, and then
// names it. Linux 6.12 looks for a name in the host's namespace first, and may find one
// there that is not ours; and if ADD dies in between, the name is the proof that the
// interface is ours.
func (c child) create() (bool, error) {
	_, on, err := c.h.Link("", c.o.Parent)
	if err != nil {
		return false, err
	}
	sb, err := c.h.Open(c.o.NetNS)
	if err != nil {
		return false, err
	}
	mac, err := c.mac(on)
	if err == nil {
		err = c.modeFree(on)
	}
	if err != nil {
		return false, err
	}
	defer c.h.Changed()
	err = c.h.Root.RT.Change(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, func(m *rtnl.Message) {
		m.TunedInfo(c.o.Tuned)
		m.Str(unix.IFLA_IFNAME, c.o.Owner.HostLink())
		m.Native(unix.IFLA_LINK, uint32(on.Index))
		m.Native(unix.IFLA_NET_NS_FD, uint32(sb.NS.Fd()))
		if mtu := c.mtu(on); mtu != 0 {
			m.Native(unix.IFLA_MTU, uint32(mtu))
		}
		if mac != nil && !c.passthru() {
			m.Raw(unix.IFLA_ADDRESS, mac)
		}
		m.ChildInfo(c.o)
	})
	if err != nil {
		return false, c.explain(err, on)
	}
	c.o.Made = true
	// dnetd hears of namespaces that have a number; a veth would have brought one.
	l, err := sb.RT.LinkByName(c.o.Owner.HostLink())
	if err != nil {
		return true, err
	}
	return true, errors.Join(c.name(sb.RT, l, mac), c.h.Root.RT.Number(sb.NS.Fd()))
}

// name gives an interface its name and its alias. In mode passthru it has its
// parent's MAC, whatever it is created with, and its MAC is the parent's.
func (c child) name(rt *rtnl.Conn, l *rtnl.Link, mac net.HardwareAddr) error {
	err := rt.Change(unix.RTM_NEWLINK, 0, func(m *rtnl.Message) {
		m.IfInfo(l.Index, 0, 0)
		if mac != nil && c.passthru() {
			m.Raw(unix.IFLA_ADDRESS, mac)
		}
		m.Str(unix.IFLA_IFNAME, c.o.Name)
		m.Raw(unix.IFLA_IFALIAS, []byte(c.alias()))
	})
	if errors.Is(err, unix.EEXIST) {
		err = wire.Errorf(wire.CodeEnv, "CNI_IFNAME %q: the sandbox has an interface of that name", c.o.Name)
	}
	return err
}

func (c child) passthru() bool { return c.o.Mode == "passthru" }

// mac returns the MAC that the interface is to have, nil for what the kernel gives it.
func (c child) mac(on *rtnl.Link) (net.HardwareAddr, error) {
	if c.o.MAC == "" {
		return nil, nil
	}
	mac, err := net.ParseMAC(c.o.MAC)
	if err == nil && c.o.Kind == wire.KindMacvlan && !c.passthru() && mac.String() == on.MAC.String() {
		err = wire.Invalid("mac", c.o.MAC, "must not be that of parent "+c.o.Parent)
	}
	return mac, err
}

// mtu returns the MTU that the interface can have: no more than its parent's. It is 0
// where it has its parent's anyway.
func (c child) mtu(on *rtnl.Link) int {
	if c.o.MTU == 0 || on.MTU == 0 {
		return c.o.MTU
	}
	return min(c.o.MTU, on.MTU)
}

// explain says what the kernel's answer means.
func (c child) explain(err error, on *rtnl.Link) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		return wire.Errorf(wire.CodeConfig, "parent %q: %s refused: the link serves something else (a bridge, a bond, or the other of macvlan and ipvlan)",
			c.o.Parent, c.o.Kind)
	case errors.Is(err, unix.EINVAL) && c.besideMacvlan(on):
		return wire.Errorf(wire.CodeConfig, "mode %q: refused for parent %s, which has a macvlan already: passthru goes together with no other", c.o.Mode, on.Name)
	case errors.Is(err, unix.EOPNOTSUPP):
		return links.NoKind(c.o.Kind, err)
	}
	return err
}

// besideMacvlan reports whether a macvlan can't be made for others that are on the parent
// (drivers/net/macvlan.c, macvlan_common_newlink).
func (c child) besideMacvlan(on *rtnl.Link) bool {
	if c.o.Kind != wire.KindMacvlan {
		return false
	}
	there, err := c.h.hasChildren(on, wire.KindMacvlan, "macvtap")
	return err == nil && there
}

// repair sets what differs: the mode, and the MTU, which does not follow its parent's up.
func (c child) repair(rt *rtnl.Conn, l, on *rtnl.Link) (bool, error) {
	mode, mtu := c.modeOf(l), c.mtu(on)
	if mtu == 0 {
		mtu = l.MTU
	}
	if mode == nil && mtu == l.MTU {
		return false, nil
	}
	defer c.h.Changed()
	err := rt.Change(unix.RTM_NEWLINK, 0, func(m *rtnl.Message) {
		m.IfInfo(l.Index, 0, 0)
		m.Native(unix.IFLA_MTU, uint32(mtu))
		if mode != nil {
			m.ChildInfo(c.o)
		}
	})
	return err == nil, err
}

// leads tells of an interface that is not on the parent: a link of the parent's name
// may have been made again.
func (c child) leads(l, on *rtnl.Link) error {
	if l.Peer != on.Index {
		return fmt.Errorf("%s in the sandbox is not on %s", c.o.Name, c.o.Parent)
	}
	return nil
}

// Check leaves out the MAC, which the plugin tuning may set.
func (c child) Check() error {
	_, on, err := c.h.Link("", c.o.Parent)
	if err != nil {
		return err
	}
	_, l, err := c.h.Link(c.o.NetNS, c.o.Name)
	switch {
	case err != nil:
		return fmt.Errorf("in sandbox: %w", err)
	case l.Kind != c.o.Kind:
		return fmt.Errorf("%s in the sandbox is no %s", c.o.Name, c.o.Kind)
	}
	var wrong error
	if mtu := c.mtu(on); mtu != 0 && mtu != l.MTU {
		wrong = fmt.Errorf("has mtu %d instead of %d", l.MTU, mtu)
	}
	return errors.Join(c.leads(l, on), c.modeOf(l), wrong)
}

// Remove deletes the interface, whatever its name is by now. A path may lead to
// another namespace by now: nothing is removed there. But the interface's own may live on
// without its path, and the interface answers for its address as long as it does.
func (c child) Remove() error {
	sb, err := c.h.Open(c.o.NetNS)
	if err == nil {
		cookie, err := sb.RT.Cookie()
		if err != nil {
			return err
		}
		if c.o.Cookie == 0 || cookie == c.o.Cookie {
			return c.removeIn(sb.RT)
		}
	}
	if err != nil && !spaces.Gone(err) || c.o.Cookie == 0 {
		return spaces.UnlessGone(err)
	}
	return proc.EachNetNS(func(ns *netns.NS) error {
		if cookie, err := ns.Cookie(); err != nil || cookie != c.o.Cookie {
			return err
		}
		return ns.Do(func() error {
			rt, err := rtnl.Dial()
			if err != nil {
				return err
			}
			defer rt.Close()
			return c.removeIn(rt)
		})
	})
}

// removeIn deletes the interface in a namespace.
func (c child) removeIn(rt *rtnl.Conn) error {
	links, err := rt.Links()
	if err != nil {
		return err
	}
	defer c.h.Changed()
	for _, l := range links {
		if c.ours(l) {
			err = errors.Join(err, spaces.UnlessGone(rt.DelLink(l.Name)))
		}
	}
	return err
}

func (c child) Probe() error { return errors.Join(links.ProbeKind(c.o.Kind), links.ProbeCookie()) }
