package links

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dcni/pkg/host/rtnl"
	"dcni/pkg/host/spaces"
	"dcni/pkg/wire"
)

// bridge is a [wire.Bridge] of the host.
type bridge struct {
	h *Links
	o *wire.Bridge
}

func (b bridge) Ensure() (bool, error) {
	l, err := b.find()
	switch {
	case err == nil:
		return b.adopt(l)
	case !spaces.NotFound(err) || b.o.Adopted:
		return false, err
	}
	made, err := b.create()
	if errors.Is(err, unix.EEXIST) { // another process was faster
		return b.Ensure()
	}
	if err != nil {
		return made, err
	}
	_, err = b.disableRA().Ensure()
	return true, err
}

func (b bridge) create() (bool, error) {
	mac, err := net.ParseMAC(b.o.MAC)
	if err != nil {
		return false, err
	}
	nl, err := b.h.Handle("")
	if err != nil {
		return false, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = b.o.Name, b.o.MTU, mac
	l := &netlink.Bridge{LinkAttrs: attrs}
	defer b.h.Changed()
	if err := nl.LinkAdd(l); err != nil {
		return false, err
	}
	return true, nl.LinkSetAlias(l, b.o.Alias)
}

// adopt takes a user's bridge as it is. One of ours may lack what an ADD that
// died had not yet set, or what another program has set since.
func (b bridge) adopt(l *rtnl.Link) (bool, error) {
	if !b.ours(l) {
		return false, b.fixMACAndMTU()
	}
	mended, err := b.repair(l)
	if err != nil {
		return mended, err
	}
	changed, err := b.disableRA().Ensure()
	return mended || changed, err
}

// ours reports whether dcni made the bridge: no other program gives it the
// MAC that follows from its name. Other tools may have
// changed that since: then its alias tells.
func (b bridge) ours(l *rtnl.Link) bool {
	return l.MAC.String() == b.o.MAC || b.o.Alias != "" && l.Alias == b.o.Alias
}

// repair sets the MTU of a bridge of ours where it differs.
func (b bridge) repair(l *rtnl.Link) (bool, error) {
	mtu, err := b.mtu(l)
	if err != nil || l.MTU == mtu {
		return false, err
	}
	defer b.h.Changed()
	err = b.h.Root.RT.Change(unix.RTM_NEWLINK, 0, func(m *rtnl.Message) {
		m.IfInfo(l.Index, 0, 0)
		m.Native(unix.IFLA_MTU, uint32(mtu))
	})
	return err == nil, err
}

// mtu returns the MTU in bytes that a bridge of ours should have: the least of
// its ports, as the kernel gives it until a program does. Networks without
// an MTU of their own may have ports of several, from before the way out changed.
// Without ports it may have any: it gets one with the first, and to set it would
// end that.
func (b bridge) mtu(l *rtnl.Link) (int, error) {
	if b.o.MTU == 0 || l.MTU == b.o.MTU {
		return l.MTU, nil
	}
	ports, err := b.h.Root.RT.Ports(l.Index)
	if err != nil {
		return 0, err
	}
	least := 0
	for _, p := range ports {
		if p.Master == l.Index && (least == 0 || p.MTU < least) {
			least = p.MTU
		}
	}
	return cmp.Or(least, l.MTU), nil
}

// disableRA is the setting that keeps the host from taking router advertisements
// from containers, which would make them its gateway (CVE-2020-13401). It
// matters without IPv6 on the network as well: the bridge has a link-local
// address all the same. A bridge of the user's may lead to a router of his.
func (b bridge) disableRA() setting {
	return setting{b.h, &wire.Sysctl{Path: "net/ipv6/conf/" + b.o.Name + "/accept_ra", Value: "0"}}
}

// fixMACAndMTU makes MAC and MTU of a user's bridge stay what they are. Until a program
// sets them, a bridge follows its ports: it takes the lowest MAC and MTU of
// them, and the MAC goes when the last port goes.
func (b bridge) fixMACAndMTU() error {
	nl, l, err := b.h.LibraryLink("", b.o.Name)
	if err != nil {
		return err
	}
	defer b.h.Changed()
	mac, mtu := l.Attrs().HardwareAddr, l.Attrs().MTU
	if bytes.Equal(mac, make([]byte, len(mac))) { // of a bridge that lost all its ports
		if mac, err = net.ParseMAC(b.o.MAC); err != nil {
			return err
		}
		mac[0] ^= usersBit // it must not look like one of ours
	}
	if err := nl.LinkSetHardwareAddr(l, mac); err != nil {
		return err
	}
	ports, err := b.h.Root.RT.Ports(l.Attrs().Index)
	if err != nil {
		return err
	}
	ofBridge := func(p *rtnl.Link) bool { return p.Master == l.Attrs().Index }
	if slices.ContainsFunc(ports, ofBridge) && b.o.MTU >= mtu {
		return nil // ours does not change the least
	}
	// The kernel ignores a value that is already set. One more does no harm, but
	// with one less, VLAN interfaces of the bridge would lose it for good.
	other := mtu + 1
	if other > maxMTU {
		other = mtu - 1
	}
	return errors.Join(nl.LinkSetMTU(l, other), nl.LinkSetMTU(l, mtu))
}

// usersBit makes another locally administered MAC of one.
const usersBit = 0x04

// maxMTU in bytes is the most that a bridge takes (ETH_MAX_MTU).
const maxMTU = 65535

// find returns the bridge, or says that the link of that name is no bridge, in
// Docker's words.
func (b bridge) find() (*rtnl.Link, error) {
	_, l, err := b.h.Link("", b.o.Name)
	if err == nil && l.Kind != "bridge" {
		err = b.notBridge(l.Kind)
	}
	return l, err
}

func (b bridge) notBridge(kind string) error {
	if kind == "" {
		kind = "hardware" // or another that no driver has a word for
	}
	return wire.Errorf(wire.CodeConfig, "bridge %q: existing interface %s is not a bridge (it is a %s link)",
		b.o.Name, b.o.Name, kind)
}

// Check looks at how a bridge of ours is set only.
func (b bridge) Check() error {
	l, err := b.find()
	if err != nil || !b.ours(l) {
		return err
	}
	mtu, err := b.mtu(l)
	if err == nil && l.MTU != mtu {
		err = fmt.Errorf("has mtu %d instead of %d", l.MTU, mtu)
	}
	if err != nil {
		return err
	}
	if err := b.disableRA().Check(); err != nil {
		return fmt.Errorf("%s: %w", b.disableRA().o, err)
	}
	return nil
}

// Remove removes a bridge of ours; one of the user's stays as it is.
func (b bridge) Remove() error {
	defer b.h.Changed()
	l, err := b.find()
	if err == nil && b.ours(l) {
		err = b.h.Root.RT.DelLink(b.o.Name)
	}
	if err != nil && !spaces.Gone(err) {
		return err
	}
	return nil
}

// Probe tells whether there may be a bridge. That it is full only ADD says: DEL is what makes
// room, and a runtime may send none as long as STATUS fails.
func (b bridge) Probe() error {
	_, err := b.find()
	if spaces.NotFound(err) {
		return ProbeKind("bridge")
	}
	return err
}

// bridgePorts is how many ports a Linux bridge takes (BR_MAX_PORTS is 1024,
// and port number 0 is not given out).
const bridgePorts = 1023

// errFull is the error of a port too many.
func errFull(name string) error {
	return wire.Errorf(wire.CodeTryAgain, "bridge %s is full: a Linux bridge takes %d ports, and so many containers of a network on a host", name, bridgePorts)
}

// Adopts reports whether a bridge is there and is another owner's.
func (h *Links) Adopts(o *wire.Bridge) (bool, error) {
	b := bridge{h, o}
	l, err := b.find()
	if spaces.NotFound(err) {
		return false, nil
	}
	return err == nil && !b.ours(l), err
}
