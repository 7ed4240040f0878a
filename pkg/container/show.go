package container

import (
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

// ShowPorts lists published ports as docker ps does: one entry for each family
// that the container has an address of, ports that follow one another as a range. What
// several networks of a container have on record is published once.
func ShowPorts(endpoints []*firewall.Endpoint) string {
	var shown []binding
	for _, e := range endpoints {
		for _, p := range e.Ports {
			for _, v6 := range []bool{false, true} {
				b := binding{p, v6, p.HostPort, p.ContainerPort}
				if p.Family(v6) && hasFamily(e.Addresses, v6) && !slices.ContainsFunc(shown, b.is) {
					shown = append(shown, b)
				}
			}
		}
	}
	slices.SortStableFunc(shown, binding.compare)
	var words []string
	for len(shown) > 0 {
		n := 1
		for n < len(shown) && shown[n-1].next(shown[n]) {
			n++
		}
		words = append(words, shown[0].span(shown[n-1]))
		shown = shown[n:]
	}
	return strings.Join(words, ", ")
}

func hasFamily(list []netip.Addr, v6 bool) bool {
	return slices.ContainsFunc(list, func(a netip.Addr) bool { return a.Is6() == v6 })
}

// A binding is a published port in one family.
type binding struct {
	firewall.Port
	v6           bool
	host, inside uint16
}

func (b binding) addr() netip.Addr {
	return netip.MustParseAddrPort(b.HostAddr(b.v6)).Addr()
}

func (b binding) compare(o binding) int {
	if c := strings.Compare(b.Protocol, o.Protocol); c != 0 {
		return c
	}
	if c := b.addr().Compare(o.addr()); c != 0 {
		return c
	}
	return int(b.inside) - int(o.inside)
}

// is reports whether two bindings are one.
func (b binding) is(o binding) bool { return b.compare(o) == 0 && b.host == o.host }

// next reports whether a binding continues the range that this one is in.
func (b binding) next(o binding) bool {
	return b.Protocol == o.Protocol && b.addr() == o.addr() && o.host == b.host+1 && o.inside == b.inside+1
}

// span shows the range from one binding to another.
func (b binding) span(last binding) string {
	ip := b.addr().String()
	if b.addr().Is6() {
		ip = "[" + ip + "]"
	}
	return fmt.Sprintf("%s:%s->%s/%s", ip, portRange(b.host, last.host), portRange(b.inside, last.inside), b.Protocol)
}

func portRange(from, to uint16) string {
	if from == to {
		return fmt.Sprint(from)
	}
	return fmt.Sprintf("%d-%d", from, to)
}
