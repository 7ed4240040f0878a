package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/nlsock"
	"dcni/pkg/wire"
)

// rtnl speaks rtnetlink with one network namespace: the handful of messages
// that every ADD and DEL sends. vishvananda/netlink, which does all else here,
// reads each answer into a new buffer of 64 KiB and describes a link with all
// its counters; in a process that lives four milliseconds that is a tenth.
type rtnl struct {
	mu   sync.Mutex // one exchange at a time
	conn *nlsock.Conn
}

// iface is what is asked of a link.
type iface struct {
	index, master, peer int // peer: the other end of a veth, in its namespace
	nsid                int // number of the peer's namespace, -1: none, as for one that is here
	mtu                 int // bytes
	flags               uint32
	hairpin, isolated   bool // as the port of a bridge
	name, kind, alias   string
	mac                 net.HardwareAddr
	conf4, conf6        []byte // the link's settings, see devconf
}

func (i *iface) up() bool { return i.flags&unix.IFF_UP != 0 }

// here stands for the namespace of the socket where a number of another would be.
const here = -1

// dialRTNL opens a socket in the network namespace of the calling thread.
func dialRTNL() (*rtnl, error) {
	conn, err := nlsock.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	// Dumps then look at what was asked for only. A kernel that does not know
	// it lists all, which readers sort out.
	_ = unix.SetsockoptInt(conn.FD, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	return &rtnl{conn: conn}, nil
}

// cookie returns the namespace's, see [netns.NS.Cookie].
func (r *rtnl) cookie() (uint64, error) {
	cookie, err := unix.GetsockoptUint64(r.conn.FD, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	return cookie, os.NewSyscallError("getsockopt", err)
}

// close waits for the exchange that is under way; later ones fail.
func (r *rtnl) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conn.Close()
	r.conn.FD = -1
}

// request builds a message and returns what it yields.
func (r *rtnl) request(typ, flags uint16, body func(m *rtMessage)) ([][]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var m rtMessage
	at := m.Begin(typ, flags, r.conn.Next())
	body(&m)
	m.End(at)
	return r.conn.Dump(m.B)
}

// change sends a message that changes something, and waits for it.
func (r *rtnl) change(typ, flags uint16, body func(m *rtMessage)) error {
	_, err := r.request(typ, flags|unix.NLM_F_ACK, body)
	return err
}

// A rtMessage is a message of rtnetlink.
type rtMessage struct{ nlsock.Message }

// ifinfo appends a struct ifinfomsg.
func (m *rtMessage) ifinfo(index int, flags, change uint32) {
	m.B = append(m.B, unix.AF_UNSPEC, 0, 0, 0)
	for _, v := range []uint32{uint32(index), flags, change} {
		m.B = binary.NativeEndian.AppendUint32(m.B, v)
	}
}

// link returns the link of a name. The error is unix.ENODEV if there is none.
func (r *rtnl) link(name string) (*iface, error) {
	return r.getLink(0, func(m *rtMessage) { m.Str(unix.IFLA_IFNAME, name) })
}

// linkAt returns the link of an index.
func (r *rtnl) linkAt(index int) (*iface, error) { return r.getLink(index, func(*rtMessage) {}) }

// skipStats is RTEXT_FILTER_SKIP_STATS.
const skipStats = 1 << 3

func (r *rtnl) getLink(index int, by func(m *rtMessage)) (*iface, error) {
	payloads, err := r.request(unix.RTM_GETLINK, 0, func(m *rtMessage) {
		m.ifinfo(index, 0, 0)
		by(m)
		m.Native(unix.IFLA_EXT_MASK, skipStats)
	})
	if err != nil {
		return nil, err
	}
	if len(payloads) == 0 || len(payloads[0]) < unix.SizeofIfInfomsg {
		return nil, fmt.Errorf("link: the kernel's answer is too short")
	}
	return parseIface(payloads[0]), nil
}

// links lists a namespace's links.
func (r *rtnl) links() ([]*iface, error) { return r.listLinks(func(*rtMessage) {}) }

// bridges lists the bridges.
func (r *rtnl) bridges() ([]*iface, error) {
	return r.listLinks(func(m *rtMessage) {
		info := m.Open(unix.IFLA_LINKINFO)
		m.Str(unix.IFLA_INFO_KIND, "bridge")
		m.Close(info)
	})
}

// ports lists the ports of a bridge.
func (r *rtnl) ports(bridge int) ([]*iface, error) {
	return r.listLinks(func(m *rtMessage) { m.Native(unix.IFLA_MASTER, uint32(bridge)) })
}

// listLinks lists those links that the kernel is asked for.
func (r *rtnl) listLinks(which func(m *rtMessage)) ([]*iface, error) {
	payloads, err := r.request(unix.RTM_GETLINK, unix.NLM_F_DUMP, func(m *rtMessage) {
		m.ifinfo(0, 0, 0)
		which(m)
		m.Native(unix.IFLA_EXT_MASK, skipStats)
	})
	var list []*iface
	for _, p := range payloads {
		if len(p) >= unix.SizeofIfInfomsg {
			list = append(list, parseIface(p))
		}
	}
	return list, err
}

func parseIface(b []byte) *iface {
	i := &iface{
		index: int(int32(binary.NativeEndian.Uint32(b[4:]))),
		flags: binary.NativeEndian.Uint32(b[8:]),
		nsid:  here,
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
			i.master = number()
		case unix.IFLA_LINK:
			i.peer = number()
		case unix.IFLA_LINK_NETNSID:
			i.nsid = number()
		case unix.IFLA_MTU:
			i.mtu = number()
		case unix.IFLA_ADDRESS:
			i.mac = data
		case unix.IFLA_IFNAME:
			i.name = nlsock.CString(data)
		case unix.IFLA_IFALIAS:
			i.alias = nlsock.CString(data)
		case unix.IFLA_AF_SPEC:
			i.parseAFSpec(data)
		case unix.IFLA_LINKINFO:
			i.parseLinkInfo(data)
		}
	})
	return i
}

