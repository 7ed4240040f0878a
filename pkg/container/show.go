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

// ShowPorts lists ports as docker ps does: by the container's port, one entry for each family that
// the container has an address of, and the exposed ones that are not published. Ports that follow
// one another, and have the same number on the host or none, are a range; ranges come first. What
// several networks of a container have on record is published once.
func ShowPorts(endpoints []*firewall.Endpoint, exposed []firewall.Exposed) string {
	shown := bindings(endpoints, exposed)
	var ended, open []portSpan // ranges: an address and protocol has at most one that is open
	var others []string
	for _, b := range shown {
		if b.HostPort != b.ContainerPort && b.HostPort != 0 {
			others = append(others, portSpan{b, b.ContainerPort}.String())
			continue
		}
		i := slices.IndexFunc(open, func(s portSpan) bool { return s.host() == b.host() && s.Protocol == b.Protocol })
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

// bindings lists what endpoints publish, each binding once, and what is exposed besides, in
// Docker's order.
func bindings(endpoints []*firewall.Endpoint, exposed []firewall.Exposed) (shown []binding) {
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
	published := len(shown)
	for _, e := range exposed {
		same := func(b binding) bool { return b.Protocol == e.Protocol && b.ContainerPort == e.Port }
		if !slices.ContainsFunc(shown[:published], same) {
			shown = append(shown, binding{Port: firewall.Port{Protocol: e.Protocol, ContainerPort: e.Port}})
		}
	}
	slices.SortFunc(shown, binding.compare)
	return shown
}

func hasFamily(list []netip.Addr, v6 bool) bool {
	return slices.ContainsFunc(list, func(a netip.Addr) bool { return a.Is6() == v6 })
}

// A binding is a published port in one family, or, with no host port, one that is reached by the
// container's own address.
type binding struct {
	firewall.Port
	v6 bool
}

// host returns the host's address as it is shown; "" without one.
func (b binding) host() string {
	if b.HostPort == 0 {
		return ""
	}
	addr := netip.MustParseAddrPort(b.HostAddr(b.v6)).Addr()
	if addr.Is6() {
		return "[" + addr.String() + "]"
	}
	return addr.String()
}

func (b binding) compare(o binding) int {
	return cmp.Or(cmp.Compare(b.ContainerPort, o.ContainerPort), strings.Compare(b.host(), o.host()),
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
	inside := portRange(s.ContainerPort, s.last) + "/" + s.Protocol
	if s.HostPort == 0 {
		return inside
	}
	return fmt.Sprintf("%s:%s->%s", s.host(), portRange(s.HostPort, s.HostPort+s.last-s.ContainerPort), inside)
}

func portRange(from, to uint16) string {
	if from == to {
		return fmt.Sprint(from)
	}
	return fmt.Sprintf("%d-%d", from, to)
}
