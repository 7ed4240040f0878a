package nstable

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/agent"
	"dcni/pkg/host/nlsock"
	"dcni/pkg/host/rtnl"
	"dcni/pkg/names"
	"dcni/pkg/wire"
)

// A PolicyRoute takes queries to a server that the sandbox has no route to as far as
// netfilter, which sends them to the name server's sockets: without a route they
// fail in the socket call (ENETUNREACH). It is a default route by lo in a table of
// its own, and two rules of one family that send UDP and TCP to port 53 there when
// all other rules have found nothing. Where there is a route it changes nothing, nor
// does it change anything but queries of the sandbox itself.
//
// It does not apply to dnetd's own queries: netfilter sends them nowhere else, so
// they must go on failing at once where there is no route.
type PolicyRoute struct {
	rt  *rtnl.Conn // of the sandbox
	six bool
}

// routeTable is the number of the table, and the preference of the rules: a number
// that no other program takes by chance, as [agent.Mark] is one. Tables with numbers
// that people choose, such as 53, stay theirs; and the rules come after those of the
// main and default tables (32766 and 32767), and after any that the sandbox's user
// has behind these, so those count first.
const routeTable = agent.Mark

// markBit is the highest bit of dnetd's mark, which is hardly ever in another's.
const markBit = 1 << 30

// ip is what ip(8) is called with for the family.
func (d PolicyRoute) ip() string {
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
func (d PolicyRoute) rule(protocol byte) []ruleAttribute {
	ports := binary.NativeEndian.AppendUint16(nil, names.DNSPort) // struct fib_rule_port_range
	return []ruleAttribute{
		{unix.FRA_PRIORITY, nlsock.Native32(routeTable)},
		{unix.FRA_TABLE, nlsock.Native32(routeTable)},
		{unix.FRA_IP_PROTO, []byte{protocol}},
		{unix.FRA_DPORT_RANGE, binary.NativeEndian.AppendUint16(ports, names.DNSPort)},
		// Match only locally generated packets. Forwarded ones are not redirected, and
		// would loop on lo until their hops are used up.
		{unix.FRA_IIFNAME, []byte("lo\x00")},
		// Without FRA_FWMARK: packets whose marks have not this bit. "Not dnetd's
		// mark" would take FIB_RULE_INVERT, which inverts protocol and port, too.
		{unix.FRA_FWMASK, nlsock.Native32(markBit)},
	}
}

// header appends a struct fib_rule_hdr, or a struct rtmsg of a route that has no
// more to say: they agree in their size and their first fields.
func (d PolicyRoute) header(m *rtnl.Message, last ...byte) {
	m.B = append(m.B, family(d.six), 0, 0, 0)
	m.B = append(m.B, last...)
	m.B = append(m.B, 0, 0, 0, 0) // flags
}

// ruleMessage appends a message about one rule.
func (d PolicyRoute) ruleMessage(m *rtnl.Message, protocol byte) {
	d.header(m, unix.RT_TABLE_UNSPEC, 0, 0, unix.FR_ACT_TO_TBL)
	for _, a := range d.rule(protocol) {
		m.Raw(a.typ, a.data)
	}
}

// routeMessage appends a message about the route. Its source address for IPv4 is
// said, for there may be none but lo's, which the kernel does not choose for
// others than lo's own addresses.
func (d PolicyRoute) routeMessage(m *rtnl.Message) {
	d.header(m, unix.RT_TABLE_UNSPEC, unix.RTPROT_BOOT, unix.RT_SCOPE_LINK, unix.RTN_UNICAST)
	m.Native(unix.RTA_TABLE, routeTable)
	m.Native(unix.RTA_OIF, rtnl.LoIndex)
	if !d.six {
		m.Raw(unix.RTA_PREFSRC, []byte{127, 0, 0, 1})
	}
}

// install puts route and rules there, where they are not, in place of another route
// in the table. lo must be up.
func (d PolicyRoute) install() error {
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
	return wrap("install `"+d.ip()+" route` of intercepted queries", err)
}

// remove takes rules and route away.
func (d PolicyRoute) remove() error {
	err := d.rt.Exchange([]rtnl.Request{
		{Type: unix.RTM_DELRULE, Flags: 0, Body: d.udp}, {Type: unix.RTM_DELRULE, Flags: 0, Body: d.tcp}, {Type: unix.RTM_DELROUTE, Flags: 0, Body: d.routeMessage},
	}, unix.ENOENT, unix.ESRCH, unix.EOPNOTSUPP, unix.EAFNOSUPPORT) // the kernel may have no IPv6
	return wrap("remove `"+d.ip()+" route` of intercepted queries", err)
}

func (d PolicyRoute) udp(m *rtnl.Message) { d.ruleMessage(m, unix.IPPROTO_UDP) }
func (d PolicyRoute) tcp(m *rtnl.Message) { d.ruleMessage(m, unix.IPPROTO_TCP) }

// check finds route and rules. Where the sandbox can have no route by lo, nothing
// is missing.
func (d PolicyRoute) check() error {
	missing, err := d.missing()
	if err != nil || missing == "" || !d.possible() {
		return err
	}
	return fmt.Errorf("`%s %s` in the sandbox lacks what leads queries to dnetd where it has no route", d.ip(), missing)
}

// missing says which list of ip(8) lacks something, if any does.
func (d PolicyRoute) missing() (list string, err error) {
	rules, err := d.rt.Request(unix.RTM_GETRULE, unix.NLM_F_DUMP, func(m *rtnl.Message) { d.header(m, 0, 0, 0, 0) })
	if err != nil {
		return "", wrap("list rules", err)
	}
	for _, protocol := range queryProtocols {
		if !d.among(rules, protocol) {
			return "rule", nil
		}
	}
	routes, err := d.rt.Request(unix.RTM_GETROUTE, unix.NLM_F_DUMP, func(m *rtnl.Message) {
		d.header(m, 0, 0, 0, 0)
		m.Native(unix.RTA_TABLE, routeTable)
	})
	if err != nil && !errors.Is(err, unix.ENOENT) { // which is said of the table
		return "", wrap("list routes", err)
	}
	for _, payload := range routes {
		if d.isRoute(payload) {
			return "", nil
		}
	}
	return "route show table " + strconv.Itoa(routeTable), nil
}

// among reports whether the rule of a protocol is in a list.
func (d PolicyRoute) among(rules [][]byte, protocol byte) bool {
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
func (d PolicyRoute) isRoute(payload []byte) bool {
	if len(payload) < unix.SizeofRtMsg || payload[0] != family(d.six) || payload[1] != 0 {
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
	return table == routeTable && link == rtnl.LoIndex
}

// possible reports whether the sandbox can have the route: not where IPv6 is
// switched off on lo.
func (d PolicyRoute) possible() bool {
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

// IsPolicyRule reports whether a message is about a rule that leads to the table.
func IsPolicyRule(data []byte) bool {
	if len(data) < unix.SizeofRtMsg {
		return false
	}
	is := false
	nlsock.Attributes(data[unix.SizeofRtMsg:], func(typ uint16, data []byte) {
		is = is || typ == unix.FRA_TABLE && bytes.Equal(data, nlsock.Native32(routeTable))
	})
	return is
}
