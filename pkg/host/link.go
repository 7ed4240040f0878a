package host

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dcni/pkg/wire"
)

// bridge is a [wire.Bridge] of the host.
type bridge struct {
	h *Host
	o *wire.Bridge
}

func (b bridge) ensure() (bool, error) {
	mac, err := net.ParseMAC(b.o.MAC)
	if err != nil {
		return false, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = b.o.Name, b.o.MTU, mac
	l := &netlink.Bridge{LinkAttrs: attrs}
	defer b.h.relink()
	err = b.h.root.LinkAdd(l)
	if errors.Is(err, unix.EEXIST) {
		_, err := b.find()
		return false, err // adopted as it is
	}
	if err != nil {
		return false, err
	}
	return true, b.h.root.LinkSetAlias(l, b.o.Alias)
}

// find returns the bridge, or says that the link of that name is no bridge, in
// Docker's words.
func (b bridge) find() (netlink.Link, error) {
	_, l, err := b.h.link("", b.o.Name)
	if err != nil {
		return nil, err
	}
	if l.Type() != "bridge" {
		return nil, wire.Errorf(wire.CodeConfig, "bridge %q: existing interface %s is not a bridge (it is a %s link)",
			b.o.Name, b.o.Name, l.Type())
	}
	return l, nil
}

func (b bridge) check() error {
	_, err := b.find()
	return err
}

func (b bridge) remove() error {
	defer b.h.relink()
	l, err := b.find()
	if err == nil {
		err = b.h.root.LinkDel(l)
	}
	if err != nil && !gone(err) {
		return err
	}
	return nil
}

func (b bridge) probe() error {
	if _, err := b.find(); err != nil && !notFound(err) {
		return err
	}
	return nil
}

// up is a [wire.Up].
type up struct {
	h *Host
	o *wire.Up
}

func (u up) ensure() (bool, error) {
	nl, l, err := u.h.link(u.o.NetNS, u.o.Dev)
	if err != nil {
		return false, err
	}
	if l.Attrs().Flags&net.FlagUp != 0 {
		return false, nil
	}
	defer u.h.relink()
	return true, nl.LinkSetUp(l)
}

func (u up) check() error {
	_, l, err := u.h.link(u.o.NetNS, u.o.Dev)
	if err != nil {
		return err
	}
	if l.Attrs().Flags&net.FlagUp == 0 {
		return fmt.Errorf("is down")
	}
	return nil
}

func (u up) remove() error {
	defer u.h.relink()
	nl, l, err := u.h.link(u.o.NetNS, u.o.Dev)
	if err == nil {
		err = nl.LinkSetDown(l)
	}
	if err != nil && !gone(err) {
		return err
	}
	return nil
}

func (u up) probe() error { return nil }
