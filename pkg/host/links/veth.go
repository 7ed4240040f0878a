package links

import (
	"cmp"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/proc"
	"dcni/pkg/host/rtnl"
	"dcni/pkg/host/spaces"
	"dcni/pkg/wire"
)

// vethInfoPeer is VETH_INFO_PEER of include/uapi/linux/veth.h.
const vethInfoPeer = 1

// veth is a [wire.Veth].
type veth struct {
	h *Links
	o *wire.Veth
}

// Ensure creates the pair in one message: both ends with their names, MACs and
// MTU, the peer in the sandbox, the host's end a port of its bridge. What that
// message can't carry follows in a second, and a third raises the host's end.
// A pair that is there stays, with all that is on its other end.
func (v veth) Ensure() (bool, error) {
	if v.o.NetNS == "" {
		return v.repair()
	}
	err := v.create()
	if errors.Is(err, unix.EEXIST) {
		if v.paired() == nil || v.rename() {
			return v.repair()
		}
		// Its name is the proof that a left-over host end is ours; an
		// interface of that name in the sandbox is not, and stays.
		if err := v.Remove(); err != nil {
			return false, err
		}
		err = v.create()
	}
	if err != nil {
		return false, v.explain(err)
	}
	v.o.Made = true
	return true, v.finish()
}

// repair sets what differs at the host's end. A port that is to join the bridge is
// down until it is isolated.
func (v veth) repair() (bool, error) {
	host, master, err := v.outside()
	if err != nil {
		return false, err
	}
	if v.differs(host, master) == nil {
		return false, nil
	}
	defer v.h.Changed()
	if host.Master != master.Index || v.o.MTU != 0 && host.MTU != v.o.MTU {
		err := v.h.Root.RT.Change(unix.RTM_NEWLINK, 0, func(m *rtnl.Message) {
			m.IfInfo(host.Index, 0, unix.IFF_UP)
			if v.o.MTU != 0 {
				m.Native(unix.IFLA_MTU, uint32(v.o.MTU))
			}
			m.Native(unix.IFLA_MASTER, uint32(master.Index))
		})
		if err != nil {
			return false, v.explain(err)
		}
	}
	return true, v.finish()
}

// rename gives the host's end its name back, if the interface in the sandbox leads
// to one that is ours by its alias and has another name.
func (v veth) rename() bool {
	_, peer, err := v.h.Link(v.o.NetNS, v.o.Peer)
	if err != nil {
		return false
	}
	end, err := v.h.Root.RT.LinkByIndex(peer.Peer)
	if err != nil || end.Kind != "veth" || v.o.Alias == "" || end.Alias != v.alias() {
		return false
	}
	defer v.h.Changed()
	rt := v.h.Root.RT
	if rt.SetUp(end.Index, false) != nil { // before Linux 6.0 it keeps its name as long as it is up
		return false
	}
	err = rt.Change(unix.RTM_NEWLINK, 0, func(m *rtnl.Message) {
		m.IfInfo(end.Index, 0, 0)
		m.Str(unix.IFLA_IFNAME, v.o.Name)
	})
	return err == nil
}

// finish sets the host's end as it is to be, and raises it.
func (v veth) finish() error {
	defer v.h.Changed()
	if err := v.setAttrs(); err != nil {
		return err
	}
	return v.h.Root.RT.Change(unix.RTM_NEWLINK, 0, func(m *rtnl.Message) {
		m.IfInfo(0, unix.IFF_UP, unix.IFF_UP)
		m.Str(unix.IFLA_IFNAME, v.o.Name)
	})
}

func (v veth) explain(err error) error {
	switch {
	case errors.Is(err, unix.EXFULL):
		return errFull(v.o.Bridge)
	case errors.Is(err, unix.EEXIST):
		return wire.Errorf(wire.CodeEnv, "CNI_IFNAME %q: the sandbox has an interface of that name", v.o.Peer)
	}
	return err
}

func (v veth) create() error {
	mac, err := net.ParseMAC(v.o.MAC)
	if err != nil {
		return err
	}
	rt, master, err := v.h.Link("", v.o.Bridge)
	if err != nil {
		return err
	}
	sb, err := v.h.Open(v.o.NetNS)
	if err != nil {
		return err
	}
	defer v.h.Changed()
	return rt.Change(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, func(m *rtnl.Message) {
		m.IfInfo(0, 0, 0)
		m.Str(unix.IFLA_IFNAME, v.o.Name)
		m.Native(unix.IFLA_MTU, uint32(v.o.MTU))
		m.Native(unix.IFLA_MASTER, uint32(master.Index))
		info := m.Open(unix.IFLA_LINKINFO)
		m.Raw(unix.IFLA_INFO_KIND, []byte("veth"))
		data := m.Open(unix.IFLA_INFO_DATA)
		peer := m.Open(vethInfoPeer)
		m.TunedInfo(v.o.Tuned)
		m.Str(unix.IFLA_IFNAME, v.o.Peer)
		m.Raw(unix.IFLA_ADDRESS, mac)
		m.Native(unix.IFLA_MTU, uint32(cmp.Or(v.o.Tuned.MTU, v.o.MTU)))
		m.Native(unix.IFLA_NET_NS_FD, uint32(sb.NS.Fd()))
		m.Close(peer)
		m.Close(data)
		m.Close(info)
	})
}

