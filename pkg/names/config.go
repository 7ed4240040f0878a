package names

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"dcni/pkg/wire"
)

// Aliases are the names that a user gives a container besides its own.
type Aliases struct {
	All []string            // on each network
	Of  map[string][]string // on one, by its name
}

// ParseAliases reads aliases as runtimes pass them: a list of names, or an
// object with such a list for each network. The field is what errors call it.
func ParseAliases(field string, data []byte) (Aliases, error) {
	var a Aliases
	if len(data) == 0 {
		return a, nil
	}
	if json.Unmarshal(data, &a.All) != nil && json.Unmarshal(data, &a.Of) != nil {
		return Aliases{}, wire.Errorf(wire.CodeConfig, "%s %s: must be a list of names, or an object with such a list for each network", field, data)
	}
	if err := checkAll(field, a.All); err != nil {
		return Aliases{}, err
	}
	for _, network := range slices.Sorted(maps.Keys(a.Of)) {
		if err := checkAll(field+"."+network, a.Of[network]); err != nil {
			return Aliases{}, err
		}
	}
	return a, nil
}

func checkAll(field string, list []string) error {
	for i, name := range list {
		if err := Check(fmt.Sprintf("%s[%d]", field, i), name); err != nil {
			return err
		}
	}
	return nil
}

// On returns the aliases on one network.
func (a Aliases) On(network string) []string { return slices.Concat(a.All, a.Of[network]) }

// DNSPort is where name servers listen.
const DNSPort = 53

// ParseServers reads addresses of name servers, with a port or without, an
// IPv6 address with a zone or without: "192.0.2.53", "[fd00::53]:5353",
// "fe80::1%eth0". The field is what errors call the list.
func ParseServers(field string, list []string) ([]netip.AddrPort, error) {
	var servers []netip.AddrPort
	for i, text := range list {
		server, err := netip.ParseAddrPort(text)
		if err != nil {
			var a netip.Addr
			a, err = netip.ParseAddr(text)
			server = netip.AddrPortFrom(a, DNSPort)
		}
		if err != nil || server.Port() == 0 || server.Addr().IsUnspecified() {
			return nil, wire.Invalid(fmt.Sprintf("%s[%d]", field, i), text, "must be an IP address, or one with a port, such as 192.0.2.53 or [fd00::53]:5353")
		}
		servers = append(servers, netip.AddrPortFrom(server.Addr().Unmap(), server.Port()))
	}
	return servers, nil
}

// A HostEntry is a line of the network's extra hosts: a name with addresses, as in
// /etc/hosts.
type HostEntry struct {
	Name      string       `json:"name"`
	Addresses []netip.Addr `json:"addresses"`
}

// hostGateway stands for the network's gateway in an extra host.
const hostGateway = "host-gateway"

// ParseHosts reads extra hosts as `docker run --add-host` does: NAME:ADDRESS
// or NAME=ADDRESS, an IPv6 address with brackets or without; ADDRESS may be
// host-gateway. Lines of one name add up. The field is what errors call the
// list.
func ParseHosts(field string, list []string, gateways []netip.Addr) ([]HostEntry, error) {
	var hosts []HostEntry
	for i, text := range list {
		field := fmt.Sprintf("%s[%d]", field, i)
		at := strings.IndexAny(text, ":=")
		if at < 0 {
			return nil, wire.Invalid(field, text, "must be NAME:ADDRESS")
		}
		name, address := text[:at], text[at+1:]
		if err := Check(field, name); err != nil {
			return nil, err
		}
		addresses, err := hostAddresses(field, address, gateways)
		if err != nil {
			return nil, err
		}
		hosts = addHost(hosts, strings.ToLower(name), addresses)
	}
	return hosts, nil
}

func hostAddresses(field, text string, gateways []netip.Addr) ([]netip.Addr, error) {
	if text == hostGateway {
		if len(gateways) == 0 {
			return nil, wire.Invalid(field, text, "the network has no gateway; must be an IP address")
		}
		return gateways, nil
	}
	bare := text
	if strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") {
		bare = text[1 : len(text)-1]
	}
	a, err := netip.ParseAddr(bare)
	if err != nil || a.Zone() != "" {
		return nil, wire.Invalid(field, text, "must be an IP address, such as 10.0.0.1 or fd00::1, or "+hostGateway)
	}
	return []netip.Addr{a.Unmap()}, nil
}

func addHost(hosts []HostEntry, name string, addresses []netip.Addr) []HostEntry {
	for i := range hosts {
		if hosts[i].Name == name {
			hosts[i].Addresses = append(hosts[i].Addresses, addresses...)
			return hosts
		}
	}
	return append(hosts, HostEntry{name, slices.Clone(addresses)})
}
