package rtnl

import (
	"encoding/binary"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/nlsock"
)

// Link is what is asked of a link.
type Link struct {
	Index, Master, Peer int    // peer: the other end of a veth, in its namespace
	NSID                int    // number of the peer's namespace, -1: none, as for one that is here
	MTU                 int    // bytes
	Type                uint16 // of hardware, ARPHRD_ETHER for one
	Flags               uint32
	Hairpin, Isolated   bool // as the port of a bridge
	Learning, Suppress  bool // likewise: it learns MACs; it answers ARP and neighbour discovery itself
	Name, Kind, Alias   string
	MAC                 net.HardwareAddr
	conf4, conf6        []byte // the link's settings, see devconf
	info                []byte // what a kind of links has, see IpvlanMode
}

// Up reports whether the link is up.
func (i *Link) Up() bool { return i.Flags&unix.IFF_UP != 0 }

// Here stands for the namespace of the socket where a number of another would be.
const Here = -1

// LinkByName returns the link of a name. The error is unix.ENODEV if there is none.
func (r *Conn) LinkByName(name string) (*Link, error) {
	return r.getLink(0, func(m *Message) { m.Str(unix.IFLA_IFNAME, name) })
}

// LinkByIndex returns the link of an index.
func (r *Conn) LinkByIndex(index int) (*Link, error) { return r.getLink(index, func(*Message) {}) }

// skipStats is RTEXT_FILTER_SKIP_STATS.
const skipStats = 1 << 3

func (r *Conn) getLink(index int, by func(m *Message)) (*Link, error) {
	payloads, err := r.Request(unix.RTM_GETLINK, 0, func(m *Message) {
		m.IfInfo(index, 0, 0)
		by(m)
		m.Native(unix.IFLA_EXT_MASK, skipStats)
	})
	if err != nil {
		return nil, err
	}
	if len(payloads) == 0 || len(payloads[0]) < unix.SizeofIfInfomsg {
		return nil, fmt.Errorf("link: the kernel's answer is too short")
	}
	return ParseLink(payloads[0]), nil
}

// Links lists a namespace's links.
func (r *Conn) Links() ([]*Link, error) { return r.listLinks(func(*Message) {}) }

// Bridges lists the bridges.
func (r *Conn) Bridges() ([]*Link, error) { return r.LinksOf("bridge") }

// LinksOf lists the links of a kind.
func (r *Conn) LinksOf(kind string) ([]*Link, error) {
	return r.listLinks(func(m *Message) {
		info := m.Open(unix.IFLA_LINKINFO)
		m.Str(unix.IFLA_INFO_KIND, kind)
		m.Close(info)
	})
}

// Ports lists the ports of a bridge.
func (r *Conn) Ports(bridge int) ([]*Link, error) {
	return r.listLinks(func(m *Message) { m.Native(unix.IFLA_MASTER, uint32(bridge)) })
}

// listLinks lists those links that the kernel is asked for.
func (r *Conn) listLinks(which func(m *Message)) ([]*Link, error) {
	payloads, err := r.Request(unix.RTM_GETLINK, unix.NLM_F_DUMP, func(m *Message) {
		m.IfInfo(0, 0, 0)
		which(m)
		m.Native(unix.IFLA_EXT_MASK, skipStats)
	})
	var list []*Link
	for _, p := range payloads {
		if len(p) >= unix.SizeofIfInfomsg {
			list = append(list, ParseLink(p))
		}
	}
	return list, err
}