// setAttrs sets the alias, the port's flags, and that the host's end makes itself
// no link-local address: a port of a bridge needs none, and the host would keep
// three routes for each container. A kernel without IPv6 does not have that.
func (v veth) setAttrs() error {
	err := v.h.Root.RT.Change(unix.RTM_NEWLINK, 0, func(m *rtnl.Message) {
		v.port(m)
		spec := m.Open(unix.IFLA_AF_SPEC)
		inet6 := m.Open(unix.AF_INET6)
		m.Raw(rtnl.Inet6AddrGenMode, []byte{rtnl.AddrGenNone})
		m.Close(inet6)
		m.Close(spec)
	})
	if errors.Is(err, unix.EAFNOSUPPORT) {
		err = v.h.Root.RT.Change(unix.RTM_NEWLINK, 0, v.port)
	}
	return err
}

// port appends alias and port flags. Hairpin is always on: a frame that bridge
// netfilter rewrites to a container's own published port goes out of the port
// it came in by.
func (v veth) port(m *rtnl.Message) {
	m.IfInfo(0, 0, 0)
	m.Str(unix.IFLA_IFNAME, v.o.Name)
	m.Raw(unix.IFLA_IFALIAS, []byte(v.alias()))
	info := m.Open(unix.IFLA_LINKINFO)
	m.Raw(unix.IFLA_INFO_SLAVE_KIND, []byte("bridge"))
	port := m.Open(unix.IFLA_INFO_SLAVE_DATA)
	m.Raw(unix.IFLA_BRPORT_MODE, []byte{1})
	m.Raw(unix.IFLA_BRPORT_ISOLATED, []byte{flag(v.isolated())})
	m.Raw(unix.IFLA_BRPORT_LEARNING, []byte{flag(!v.o.Fixed)})
	m.Close(port)
	m.Close(info)
}

// alias returns the alias cut to what the kernel takes (IFALIASZ - 1 bytes):
// a container ID may be as long as that by itself.
func (v veth) alias() string {
	const most = 255
	return v.o.Alias[:min(len(v.o.Alias), most)]
}

func flag(on bool) uint8 {
	if on {
		return 1
	}
	return 0
}

// isolated reports whether the port is to be isolated.
func (v veth) isolated() bool { return v.o.Isolated && !proc.BridgesFiltered() }

// Check compares what no other program has a reason to change. MACs are left out:
// systemd-udevd rewrites the host end's, the tuning plugin the peer's.
func (v veth) Check() error {
	host, master, err := v.outside()
	if err != nil {
		return err
	}
	err = v.differs(host, master)
	if v.o.NetNS == "" {
		return err
	}
	return errors.Join(err, v.paired())
}

// outside returns the host's end and its bridge.
func (v veth) outside() (host, master *rtnl.Link, err error) {
	if _, host, err = v.h.Link("", v.o.Name); err == nil {
		_, master, err = v.h.Link("", v.o.Bridge)
	}
	return host, master, err
}

// differs compares the host's end.
func (v veth) differs(host, master *rtnl.Link) error {
	var errs []error
	if host.Master != master.Index {
		errs = append(errs, fmt.Errorf("link %s is no port of %s", v.o.Name, v.o.Bridge))
	}
	if !host.Up() {
		errs = append(errs, fmt.Errorf("link %s is down", v.o.Name))
	}
	if v.o.MTU != 0 && host.MTU != v.o.MTU {
		errs = append(errs, fmt.Errorf("link %s has mtu %d", v.o.Name, host.MTU))
	}
	if host.Master != 0 && !host.Hairpin {
		errs = append(errs, fmt.Errorf("bridge port has hairpin off"))
	}
	if v.o.Fixed && host.Master != 0 && host.Learning {
		errs = append(errs, fmt.Errorf("bridge port has learning on"))
	}
	if want := v.isolated(); host.Master != 0 && host.Isolated != want {
		errs = append(errs, fmt.Errorf("bridge port is isolated: %v, should be: %v", host.Isolated, want))
	}
	return errors.Join(errs...)
}

// paired compares the sandbox's end with the host's.
func (v veth) paired() error {
	_, host, err := v.h.Link("", v.o.Name)
	if err != nil {
		return err
	}
	_, peer, err := v.h.Link(v.o.NetNS, v.o.Peer)
	switch {
	case err != nil:
		return fmt.Errorf("in sandbox: %w", err)
	case host.Peer != peer.Index:
		return fmt.Errorf("%s in the sandbox is not the other end of %s", v.o.Peer, v.o.Name)
	}
	return nil
}

func (v veth) Remove() error {
	defer v.h.Changed()
	return v.h.delHostLink(v.o.Name)
}

// delHostLink deletes a host's end, also by the name that a version before gave it.
func (h *Links) delHostLink(name string) error {
	var errs []error
	for _, name := range []string{name, wire.FormerHostLink(name)} {
		if name != "" {
			errs = append(errs, spaces.UnlessGone(h.Root.RT.DelLink(name)))
		}
	}
	return errors.Join(errs...)
}

func (v veth) Probe() error { return errors.Join(ProbeKind("veth"), ProbeCookie()) }
