package names

import (
	"fmt"
	"net/netip"
	"strings"
)

// MaxResolvConf is the size in bytes up to which a host's resolv.conf is read.
const MaxResolvConf = 1 << 20

// A ResolvConf is a parsed resolv.conf(5).
type ResolvConf struct {
	Servers []string // as written
	Search  []string
	Options []string
	Other   []string // lines that are left as they are
}

// ParseResolvConf reads a resolv.conf. Of several search or domain lines the
// last counts, options add up.
func ParseResolvConf(text string) ResolvConf {
	var c ResolvConf
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0, strings.HasPrefix(words[0], "#"), strings.HasPrefix(words[0], ";"):
		case words[0] == "nameserver" && len(words) > 1:
			c.Servers = append(c.Servers, words[1])
		case words[0] == "search" || words[0] == "domain":
			c.Search = words[1:]
		case words[0] == "options":
			c.Options = append(c.Options, words[1:]...)
		default:
			c.Other = append(c.Other, strings.Join(words, " "))
		}
	}
	return c
}

// Addresses returns the servers that are addresses.
func (c ResolvConf) Addresses() []netip.Addr {
	var out []netip.Addr
	for _, s := range c.Servers {
		if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// String returns the text of the file.
func (c ResolvConf) String() string {
	var b strings.Builder
	for _, s := range c.Servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(c.Search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(c.Search, " "))
	}
	if len(c.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(c.Options, " "))
	}
	for _, line := range c.Other {
		b.WriteString(line + "\n")
	}
	return b.String()
}
