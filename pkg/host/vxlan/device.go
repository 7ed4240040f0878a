package vxlan

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/hostports"
	"dcni/pkg/host/offload"
	"dcni/pkg/host/proc"
	"dcni/pkg/host/rtnl"
	"dcni/pkg/wire"
)

// device is a [wire.Vxlan]. It is up once it is made.
type device struct {
	Machine
	o *wire.Vxlan
}

// Ensure makes the device in one message, down: how it is a port of the bridge follows in
// a second, and must be so before the first frame passes. What can't be changed of a
// device is made by making it again.
func (d device) Ensure() (bool, error) {
	_, l, err := d.Link(d.o.Name)
	switch {
	case err == nil && l.Kind != "vxlan":
		return false, wire.Errorf(wire.CodeConfig, "link %s: is no VXLAN device (it is a %q link)", d.o.Name, l.Kind)
	case err == nil && d.differs(l) == nil:
		return d.repair(l)
	case err == nil:
		if err := d.Remove(); err != nil {
			return false, err
		}
	case !gone(err):
		return false, err
	}
	if err := d.create(); err != nil {
		return false, err
	}
	if err := d.raise(); err != nil {
		return false, errors.Join(err, d.Remove())
	}
	return true, nil
}

func (d device) create() error {
	var mac net.HardwareAddr
	if d.o.MAC != "" {
		var err error
		if mac, err = net.ParseMAC(d.o.MAC); err != nil {
			return err
		}
	}
	rt, bridge, err := d.Link(d.o.Bridge)
	if err != nil {
		return err
	}
	defer d.Changed()
	err = rt.Change(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, func(m *rtnl.Message) {
		m.NewVxlan(d.o, mac, bridge.Index)
	})
	if errors.Is(err, unix.EEXIST) {
		return d.taken(rt)
	}
	return d.unsupported(err)
}

// unsupported says what errors mean that a kernel without VXLAN, or IPv6, gives.
func (d device) unsupported(err error) error {
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return errNoVxlan
	case errors.Is(err, unix.EAFNOSUPPORT) && d.o.Local.Is6():
		return fmt.Errorf("the node's address %s is of IPv6, which the kernel lacks: %w", d.o.Local, err)
	}
	return err
}

var errNoVxlan = errors.New("kernel has no vxlan links, and no module vxlan to load")

// taken names the device that has the VNI on this port already.
func (d device) taken(rt *rtnl.Conn) error {
	list, err := rt.LinksOf("vxlan")
	if err != nil {
		return err
	}
	for _, l := range list {
		if v := l.Vxlan(); l.Kind == "vxlan" && v.VNI == d.o.VNI && v.Port == d.o.Port {
			return wire.Errorf(wire.CodeConfig, "vni %d: link %s has it on UDP port %d already", d.o.VNI, l.Name, d.o.Port)
		}
	}
	return wire.Errorf(wire.CodeConfig, "vni %d: a VXLAN device that was made here and moved to another network namespace has it on UDP port %d already",
		d.o.VNI, d.o.Port)
}

