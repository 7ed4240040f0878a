// Package conntrack makes the kernel forget connections. Connection tracking outlives
// what it tracks: a UDP peer that goes on sending stays bound to the container that
// had the port or the address before.
package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
	"dcni/pkg/host/hostports"
	"dcni/pkg/host/nlsock"
)

// The kernel filters what it lists (since 5.8; older ones list all, so each entry is
// looked at here as well). A kernel without connection tracking has nothing to
// forget.

// flow is one entry: the tuple a connection began with, and that of answers.
type flow struct {
	orig, answer tuple
	key          []byte // CTA_TUPLE_ORIG as listed
	id           []byte // CTA_ID: not a later entry of the same tuple
	zone         []byte // CTA_ZONE, or nil
	family       uint8
}

type tuple struct {
	src, dst netip.Addr
	proto    byte
	dstPort  uint16
}

// Numbers of ctnetlink.
const (
	ctGet, ctDelete                          = 1, 2
	ctaTupleOrig, ctaTupleReply              = 1, 2
	ctaID, ctaZone, ctaFilter                = 12, 18, 25
	ctaTupleIP, ctaTupleProto                = 1, 2
	ctaProtoNum, ctaProtoDstPort             = 1, 3
	filterOrig, filterReply                  = 1, 2
	filterIPSrc, filterProto, filterPortDest = 1 << 0, 1 << 3, 1 << 5
)

// ctFilter says which entries are wanted: by the source of one direction, or by
// protocol and original destination port. Zero means any.
type ctFilter struct {
	family uint8
	reply  bool // src is that of answers
	src    netip.Addr
	proto  byte
	port   uint16
}

// FlushAddresses forgets all connections from and to some addresses.
func FlushAddresses(addrs []netip.Addr) error {
	plain := make([]netip.Addr, len(addrs))
	for i, a := range addrs {
		plain[i] = a.Unmap()
	}
	match := func(f flow) bool {
		return slices.ContainsFunc(plain, func(a netip.Addr) bool { return f.orig.src == a || f.orig.dst == a || f.answer.src == a })
	}
	return flushFlows(match, addressFilters(plain, countConnections())...)
}

// FlushTo forgets the connections to addresses that are rewritten to others than each one's, in
// the network namespace of the calling thread. It walks the table once.
func FlushTo(kept map[netip.Addr][]netip.Addr) error {
	if len(kept) == 0 {
		return nil
	}
	return flushFlows(func(f flow) bool {
		to, is := kept[f.orig.dst]
		return is && !slices.Contains(to, f.answer.src)
	}, ctFilter{})
}

// FlushIngress forgets the connections to ports of the host that lead to others than the port's.
// Those that lead nowhere, as to a program of the host, are left alone. It walks the table once.
func FlushIngress(kept map[firewall.HostPort][]netip.Addr) error {
	if len(kept) == 0 {
		return nil
	}
	protocols := map[byte]string{}
	for name, number := range hostports.Protocols {
		protocols[number] = name
	}
	local := map[netip.Addr]bool{}
	return flushFlows(func(f flow) bool {
		to, is := kept[firewall.HostPort{V6: f.orig.dst.Is6(), Protocol: protocols[f.orig.proto], Port: f.orig.dstPort}]
		if !is || f.answer.src == f.orig.dst || slices.Contains(to, f.answer.src) {
			return false
		}
		ours, _ := hostports.IsLocal(local, f.orig.dst) // left alone where that is not to be learnt
		return ours
	}, ctFilter{})
}

// addressFilters lists what some addresses take part in, among n connections.
// Kernels have the comparison of IPv6 addresses upside down (seen in 6.18: all
// are listed but those asked for), so there the family has to do.
func addressFilters(addrs []netip.Addr, n int) (list []ctFilter) {
	if n < fewConnections && len(addrs) > 0 {
		return []ctFilter{{}}
	}
	for _, a := range addrs {
		if a.Is6() {
			continue
		}
		from := ctFilter{family: unix.AF_INET, src: a}
		to := from
		to.reply = true // the answering address is the container's, also behind a published port
		list = append(list, from, to)
	}
	if slices.ContainsFunc(addrs, netip.Addr.Is6) {
		list = append(list, ctFilter{family: unix.AF_INET6})
	}
	return list
}

// fewConnections is up to how many it is cheaper to list all once
// than to have the kernel walk its table for each filter: the walk takes 5 ms
// where the table has 262,144 buckets, however few connections there are.
const fewConnections = 4096

// countConnections returns how many connections the namespace has: many, if the
// kernel doesn't say.
func countConnections() int {
	text, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
	if err != nil {
		return math.MaxInt
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return math.MaxInt
	}
	return n
}

// FlushPorts forgets the UDP connections to published host ports. Connections
// through this host to the same port elsewhere are left alone.
func FlushPorts(ports []firewall.Port) error {
	byPort := make(map[uint16][]firewall.Port)
	for _, p := range ports {
		if p.Protocol == "udp" && p.HostPort != 0 {
			byPort[p.HostPort] = append(byPort[p.HostPort], p)
		}
	}
	local := make(map[netip.Addr]bool)
	match := func(f flow) bool {
		if f.orig.proto != unix.IPPROTO_UDP {
			return false
		}
		for _, p := range byPort[f.orig.dstPort] {
			if !p.Family(f.orig.dst.Is6()) {
				continue
			}
			ours := p.HostIP.Unmap() == f.orig.dst
			if !ours && p.Any() {
				ours, _ = hostports.IsLocal(local, f.orig.dst) // left alone where that is not to be learnt
			}
			if ours {
				return true
			}
		}
		return false
	}
	return flushFlows(match, portFilters(byPort, countConnections())...)
}

