package host

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/agent"
	"dcni/pkg/host/nft"
	"dcni/pkg/host/nlsock"
	"dcni/pkg/host/rtnl"
	"dcni/pkg/names"
	"dcni/pkg/wire"
)

// A detour is how queries to a server that a sandbox has no route to get as far
// as netfilter, which leads them to the name server's sockets: without a route
// they fail in the socket call (ENETUNREACH). It is a default route by lo in a
// table of its own, and two rules that send UDP and TCP to port 53 there when all
// other rules have found nothing, in one family. Where there is a route it
// changes nothing, nor does it for anything but queries of the sandbox itself.
//
// dnetd's own queries are left alone: they are not led elsewhere, so they must go
// on failing at once where there is no route.
type detour struct {
	rt  *rtnl.Conn // of the sandbox
	six bool
}

// detourTable is the number of the table, and the preference of the rules: a
// number that nobody else takes by chance, as [agent.Mark] is one. Tables with
// numbers that people choose, such as 53, stay theirs; and the rules come after
// those of the main and default tables (32766 and 32767), and after any that
// the sandbox's user has behind these, so those count first.
const detourTable = agent.Mark

// detourBit is the highest bit of dnetd's mark, which is hardly ever in another's.
const detourBit = 1 << 30

func (d detour) family() byte { return mapping{six: d.six}.family() } // AF_INET and NFPROTO_IPV4 are one

// ip is what ip(8) is called with for the family.
func (d detour) ip() string {
	if d.six {
		return "ip -6"
	}
	return "ip"
}

// ruleAttribute is one attribute of a rule (linux/fib_rules.h).
type ruleAttribute struct {
	typ  uint16
	data []byte
}

// rule returns the rule of one protocol.
func (d detour) rule(protocol byte) []ruleAttribute {
	ports := binary.NativeEndian.AppendUint16(nil, names.DNSPort) // struct fib_rule_port_range
	return []ruleAttribute{
		{unix.FRA_PRIORITY, nlsock.Native32(detourTable)},
		{unix.FRA_TABLE, nlsock.Native32(detourTable)},
		{unix.FRA_IP_PROTO, []byte{protocol}},
		{unix.FRA_DPORT_RANGE, binary.NativeEndian.AppendUint16(ports, names.DNSPort)},
		// What is sent here. What is forwarded netfilter leads nowhere: it would go
		// round on lo until its hops are used up.
		{unix.FRA_IIFNAME, []byte("lo\x00")},
		// Without FRA_FWMARK: packets whose marks have not this bit. "Not dnetd's
		// mark" would take FIB_RULE_INVERT, which inverts protocol and port, too.
		{unix.FRA_FWMASK, nlsock.Native32(detourBit)},
	}
}

// header appends a struct fib_rule_hdr, or a struct rtmsg of a route that has no
// more to say: they agree in their size and their first fields.
func (d detour) header(m *rtnl.Message, last ...byte) {
	m.B = append(m.B, d.family(), 0, 0, 0)
	m.B = append(m.B, last...)
	m.B = append(m.B, 0, 0, 0, 0) // flags
}

// ruleMessage appends a message about one rule.
func (d detour) ruleMessage(m *rtnl.Message, protocol byte) {
	d.header(m, unix.RT_TABLE_UNSPEC, 0, 0, unix.FR_ACT_TO_TBL)
	for _, a := range d.rule(protocol) {
		m.Raw(a.typ, a.data)
	}
}

// routeMessage appends a message about the route. Its source address for IPv4 is
// said, for there may be none but lo's, which the kernel does not choose for
// others than lo's own addresses.
func (d detour) routeMessage(m *rtnl.Message) {
	d.header(m, unix.RT_TABLE_UNSPEC, unix.RTPROT_BOOT, unix.RT_SCOPE_LINK, unix.RTN_UNICAST)
	m.Native(unix.RTA_TABLE, detourTable)
	m.Native(unix.RTA_OIF, rtnl.LoIndex)
	if !d.six {
		m.Raw(unix.RTA_PREFSRC, []byte{127, 0, 0, 1})
	}
}

// lay puts route and rules there, where they are not, in place of another route
// in the table. lo must be up.
func (d detour) lay() error {
	err := d.rt.Exchange([]rtnl.Request{
		{Type: unix.RTM_NEWROUTE, Flags: unix.NLM_F_CREATE | unix.NLM_F_REPLACE, Body: d.routeMessage},
		{Type: unix.RTM_NEWRULE, Flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL, Body: d.udp},
		{Type: unix.RTM_NEWRULE, Flags: unix.NLM_F_CREATE | unix.NLM_F_EXCL, Body: d.tcp},
	}, unix.EEXIST)
	if errors.Is(err, unix.EACCES) && !d.possible() {
		return nil
	}
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
		return &wire.Error{Code: wire.CodeUnavailable, Msg: "kernel has no policy routing (CONFIG_IP_MULTIPLE_TABLES, CONFIG_IPV6_MULTIPLE_TABLES)", Err: err}
	}
	return nft.Wrap("lay `"+d.ip()+" route` of intercepted queries", err)
}

