package vxlan

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/rtnl"
	"dcni/pkg/wire"
)

// entry is a [wire.FDB] or a [wire.Neigh].
type entry struct {
	Machine
	o    wire.Object
	want entryOf
}

// entryOf is what an entry is to be, without its link's index.
type entryOf struct {
	dev, mac string
	rtnl.Neigh
}

// ntfSticky is NTF_STICKY of linux/neighbour.h.
const ntfSticky = 0x40

// An entry of a VXLAN device's database is permanent, one of a bridge's is static: in the
// bridge's, a permanent one is of the host itself. It is sticky as well: otherwise any
// container that sends a frame from that MAC has the bridge move the entry to its port.
func fdbEntry(o *wire.FDB) entryOf {
	n := rtnl.Neigh{Family: unix.AF_BRIDGE, Flags: unix.NTF_MASTER | ntfSticky, State: unix.NUD_NOARP}
	if o.Dst.IsValid() {
		n = rtnl.Neigh{Family: unix.AF_BRIDGE, Flags: unix.NTF_SELF, State: unix.NUD_NOARP | unix.NUD_PERMANENT, IP: o.Dst}
	}
	return entryOf{o.Dev, o.MAC, n}
}

func neighEntry(o *wire.Neigh) entryOf {
	return entryOf{o.Dev, o.MAC, rtnl.Neigh{Family: rtnl.Family(o.IP), State: unix.NUD_PERMANENT, IP: o.IP}}
}

// on returns the entry with its link's index.
func (e entry) on() (*rtnl.Conn, rtnl.Neigh, error) {
	n := e.want.Neigh
	mac, err := net.ParseMAC(e.want.mac)
	if err != nil {
		return nil, n, err
	}
	rt, l, err := e.Link(e.want.dev)
	if err != nil {
		return nil, n, err
	}
	n.Index, n.MAC = l.Index, mac
	return rt, n, nil
}

// key returns what names an entry, and not what it says. What a bridge's entry is asked
// by is the bridge: the port is what it says.
func key(n rtnl.Neigh) rtnl.Neigh {
	if n.Family == unix.AF_BRIDGE {
		n.IP, n.Flags = netip.Addr{}, n.Flags&^ntfSticky
	} else {
		n.MAC = nil
	}
	return n
}

// Ensure enters it, in place of one of the same key. Mostly there is none, and one message
// is enough: dnetd enters thousands.
func (e entry) Ensure() (bool, error) {
	rt, n, err := e.on()
	if err != nil {
		return false, err
	}
	if err = rt.PutNeigh(n, unix.NLM_F_EXCL); !errors.Is(err, unix.EEXIST) {
		return err == nil, e.explain(err)
	}
	if e.look(rt, n) == nil {
		return false, nil
	}
	return true, e.explain(rt.PutNeigh(n, unix.NLM_F_REPLACE))
}

func (e entry) explain(err error) error {
	switch {
	case errors.Is(err, unix.EAFNOSUPPORT):
		return fmt.Errorf("a VXLAN device sends to the address family of its own address only: %w", err)
	case errors.Is(err, unix.EOPNOTSUPP) && e.want.Flags&unix.NTF_MASTER != 0:
		return fmt.Errorf("link %s is no port of a bridge: %w", e.want.dev, err)
	}
	return err
}

// look compares what there is under the entry's key.
func (e entry) look(rt *rtnl.Conn, n rtnl.Neigh) error {
	have, err := rt.GetNeigh(key(n))
	switch {
	case errors.Is(err, unix.ENOENT):
		return errMissing
	case err != nil:
		return err
	case have.Index != n.Index:
		return errors.New("the bridge has it behind another port")
	case n.Flags&unix.NTF_MASTER != 0 && have.State&(unix.NUD_NOARP|unix.NUD_PERMANENT) != unix.NUD_NOARP:
		return errors.New("is not static")
	case n.Flags&ntfSticky != 0 && have.Flags&ntfSticky == 0:
		return errors.New("is not sticky")
	case n.Flags&unix.NTF_MASTER == 0 && have.State&unix.NUD_PERMANENT == 0:
		return errors.New("is not permanent")
	case n.Flags&unix.NTF_SELF != 0 && have.IP != n.IP:
		return fmt.Errorf("has dst %s", have.IP)
	case n.Family != unix.AF_BRIDGE && have.MAC.String() != n.MAC.String():
		return fmt.Errorf("has lladdr %s", have.MAC)
	}
	return nil
}