// portFilters lists UDP connections, among n: to the port if there is only one.
// The kernel filters within a family only.
func portFilters(byPort map[uint16][]firewall.Port, n int) []ctFilter {
	if len(byPort) == 0 {
		return nil
	}
	if n < fewConnections {
		return []ctFilter{{}}
	}
	f := ctFilter{family: unix.AF_INET, proto: unix.IPPROTO_UDP}
	if len(byPort) == 1 {
		for port := range byPort {
			f.port = port
		}
	}
	f6 := f
	f6.family = unix.AF_INET6
	return []ctFilter{f, f6}
}

// flushFlows deletes what the filters list and match confirms.
func flushFlows(match func(flow) bool, filters ...ctFilter) error {
	if len(filters) == 0 || countConnections() == 0 {
		return nil
	}
	conn, err := nlsock.Dial(unix.NETLINK_NETFILTER)
	if noConntrack(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, filter := range filters {
		flows, err := listFlows(conn, filter)
		if noConntrack(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list connections: %w", err)
		}
		for _, f := range flows {
			if !match(f) {
				continue
			}
			if err := deleteFlow(conn, f); err != nil {
				return fmt.Errorf("forget connection %s to %s: %w", f.orig.src, f.orig.dst, err)
			}
		}
	}
	return nil
}

// noConntrack reports whether the kernel lacks the subsystem.
func noConntrack(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT)
}

// ctType is the netlink type of a ctnetlink message.
func ctType(msg uint16) uint16 { return unix.NFNL_SUBSYS_CTNETLINK<<8 | msg }

// listFlows lists entries. A kernel that can't filter this way lists all.
func listFlows(c *nlsock.Conn, filter ctFilter) ([]flow, error) {
	request := func(filtered bool) []byte {
		var m nlsock.Message
		at := m.Begin(ctType(ctGet), unix.NLM_F_DUMP, c.Next())
		m.NFHeader(filter.family, 0)
		if filtered && (filter.src.IsValid() || filter.proto != 0) {
			filter.append(&m)
		}
		m.End(at)
		return m.B
	}
	payloads, err := c.Dump(request(true))
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		payloads, err = c.Dump(request(false))
	}
	if err != nil {
		return nil, err
	}
	flows := make([]flow, 0, len(payloads))
	for _, p := range payloads {
		if f, ok := parseFlow(p); ok {
			flows = append(flows, f)
		}
	}
	return flows, nil
}

func (f ctFilter) append(m *nlsock.Message) {
	direction, which := uint16(ctaTupleOrig), uint16(filterOrig)
	if f.reply {
		direction, which = ctaTupleReply, filterReply
	}
	var flags uint32
	at := m.Open(direction)
	if f.src.IsValid() {
		flags |= filterIPSrc
		ip := m.Open(ctaTupleIP)
		m.Raw(ctIPSource(f.src.Is6()), f.src.AsSlice())
		m.Close(ip)
	}
	if f.proto != 0 {
		flags |= filterProto
		proto := m.Open(ctaTupleProto)
		m.Raw(ctaProtoNum, []byte{f.proto})
		if f.port != 0 {
			flags |= filterPortDest
			m.Raw(ctaProtoDstPort, binary.BigEndian.AppendUint16(nil, f.port))
		}
		m.Close(proto)
	}
	m.Close(at)
	at = m.Open(ctaFilter)
	m.Raw(which, nlsock.Native32(flags))
	m.Close(at)
}

// ctIPSource is CTA_IP_V4_SRC or CTA_IP_V6_SRC; the destination's is one more.
func ctIPSource(v6 bool) uint16 {
	if v6 {
		return 3
	}
	return 1
}

func parseFlow(payload []byte) (f flow, ok bool) {
	if len(payload) < 4 {
		return f, false
	}
	f.family = payload[0]
	nlsock.Attributes(payload[4:], func(typ uint16, data []byte) {
		switch typ {
		case ctaTupleOrig:
			f.key, f.orig = data, parseTuple(data)
		case ctaTupleReply:
			f.answer = parseTuple(data)
		case ctaID:
			f.id = data
		case ctaZone:
			f.zone = data
		}
	})
	return f, f.key != nil
}

func parseTuple(b []byte) (t tuple) {
	nlsock.Attributes(b, func(typ uint16, data []byte) {
		switch typ {
		case ctaTupleIP:
			nlsock.Attributes(data, func(typ uint16, data []byte) {
				addr, _ := netip.AddrFromSlice(data)
				if typ == ctIPSource(addr.Is6()) {
					t.src = addr
				} else {
					t.dst = addr
				}
			})
		case ctaTupleProto:
			nlsock.Attributes(data, func(typ uint16, data []byte) {
				if typ == ctaProtoNum && len(data) == 1 {
					t.proto = data[0]
				}
				if typ == ctaProtoDstPort && len(data) == 2 {
					t.dstPort = binary.BigEndian.Uint16(data)
				}
			})
		}
	})
	return t
}

// deleteFlow forgets one entry; it is nil if it is gone already.
func deleteFlow(c *nlsock.Conn, f flow) error {
	var m nlsock.Message
	at := m.Begin(ctType(ctDelete), unix.NLM_F_ACK, c.Next())
	m.NFHeader(f.family, 0)
	m.Raw(ctaTupleOrig|unix.NLA_F_NESTED, f.key)
	if f.id != nil {
		m.Raw(ctaID, f.id)
	}
	if f.zone != nil {
		m.Raw(ctaZone, f.zone)
	}
	m.End(at)
	replies, err := c.RoundTrip(m.B)
	if err != nil {
		return err
	}
	for _, r := range replies {
		if r.Err != nil && !errors.Is(r.Err, unix.ENOENT) {
			return r.Err
		}
	}
	return nil
}
