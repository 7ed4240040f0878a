package network

import (
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"dcni/pkg/ipam"
)

// Facts are what a network's configuration and the registry say about it.
type Facts struct {
	IPv4, IPv6  bool
	Internal    bool
	Bridge      string            // the link of a dbridge network, else ""
	Options     map[string]string // by Docker's names where it has them; never nil
	IPAM        string            // Docker's word for the source of addresses, or a plugin's type
	IPAMOptions map[string]string // never nil
	DataDir     string            // of dipam
	Subnets     []ipam.Subnet
}

// Facts reads the first plugin's configuration. The registered subnets are what
// it has besides those that the configuration names. Of another suite's plugin,
// what can be understood is told, and nothing is an error; the error of one of
// ours is what it will answer ADD with, and the facts are then incomplete.
func (c *Conflist) Facts(registered []netip.Prefix) (Facts, error) {
	if c.Type == "dbridge" {
		return c.bridgeFacts(registered)
	}
	f := Facts{
		IPv4: true, Options: map[string]string{}, IPAM: "default", IPAMOptions: map[string]string{},
	}
	var conf struct {
		Internal bool       `json:"internal"`
		IPAM     looseRange `json:"ipam"`
	}
	if json.Unmarshal(c.Plugins[0], &conf) != nil {
		return f, nil //nolint:nilerr // whatever another suite's configuration is like
	}
	f.Internal = conf.Internal
	f.Subnets = conf.IPAM.subnets(registered)
	if t := conf.IPAM.Type; t != "" && t != "dipam" {
		f.IPAM = t
	}
	f.families()
	return f, nil
}

func (c *Conflist) bridgeFacts(registered []netip.Prefix) (Facts, error) {
	f := Facts{
		IPv4: true, Bridge: BridgeName(c.Name), Options: map[string]string{},
		IPAM: "default", IPAMOptions: map[string]string{},
	}
	b, err := parseNamed(c.Name, c.Plugins[0])
	if err != nil {
		return f, err
	}
	f.Internal, f.Bridge, f.DataDir = b.Internal, b.Bridge, b.IPAM.Own.DataDir
	f.Options, err = optionsOf(c.Plugins[0])
	if b.IPAM.Type != "dipam" {
		f.IPAM = b.IPAM.Type
		return f, err
	}
	own := b.IPAM.Own
	f.Subnets = own.With(missing(own.Subnets, registered)...).Subnets
	if own.Allocation != ipam.NextFit {
		f.IPAMOptions["allocation"] = string(own.Allocation)
	}
	if own.Sticky {
		f.IPAMOptions["sticky"] = "true"
	}
	f.families()
	f.IPv4 = f.IPv4 || len(own.Subnets) == 0 // one from the pools, at the first ADD
	f.IPv6 = f.IPv6 || b.WantsULA()
	return f, err
}

// families tells the families from the subnets, where there are any.
func (f *Facts) families() {
	if len(f.Subnets) == 0 {
		return
	}
	f.IPv4, f.IPv6 = false, false
	for _, s := range f.Subnets {
		f.IPv4 = f.IPv4 || s.Prefix.Addr().Is4()
		f.IPv6 = f.IPv6 || s.Prefix.Addr().Is6()
	}
}

// missing returns the prefixes that are no subnets.
func missing(subnets []ipam.Subnet, prefixes []netip.Prefix) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(prefixes), func(p netip.Prefix) bool {
		return slices.ContainsFunc(subnets, func(s ipam.Subnet) bool { return s.Prefix == p })
	})
}

// optionsOf returns what a dbridge configuration says under Docker's names: what
// is written there, and what is written under names of ours. Those that Docker
// does not have keep theirs.
func optionsOf(plugin json.RawMessage) (map[string]string, error) {
	keys, err := Keys(plugin, "", append(Known(&rawBridge{}), standard...))
	if err != nil {
		return map[string]string{}, err
	}
	names := map[string]string{"ipMasq": "com.docker.network.bridge.enable_ip_masquerade"}
	for name, option := range dockerOptions {
		names[option.key] = name
	}
	elsewhere := append([]string{"internal", "ipv6", "options"}, standard...)
	out := map[string]string{}
	for key, value := range keys {
		if slices.Contains(elsewhere, key) {
			continue
		}
		name := names[key]
		if name == "" {
			name = key
		}
		out[name] = plain(value)
	}
	var given map[string]string
	if raw, ok := keys["options"]; ok {
		if err := json.Unmarshal(raw, &given); err != nil {
			return out, err
		}
	}
	maps.Copy(out, given)
	return out, nil
}

// plain returns a JSON value as an option of Docker's has it: strings without
// quotes, lists with colons between.
func plain(value json.RawMessage) string {
	var list []string
	if json.Unmarshal(value, &list) == nil {
		return strings.Join(list, ":")
	}
	var one string
	if json.Unmarshal(value, &one) == nil {
		return one
	}
	return string(value)
}

// looseRange is an ipam section of any suite: that of host-local, and of those
// who took it over from there.
type looseRange struct {
	Type    string         `json:"type"`
	Subnet  string         `json:"subnet"`
	Gateway string         `json:"gateway"`
	Subnets []looseRange   `json:"subnets"`
	Ranges  [][]looseRange `json:"ranges"`
}

// subnets returns what can be read.
func (l looseRange) subnets(registered []netip.Prefix) []ipam.Subnet {
	var out []ipam.Subnet
	for _, r := range slices.Concat(append([][]looseRange{{l}, l.Subnets}, l.Ranges...)...) {
		p, err := netip.ParsePrefix(r.Subnet)
		if err != nil {
			continue
		}
		gateway, _ := netip.ParseAddr(r.Gateway) // zero: not told
		out = append(out, ipam.Subnet{Prefix: p.Masked(), Range: p.Masked(), Gateway: gateway})
	}
	return ipam.Config{Subnets: out}.With(missing(out, registered)...).Subnets
}
