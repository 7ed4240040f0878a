package rtnl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/nlsock"
	"dcni/pkg/wire"
)

// ChangeRoute adds a route through a link (RTM_NEWROUTE) or takes it (RTM_DELROUTE).
func (r *Conn) ChangeRoute(typ uint16, index int, o *wire.Route) error {
	var flags uint16
	switch {
	case typ == unix.RTM_NEWROUTE && o.Src.IsValid():
		flags = unix.NLM_F_CREATE | unix.NLM_F_REPLACE
	case typ == unix.RTM_NEWROUTE:
		flags = unix.NLM_F_CREATE | unix.NLM_F_EXCL
	}
	return r.Change(typ, flags, func(m *Message) {
		m.rtmsg(o)
		m.Native(unix.RTA_OIF, uint32(index))
		if o.Dst.Bits() > 0 {
			m.Raw(unix.RTA_DST, o.Dst.Addr().AsSlice())
		}
		if o.Via.IsValid() {
			m.Raw(unix.RTA_GATEWAY, o.Via.AsSlice())
		}
		if o.Src.IsValid() {
			m.Raw(unix.RTA_PREFSRC, o.Src.AsSlice())
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

func (m *Message) metric(typ uint16, v int) {
	if v != 0 {
		m.Native(typ, uint32(v))
	}
}

// AddSingle adds an on-link route to one address, with the address that packets carry.
func (r *Conn) AddSingle(index int, to, from netip.Addr, metric int) error {
	return r.Change(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, func(m *Message) {
		m.rtmsg(&wire.Route{Dst: netip.PrefixFrom(to, to.BitLen())})
		m.Native(unix.RTA_OIF, uint32(index))
		m.Raw(unix.RTA_DST, to.AsSlice())
		m.Raw(unix.RTA_PREFSRC, from.AsSlice())
		m.Native(unix.RTA_PRIORITY, uint32(metric))
	})
}

// rtmsg appends a struct rtmsg.
func (m *Message) rtmsg(o *wire.Route) {
	family, scope := Family(o.Dst.Addr()), byte(o.Scope)
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

// Internet are addresses of the public Internet, one of each family. Nothing is sent to them:
// the kernel says which link it would take.
var Internet = []netip.Addr{netip.MustParseAddr("1.1.1.1"), netip.MustParseAddr("2606:4700:4700::1111")}

// Uplink returns the link that leads out, IPv4 first, and the MTU of the way in bytes: of the
// link, or of the route if that has a smaller one. "", 0: there is none.
func (r *Conn) Uplink() (name string, mtu int) {
	for _, a := range Internet {
		way, err := r.WayTo(a)
		if err != nil || way.Index == 0 {
			continue
		}
		l, err := r.LinkByIndex(way.Index)
		if err != nil || l.Flags&unix.IFF_LOOPBACK != 0 || l.MTU <= 0 {
			continue // it went, or is none
		}
		if way.MTU > 0 {
			return l.Name, min(l.MTU, way.MTU)
		}
		return l.Name, l.MTU
	}
	return "", 0
}

// RouteTo returns the index of the link that packets to an address leave by, and
// the address that they carry.
func (r *Conn) RouteTo(a netip.Addr) (index int, source netip.Addr, err error) {
	way, err := r.WayTo(a)
	return way.Index, way.Source, err
}

// A Way is how packets to an address leave.
type Way struct {
	Index   int        // of the link
	Source  netip.Addr // that they carry
	Gateway netip.Addr // the zero Addr: the destination is on the link
	MTU     int        // bytes, of the route itself; 0: it has none
}

// String names what leads packets there, but not their size.
func (w Way) String() string {
	if w.Index == 0 {
		return "nowhere"
	}
	s := fmt.Sprintf("%v by link %d", w.Source, w.Index)
	if w.Gateway.IsValid() {
		s += " via " + w.Gateway.String()
	}
	return s
}

// WayTo returns how packets to an address leave.
func (r *Conn) WayTo(a netip.Addr) (way Way, err error) {
	return r.WayToPort(netip.AddrPortFrom(a, 0))
}

// WayToPort returns how UDP datagrams to a port leave, which rules of routing may name. Port 0 is
// none: how any packets leave. Zones are names of links.
func (r *Conn) WayToPort(to netip.AddrPort) (way Way, err error) {
	var zone *Link
	if name := to.Addr().Zone(); name != "" {
		if zone, err = r.LinkByName(name); err != nil {
			return way, err
		}
	}
	payloads, err := r.Request(unix.RTM_GETROUTE, 0, func(m *Message) {
		m.B = append(m.B, Family(to.Addr()), byte(to.Addr().BitLen()), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) // struct rtmsg
		m.Raw(unix.RTA_DST, to.Addr().AsSlice())
		if to.Port() != 0 {
			m.Raw(unix.RTA_IP_PROTO, []byte{unix.IPPROTO_UDP})
			m.Raw(unix.RTA_DPORT, binary.BigEndian.AppendUint16(nil, to.Port()))
		}
		if zone != nil {
			m.Native(unix.RTA_OIF, uint32(zone.Index))
		}
	})
	if err != nil {
		return way, err
	}
	for _, p := range payloads {
		way.parse(p)
	}
	return way, nil
}

// parse reads a way out of a message, behind its netlink header. The MTU of one
// destination, which the kernel has learned and forgets again, is no route's.
func (w *Way) parse(b []byte) {
	if len(b) < unix.SizeofRtMsg {
		return
	}
	learned := false
	nlsock.Attributes(b[unix.SizeofRtMsg:], func(typ uint16, data []byte) {
		switch {
		case typ == unix.RTA_OIF && len(data) >= 4:
			w.Index = int(binary.NativeEndian.Uint32(data))
		case typ == unix.RTA_PREFSRC:
			w.Source, _ = netip.AddrFromSlice(data)
		case typ == unix.RTA_GATEWAY:
			w.Gateway, _ = netip.AddrFromSlice(data)
		case typ == unix.RTA_VIA && len(data) > 2: // struct rtvia: the family, in the host's byte order, and an address of that
			w.Gateway, _ = netip.AddrFromSlice(data[2:])
		case typ == unix.RTA_METRICS:
			nlsock.Attributes(data, func(typ uint16, data []byte) {
				if typ == unix.RTAX_MTU && len(data) >= 4 {
					w.MTU = int(binary.NativeEndian.Uint32(data))
				}
			})
		case typ == unix.RTA_CACHEINFO && len(data) >= 12: // struct rta_cacheinfo: clntref, lastuse, expires
			learned = binary.NativeEndian.Uint32(data[8:]) != 0
		}
	})
	if learned {
		w.MTU = 0
	}
}

// A Route is what is asked of a route.
type Route struct {
	Dst             netip.Prefix
	Via             netip.Addr // the zero Addr: on the link
	Src             netip.Addr // that packets carry; the zero Addr: the route does not say
	Index           int        // of the link; 0: none, or several
	Table, Metric   int
	Protocol, Scope byte
}

// Routes lists unicast routes of a family: of one table, for 0 of all, and through one
// link, for 0 through any.
func (r *Conn) Routes(family byte, table, index int) ([]Route, error) {
	payloads, err := r.Request(unix.RTM_GETROUTE, unix.NLM_F_DUMP, func(m *Message) {
		m.B = append(m.B, family, 0, 0, 0, 0, 0, 0, unix.RTN_UNICAST, 0, 0, 0, 0) // struct rtmsg
		if table != 0 {
			m.Native(unix.RTA_TABLE, uint32(table))
		}
		if index != 0 {
			m.Native(unix.RTA_OIF, uint32(index))
		}
	})
	if errors.Is(err, unix.ENOENT) {
		return nil, nil // no such table
	}
	var list []Route
	for _, p := range payloads {
		have, ok := parseRoute(p)
		if ok && (table == 0 || have.Table == table) && (index == 0 || have.Index == index) {
			list = append(list, have)
		}
	}
	return list, err
}

// parseRoute reads a route out of a message, behind its netlink header.
func parseRoute(b []byte) (r Route, ok bool) {
	if len(b) < unix.SizeofRtMsg {
		return r, false
	}
	const cloned = unix.RTM_F_CLONED // of a cache
	if b[7] != unix.RTN_UNICAST || binary.NativeEndian.Uint32(b[8:])&cloned != 0 {
		return r, false
	}
	r.Table, r.Protocol, r.Scope = int(b[4]), b[5], b[6]
	dst := netip.IPv4Unspecified()
	if b[0] == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	nlsock.Attributes(b[unix.SizeofRtMsg:], func(typ uint16, data []byte) {
		number := func() int {
			if len(data) < 4 {
				return 0
			}
			return int(binary.NativeEndian.Uint32(data))
		}
		switch typ {
		case unix.RTA_DST:
			dst, _ = netip.AddrFromSlice(data)
		case unix.RTA_GATEWAY:
			r.Via, _ = netip.AddrFromSlice(data)
		case unix.RTA_PREFSRC:
			r.Src, _ = netip.AddrFromSlice(data)
		case unix.RTA_OIF:
			r.Index = number()
		case unix.RTA_TABLE:
			r.Table = number()
		case unix.RTA_PRIORITY:
			r.Metric = number()
		}
	})
	r.Dst = netip.PrefixFrom(dst, int(b[1]))
	return r, r.Dst.IsValid()
}

// DelRoute deletes a route as it was listed.
func (r *Conn) DelRoute(o Route) error {
	return r.Change(unix.RTM_DELROUTE, 0, func(m *Message) {
		m.B = append(m.B, Family(o.Dst.Addr()), byte(o.Dst.Bits()), 0, 0, unix.RT_TABLE_UNSPEC, o.Protocol, o.Scope, unix.RTN_UNICAST)
		m.B = binary.NativeEndian.AppendUint32(m.B, 0)
		m.Raw(unix.RTA_DST, o.Dst.Addr().AsSlice())
		if o.Via.IsValid() {
			m.Raw(unix.RTA_GATEWAY, o.Via.AsSlice())
		}
		m.Native(unix.RTA_OIF, uint32(o.Index))
		m.Native(unix.RTA_PRIORITY, uint32(o.Metric))
		m.Native(unix.RTA_TABLE, uint32(o.Table))
	})
}

func (r Route) String() string {
	s := "route " + r.Dst.String()
	if r.Dst.Bits() == 0 {
		s = "route default"
	}
	if r.Via.IsValid() {
		s += " via " + r.Via.String()
	}
	return s
}
