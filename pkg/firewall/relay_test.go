package firewall

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// relayList prints relays as "tcp [::1]:8080 > [fd00:1::2]:80".
func relayList(list []Relay) string {
	var words []string
	for _, r := range list {
		words = append(words, fmt.Sprintf("%s %s > %s", r.Protocol, r.Listen, r.Target))
	}
	return strings.Join(words, "; ")
}

// endpoint has addresses and a port for each "IP PROTOCOL"; 8080 leads to 80.
func endpoint(addresses []string, ports ...string) *Endpoint {
	e := &Endpoint{}
	for _, a := range addresses {
		e.Addresses = append(e.Addresses, netip.MustParseAddr(a))
	}
	for _, p := range ports {
		ip, protocol, _ := strings.Cut(p, "/")
		port := Port{HostPort: 8080, Protocol: protocol, ContainerPort: 80}
		if ip != "" {
			port.HostIP = netip.MustParseAddr(ip)
		}
		e.Ports = append(e.Ports, port)
	}
	return e
}

func TestRelays(t *testing.T) {
	dual, four, six := []string{"10.1.0.2", "fd00:1::2"}, []string{"10.1.0.2"}, []string{"fd00:1::2"}
	for _, c := range []struct {
		addresses []string
		port      string
		want      string
	}{
		{dual, "/tcp", "tcp 0.0.0.0:8080 > 10.1.0.2:80; tcp [::]:8080 > [fd00:1::2]:80"},
		{dual, "::/udp", "udp [::]:8080 > [fd00:1::2]:80"},
		{dual, "::1/sctp", "sctp [::1]:8080 > [fd00:1::2]:80"},
		{dual, "2001:db8::1/tcp", "tcp [2001:db8::1]:8080 > [fd00:1::2]:80"},
		{dual, "0.0.0.0/tcp", "tcp 0.0.0.0:8080 > 10.1.0.2:80"},
		{dual, "127.0.0.1/tcp", "tcp 127.0.0.1:8080 > 10.1.0.2:80"},
		{dual, "::ffff:127.0.0.1/tcp", "tcp 127.0.0.1:8080 > 10.1.0.2:80"},
		{six, "/tcp", "tcp [::]:8080 > [fd00:1::2]:80"},
		{six, "0.0.0.0/tcp", ""},
		{four, "/tcp", "tcp 0.0.0.0:8080 > 10.1.0.2:80; tcp [::]:8080 > 10.1.0.2:80"},
		{four, "::/udp", "udp [::]:8080 > 10.1.0.2:80"},
		{four, "::1/tcp", "tcp [::1]:8080 > 10.1.0.2:80"},
		{four, "2001:db8::1/tcp", "tcp [2001:db8::1]:8080 > 10.1.0.2:80"},
		{four, "0.0.0.0/tcp", "tcp 0.0.0.0:8080 > 10.1.0.2:80"},
		{four, "192.0.2.1/tcp", "tcp 192.0.2.1:8080 > 10.1.0.2:80"},
		{four, "::ffff:192.0.2.1/tcp", "tcp 192.0.2.1:8080 > 10.1.0.2:80"},
		{nil, "/tcp", ""},
	} {
		if got := relayList(Relays(endpoint(c.addresses, c.port))); got != c.want {
			t.Errorf("%v on %s: got %q, want %q", c.port, c.addresses, got, c.want)
		}
	}
}

// A container on several networks publishes once, over IPv6 where it can.
func TestRelaysOfSeveral(t *testing.T) {
	four, other := endpoint([]string{"10.1.0.2"}, "/tcp", "/udp"), endpoint([]string{"10.2.0.2"}, "/tcp", "2001:db8::1/tcp")
	dual := endpoint([]string{"10.3.0.2", "fd00:3::2"}, "/tcp")
	for _, c := range []struct {
		endpoints []*Endpoint
		want      string
	}{
		{nil, ""},
		{[]*Endpoint{four, other}, "tcp 0.0.0.0:8080 > 10.1.0.2:80; tcp [::]:8080 > 10.1.0.2:80; " +
			"udp 0.0.0.0:8080 > 10.1.0.2:80; udp [::]:8080 > 10.1.0.2:80; tcp [2001:db8::1]:8080 > 10.2.0.2:80"},
		{[]*Endpoint{four, dual}, "tcp 0.0.0.0:8080 > 10.3.0.2:80; tcp [::]:8080 > [fd00:3::2]:80; " +
			"udp 0.0.0.0:8080 > 10.1.0.2:80; udp [::]:8080 > 10.1.0.2:80"},
		{[]*Endpoint{dual, dual}, "tcp 0.0.0.0:8080 > 10.3.0.2:80; tcp [::]:8080 > [fd00:3::2]:80"},
	} {
		if got := relayList(Relays(c.endpoints...)); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	unchosen := endpoint([]string{"fd00:1::2"}, "/tcp")
	unchosen.Ports[0].HostPort = 0
	if got := Relays(unchosen); len(got) != 0 {
		t.Errorf("a port not yet chosen: %v", got)
	}
}

// What Podman binds itself is left to it.
func TestUnbound(t *testing.T) {
	dual := []string{"10.1.0.2", "fd00:1::2"}
	for port, want := range map[string]string{
		"/udp": "udp [::]:8080 > [fd00:1::2]:80", "0.0.0.0/tcp": "", "127.0.0.1/tcp": "", "::/tcp": "", "2001:db8::1/tcp": "",
	} {
		e := endpoint(dual, port)
		if got := relayList(Relays(e.Unbound())); got != want || len(e.Ports) != 1 {
			t.Errorf("%s: %q, want %q", port, got, want)
		}
	}
}
