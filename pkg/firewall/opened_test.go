package firewall

import (
	"fmt"
	"strings"
	"testing"
)

// TestOpened: what an endpoint binds on the host, opens by the container's address, shows, and
// has relayed, by the families that are routed.
func TestOpened(t *testing.T) {
	both, four := []string{"10.1.0.2", "fd00::2"}, []string{"10.1.0.2"}
	for _, c := range []struct {
		addresses []string
		routed    []Family
		trusted   bool
		ip        string
		want      string
	}{
		{both, nil, false, "", "bound 0.0.0.0:8080->80/tcp; open ; shown 0.0.0.0:8080->80/tcp; sets ports4 ports6; relays 0.0.0.0:8080 [::]:8080"},
		{both, []Family{4}, false, "", "bound [::]:8080->80/tcp; open 10.1.0.2:80; shown [::]:8080->80/tcp 0.0.0.0:0->80/tcp; sets ports6; relays [::]:8080"},
		{both, []Family{6}, false, "", "bound 0.0.0.0:8080->80/tcp; open [fd00::2]:80; shown 0.0.0.0:8080->80/tcp [::]:0->80/tcp; sets ports4; relays 0.0.0.0:8080"},
		{both, []Family{4, 6}, false, "", "bound ; open 10.1.0.2:80 [fd00::2]:80; shown 0.0.0.0:0->80/tcp [::]:0->80/tcp; sets ; relays "},
		// IPv6 of the host does not lead to an IPv4 that is routed
		{four, []Family{4}, false, "", "bound ; open 10.1.0.2:80; shown 0.0.0.0:0->80/tcp; sets ; relays "},
		{four, []Family{4}, false, "::", "bound ; open ; shown ; sets ; relays "},
		{four, []Family{6}, false, "", "bound 0.0.0.0:8080->80/tcp; open ; shown 0.0.0.0:8080->80/tcp; sets ports4; relays 0.0.0.0:8080 [::]:8080"},
		// the host's address says the family, and no more
		{both, []Family{4, 6}, false, "192.0.2.1", "bound ; open 10.1.0.2:80; shown 0.0.0.0:0->80/tcp; sets ; relays "},
		{both, []Family{4, 6}, false, "::", "bound ; open [fd00::2]:80; shown [::]:0->80/tcp; sets ; relays "},
		{both, []Family{4, 6}, false, "127.0.0.1", "bound ; open ; shown ; sets ; relays "},
		{both, []Family{6}, false, "192.0.2.1", "bound 192.0.2.1:8080->80/tcp; open ; shown 192.0.2.1:8080->80/tcp; sets ports4_addr; relays 192.0.2.1:8080"},
		// a trusted interface
		{both, nil, true, "", "bound 0.0.0.0:8080->80/tcp; open 10.1.0.2:80 [fd00::2]:80; shown 0.0.0.0:8080->80/tcp; sets ports4 ports6; relays 0.0.0.0:8080 [::]:8080"},
		{both, []Family{6}, true, "", "bound 0.0.0.0:8080->80/tcp; open 10.1.0.2:80 [fd00::2]:80; shown 0.0.0.0:8080->80/tcp [::]:0->80/tcp; sets ports4; relays 0.0.0.0:8080"},
		{both, nil, true, "127.0.0.1", "bound 127.0.0.1:8080->80/tcp; open ; shown 127.0.0.1:8080->80/tcp; sets ports4_addr; relays 127.0.0.1:8080"},
	} {
		e := endpoint(c.addresses, c.ip+"/tcp", c.ip+"/tcp") // a container's port may be published twice
		e.Ports[1].HostPort = 0
		e.Bridge, e.Routed, e.Trusted = "br-a", c.routed, c.trusted
		var open, sets, relays []string
		for _, d := range e.direct() {
			open = append(open, d.To.String())
		}
		for _, element := range e.Elements() {
			sets = append(sets, element.Set)
		}
		for _, r := range Relays(e) {
			relays = append(relays, r.Listen.String())
		}
		if choices := e.Choices(); (len(choices) > 0) != (len(e.Bound()) > 0) {
			t.Errorf("%v: ports to choose: %v", c, choices)
		}
		e.Ports = e.Ports[:1]
		got := fmt.Sprintf("bound %s; open %s; shown %s; sets %s; relays %s",
			portList(e.Bound()), strings.Join(open, " "), portList(e.Shown()), strings.Join(sets, " "), strings.Join(relays, " "))
		if got != c.want {
			t.Errorf("%v routed %v trusted %v ip %q:\n got %s\nwant %s", c.addresses, c.routed, c.trusted, c.ip, got, c.want)
		}
	}
	e := c1(Port{HostPort: 8080, Protocol: "udp", ContainerPort: 53})
	e.Routed = []Family{4}
	want := `open4 { "br-a" . 10.1.0.2 . udp . 53 comment "web c1/eth0" }
open4 { "br-a" . 10.1.0.3 . udp . 53 comment "web c1/eth0" }`
	if got := lines(e.Opened()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func portList(list []Port) string {
	words := make([]string, len(list))
	for i, p := range list {
		words[i] = p.String()
	}
	return strings.Join(words, " ")
}

// TestOpenNetwork: the elements of networks that others reach by containers' addresses.
func TestOpenNetwork(t *testing.T) {
	n := web()
	n.Unprotected, n.Routed, n.Trusted = []Family{4}, []Family{6}, []string{"eth1"}
	want := `icc { "br-a" . "br-a" comment "web" }
unprotected { "br-a" . ipv4 comment "web" }
routed { "br-a" . ipv6 comment "web" }
trusted { "eth1" . "br-a" comment "web" }
subnets4 { "br-a" . 10.1.0.0/24 comment "web" }
masquerade4 { 10.1.0.0/24 comment "web" }
subnets6 { "br-a" . fd00:1::/64 comment "web" }`
	if got := lines(n.Elements()[1:]); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	n.ICC = false
	if got := lines(n.Elements()); !strings.Contains(got, `apart { "br-a" . "br-a" comment "web" }`) {
		t.Error(got)
	}
	if n.Unprotected, n.Routed, n.Trusted = nil, nil, nil; strings.Contains(lines(n.Elements()), "apart") {
		t.Error("a network that nothing reaches is kept apart from itself")
	}
	e := c1(Port{HostPort: 8080, Protocol: "tcp", ContainerPort: 80})
	e.Routed, e.Trusted = []Family{6}, true
	var got []string
	for _, p := range e.Published(Network{Trusted: []string{"eth1"}}) {
		got = append(got, fmt.Sprint(p.Host.IsValid(), p.To, p.From))
	}
	if text := strings.Join(got, "; "); text != "true 10.1.0.2:80 [host networks outside]; false 10.1.0.2:80 [host eth1]; false [fd00:1::2]:80 [host networks outside]; false 10.1.0.3:80 [host eth1]" {
		t.Error(text)
	}
}
