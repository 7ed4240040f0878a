package migrate

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"dcni/pkg/ipam"
	"dcni/pkg/network/catalog"
)

// Command returns the command that makes the network, for a shell.
func (n Network) Command() string {
	words := []string{"dnet", "create"}
	add := func(flag, value string) { words = append(words, flag, value) }
	each := func(flag string, pairs map[string]string) {
		for _, key := range slices.Sorted(maps.Keys(pairs)) {
			add(flag, key+"="+pairs[key])
		}
	}
	if n.ConfigOnly {
		words = append(words, "--config-only")
	} else if n.Driver != "" && n.Driver != "bridge" {
		add("-d", n.Driver)
	}
	if n.ConfigFrom != "" {
		add("--config-from", n.ConfigFrom)
	}
	for _, f := range []struct {
		flag  string
		given *bool
	}{{"--ipv4", n.IPv4}, {"--ipv6", n.IPv6}} {
		if f.given != nil {
			words = append(words, f.flag+"="+strconv.FormatBool(*f.given))
		}
	}
	if n.Internal {
		words = append(words, "--internal")
	}
	if n.Attachable {
		words = append(words, "--attachable")
	}
	if n.ConfigFrom == "" {
		n.addresses(add, each)
		each("--opt", n.DriverOptions)
		each("--label", n.Labels)
	}
	words = append(words, n.Name)
	for i, w := range words {
		words[i] = quote(w)
	}
	return strings.Join(words, " ")
}

func (n Network) addresses(add func(flag, value string), each func(flag string, pairs map[string]string)) {
	for _, s := range n.Subnets {
		add("--subnet", s)
	}
	for _, r := range n.Ranges {
		add("--ip-range", r.String())
	}
	for _, g := range n.Gateways {
		add("--gateway", g.String())
	}
	each("--aux-address", n.Aux)
	if n.IPAMDriver != "" && n.IPAMDriver != "default" {
		add("--ipam-driver", n.IPAMDriver)
	}
	each("--ipam-opt", n.IPAMOptions)
}

// quote makes one word of a shell's of a text.
func quote(text string) string {
	safe := text != "" && !strings.ContainsFunc(text, func(r rune) bool {
		alphanumeric := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !alphanumeric && !strings.ContainsRune("-_./:=,@+", r)
	})
	if safe {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// Of returns what `dnet create` would be told to make a network that is there. facts are the
// network's.
func Of(c *catalog.Conflist, facts catalog.Facts) (Network, error) {
	n := Network{ConfigOnly: c.Configuration != nil}
	n.Name, n.Attachable, n.ConfigFrom = c.Name, c.Attachable, c.ConfigFrom
	n.Labels = c.Labels
	switch {
	case c.Configuration != nil:
		return n, n.ofConfiguration(c.Configuration)
	case c.Main != nil:
		n.Driver, n.Internal, n.DriverOptions, n.IPAMOptions = c.Driver, facts.Internal, facts.Options, facts.IPAMOptions
		if facts.IPAM != "cluster" {
			n.IPAMDriver = facts.IPAM
		}
	}
	if behind := len(c.Plugins) - 1; behind > 0 && (c.Main != nil || behind > 1 || !catalog.NamesBehind(c.Plugins[1])) {
		return n, errMore
	}
	if c.Main == nil || n.IPAMDriver != "" && n.IPAMDriver != "default" {
		return n, n.ofForeign(c)
	}
	subnets := facts.RawSubnets()
	has4 := slices.ContainsFunc(subnets, func(s ipam.RawSubnet) bool { return !strings.Contains(s.Subnet, ":") })
	if len(subnets) > 0 && !has4 {
		no := false
		n.IPv4 = &no
	}
	return n, n.SetSubnets(subnets)
}

func (n *Network) ofConfiguration(c *catalog.Configuration) error {
	n.DriverOptions, n.IPv4, n.IPv6, n.IPAMDriver, n.IPAMOptions = c.Options, c.IPv4, c.IPv6, c.IPAMDriver, c.IPAMOptions
	return n.SetSubnets(c.Subnets)
}