// parseLinkInfo reads a link's kind, and how it is set as the port of a bridge.
func (i *iface) parseLinkInfo(data []byte) {
	nlsock.Attributes(data, func(typ uint16, data []byte) {
		switch typ {
		case unix.IFLA_INFO_KIND:
			i.kind = nlsock.CString(data)
		case unix.IFLA_INFO_SLAVE_DATA:
			i.parsePort(data)
		}
	})
}

func (i *iface) parsePort(data []byte) {
	nlsock.Attributes(data, func(typ uint16, data []byte) {
		on := len(data) > 0 && data[0] != 0
		switch typ {
		case unix.IFLA_BRPORT_MODE:
			i.hairpin = on
		case unix.IFLA_BRPORT_ISOLATED:
			i.isolated = on
		}
	})
}

// setUp raises or lowers a link.
func (r *rtnl) setUp(index int, up bool) error {
	var flags uint32
	if up {
		flags = unix.IFF_UP
	}
	return r.change(unix.RTM_NEWLINK, 0, func(m *rtMessage) { m.ifinfo(index, flags, unix.IFF_UP) })
}

// delLink deletes a link by name.
func (r *rtnl) delLink(name string) error {
	return r.change(unix.RTM_DELLINK, 0, func(m *rtMessage) {
		m.ifinfo(0, 0, 0)
		m.Str(unix.IFLA_IFNAME, name)
	})
}

