// Package condition reads what `dnet doctor` asks of a host besides its records: the
// rules of other programs, what forwards, the way out, routes, the neighbour tables, what
// NetworkManager and systemd-networkd manage. It changes nothing, and starts no program but iptables-legacy,
// where the kernel has its tables.
package condition

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dcni/pkg/doctor"
	rules "dcni/pkg/firewall/foreign"
	"dcni/pkg/host/foreign"
	"dcni/pkg/host/hostports"
	"dcni/pkg/host/nameserver"
	"dcni/pkg/host/nlsock"
	"dcni/pkg/host/proc"
	"dcni/pkg/host/rtnl"
)

// Read reads the condition of the host whose network namespace the calling thread is in,
// as far as it is none of the records': Chains, Users, Managed, Networkd, Forwards, Uplink, Routes, Local,
// Neighbours and AgentUnit. What can't be read is left out; the errors tell why.
func Read() (doctor.Facts, error) {
	var f doctor.Facts
	var errs [8]error
	f.Chains, errs[0] = foreign.Chains()
	var legacy []rules.Chain
	legacy, errs[1] = foreign.Legacy()
	f.Chains = append(f.Chains, legacy...)
	f.Users, errs[7] = foreign.Users()
	f.Forwards = forwards()
	f.Uplink, errs[2] = uplink()
	f.Routes, errs[3] = routes()
	f.Local = local()
	f.Neighbours, errs[4] = neighbours()
	f.Managed, errs[5] = managed("/run/NetworkManager")
	f.Networkd, errs[6] = networkd("/run/systemd/netif/links")
	f.AgentUnit = exists("/run/systemd/system") && (exists("/etc/systemd/system/dnetd.service") || exists("/lib/systemd/system/dnetd.service"))
	return f, errors.Join(errs[:]...)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func forwards() map[int]bool {
	on := map[int]bool{}
	for family, path := range map[int]string{4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"} {
		if value, err := proc.Sysctl(path); err == nil {
			on[family] = value == "1"
		}
	}
	return on
}

func uplink() (doctor.Uplink, error) {
	rt, err := rtnl.Dial()
	if err != nil {
		return doctor.Uplink{}, err
	}
	defer rt.Close()
	name, size := rt.Uplink()
	return doctor.Uplink{Name: name, MTU: size}, nil
}

// routes lists the unicast routes of all tables but local's.
func routes() (list []doctor.Route, err error) {
	names := map[int]string{}
	links, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		names[l.Index] = l.Name
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		filter := &netlink.Route{Table: unix.RT_TABLE_UNSPEC, Type: unix.RTN_UNICAST}
		found, err := netlink.RouteListFiltered(family, filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return list, fmt.Errorf("list routes: %w", err)
		}
		for _, r := range found {
			if r.Dst == nil {
				continue
			}
			addr, _ := netip.AddrFromSlice(r.Dst.IP)
			bits, _ := r.Dst.Mask.Size()
			dst := netip.PrefixFrom(addr.Unmap(), bits)
			if dst.Addr().IsLinkLocalUnicast() || dst.Addr().IsMulticast() {
				continue
			}
			list = append(list, doctor.Route{Dst: dst, Dev: names[r.LinkIndex], OnLink: r.Gw == nil && len(r.MultiPath) == 0 && r.Via == nil})
		}
	}
	return list, nil
}

func local() (list []netip.Addr) {
	all, _ := net.InterfaceAddrs() // none where they can't be read
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			list = append(list, p.Addr().Unmap())
		}
	}
	return list
}

// neighbours reads the tables' own description (rtnetlink(7), RTM_GETNEIGHTBL): unlike
// net.ipv4.neigh.default.gc_thresh3 it is there in every network namespace.
func neighbours() (list []doctor.NeighbourTable, err error) {
	conn, err := nlsock.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	m := nlsock.Message{}
	at := m.Begin(unix.RTM_GETNEIGHTBL, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, conn.Next())
	m.B = append(m.B, 0, 0, 0, 0) // struct ndtmsg
	m.End(at)
	payloads, err := conn.Dump(m.B)
	if err != nil {
		return nil, fmt.Errorf("list neighbour tables: %w", err)
	}
	for _, p := range payloads {
		if t, ok := neighbourTable(p); ok {
			list = append(list, t)
		}
	}
	return list, nil
}

// Listeners finds which of the ports that attachments publish other programs listen
// on.
func Listeners(attached []doctor.Attachment) (list []doctor.Listener, err error) {
	for protocol := range hostports.Protocols {
		all, e := hostports.Listeners(protocol)
		err = errors.Join(err, e)
		for _, a := range attached {
			for _, p := range a.Ports {
				if p.Protocol != protocol {
					continue
				}
				if l := holder(all, a, doctor.Listener{Attachment: a.Attachment, Port: p}); l != nil {
					list = append(list, *l)
				}
			}
		}
	}
	return list, err
}

