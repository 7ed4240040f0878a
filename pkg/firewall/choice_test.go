package firewall

import (
	"fmt"
	"net/netip"
	"testing"
)

func TestUnchosen(t *testing.T) {
	port := func(ip string, hostPort uint16, protocol string, containerPort uint16) Port {
		p := Port{HostPort: hostPort, Protocol: protocol, ContainerPort: containerPort}
		if ip != "" {
			p.HostIP = netip.MustParseAddr(ip)
		}
		return p
	}
	e := &Endpoint{Ports: []Port{
		port("127.0.0.1", 0, "tcp", 80), port("::1", 0, "tcp", 80), port("", 0, "udp", 80), port("", 8080, "tcp", 80),
		port("127.0.0.1", 0, "tcp", 80), port("127.0.0.1", 0, "tcp", 81), port("127.0.0.2", 0, "tcp", 80),
	}}
	if got := fmt.Sprint(e.unchosen()); got != "[[0 1 6] [2] [4] [5]]" {
		t.Error(got)
	}
	choices := e.Choices()
	if len(choices) != 3 || choices[0].Left() != 1 || choices[1].Left() != 1 || choices[2].Left() != 2 {
		t.Fatalf("%d choices", len(choices))
	}
	if p := choices[0].Propose([]uint16{8080, 8081}); fmt.Sprint(p.Ports) != "[127.0.0.1:8081->80/tcp [::1]:8081->80/tcp 127.0.0.2:8081->80/tcp]" {
		t.Errorf("%v beside the endpoint's own 0.0.0.0:8080", p.Ports)
	}
	if p := choices[1].Propose([]uint16{8080}); fmt.Sprint(p.Ports) != "[0.0.0.0:8080->80/udp]" {
		t.Errorf("%v", p.Ports)
	}
	if e.Ports[2].HostPort != 0 {
		t.Error("a proposal changed the endpoint")
	}
	choices[0].Take(8081)
	two := choices[2].Propose([]uint16{8081, 8082, 8083, 8084})
	if got := fmt.Sprint(two.Ports); got != "[127.0.0.1:8082->81/tcp 127.0.0.1:8083->81/tcp 127.0.0.1:8084->81/tcp]" {
		t.Errorf("%s beside the endpoint's own 127.0.0.1:8081", got)
	}
	choices[2].Take(8082)
	choices[2].Take(8083)
	if choices[2].Left() != 0 || e.Ports[4].HostPort != 8082 || e.Ports[5].HostPort != 8083 || e.Ports[6].HostPort != 8081 {
		t.Errorf("ports %v", e.Ports)
	}
}
