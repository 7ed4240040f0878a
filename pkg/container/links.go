package container

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"dcni/pkg/firewall"
	"dcni/pkg/names"
)

// A Linked is a container that another one links to on the default bridge.
type Linked struct {
	names.Link
	Hostname  string
	Name      string
	Addresses []netip.Addr
	Exposed   []firewall.Exposed // see [firewall.ExposedPorts]
	Env       []string           // its own variables, NAME=VALUE
}

// HostsLines returns the lines of the linking container's hosts file, as Docker writes them: the
// alias first.
func (l Linked) HostsLines() []string {
	words := []string{l.Alias}
	for _, w := range []string{l.Hostname, l.Name} {
		if w != "" && !slices.Contains(words, w) {
			words = append(words, w)
		}
	}
	var lines []string
	for _, a := range l.Addresses {
		lines = append(lines, a.String()+"\t"+strings.Join(words, " ")+"\n")
	}
	return lines
}

// ReplaceLinked returns a hosts file with the lines of a link in place of those that were written
// when the container had other addresses. A line of --add-host has one name, and stays; so do the
// lines of own addresses, of a container whose hostname is the link's alias.
func ReplaceLinked(text string, l Linked, own []netip.Addr) string {
	lines := l.HostsLines()
	var former []string
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) > 2 && words[1] == l.Alias && !slices.Contains(lines, line) && !isOf(own, words[0]) {
			former = append(former, line)
		}
	}
	return AddHost(RemoveHost(text, former), lines)
}

// isOf reports whether a word is one of some addresses.
func isOf(list []netip.Addr, word string) bool {
	a, err := netip.ParseAddr(word)
	return err == nil && slices.Contains(list, a)
}

// RemoveLinked returns a hosts file without the lines of links. own are the container's addresses.
func RemoveLinked(text string, links []names.Link, own []netip.Addr) string {
	for _, l := range links {
		text = ReplaceLinked(text, Linked{Link: l}, own)
	}
	return text
}

// MergeLinks returns links with others behind them. An alias is one container's: as with Docker the
// last one that was named.
func MergeLinks(list, more []names.Link) (out []names.Link) {
	all := slices.Concat(list, more)
	for i, l := range all {
		if !slices.ContainsFunc(all[i+1:], func(later names.Link) bool { return later.Alias == l.Alias }) {
			out = append(out, l)
		}
	}
	return out
}

// Variables returns the variables by which a container called parent knows the other one, with
// Docker's names and values. They stay as they are when that one is started again.
func (l Linked) Variables(parent string) []string {
	prefix := strings.ReplaceAll(strings.ToUpper(l.Alias), "-", "_")
	var env []string
	set := func(name, format string, args ...any) {
		env = append(env, prefix+name+"="+fmt.Sprintf(format, args...))
	}
	if len(l.Addresses) > 0 {
		address := l.Addresses[0]
		if i := slices.IndexFunc(l.Addresses, netip.Addr.Is4); i >= 0 {
			address = l.Addresses[i]
		}
		url := func(e firewall.Exposed) string { return fmt.Sprintf("%s://%s:%d", e.Protocol, address, e.Port) }
		of := func(e firewall.Exposed) string {
			return fmt.Sprintf("_PORT_%d_%s", e.Port, strings.ToUpper(e.Protocol))
		}
		for i, e := range l.Exposed {
			if i == 0 {
				set("_PORT", "%s", url(e))
			}
			set(of(e), "%s", url(e))
			set(of(e)+"_ADDR", "%s", address)
			set(of(e)+"_PORT", "%d", e.Port)
			set(of(e)+"_PROTO", "%s", e.Protocol)
		}
		for _, run := range firewall.Runs(l.Exposed) {
			first, last := run[0], run[len(run)-1]
			if first == last {
				continue
			}
			set(of(first)+"_START", "%s", url(first))
			set(of(first)+"_PORT_START", "%d", first.Port)
			set(of(first)+"_END", "%s", url(last))
			set(of(first)+"_PORT_END", "%d", last.Port)
		}
	}
	set("_NAME", "/%s/%s", parent, l.Alias)
	for _, kv := range l.Env {
		name, value, ok := strings.Cut(kv, "=")
		if ok && name != "HOME" && name != "PATH" {
			set("_ENV_"+name, "%s", value)
		}
	}
	return env
}

// parseExpose reads --expose. The errors are Docker's.
func parseExpose(list []string) (out []firewall.Exposed, err error) {
	for _, text := range list {
		if strings.Contains(text, ":") {
			return nil, fmt.Errorf("invalid port format for --expose: %s", text)
		}
		ports, err := firewall.ParseExposed(text)
		if err != nil {
			return nil, fmt.Errorf("invalid range format for --expose: %s, error: %w", text, err)
		}
		out = append(out, ports...)
	}
	return out, nil
}

func parseLinks(list []string) (out []names.Link, err error) {
	for _, text := range list {
		l, err := names.ParseLink(text)
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}
