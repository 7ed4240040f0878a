package container

import (
	"encoding/csv"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"dcni/pkg/names"
	"dcni/pkg/network"
)

// A Network is one --network: a network, and the options of the container's
// attachment to it.
type Network struct {
	Name       string // or ID, as it was given
	IPv4, IPv6 netip.Addr
	MAC        string
	Aliases    []string
	GwPriority *int
	IfName     string // of the interface; "": the next that is free
	Links      []names.Link
	Sysctls    []network.Setting `json:",omitempty"` // of the interface
}

// ParseNetwork reads one --network: a name, or Docker's fields
//
//	name=NAME[,alias=NAME][,link=NAME[:ALIAS]][,ip=ADDR][,ip6=ADDR][,mac-address=MAC][,gw-priority=N][,driver-opt=KEY=VALUE]
func ParseNetwork(s string) (Network, error) {
	if !strings.Contains(s, "=") {
		return Network{Name: s}, named(s)
	}
	var n Network
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return n, invalidArgument(s, "--network", err)
	}
	for _, field := range fields {
		k, v, ok := strings.Cut(strings.TrimSpace(field), "=")
		if !ok {
			return n, invalidArgument(s, "--network", fmt.Errorf("invalid field %s", field))
		}
		if err := n.set(strings.ToLower(k), strings.TrimSpace(v)); err != nil {
			return n, invalidArgument(s, "--network", err)
		}
	}
	return n, named(n.Name)
}

func named(name string) error {
	switch {
	case strings.TrimSpace(name) == "":
		return errors.New("network name/id is not specified")
	case strings.TrimSpace(name) == containerMode:
		return errors.New("invalid network mode: invalid container format container:<name|id>")
	}
	return nil
}

func (n *Network) set(key, value string) (err error) {
	switch key {
	case "name":
		n.Name = value
	case "alias":
		n.Aliases = append(n.Aliases, value)
	case "link":
		var l names.Link
		l, err = names.ParseLink(value)
		n.Links = append(n.Links, l)
	case "ip":
		n.IPv4, err = ParseIP(value, false)
	case "ip6":
		n.IPv6, err = ParseIP(value, true)
	case "mac-address":
		n.MAC, err = ParseMAC(value)
	case "gw-priority":
		n.GwPriority, err = ParseGwPriority(value)
	case "driver-opt":
		err = n.SetDriverOpt(value)
	case "link-local-ip":
		err = fmt.Errorf("--network: %s is not supported by this version of dnet", key)
	default:
		err = fmt.Errorf("invalid field key %s", key)
	}
	return err
}

// ParseGwPriority reads the value of gw-priority.
func ParseGwPriority(s string) (*int, error) {
	p, err := strconv.Atoi(s)
	if err != nil {
		return nil, fmt.Errorf("invalid gw-priority (%s): invalid syntax", s)
	}
	return &p, nil
}

// Docker's options of an endpoint: the name of its interface, and that one's settings.
const (
	optionIfName  = "com.docker.network.endpoint.ifname"
	optionSysctls = "com.docker.network.endpoint.sysctls"
)

// SetDriverOpt reads one option of an endpoint, KEY=VALUE.
func (n *Network) SetDriverOpt(s string) error {
	key, value, ok := strings.Cut(s, "=")
	switch {
	case !ok:
		return fmt.Errorf("invalid key value pair format in driver options: %s", s)
	case key == optionSysctls:
		list, err := network.ParseSettings(value)
		n.Sysctls = append(n.Sysctls, list...)
		return err
	case key != optionIfName:
		return fmt.Errorf("driver-opt %s: is not supported; known are %s and %s", key, optionIfName, optionSysctls)
	case !network.ValidLink(value):
		return fmt.Errorf("%s %q: must be %s", key, value, network.LinkRule)
	}
	n.IfName = value
	return nil
}

// DriverOpts returns the options of the endpoint that are set, as [Network.SetDriverOpt] reads
// them; nil: none.
func (n Network) DriverOpts() map[string]string {
	var out map[string]string
	for key, value := range map[string]string{optionIfName: n.IfName, optionSysctls: network.JoinSettings(n.Sysctls)} {
		if value != "" && out == nil {
			out = map[string]string{}
		}
		if value != "" {
			out[key] = value
		}
	}
	return out
}

// ParseIP reads the value of --ip, or of --ip6.
func ParseIP(s string, v6 bool) (netip.Addr, error) {
	ip, err := netip.ParseAddr(s)
	if err == nil && ip.Zone() == "" && ip.Is6() == v6 {
		return ip, nil
	}
	if v6 {
		return ip, fmt.Errorf("invalid IPv6 address: %s", s)
	}
	return ip, fmt.Errorf("invalid IPv4 address: %s", s)
}

