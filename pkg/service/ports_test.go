package service

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"dcni/pkg/firewall"
)

// ported returns all that a network's services have at the host's ports, as text.
func ported(n Network) string {
	var lines []string
	in := n.Ingress()
	for _, c := range in.Claims {
		lines = append(lines, fmt.Sprint("claim ", c.Owner, " ", c.Ports[0], " ", c.Addresses))
	}
	kept := n.Kept()
	for _, turn := range in.Turns {
		lines = append(lines, fmt.Sprint(turn.Chain(), ": ", turn.Tasks, " keep ", kept[turn.HostPort()]))
	}
	return strings.Join(lines, "\n")
}

func TestIngress(t *testing.T) {
	web := Service{Name: "web", Network: "net", Mode: VIP, Affinity: NoAffinity, VIPs: vips, Ports: []Port{{8080, 80, "tcp"}}}
	four, leaving, checked := web, web, web
	four.VIPs, four.Ports = vips[:1], []Port{{8080, 80, "tcp"}, {53, 5353, "udp"}}
	leaving.Removing = true
	checked.Health = "tcp:80"
	drained, healthy := endpoint("c2", "web"), endpoint("c1", "web")
	drained.Drained, healthy.Healthy = true, []string{"web"}
	for _, c := range []struct {
		name string
		n    Network
		want string
	}{
		{"no ports", Network{"net", []Service{{Name: "web", VIPs: vips}}, []Endpoint{endpoint("c1", "web")}}, ``},
		{"no tasks", Network{"net", []Service{web}, nil}, `
claim _service _net/web 0.0.0.0:8080->80/tcp [10.9.0.100 fd00::64]
ingress4-tcp-8080: [] keep []
ingress6-tcp-8080: [] keep []`},
		{"two ports, one family", Network{"net", []Service{four}, []Endpoint{endpoint("c1", "web"), endpoint("c2", "web")}}, `
claim _service _net/web 0.0.0.0:8080->80/tcp [10.9.0.100]
claim _service _net/web 0.0.0.0:53->5353/udp [10.9.0.100]
ingress4-tcp-8080: [10.9.0.1:80 10.9.0.2:80] keep [10.9.0.1 10.9.0.2]
ingress4-udp-53: [10.9.0.1:5353 10.9.0.2:5353] keep [10.9.0.1 10.9.0.2]`},
		{"a drained task keeps what it has", Network{"net", []Service{web}, []Endpoint{endpoint("c1", "web"), drained}}, `
claim _service _net/web 0.0.0.0:8080->80/tcp [10.9.0.100 fd00::64]
ingress4-tcp-8080: [10.9.0.1:80] keep [10.9.0.1 10.9.0.2]
ingress6-tcp-8080: [[fd00::1]:80] keep [fd00::1 fd00::2]`},
		{"one that fails its check does not", Network{"net", []Service{checked}, []Endpoint{healthy, endpoint("c2", "web")}}, `
claim _service _net/web 0.0.0.0:8080->80/tcp [10.9.0.100 fd00::64]
ingress4-tcp-8080: [10.9.0.1:80] keep [10.9.0.1]
ingress6-tcp-8080: [[fd00::1]:80] keep [fd00::1]`},
		{"on its way out", Network{"net", []Service{leaving}, []Endpoint{endpoint("c1", "web")}}, ``},
	} {
		if got := ported(c.n); got != strings.TrimPrefix(c.want, "\n") {
			t.Errorf("%s:\n%s\nwant%s", c.name, got, c.want)
		}
	}
	gone := Network{"net", []Service{leaving}, []Endpoint{endpoint("c1", "web")}}
	if kept, is := gone.Kept()[firewall.HostPort{Protocol: "tcp", Port: 8080}]; !is || len(kept) > 0 {
		t.Error("connections of a service on its way out are kept")
	}
	far, local := endpoint("c3", "web"), web
	far.Node, local.Local = "n2", true
	for _, c := range []struct {
		s    Service
		e    []Endpoint
		want string
	}{
		{web, []Endpoint{far}, "[10.9.0.3:80]"}, {web, []Endpoint{far, endpoint("c1", "web")}, "[10.9.0.1:80]"}, {local, []Endpoint{far}, "[]"},
		{web, []Endpoint{far, drained}, "[10.9.0.3:80]"}, {local, []Endpoint{far, endpoint("c1", "web")}, "[10.9.0.1:80]"},
	} {
		n := Network{"net", []Service{c.s}, c.e}
		if got := fmt.Sprint(n.Ingress().Turns[0].Tasks); got != c.want {
			t.Errorf("%v leads to %s, want %s", c.e, got, c.want)
		}
	}
	two := Network{"net", []Service{web}, []Endpoint{endpoint("c1", "web"), endpoint("c2", "web")}}
	for at, want := range map[string]string{"10.9.0.100:80": "10.9.0.2:80", "[fd00::64]:80": "[fd00::2]:80"} {
		if got := two.Reached()[netip.MustParseAddrPort(at)]; !slices.Contains(got, netip.MustParseAddrPort(want)) || len(got) != 2 {
			t.Errorf("%s leads to %v", at, got)
		}
	}
	if len(gone.Reached()) > 0 {
		t.Error("a service on its way out is reached")
	}
}
