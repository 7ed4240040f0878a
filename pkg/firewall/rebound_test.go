package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"dcni/pkg/wire"
)

// TestNotGatewayBinds: of a family of which its network is not the gateway network, an endpoint binds
// nothing on the host. A routed family stays open, and what is to be removed when that changes is what
// is bound no more.
func TestNotGatewayBinds(t *testing.T) {
	port := Port{HostPort: 8080, Protocol: "tcp", ContainerPort: 80}
	four, six := netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("fd00::2")
	for name, c := range map[string]struct {
		addresses     []netip.Addr
		routed, not   []Family
		trusted       bool
		bound         string
		opened        int    // elements
		gone, relayed string // when it was bound in both before
	}{
		"of both":                      {addresses: []netip.Addr{four, six}, bound: "[0.0.0.0:8080->80/tcp]", gone: "nothing"},
		"not of IPv6":                  {addresses: []netip.Addr{four, six}, not: []Family{6}, bound: "[0.0.0.0:8080->80/tcp]", gone: "ports6"},
		"not of IPv4":                  {addresses: []netip.Addr{four, six}, not: []Family{4}, bound: "[[::]:8080->80/tcp]", gone: "ports4"},
		"of none":                      {addresses: []netip.Addr{four, six}, not: []Family{4, 6}, bound: "[]", gone: "ports4 ports6"},
		"routed IPv6, not of IPv6":     {addresses: []netip.Addr{four, six}, routed: []Family{6}, not: []Family{6}, bound: "[0.0.0.0:8080->80/tcp]", opened: 1, gone: "nothing"},
		"routed, of none":              {addresses: []netip.Addr{four, six}, routed: []Family{4, 6}, not: []Family{4, 6}, bound: "[]", opened: 2, gone: "nothing"},
		"trusted, not of IPv6":         {addresses: []netip.Addr{four, six}, not: []Family{6}, trusted: true, bound: "[0.0.0.0:8080->80/tcp]", opened: 1, gone: "ports6"},
		"IPv4 alone relays":            {addresses: []netip.Addr{four}, bound: "[0.0.0.0:8080->80/tcp]", gone: "nothing", relayed: "8080"},
		"IPv4 alone, another has IPv6": {addresses: []netip.Addr{four}, not: []Family{6}, bound: "[0.0.0.0:8080->80/tcp]", gone: "relayed6"},
	} {
		before := &Endpoint{Owner: wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}, Bridge: "br", Addresses: c.addresses, Ports: []Port{port}, Routed: c.routed, Trusted: c.trusted}
		e := *before
		e.NotGateway = c.not
		if got := fmt.Sprint(e.Bound()); got != c.bound {
			t.Errorf("%s: bound is %s, want %s", name, got, c.bound)
		}
		if got := len(e.Opened()); got != c.opened {
			t.Errorf("%s: opened is %v", name, e.Opened())
		}
		if relay, ok := e.ImpliedRelay(port); ok != (c.relayed != "") || ok && fmt.Sprint(relay.Port) != c.relayed {
			t.Errorf("%s: relayed is %v %t", name, relay, ok)
		}
		if got := setsOf(before.Rebound(&e)); got != c.gone {
			t.Errorf("%s: %s is removed, want %s", name, got, c.gone)
		}
		if gone := e.Rebound(before); gone != nil {
			t.Errorf("%s: the other way, %s is removed", name, gone)
		}
	}
}

// setsOf names the sets of the host's ports that an endpoint has elements in.
func setsOf(e *Endpoint) string {
	if e == nil {
		return "nothing"
	}
	text := ""
	for _, el := range e.Elements() {
		text += " " + el.Set
	}
	return text[1:]
}

// TestNumbered: a port without a number gets that of one which leads to the same port of the container,
// each once.
func TestNumbered(t *testing.T) {
	p := func(ip string, host uint16, protocol string, inside uint16) Port {
		port := Port{HostPort: host, Protocol: protocol, ContainerPort: inside}
		if ip != "" {
			port.HostIP = netip.MustParseAddr(ip)
		}
		return port
	}
	for name, c := range map[string]struct{ own, others, want []Port }{
		"none":          {[]Port{p("", 0, "tcp", 80)}, nil, []Port{p("", 0, "tcp", 80)}},
		"chosen":        {[]Port{p("", 0, "tcp", 80)}, []Port{p("", 0, "tcp", 80), p("", 8081, "tcp", 81), p("", 8082, "udp", 80), p("", 8080, "tcp", 80)}, []Port{p("", 8080, "tcp", 80)}},
		"has one":       {[]Port{p("", 9090, "tcp", 80)}, []Port{p("", 8080, "tcp", 80)}, []Port{p("", 9090, "tcp", 80)}},
		"twice":         {[]Port{p("", 0, "tcp", 80), p("", 0, "tcp", 80)}, []Port{p("", 8080, "tcp", 80), p("", 8081, "tcp", 80)}, []Port{p("", 8080, "tcp", 80), p("", 8081, "tcp", 80)}},
		"two addresses": {[]Port{p("127.0.0.1", 0, "tcp", 80), p("127.0.0.2", 0, "tcp", 80)}, []Port{p("127.0.0.1", 8080, "tcp", 80)}, []Port{p("127.0.0.1", 8080, "tcp", 80), p("127.0.0.2", 8080, "tcp", 80)}},
	} {
		if got := Numbered(c.own, c.others); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