// raise sets how the device is a port of the bridge, and brings it up, when the kernel
// opens the UDP port.
func (d device) raise() error {
	rt, l, err := d.Link(d.o.Name)
	if err != nil {
		return err
	}
	defer d.Changed()
	set := func(inet6 bool) error {
		return rt.Change(unix.RTM_NEWLINK, 0, func(m *rtnl.Message) { d.port(m, l.Index, inet6) })
	}
	if err := set(true); errors.Is(err, unix.EAFNOSUPPORT) { // a kernel without IPv6
		err = set(false)
		if err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	if d.o.ComputeSums {
		if err := offload.Off(d.o.Name); err != nil {
			return err
		}
	}
	if err = rt.SetUp(l.Index, true); errors.Is(err, unix.EADDRINUSE) {
		return d.portTaken()
	}
	return err
}

// port appends the alias, the flags of a bridge's port and, as for each port, that the
// host's end makes itself no link-local address.
func (d device) port(m *rtnl.Message, index int, inet6 bool) {
	m.IfInfo(index, 0, 0)
	m.Raw(unix.IFLA_IFALIAS, []byte(d.o.Alias))
	info := m.Open(unix.IFLA_LINKINFO)
	m.Raw(unix.IFLA_INFO_SLAVE_KIND, []byte("bridge"))
	port := m.Open(unix.IFLA_INFO_SLAVE_DATA)
	m.Raw(unix.IFLA_BRPORT_LEARNING, []byte{0})
	m.Raw(unix.IFLA_BRPORT_NEIGH_SUPPRESS, []byte{flag(d.o.Flood)})
	m.Raw(unix.IFLA_BRPORT_ISOLATED, []byte{flag(d.isolated())})
	m.Close(port)
	m.Close(info)
	if inet6 {
		spec := m.Open(unix.IFLA_AF_SPEC)
		at := m.Open(unix.AF_INET6)
		m.Raw(rtnl.Inet6AddrGenMode, []byte{rtnl.AddrGenNone})
		m.Close(at)
		m.Close(spec)
	}
}

func flag(on bool) byte {
	if on {
		return 1
	}
	return 0
}

func (d device) isolated() bool { return d.o.Isolated && !proc.BridgesFiltered() }

// portTaken says who has the device's UDP port: a program, or VXLAN devices that are set
// in another way (udp6zerocsumrx, gbp, gpe, external), with which no other shares it.
func (d device) portTaken() error {
	if holder := hostports.HolderOf(uint16(d.o.Port)); holder != "" {
		return wire.Errorf(wire.CodePortTaken, "UDP port %d is in use by process %s: VXLAN needs it", d.o.Port, holder)
	}
	return wire.Errorf(wire.CodePortTaken, "another VXLAN user holds port %d with other options%s", d.o.Port, d.others())
}

// others names the devices that are on the same port.
func (d device) others() (names string) {
	rt, _, err := d.Link(d.o.Bridge)
	if err != nil {
		return ""
	}
	list, err := rt.LinksOf("vxlan")
	if err != nil {
		return ""
	}
	for _, l := range list {
		if l.Kind == "vxlan" && l.Name != d.o.Name && l.Vxlan().Port == d.o.Port && l.Up() {
			names += " " + l.Name
		}
	}
	if names != "" {
		names = ": link" + names
	}
	return names
}

// repair sets what differs and can be changed.
func (d device) repair(l *rtnl.Link) (bool, error) {
	rt, bridge, err := d.Link(d.o.Bridge)
	if err != nil || d.differsAsPort(l, bridge) == nil {
		return false, err
	}
	defer d.Changed()
	if l.Master != bridge.Index || l.MTU != d.o.MTU {
		err := rt.Change(unix.RTM_NEWLINK, 0, func(m *rtnl.Message) {
			m.IfInfo(l.Index, 0, unix.IFF_UP) // down until it is set as a port
			m.Native(unix.IFLA_MTU, uint32(d.o.MTU))
			m.Native(unix.IFLA_MASTER, uint32(bridge.Index))
		})
		if err != nil {
			return false, err
		}
		d.Changed()
	}
	return true, d.raise()
}

// differs compares what a device has for life.
func (d device) differs(l *rtnl.Link) error {
	want := rtnl.Vxlan{VNI: d.o.VNI, Port: d.o.Port, Local: d.o.Local, Proxy: !d.o.Flood}
	if have := l.Vxlan(); have != want {
		return fmt.Errorf("has id %d local %s dstport %d learning %t proxy %t", have.VNI, have.Local, have.Port, have.Learning, have.Proxy)
	}
	return nil
}

// differsAsPort compares what can be changed.
func (d device) differsAsPort(l, bridge *rtnl.Link) error {
	var errs []error
	if l.Master != bridge.Index {
		errs = append(errs, fmt.Errorf("is no port of %s", d.o.Bridge))
	}
	if !l.Up() {
		errs = append(errs, errors.New("is down"))
	}
	if l.MTU != d.o.MTU {
		errs = append(errs, fmt.Errorf("has mtu %d instead of %d", l.MTU, d.o.MTU))
	}
	if d.o.ComputeSums {
		if on, err := offload.IsOn(d.o.Name); on || err != nil {
			errs = append(errs, errors.Join(errors.New("leaves checksums to the NIC"), err))
		}
	}
	if l.Master != 0 && (l.Learning || l.Suppress != d.o.Flood || l.Isolated != d.isolated()) {
		errs = append(errs, fmt.Errorf("bridge port has learning %t neigh_suppress %t isolated %t", l.Learning, l.Suppress, l.Isolated))
	}
	return errors.Join(errs...)
}

// Check tells every difference.
func (d device) Check() error {
	_, l, err := d.Link(d.o.Name)
	if err != nil {
		return err
	}
	if l.Kind != "vxlan" {
		return fmt.Errorf("is no VXLAN device (it is a %q link)", l.Kind)
	}
	_, bridge, err := d.Link(d.o.Bridge)
	if err != nil {
		return err
	}
	return errors.Join(d.differs(l), d.differsAsPort(l, bridge))
}

// Remove deletes the device. A link of its name that is none stays.
func (d device) Remove() error {
	rt, l, err := d.Link(d.o.Name)
	if err == nil && l.Kind == "vxlan" {
		defer d.Changed()
		err = rt.DelIndex(l.Index)
	}
	if err != nil && !gone(err) {
		return err
	}
	return nil
}

// Probe tells whether the kernel has VXLAN: package host asks it.
func (d device) Probe() error { return nil }