// addr adds an address to a link (RTM_NEWADDR) or takes it (RTM_DELADDR).
func (r *rtnl) addr(typ uint16, index int, p netip.Prefix) error {
	var flags uint16
	if typ == unix.RTM_NEWADDR {
		flags = unix.NLM_F_CREATE | unix.NLM_F_EXCL
	}
	return r.change(typ, flags, func(m *rtMessage) {
		family, nodad := byte(unix.AF_INET), byte(0)
		if p.Addr().Is6() {
			family, nodad = unix.AF_INET6, unix.IFA_F_NODAD
		}
		m.B = append(m.B, family, byte(p.Bits()), nodad, unix.RT_SCOPE_UNIVERSE) // struct ifaddrmsg
		m.B = binary.NativeEndian.AppendUint32(m.B, uint32(index))
		m.Raw(unix.IFA_LOCAL, p.Addr().AsSlice())
		m.Raw(unix.IFA_ADDRESS, p.Addr().AsSlice())
		if broadcast, ok := broadcastOf(p); ok {
			m.Raw(unix.IFA_BROADCAST, broadcast)
		}
	})
}

// broadcastOf returns an IPv4 subnet's broadcast address, where it has one
// (RFC 3021: a /31 has none).
func broadcastOf(p netip.Prefix) ([]byte, bool) {
	const most = 30
	if !p.Addr().Is4() || p.Bits() > most {
		return nil, false
	}
	a := p.Addr().As4()
	host := uint32(1)<<(32-p.Bits()) - 1
	return binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(a[:])|host), true
}

// addrs lists the addresses of one family on one link, or for 0 on all.
func (r *rtnl) addrs(index, family int) ([]netip.Prefix, error) {
	payloads, err := r.request(unix.RTM_GETADDR, unix.NLM_F_DUMP, func(m *rtMessage) {
		m.B = append(m.B, byte(family), 0, 0, 0) // struct ifaddrmsg
		m.B = binary.NativeEndian.AppendUint32(m.B, uint32(index))
	})
	if err != nil {
		return nil, err
	}
	var list []netip.Prefix
	for _, p := range payloads {
		if len(p) < unix.SizeofIfAddrmsg || index != 0 && binary.NativeEndian.Uint32(p[4:]) != uint32(index) {
			continue
		}
		if ip, ok := addrOf(p[unix.SizeofIfAddrmsg:]); ok {
			list = append(list, netip.PrefixFrom(ip, int(p[1])))
		}
	}
	return list, nil
}

// addrOf returns the address in a message's attributes. On a point-to-point
// link IFA_ADDRESS is the other end's, and IFA_LOCAL is there as well.
func addrOf(attrs []byte) (ip netip.Addr, ok bool) {
	var local bool
	nlsock.Attributes(attrs, func(typ uint16, data []byte) {
		if typ == unix.IFA_LOCAL || typ == unix.IFA_ADDRESS && !local {
			ip, ok = netip.AddrFromSlice(data)
			local = typ == unix.IFA_LOCAL
		}
	})
	return ip, ok
}

// route adds a route through a link (RTM_NEWROUTE) or takes it (RTM_DELROUTE).
func (r *rtnl) route(typ uint16, index int, o *wire.Route) error {
	var flags uint16
	if typ == unix.RTM_NEWROUTE {
		flags = unix.NLM_F_CREATE | unix.NLM_F_EXCL
	}
	return r.change(typ, flags, func(m *rtMessage) {
		m.rtmsg(o)
		m.Native(unix.RTA_OIF, uint32(index))
		if o.Dst.Bits() > 0 {
			m.Raw(unix.RTA_DST, o.Dst.Addr().AsSlice())
		}
		if o.Via.IsValid() {
			m.Raw(unix.RTA_GATEWAY, o.Via.AsSlice())
		}
		if o.Metric != 0 {
			m.Native(unix.RTA_PRIORITY, uint32(o.Metric))
		}
		if o.Table != 0 {
			m.Native(unix.RTA_TABLE, uint32(o.Table))
		}
		if o.MTU != 0 || o.AdvMSS != 0 {
			at := m.Open(unix.RTA_METRICS)
			m.metric(unix.RTAX_MTU, o.MTU)
			m.metric(unix.RTAX_ADVMSS, o.AdvMSS)
			m.Close(at)
		}
	})
}