var macForm = lazily(`^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$`)

// ParseMAC reads the value of --mac-address.
func ParseMAC(s string) (string, error) {
	if !macForm().MatchString(s) {
		return "", fmt.Errorf("%s is not a valid mac address", s)
	}
	return strings.ToLower(strings.ReplaceAll(s, "-", ":")), nil
}

// predefined are the networks that users don't create.
var predefined = []string{"bridge", "default", "host", "none"}

func (n Network) userDefined() bool {
	return !slices.Contains(predefined, n.Name) && n.donor() == ""
}

// containerMode is what the network of another container begins with.
const containerMode = "container:"

// donor returns the container whose network namespace is to be joined, "" for none.
func (n Network) donor() string {
	donor, ok := strings.CutPrefix(n.Name, containerMode)
	if !ok {
		return ""
	}
	return strings.TrimSpace(donor)
}

// flags are --ip, --ip6, --mac-address, --network-alias and --link, which are about the first
// network.
type flags struct {
	ip, ip6, mac   string
	aliases, links []string
}

// merge puts the flags into the first network. A flag and a field for the same thing
// are an error together, as in Docker.
func (n *Network) merge(f flags) error {
	both := func(flag, field string) error {
		return fmt.Errorf("conflicting options: cannot specify both %s and per-network %s", flag, field)
	}
	switch {
	case len(f.aliases) > 0 && len(n.Aliases) > 0:
		return both("--network-alias", "alias")
	case len(f.links) > 0 && len(n.Links) > 0:
		return both("--link", "links")
	case f.ip != "" && n.IPv4.IsValid():
		return both("--ip", "IPv4 address")
	case f.ip6 != "" && n.IPv6.IsValid():
		return both("--ip6", "IPv6 address")
	case f.mac != "" && n.MAC != "":
		return both("--mac-address", "MAC address")
	}
	n.Aliases = append(n.Aliases, f.aliases...)
	links, err := parseLinks(f.links)
	if err != nil {
		return err
	}
	n.Links = append(n.Links, links...)
	if f.ip != "" {
		if n.IPv4, err = ParseIP(f.ip, false); err != nil {
			return err
		}
	}
	if f.ip6 != "" {
		if n.IPv6, err = ParseIP(f.ip6, true); err != nil {
			return err
		}
	}
	if f.mac != "" {
		n.MAC, err = ParseMAC(f.mac)
	}
	return err
}

// CheckNetworks refuses what Docker refuses: some networks together, and options that
// a network does not support.
func CheckNetworks(list []Network) error {
	for i, n := range list {
		if slices.ContainsFunc(list[:i], func(o Network) bool { return o.Name == n.Name }) {
			return fmt.Errorf("network %q is specified multiple times", n.Name)
		}
	}
	for _, n := range list {
		switch {
		case len(list) > 1 && !n.userDefined():
			return errors.New("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
		case n.Name == "host" && len(n.Links) > 0:
			return errors.New("conflicting options: host type networking can't be used with links. This would result in undefined behavior")
		case n.donor() != "" && len(n.Links) > 0:
			return errors.New("conflicting options: container type network can't be used with links. This would result in undefined behavior")
		case (n.Name == "host" || n.donor() != "") && n.MAC != "":
			return errors.New("conflicting options: mac-address and the network mode")
		case len(n.Aliases) > 0 && !n.userDefined():
			return errors.New("network-scoped aliases are only supported for user-defined networks")
		case (n.IPv4.IsValid() || n.IPv6.IsValid()) && !n.userDefined():
			return errors.New("user specified IP address is supported on user defined networks only")
		}
		if err := n.checkWords(); err != nil {
			return err
		}
	}
	return nil
}

// checkWords refuses an alias that can't be asked for, and a MAC that no interface has, by the
// names of the flags: the plugin knows them by those that the runtime gives them.
func (n Network) checkWords() error {
	for _, alias := range n.Aliases {
		if err := names.Check("alias", alias); err != nil {
			return err
		}
	}
	const group = 1 // the bit of a group address (IEEE 802)
	first, _, _ := strings.Cut(n.MAC, ":")
	if b, err := strconv.ParseUint(first, 16, 8); err == nil && (b&group != 0 || n.MAC == "00:00:00:00:00:00") {
		return fmt.Errorf("mac-address %s: must be a unicast Ethernet address, as 02:42:ac:11:00:02", n.MAC)
	}
	return nil
}
