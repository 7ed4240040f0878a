package rtnl

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/nlsock"
	"dcni/pkg/wire"
)

// Vxlan is what is asked of a VXLAN device.
type Vxlan struct {
	VNI, Port int        // UDP
	Local     netip.Addr // zero: none is given
	Learning  bool
	Proxy     bool
}

// NewVxlan appends a new VXLAN device that is down, a port of the bridge of an index.
func (m *Message) NewVxlan(o *wire.Vxlan, mac []byte, bridge int) {
	m.IfInfo(0, 0, 0)
	m.Str(unix.IFLA_IFNAME, o.Name)
	m.Native(unix.IFLA_MTU, uint32(o.MTU))
	m.Native(unix.IFLA_MASTER, uint32(bridge))
	if len(mac) > 0 {
		m.Raw(unix.IFLA_ADDRESS, mac)
	}
	info := m.Open(unix.IFLA_LINKINFO)
	m.Raw(unix.IFLA_INFO_KIND, []byte("vxlan"))
	data := m.Open(unix.IFLA_INFO_DATA)
	m.Native(unix.IFLA_VXLAN_ID, uint32(o.VNI))
	local := uint16(unix.IFLA_VXLAN_LOCAL)
	if o.Local.Is6() {
		local = unix.IFLA_VXLAN_LOCAL6
	}
	m.Raw(local, o.Local.AsSlice())
	m.Raw(unix.IFLA_VXLAN_PORT, binary.BigEndian.AppendUint16(nil, uint16(o.Port)))
	m.Raw(unix.IFLA_VXLAN_LEARNING, []byte{0})
	if !o.Flood {
		m.Raw(unix.IFLA_VXLAN_PROXY, []byte{1})
	}
	m.Close(data)
	m.Close(info)
}

// Vxlan returns how a VXLAN device is set.
func (i *Link) Vxlan() (v Vxlan) {
	nlsock.Attributes(i.info, func(typ uint16, data []byte) {
		switch {
		case typ == unix.IFLA_VXLAN_ID && len(data) >= 4:
			v.VNI = int(binary.NativeEndian.Uint32(data))
		case typ == unix.IFLA_VXLAN_LOCAL, typ == unix.IFLA_VXLAN_LOCAL6:
			v.Local, _ = netip.AddrFromSlice(data)
		case typ == unix.IFLA_VXLAN_PORT && len(data) >= 2:
			v.Port = int(binary.BigEndian.Uint16(data))
		case typ == unix.IFLA_VXLAN_LEARNING && len(data) > 0:
			v.Learning = data[0] != 0
		case typ == unix.IFLA_VXLAN_PROXY && len(data) > 0:
			v.Proxy = data[0] != 0
		}
	})
	return v
}