var errMissing = errors.New("is missing")

// Check compares it.
func (e entry) Check() error {
	rt, n, err := e.on()
	if err != nil {
		return err
	}
	return e.look(rt, n)
}

// Remove deletes it. A bridge's entry goes only where it is behind the link: otherwise it
// has become another's.
func (e entry) Remove() error {
	rt, n, err := e.on()
	if err == nil {
		err = rt.DelNeigh(key(n))
	}
	if err != nil && !gone(err) {
		return err
	}
	return nil
}

// Probe has nothing to ask: the device has it.
func (e entry) Probe() error { return nil }

// flood is a [wire.FDB] of which there are several of one MAC.
type flood struct{ entry }

// Ensure adds it to the others.
func (f flood) Ensure() (bool, error) {
	rt, n, err := f.on()
	if err != nil || f.find(rt, n) == nil {
		return false, err
	}
	return true, f.explain(rt.PutNeigh(n, unix.NLM_F_APPEND))
}

func (f flood) find(rt *rtnl.Conn, n rtnl.Neigh) error {
	list, err := rt.Neighs(unix.AF_BRIDGE, n.Index)
	if err != nil {
		return err
	}
	for _, have := range list {
		if have.Flags&unix.NTF_SELF != 0 && have.IP == n.IP && have.MAC.String() == n.MAC.String() {
			return nil
		}
	}
	return errMissing
}

// Check looks for it.
func (f flood) Check() error {
	rt, n, err := f.on()
	if err != nil {
		return err
	}
	return f.find(rt, n)
}

// Remove deletes it, and none of the others.
func (f flood) Remove() error {
	rt, n, err := f.on()
	if err == nil {
		err = rt.DelNeigh(n)
	}
	if err != nil && !gone(err) {
		return err
	}
	return nil
}

// Entries lists the entries of an overlay network that are on a VXLAN device and its
// bridge, as objects: those in the device's own database and in its bridge's for it, and
// the permanent neighbours on both. There are none on a link that is not there.
func (m Machine) Entries(bridge, vxlan string) ([]wire.Object, error) {
	var list []wire.Object
	for _, dev := range []string{vxlan, bridge} {
		rt, l, err := m.Link(dev)
		if gone(err) {
			continue
		}
		if err != nil {
			return list, err
		}
		if dev == vxlan {
			entries, err := rt.Neighs(unix.AF_BRIDGE, l.Index)
			if err != nil {
				return list, err
			}
			for _, n := range entries {
				if o := fdbObject(dev, n); o != nil {
					list = append(list, o)
				}
			}
		}
		for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
			entries, err := rt.Neighs(family, l.Index)
			if err != nil {
				return list, err
			}
			for _, n := range entries {
				if n.State&unix.NUD_PERMANENT != 0 && n.IP.IsValid() && len(n.MAC) > 0 {
					list = append(list, &wire.Neigh{Dev: dev, IP: n.IP, MAC: n.MAC.String()})
				}
			}
		}
	}
	return list, nil
}

// fdbObject returns an entry of a forwarding database as an object; nil for one that the
// kernel made, as that of the link's own MAC.
func fdbObject(dev string, n rtnl.Neigh) wire.Object {
	switch {
	case n.Master == 0 && n.Flags&unix.NTF_SELF != 0 && n.IP.IsValid():
		return &wire.FDB{Dev: dev, MAC: n.MAC.String(), Dst: n.IP}
	case n.Master != 0 && n.State&(unix.NUD_NOARP|unix.NUD_PERMANENT) == unix.NUD_NOARP:
		return &wire.FDB{Dev: dev, MAC: n.MAC.String()}
	}
	return nil
}
