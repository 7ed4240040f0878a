package rtnl

import (
	"encoding/binary"
	"io/fs"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/nlsock"
)

// A DevConf is a setting of one link that rtnetlink tells along with the link
// (IFLA_AF_SPEC), and for IPv4 also takes. That is worth it: /proc/sys/net looks
// the same in every namespace, so that the kernel's cache of names finds as
// many candidates as there are namespaces. Seen: with 800 sandboxes, opening a
// file there takes 200 us.
type DevConf struct {
	Family byte // AF_INET or AF_INET6
	number int  // uapi/linux/ip.h, IPV4_DEVCONF_*; uapi/linux/ipv6.h, DEVCONF_*
	Dev    string
}

// DevConfs are the settings that plans set, by family and name.
var DevConfs = map[string]DevConf{
	"ipv4/accept_redirects": {Family: unix.AF_INET, number: 4},
	"ipv4/arp_notify":       {Family: unix.AF_INET, number: 22},
	"ipv4/route_localnet":   {Family: unix.AF_INET, number: 26},
	"ipv6/accept_ra":        {Family: unix.AF_INET6, number: 3},
	"ipv6/accept_redirects": {Family: unix.AF_INET6, number: 4},
	"ipv6/autoconf":         {Family: unix.AF_INET6, number: 5},
	"ipv6/disable_ipv6":     {Family: unix.AF_INET6, number: 26},
	"ipv6/accept_dad":       {Family: unix.AF_INET6, number: 27},
	"ipv6/ndisc_notify":     {Family: unix.AF_INET6, number: 29},
}

// Those that are looked at by name.
var (
	ArpNotify   = DevConfs["ipv4/arp_notify"]
	NdiscNotify = DevConfs["ipv6/ndisc_notify"]
	DisableIPv6 = DevConfs["ipv6/disable_ipv6"]
	AcceptDAD   = DevConfs["ipv6/accept_dad"]

	AcceptRA         = DevConfs["ipv6/accept_ra"]
	Autoconf         = DevConfs["ipv6/autoconf"]
	AcceptRedirects4 = DevConfs["ipv4/accept_redirects"]
	AcceptRedirects6 = DevConfs["ipv6/accept_redirects"]
	Forwarding4      = DevConf{Family: unix.AF_INET, number: 1}
)

// Is reports whether a link's setting has a value. It is false where the link has
// nothing of that family.
func (d DevConf) Is(l *Link, value string) bool {
	have, err := d.Value(l)
	return err == nil && have == value
}

// DevConfOf reads a path as net/ipv4/conf/eth0/arp_notify.
func DevConfOf(path string) (DevConf, bool) {
	words := strings.Split(path, "/")
	if len(words) != 5 || words[0] != "net" || words[2] != "conf" {
		return DevConf{}, false
	}
	d, ok := DevConfs[words[1]+"/"+words[4]]
	d.Dev = words[3]
	return d, ok && d.Dev != "all" && d.Dev != "default"
}

// Value returns the setting's value on a link, and fs.ErrNotExist where the link
// has nothing of that family.
func (d DevConf) Value(l *Link) (string, error) {
	value := d.bytes(l)
	if value == nil {
		return "", fs.ErrNotExist
	}
	return strconv.Itoa(int(int32(binary.NativeEndian.Uint32(value)))), nil
}

// bytes returns the setting's value as the kernel has it, or nil.
func (d DevConf) bytes(l *Link) []byte {
	values, at := l.conf6, d.number
	if d.Family == unix.AF_INET {
		values, at = l.conf4, d.number-1 // numbered from 1
	}
	if len(values) < 4*(at+1) {
		return nil
	}
	return values[4*at : 4*(at+1)]
}

// Note notes in what is known of a link that a setting was set.
func (d DevConf) Note(l *Link, value string) {
	n, err := strconv.ParseInt(value, 10, 32)
	if have := d.bytes(l); have != nil && err == nil {
		binary.NativeEndian.PutUint32(have, uint32(n))
	}
}

// Set sets an IPv4 setting of a link.
func (d DevConf) Set(rt *Conn, l *Link, value string) error {
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil {
		return err
	}
	return rt.Change(unix.RTM_NEWLINK, 0, func(m *Message) {
		m.IfInfo(l.Index, 0, 0)
		spec := m.Open(unix.IFLA_AF_SPEC)
		inet := m.Open(unix.AF_INET)
		conf := m.Open(inetConf)
		m.Native(uint16(d.number), uint32(n))
		m.Close(conf)
		m.Close(inet)
		m.Close(spec)
	})
}

// Attributes within IFLA_AF_SPEC (uapi/linux/if_link.h).
const (
	inetConf         = 1 // IFLA_INET_CONF
	inet6Conf        = 2 // IFLA_INET6_CONF
	Inet6AddrGenMode = 8 // IFLA_INET6_ADDR_GEN_MODE

	AddrGenNone = 1 // IN6_ADDR_GEN_MODE_NONE
)

// parseAFSpec takes the arrays of settings out of a link's IFLA_AF_SPEC.
func (i *Link) parseAFSpec(data []byte) {
	nlsock.Attributes(data, func(family uint16, data []byte) {
		nlsock.Attributes(data, func(typ uint16, data []byte) {
			switch {
			case family == unix.AF_INET && typ == inetConf:
				i.conf4 = data
			case family == unix.AF_INET6 && typ == inet6Conf:
				i.conf6 = data
			}
		})
	})
}

// Attributes of a struct netconfmsg (uapi/linux/netconf.h), which x/sys lacks.
const (
	NetconfIfIndex    = 1 // NETCONFA_IFINDEX
	NetconfForwarding = 2 // NETCONFA_FORWARDING

	NetconfAll = 0xffffffff // NETCONFA_IFINDEX_ALL
)

// Forwards reports whether a namespace forwards packets of a family.
func (r *Conn) Forwards(family byte) (bool, error) {
	payloads, err := r.Request(unix.RTM_GETNETCONF, 0, func(m *Message) {
		m.B = append(m.B, family, 0, 0, 0) // struct netconfmsg
		m.Native(NetconfIfIndex, NetconfAll)
	})
	if err != nil {
		return false, err
	}
	on := false
	for _, p := range payloads {
		if len(p) < 4 {
			continue
		}
		nlsock.Attributes(p[4:], func(typ uint16, data []byte) {
			if typ == NetconfForwarding && len(data) >= 4 {
				on = binary.NativeEndian.Uint32(data) != 0
			}
		})
	}
	return on, nil
}

// Settings returns values to compare: as many bytes of each, or none where the
// link has nothing of that family.
func (i *Link) Settings(list []DevConf) (values []byte) {
	for _, d := range list {
		values = append(values, d.bytes(i)...)
	}
	return values
}