func (m *rtMessage) metric(typ uint16, v int) {
	if v != 0 {
		m.Native(typ, uint32(v))
	}
}

// rtmsg appends a struct rtmsg.
func (m *rtMessage) rtmsg(o *wire.Route) {
	family, scope := rtFamily(o.Dst.Addr()), byte(o.Scope)
	if !o.HasScope && !o.Via.IsValid() {
		scope = unix.RT_SCOPE_LINK
	}
	table := byte(unix.RT_TABLE_MAIN)
	if o.Table != 0 {
		table = unix.RT_TABLE_UNSPEC // RTA_TABLE has it: it may be above 255
	}
	var flags uint32
	if o.OnLink {
		flags = unix.RTNH_F_ONLINK
	}
	m.B = append(m.B, family, byte(o.Dst.Bits()), 0, 0, table, unix.RTPROT_BOOT, scope, unix.RTN_UNICAST)
	m.B = binary.NativeEndian.AppendUint32(m.B, flags)
}

// wayTo returns the index of the link that packets to an address leave by, and
// the address that they carry.
func (r *rtnl) wayTo(a netip.Addr) (index int, source netip.Addr, err error) {
	payloads, err := r.request(unix.RTM_GETROUTE, 0, func(m *rtMessage) {
		m.B = append(m.B, rtFamily(a), byte(a.BitLen()), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) // struct rtmsg
		m.Raw(unix.RTA_DST, a.AsSlice())
	})
	if err != nil {
		return 0, source, err
	}
	for _, p := range payloads {
		if len(p) < unix.SizeofRtMsg {
			continue
		}
		nlsock.Attributes(p[unix.SizeofRtMsg:], func(typ uint16, data []byte) {
			switch {
			case typ == unix.RTA_OIF && len(data) >= 4:
				index = int(binary.NativeEndian.Uint32(data))
			case typ == unix.RTA_PREFSRC:
				source, _ = netip.AddrFromSlice(data)
			}
		})
	}
	return index, source, nil
}

// A rtRequest is one message of an exchange.
type rtRequest struct {
	typ, flags uint16
	body       func(m *rtMessage)
}

// exchange sends messages at once. Of their errors it returns those that are
// none of the expected ones.
func (r *rtnl) exchange(steps []rtRequest, expected ...error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var m rtMessage
	for _, s := range steps {
		at := m.Begin(s.typ, s.flags|unix.NLM_F_ACK, r.conn.Next())
		s.body(&m)
		m.End(at)
	}
	replies, err := r.conn.RoundTrip(m.B)
	errs := []error{err}
	for _, r := range replies {
		if !slices.ContainsFunc(expected, func(e error) bool { return errors.Is(r.Err, e) }) {
			errs = append(errs, r.Err)
		}
	}
	return errors.Join(errs...)
}

// peers asks for the other ends of veths, all in one exchange and from here: no
// namespace is entered. It has nil for those that are gone.
func (r *rtnl) peers(ends []*iface) []*iface {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*iface, len(ends))
	var m rtMessage
	first := r.conn.Seq + 1
	for _, end := range ends {
		at := m.Begin(unix.RTM_GETLINK, 0, r.conn.Next())
		m.ifinfo(end.peer, 0, 0)
		m.Native(unix.IFLA_TARGET_NETNSID, uint32(end.nsid))
		m.Native(unix.IFLA_EXT_MASK, skipStats)
		m.End(at)
	}
	replies, _ := r.conn.RoundTrip(m.B) // what is lost is looked at the next time
	for _, reply := range replies {
		if i := reply.Seq - first; i < uint32(len(list)) && reply.Type == unix.RTM_NEWLINK && len(reply.Data) >= unix.SizeofIfInfomsg {
			list[i] = parseIface(reply.Data)
		}
	}
	return list
}
