package container

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"dcni/pkg/firewall"
)

// Ago returns a duration in Docker's words.
func Ago(seconds int64) string {
	const minute, hour, day = 60, 60 * 60, 24 * 60 * 60
	switch {
	case seconds < 1:
		return "Less than a second"
	case seconds == 1:
		return "1 second"
	case seconds < minute:
		return fmt.Sprintf("%d seconds", seconds)
	case seconds < 2*minute:
		return "About a minute"
	case seconds < hour:
		return fmt.Sprintf("%d minutes", seconds/minute)
	case seconds < 2*hour:
		return "About an hour"
	case seconds < 2*day:
		return fmt.Sprintf("%d hours", seconds/hour)
	case seconds < 14*day:
		return fmt.Sprintf("%d days", seconds/day)
	}
	return fmt.Sprintf("%d weeks", seconds/(7*day))
}

// Shorten cuts a text to n letters as Docker does, the last of them an
// ellipsis.
func Shorten(s string, n int) string {
	letters := []rune(s)
	if len(letters) <= n {
		return s
	}
	return string(letters[:n-1]) + "…"
}

// ShowPorts lists published ports as docker ps does: by the container's port, one entry for
// each family that the container has an address of. Ports that follow one another, and have the
// same number on the host, are a range; ranges come first. What several networks of a container
// have on record is published once.
func ShowPorts(endpoints []*firewall.Endpoint) string {
	var shown []binding
	for _, e := range endpoints {
		for _, p := range e.Shown() {
			for _, v6 := range []bool{false, true} {
				b := binding{p, v6}
				if p.Family(v6) && hasFamily(e.Addresses, v6) && !slices.ContainsFunc(shown, b.is) {
					shown = append(shown, b)
				}
			}
		}
	}
	slices.SortFunc(shown, binding.compare)
	var ended, open []portSpan // ranges: an address and protocol has at most one that is open
	var others []string
	for _, b := range shown {
		if b.HostPort == 0 { // opened by the container's own address, in either family
			if text := (firewall.Exposed{Protocol: b.Protocol, Port: b.ContainerPort}).String(); !slices.Contains(others, text) {
				others = append(others, text)
			}
			continue
		}
		if b.HostPort != b.ContainerPort {
			others = append(others, portSpan{b, b.ContainerPort}.String())
			continue
		}
		i := slices.IndexFunc(open, func(s portSpan) bool { return s.addr() == b.addr() && s.Protocol == b.Protocol })
		switch {
		case i < 0:
			open = append(open, portSpan{b, b.ContainerPort})
		case open[i].last+1 == b.ContainerPort:
			open[i].last++
		default:
			ended = append(ended, open[i])
			open[i] = portSpan{b, b.ContainerPort}
		}
	}
	var words []string
	for _, s := range slices.Concat(ended, open) {
		words = append(words, s.String())
	}
	return strings.Join(append(words, others...), ", ")
}

func hasFamily(list []netip.Addr, v6 bool) bool {
	return slices.ContainsFunc(list, func(a netip.Addr) bool { return a.Is6() == v6 })
}

// A binding is a published port in one family.
type binding struct {
	firewall.Port
	v6 bool
}

func (b binding) addr() netip.Addr {
	return netip.MustParseAddrPort(b.HostAddr(b.v6)).Addr()
}

func (b binding) compare(o binding) int {
	return cmp.Or(cmp.Compare(b.ContainerPort, o.ContainerPort), strings.Compare(b.addr().String(), o.addr().String()),
		cmp.Compare(b.HostPort, o.HostPort), strings.Compare(b.Protocol, o.Protocol))
}

// is reports whether two bindings are one.
func (b binding) is(o binding) bool { return b.compare(o) == 0 }

// A portSpan is a binding, or several up to a port that have the same number inside and outside.
type portSpan struct {
	binding
	last uint16 // of the container
}

// String shows the span as docker ps does.
func (s portSpan) String() string {
	ip := s.addr().String()
	if s.addr().Is6() {
		ip = "[" + ip + "]"
	}
	host := portRange(s.HostPort, s.HostPort+s.last-s.ContainerPort)
	return fmt.Sprintf("%s:%s->%s/%s", ip, host, portRange(s.ContainerPort, s.last), s.Protocol)
}

func portRange(from, to uint16) string {
	if from == to {
		return fmt.Sprint(from)
	}
	return fmt.Sprintf("%d-%d", from, to)
}