// ParseLink reads a link out of a message, behind its netlink header. It keeps slices of
// b, which must have the length of a struct ifinfomsg at least.
func ParseLink(b []byte) *Link {
	i := &Link{
		Type:  binary.NativeEndian.Uint16(b[2:]),
		Index: int(int32(binary.NativeEndian.Uint32(b[4:]))),
		Flags: binary.NativeEndian.Uint32(b[8:]),
		NSID:  Here,
	}
	nlsock.Attributes(b[unix.SizeofIfInfomsg:], func(typ uint16, data []byte) {
		number := func() int {
			if len(data) < 4 {
				return 0
			}
			return int(binary.NativeEndian.Uint32(data))
		}
		switch typ {
		case unix.IFLA_MASTER:
			i.Master = number()
		case unix.IFLA_LINK:
			i.Peer = number()
		case unix.IFLA_LINK_NETNSID:
			i.NSID = number()
		case unix.IFLA_MTU:
			i.MTU = number()
		case unix.IFLA_ADDRESS:
			i.MAC = data
		case unix.IFLA_IFNAME:
			i.Name = nlsock.CString(data)
		case unix.IFLA_IFALIAS:
			i.Alias = nlsock.CString(data)
		case unix.IFLA_AF_SPEC:
			i.parseAFSpec(data)
		case unix.IFLA_LINKINFO:
			i.parseLinkInfo(data)
		}
	})
	return i
}

// parseLinkInfo reads a link's kind, and how it is set as the port of a bridge.
func (i *Link) parseLinkInfo(data []byte) {
	nlsock.Attributes(data, func(typ uint16, data []byte) {
		switch typ {
		case unix.IFLA_INFO_KIND:
			i.Kind = nlsock.CString(data)
		case unix.IFLA_INFO_DATA:
			i.info = data
		case unix.IFLA_INFO_SLAVE_DATA:
			i.parsePort(data)
		}
	})
}

func (i *Link) parsePort(data []byte) {
	nlsock.Attributes(data, func(typ uint16, data []byte) {
		on := len(data) > 0 && data[0] != 0
		switch typ {
		case unix.IFLA_BRPORT_MODE:
			i.Hairpin = on
		case unix.IFLA_BRPORT_ISOLATED:
			i.Isolated = on
		case unix.IFLA_BRPORT_LEARNING:
			i.Learning = on
		case unix.IFLA_BRPORT_NEIGH_SUPPRESS:
			i.Suppress = on
		}
	})
}

// SetUp raises or lowers a link.
func (r *Conn) SetUp(index int, up bool) error {
	var flags uint32
	if up {
		flags = unix.IFF_UP
	}
	return r.Change(unix.RTM_NEWLINK, 0, func(m *Message) { m.IfInfo(index, flags, unix.IFF_UP) })
}

// DelLink deletes a link by name.
func (r *Conn) DelLink(name string) error {
	return r.Change(unix.RTM_DELLINK, 0, func(m *Message) {
		m.IfInfo(0, 0, 0)
		m.Str(unix.IFLA_IFNAME, name)
	})
}

// DelIndex deletes the link of an index.
func (r *Conn) DelIndex(index int) error {
	return r.Change(unix.RTM_DELLINK, 0, func(m *Message) { m.IfInfo(index, 0, 0) })
}

// Peers asks for the other ends of veths, all in one exchange and from here: no
// namespace is entered. It has nil for those that are gone.
func (r *Conn) Peers(ends []*Link) []*Link {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*Link, len(ends))
	var m Message
	first := r.conn.Seq + 1
	for _, end := range ends {
		at := m.Begin(unix.RTM_GETLINK, 0, r.conn.Next())
		m.IfInfo(end.Peer, 0, 0)
		m.Native(unix.IFLA_TARGET_NETNSID, uint32(end.NSID))
		m.Native(unix.IFLA_EXT_MASK, skipStats)
		m.End(at)
	}
	replies, _ := r.conn.RoundTrip(m.B) // what is lost is looked at the next time
	for _, reply := range replies {
		if i := reply.Seq - first; i < uint32(len(list)) && reply.Type == unix.RTM_NEWLINK && len(reply.Data) >= unix.SizeofIfInfomsg {
			list[i] = ParseLink(reply.Data)
		}
	}
	return list
}
