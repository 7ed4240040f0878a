package container

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"
)

// A HostEntry is one --add-host.
type HostEntry struct {
	Name    string
	Addr    netip.Addr
	Gateway bool // host-gateway: the host's own address as the container sees it
}

func parseHosts(list []string) ([]HostEntry, error) {
	var out []HostEntry
	for _, s := range list {
		h, err := ParseHost(s)
		if err != nil {
			return nil, invalidArgument(s, "--add-host", err)
		}
		out = append(out, h)
	}
	return out, nil
}

// ParseHost reads one --add-host: NAME:ADDR or NAME=ADDR, the address of IPv6
// with brackets or without, or host-gateway in its place.
func ParseHost(s string) (HostEntry, error) {
	at := strings.IndexAny(s, "=:")
	if at < 1 {
		return HostEntry{}, fmt.Errorf("bad format for add-host: %q", s)
	}
	h, text := HostEntry{Name: s[:at]}, s[at+1:]
	if strings.ContainsFunc(s, unprintable) || strings.Contains(h.Name, "#") {
		return HostEntry{}, fmt.Errorf("bad format for add-host: %q", s)
	}
	if text == "host-gateway" {
		h.Gateway = true
		return h, nil
	}
	bare := text
	if strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") {
		bare = text[1 : len(text)-1]
	}
	var err error
	if h.Addr, err = netip.ParseAddr(bare); err != nil {
		return HostEntry{}, fmt.Errorf("invalid IP address in add-host: %q", text)
	}
	return h, nil
}

// unprintable reports whether a letter would end a word of hosts or resolv.conf, or
// could mislead a program or a person that reads them.
func unprintable(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }

// A HostsFile has the contents of a container's /etc/hosts.
type HostsFile struct {
	Hostname  string       // with a domain or without
	Name      string       // of the container; "": left out
	Addresses []netip.Addr // the container's own
	IPv6      bool         // the container has IPv6, at least on lo
	Extra     []HostEntry
	Gateways  []netip.Addr // what host-gateway stands for; none: using it is an error
}

const (
	localhost4 = "127.0.0.1\tlocalhost\n"
	localhost6 = "::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n" +
		"ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
)

// Text returns the file.
func (f HostsFile) Text() (string, error) {
	var b strings.Builder
	b.WriteString(localhost4)
	if f.IPv6 {
		b.WriteString(localhost6)
	}
	for _, h := range f.Extra {
		addrs := []netip.Addr{h.Addr}
		if h.Gateway {
			addrs = f.Gateways
		}
		if len(addrs) == 0 {
			return "", errors.New("unable to derive the IP value for host-gateway")
		}
		for _, a := range addrs {
			fmt.Fprintf(&b, "%s\t%s\n", a, h.Name)
		}
	}
	return b.String() + f.Own(), nil
}

// Own returns the lines of the container's own addresses.
func (f HostsFile) Own() string {
	var b strings.Builder
	for _, a := range f.Addresses {
		fmt.Fprintf(&b, "%s\t%s\n", a, f.names())
	}
	return b.String()
}

// AddHost returns a hosts file with lines added at its end, but for those that are there.
func AddHost(text string, lines []string) string {
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	have := slices.Collect(strings.Lines(text))
	for _, line := range lines {
		if !slices.Contains(have, line) {
			text += line
		}
	}
	return text
}

// RemoveHost returns a hosts file without lines that [AddHost] added. Others stay as they are.
func RemoveHost(text string, lines []string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !slices.Contains(lines, line) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// names are the container's own names: hostname with domain, without, and the
// container's name.
func (f HostsFile) names() string {
	names := []string{f.Hostname}
	if short, _, ok := strings.Cut(f.Hostname, "."); ok {
		names = append(names, short)
	}
	if f.Name != "" && f.Name != names[len(names)-1] && f.Name != f.Hostname {
		names = append(names, f.Name)
	}
	return strings.Join(names, " ")
}
