package rtnl

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/nlsock"
	"dcni/pkg/wire"
)

// ChangeRoute adds a route through a link (RTM_NEWROUTE) or takes it (RTM_DELROUTE).
func (r *Conn) ChangeRoute(typ uint16, index int, o *wire.Route) error {
	var flags uint16
	if typ == unix.RTM_NEWROUTE {
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

// RouteTo returns the index of the link that packets to an address leave by, and
// the address that they carry.
func (r *Conn) RouteTo(a netip.Addr) (index int, source netip.Addr, err error) {
	payloads, err := r.Request(unix.RTM_GETROUTE, 0, func(m *Message) {
		m.B = append(m.B, Family(a), byte(a.BitLen()), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) // struct rtmsg
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