// HeldGateways finds which of the gateway addresses at which attachments are answered names other programs
// have.
func HeldGateways(attached []doctor.Attachment) (list []doctor.HeldGateway) {
	seen := map[netip.Addr]bool{}
	for _, a := range attached {
		for _, addr := range a.Listen {
			if seen[addr] {
				continue
			}
			seen[addr] = true
			if err := nameserver.GatewayTaken(addr); err != nil {
				list = append(list, doctor.HeldGateway{Network: a.Network, Address: addr, Why: err.Error()})
			}
		}
	}
	return list
}

// holder returns the first listener that takes a port, nil if none does.
func holder(all []hostports.Listener, a doctor.Attachment, found doctor.Listener) *doctor.Listener {
	for _, l := range all {
		takes := l.Port == found.Port.HostPort && (found.Port.Family(false) && l.Takes(found.Port, false) || found.Port.Family(true) && l.Takes(found.Port, true))
		if !takes || hostports.Reserved(l, a.Container) {
			continue
		}
		if p := l.Holder(); p != 0 {
			found.PID, found.Program = int(p), p.Name()
		}
		return &found
	}
	return nil
}

// managed lists the links that NetworkManager manages, by the files that it keeps of
// each, named by the link's index. Those that it calls connected externally it only looks at.
func managed(dir string) (list []string, err error) {
	external := externalConnections(dir + "/system-connections")
	files, _ := filepath.Glob(filepath.Join(dir, "devices/*")) // the pattern is well-formed
	for _, file := range files {
		index, err := strconv.Atoi(filepath.Base(file))
		if err != nil {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil || !isManaged(string(text)) || external[keyOf(string(text), "connection-uuid")] {
			continue
		}
		if l, err := net.InterfaceByIndex(index); err == nil {
			list = append(list, l.Name)
		}
	}
	return list, nil
}

// networkd lists the links that systemd-networkd manages, by the files that it keeps of each,
// named by the link's index.
func networkd(dir string) (list []doctor.Configured, err error) {
	files, _ := filepath.Glob(filepath.Join(dir, "*")) // the pattern is well-formed
	for _, file := range files {
		index, err := strconv.Atoi(filepath.Base(file))
		if err != nil {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		by, is := configuredBy(string(text))
		if l, err := net.InterfaceByIndex(index); err == nil && is {
			list = append(list, doctor.Configured{Link: l.Name, File: by})
		}
	}
	return list, nil
}

// configuredBy reads such a file: the state in which networkd sees to a link, and the file that
// says how.
func configuredBy(text string) (file string, is bool) {
	state := keyOf(text, "ADMIN_STATE")
	return keyOf(text, "NETWORK_FILE"), state == "configuring" || state == "configured" || state == "failed"
}

// isManaged reads such a file: NetworkManager writes managed=true for a link that it
// configures, managed=false for one that others do, and unknown before it has decided.
func isManaged(text string) bool { return keyOf(text, "managed") == "true" }

// externalConnections returns the UUIDs of connections that NetworkManager has made of how it
// found a link.
func externalConnections(dir string) map[string]bool {
	uuids := map[string]bool{}
	files, _ := filepath.Glob(filepath.Join(dir, "*")) // the pattern is well-formed
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && keyOf(string(text), "external") == "true" {
			uuids[keyOf(string(text), "uuid")] = true
		}
	}
	return uuids
}

// keyOf returns the value of a file's key, "" where it has none.
func keyOf(text, key string) string {
	for line := range strings.Lines(text) {
		if k, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && k == key {
			return value
		}
	}
	return ""
}

// Attributes of a neighbour table (uapi/linux/neighbour.h), which x/sys lacks.
const (
	tableName   = 1 // NDTA_NAME
	tableLimit  = 4 // NDTA_THRESH3
	tableConfig = 5 // NDTA_CONFIG
)

// neighbourTable reads a table's name, limit and number of entries. Messages about a
// device's parameters have none.
func neighbourTable(payload []byte) (t doctor.NeighbourTable, ok bool) {
	const header, number = 4, 4 // struct ndt_config: two u16, then u32 ndtc_entries
	if len(payload) < header {
		return t, false
	}
	nlsock.Attributes(payload[header:], func(typ uint16, data []byte) {
		switch {
		case typ == tableName:
			t.Family = map[string]int{"arp_cache": 4, "ndisc_cache": 6}[nlsock.CString(data)]
		case typ == tableLimit && len(data) >= number:
			t.Limit = int(binary.NativeEndian.Uint32(data))
		case typ == tableConfig && len(data) >= 2*number:
			t.Entries = int(binary.NativeEndian.Uint32(data[number:]))
		}
	})
	return t, t.Family != 0 && t.Limit != 0
}
