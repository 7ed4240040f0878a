package rtnl

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/nlsock"
	"dcni/pkg/wire"
)

// Modes of a macvlan (uapi/linux/if_link.h, MACVLAN_MODE_*).
var macvlanModes = map[string]uint32{"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}

// Modes and flags of an ipvlan (IPVLAN_MODE_*, IPVLAN_F_*).
var (
	ipvlanModes = map[string]uint16{"l2": 0, "l3": 1, "l3s": 2}
	ipvlanFlags = map[string]uint16{"bridge": 0, "private": 1, "vepa": 2}
)

// ChildInfo appends a child's kind, mode and flag.
func (m *Message) ChildInfo(o *wire.Child) {
	info := m.Open(unix.IFLA_LINKINFO)
	m.Raw(unix.IFLA_INFO_KIND, []byte(o.Kind))
	data := m.Open(unix.IFLA_INFO_DATA)
	if o.Kind == wire.KindIpvlan {
		m.Native16(unix.IFLA_IPVLAN_MODE, ipvlanModes[o.Mode])
		m.Native16(unix.IFLA_IPVLAN_FLAGS, ipvlanFlags[o.Flag])
	} else {
		m.Native(unix.IFLA_MACVLAN_MODE, macvlanModes[o.Mode])
	}
	m.Close(data)
	m.Close(info)
}

// TunedInfo appends the struct ifinfomsg of a new link, and the length of its queue. The flags
// are those that don't raise it.
func (m *Message) TunedInfo(t wire.Tuning) {
	var flags uint32
	if t.Promisc {
		flags |= unix.IFF_PROMISC
	}
	if t.AllMulti {
		flags |= unix.IFF_ALLMULTI
	}
	m.IfInfo(0, flags, flags)
	if t.TxQueueLen != nil {
		m.Native(unix.IFLA_TXQLEN, uint32(*t.TxQueueLen))
	}
}

// IpvlanMode returns the mode and flag that an ipvlan has, which are its parent's: "" for
// what dcni does not know.
func (i *Link) IpvlanMode() (mode, flag string) {
	nlsock.Attributes(i.info, func(typ uint16, data []byte) {
		if len(data) < 2 {
			return
		}
		switch n := binary.NativeEndian.Uint16(data); typ {
		case unix.IFLA_IPVLAN_MODE:
			mode = nameOf(ipvlanModes, n)
		case unix.IFLA_IPVLAN_FLAGS:
			flag = nameOf(ipvlanFlags, n)
		}
	})
	return mode, flag
}

func nameOf(numbers map[string]uint16, n uint16) string {
	for name, number := range numbers {
		if number == n {
			return name
		}
	}
	return ""
}

// SharedLink appends a new link: its name and kind, and the index of its parent, 0 for
// none.
func (m *Message) SharedLink(o *wire.SharedLink, kind string, parent int) {
	m.IfInfo(0, 0, 0)
	m.Str(unix.IFLA_IFNAME, o.Name)
	if parent != 0 {
		m.Native(unix.IFLA_LINK, uint32(parent))
	}
	info := m.Open(unix.IFLA_LINKINFO)
	m.Raw(unix.IFLA_INFO_KIND, []byte(kind))
	data := m.Open(unix.IFLA_INFO_DATA)
	switch kind {
	case wire.KindVLAN:
		m.Native16(unix.IFLA_VLAN_ID, uint16(o.VLAN))
	case wire.KindMacvlan:
		m.Native(unix.IFLA_MACVLAN_MODE, macvlanModes["bridge"])
	}
	m.Close(data)
	m.Close(info)
}