// remove takes rules and route away.
func (d detour) remove() error {
	err := d.rt.Exchange([]rtnl.Request{
		{Type: unix.RTM_DELRULE, Flags: 0, Body: d.udp}, {Type: unix.RTM_DELRULE, Flags: 0, Body: d.tcp}, {Type: unix.RTM_DELROUTE, Flags: 0, Body: d.routeMessage},
	}, unix.ENOENT, unix.ESRCH, unix.EOPNOTSUPP, unix.EAFNOSUPPORT) // the kernel may have no IPv6
	return nft.Wrap("remove `"+d.ip()+" route` of intercepted queries", err)
}

func (d detour) udp(m *rtnl.Message) { d.ruleMessage(m, unix.IPPROTO_UDP) }
func (d detour) tcp(m *rtnl.Message) { d.ruleMessage(m, unix.IPPROTO_TCP) }

// check finds route and rules. Where the sandbox can have no route by lo, nothing
// is missing.
func (d detour) check() error {
	missing, err := d.missing()
	if err != nil || missing == "" || !d.possible() {
		return err
	}
	return fmt.Errorf("`%s %s` in the sandbox lacks what leads queries to dnetd where it has no route", d.ip(), missing)
}

// missing says which list of ip(8) lacks something, if any does.
func (d detour) missing() (list string, err error) {
	rules, err := d.rt.Request(unix.RTM_GETRULE, unix.NLM_F_DUMP, func(m *rtnl.Message) { d.header(m, 0, 0, 0, 0) })
	if err != nil {
		return "", nft.Wrap("list rules", err)
	}
	for _, protocol := range queryProtocols {
		if !d.among(rules, protocol) {
			return "rule", nil
		}
	}
	routes, err := d.rt.Request(unix.RTM_GETROUTE, unix.NLM_F_DUMP, func(m *rtnl.Message) {
		d.header(m, 0, 0, 0, 0)
		m.Native(unix.RTA_TABLE, detourTable)
	})
	if err != nil && !errors.Is(err, unix.ENOENT) { // which is said of the table
		return "", nft.Wrap("list routes", err)
	}
	for _, payload := range routes {
		if d.isRoute(payload) {
			return "", nil
		}
	}
	return "route show table " + strconv.Itoa(detourTable), nil
}

// among reports whether the rule of a protocol is in a list.
func (d detour) among(rules [][]byte, protocol byte) bool {
	var want rtnl.Message
	d.header(&want, unix.RT_TABLE_UNSPEC, 0, 0, unix.FR_ACT_TO_TBL)
	for _, payload := range rules {
		if len(payload) < len(want.B) {
			continue
		}
		head := bytes.Clone(payload[:len(want.B)])
		head[ruleTable] = unix.RT_TABLE_UNSPEC // RT_TABLE_COMPAT: it is above 255
		if !bytes.Equal(head, want.B) {
			continue
		}
		have := map[uint16][]byte{}
		nlsock.Attributes(payload[len(want.B):], func(typ uint16, data []byte) { have[typ] = data })
		if sameRule(have, d.rule(protocol)) {
			return true
		}
	}
	return false
}

// ruleTable is where struct fib_rule_hdr has the table.
const ruleTable = 4

// ruleConditions are what a rule may want besides. A list of all that the kernel
// says of a rule would not do: each version says more, as FRA_DPORT_MASK of ours.
var ruleConditions = []uint16{
	unix.FRA_OIFNAME, unix.FRA_FWMARK, unix.FRA_TUN_ID, unix.FRA_L3MDEV, unix.FRA_UID_RANGE, unix.FRA_SPORT_RANGE,
}

// sameRule reports whether a rule is as wanted, and wants nothing else.
func sameRule(have map[uint16][]byte, want []ruleAttribute) bool {
	for _, a := range want {
		if !bytes.Equal(have[a.typ], a.data) {
			return false
		}
	}
	return !slices.ContainsFunc(ruleConditions, func(typ uint16) bool { return have[typ] != nil })
}

// isRoute reports whether a route is the default route by lo in the table.
func (d detour) isRoute(payload []byte) bool {
	if len(payload) < unix.SizeofRtMsg || payload[0] != d.family() || payload[1] != 0 {
		return false
	}
	table, link := uint32(0), uint32(0)
	nlsock.Attributes(payload[unix.SizeofRtMsg:], func(typ uint16, data []byte) {
		switch {
		case typ == unix.RTA_TABLE && len(data) >= 4:
			table = binary.NativeEndian.Uint32(data)
		case typ == unix.RTA_OIF && len(data) >= 4:
			link = binary.NativeEndian.Uint32(data)
		}
	})
	return table == detourTable && link == rtnl.LoIndex
}

// possible reports whether the sandbox can have the route: not where IPv6 is
// switched off on lo.
func (d detour) possible() bool {
	if !d.six {
		return true
	}
	lo, err := d.rt.LinkByIndex(rtnl.LoIndex)
	if err != nil {
		return true
	}
	off, err := rtnl.DisableIPv6.Value(lo)
	return err == nil && off == "0"
}

// isDetourRule reports whether a message is about a rule that leads to the table.
func isDetourRule(data []byte) bool {
	if len(data) < unix.SizeofRtMsg {
		return false
	}
	is := false
	nlsock.Attributes(data[unix.SizeofRtMsg:], func(typ uint16, data []byte) {
		is = is || typ == unix.FRA_TABLE && bytes.Equal(data, nlsock.Native32(detourTable))
	})
	return is
}
