package container

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"dcni/pkg/names"
)

// DNS is the configuration of a resolver: --dns, --dns-search and --dns-option, or
// the dns part of a CNI result. A nil field is not given.
type DNS struct {
	Servers []string // addresses
	Search  []string
	Options []string
}

var domainForm = lazily(`^([a-zA-Z0-9_]([a-zA-Z0-9_-]*[a-zA-Z0-9_])?\.?)+$`)

// ParseDNS reads --dns, --dns-search ("." for none) and --dns-option.
func ParseDNS(servers, search, options []string) (DNS, error) {
	for _, s := range servers {
		// The zone of an address may hold anything.
		if _, err := netip.ParseAddr(s); err != nil || strings.ContainsFunc(s, unprintable) {
			return DNS{}, invalidArgument(s, "--dns", fmt.Errorf("IP address is not correctly formatted: %s", s))
		}
	}
	for _, s := range search {
		if s != "." && !domainForm().MatchString(s) {
			return DNS{}, invalidArgument(s, "--dns-search", fmt.Errorf("%s is not a valid domain", s))
		}
	}
	for _, s := range options {
		if s == "" || strings.ContainsFunc(s, unprintable) {
			return DNS{}, fmt.Errorf("--dns-option %q: must be one word", s)
		}
	}
	return DNS{servers, search, options}, nil
}

// given reports whether any field is given.
func (d DNS) given() bool { return len(d.Servers)+len(d.Search)+len(d.Options) > 0 }

// ResolvedStub is the name server of systemd-resolved, which listens on the
// host's loopback only; ResolvedConf is the file with the servers behind it.
const (
	ResolvedStub = "127.0.0.53"
	ResolvedConf = "/run/systemd/resolve/resolv.conf"
)

// embedded is the address of a container's own name server.
var embedded = names.Address.String()

// publicServers are used, as Docker does, where the host has no server that a container
// can reach. The IPv6 ones are for containers that have IPv6.
var publicServers = []string{"8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844"}

// A ResolvConf has the sources of a container's /etc/resolv.conf. A later source
// replaces an earlier one.
type ResolvConf struct {
	Host   string // the host's file
	Result DNS    // of the networks
	Flags  DNS    // of the command line
	// Shared says that the container has the host's network, and so its loopback.
	Shared bool
	IPv6   bool // the container has IPv6
}

// NeedsResolved reports whether the host's only server is systemd-resolved's
// stub: then the file behind it is to be read in its place.
func NeedsResolved(host string) bool {
	servers := names.ParseResolvConf(host).Servers
	return len(servers) == 1 && servers[0] == ResolvedStub
}

// Text returns the file.
func (c ResolvConf) Text() string {
	if c.Shared && !c.Flags.given() {
		return c.Host
	}
	conf := names.ParseResolvConf(c.Host)
	own := slices.Contains(c.Result.Servers, embedded)
	switch {
	case own:
		embed(&conf, c.Result)
	case c.Result.given():
		conf = names.ResolvConf{Servers: c.Result.Servers, Search: c.Result.Search, Options: c.Result.Options}
	case !c.Shared:
		conf.Servers = c.reachable(conf.Servers)
	}
	if c.Flags.Servers != nil && !own { // with its own server, that one asks them
		conf.Servers = c.Flags.Servers
	}
	if c.Flags.Search != nil {
		conf.Search = slices.DeleteFunc(slices.Clone(c.Flags.Search), func(s string) bool { return s == "." })
	}
	if c.Flags.Options != nil {
		conf.Options = c.Flags.Options
	}
	if own && !slices.ContainsFunc(conf.Options, isNdots) {
		conf.Options = append(slices.Clone(conf.Options), "ndots:0")
	}
	return conf.String()
}

// embed makes the container's own name server the only one. That server asks the
// host's servers, so the rest of the host's file stays valid: as in Docker, its search
// domains and options are kept unless the network gives its own.
func embed(c *names.ResolvConf, result DNS) {
	c.Servers = []string{embedded}
	if len(result.Search) > 0 {
		c.Search = result.Search
	}
	for _, o := range result.Options {
		if !slices.Contains(c.Options, o) && !(isNdots(o) && slices.ContainsFunc(c.Options, isNdots)) {
			c.Options = append(c.Options, o)
		}
	}
}

// isNdots reports whether an option is ndots: how many dots a name needs so that it is
// asked for before the search domains are added. For the container's own name server,
// which knows names without a dot, it is 0.
func isNdots(option string) bool { return strings.HasPrefix(option, "ndots:") }

// reachable leaves the servers that a container can reach: not those on the
// host's loopback, and IPv6 ones only with IPv6.
func (c ResolvConf) reachable(servers []string) []string {
	keep := func(s string) bool {
		a, err := netip.ParseAddr(s)
		return err == nil && !a.IsLoopback() && (a.Unmap().Is4() || c.IPv6)
	}
	var out []string
	for _, list := range [][]string{servers, publicServers} {
		for _, s := range list {
			if keep(s) {
				out = append(out, s)
			}
		}
		if len(out) > 0 {
			break
		}
	}
	return out
}

// WithServers returns a resolv.conf that names other servers, and has options besides its own.
// All else in it stays.
func WithServers(text string, servers, options []string) string {
	var b strings.Builder
	for _, s := range servers {
		b.WriteString("nameserver " + s + "\n")
	}
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 0 && words[0] == "nameserver" {
			continue
		}
		b.WriteString(line)
	}
	if len(options) > 0 {
		b.WriteString("options " + strings.Join(options, " ") + "\n")
	}
	return b.String()
}
