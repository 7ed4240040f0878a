package main

import (
	"fmt"
	"testing"

	"dcni/pkg/overlay"
	"dcni/pkg/service"
)

// TestIngressChanges wants a node on the networks whose services all nodes publish ports of, and on no others.
func TestIngressChanges(t *testing.T) {
	web, lab := overlay.Existing{Name: "web", Generation: 7}, overlay.Existing{Name: "lab", Generation: 9}
	on := func(network string, change func(*service.Service)) overlay.Service {
		s := service.Service{Network: network, Name: "api", Ports: []service.Port{{Published: 8080, Target: 80, Protocol: "tcp"}}}
		if change != nil {
			change(&s)
		}
		return overlay.Service{Service: s}
	}
	portless := on("web", func(s *service.Service) { s.Ports = nil })
	local := on("web", func(s *service.Service) { s.Local = true })
	removing := on("web", func(s *service.Service) { s.Removing = true })
	networks := []overlay.Existing{lab, web}
	for _, c := range []struct {
		name        string
		published   published
		on          map[string]int64
		join, leave string
	}{
		{"nothing", published{}, nil, "[]", "[]"},
		{"no ports", published{networks, []overlay.Service{portless, local, removing}, nil}, nil, "[]", "[]"},
		{"ports", published{networks, []overlay.Service{portless, on("web", nil), local}, nil}, nil, "[web]", "[]"},
		{"of two networks", published{networks, []overlay.Service{on("web", nil), on("lab", nil)}, nil}, map[string]int64{"web": 7}, "[lab]", "[]"},
		{"it is there", published{networks, []overlay.Service{on("web", nil)}, nil}, map[string]int64{"web": 7}, "[]", "[]"},
		{"it is half there", published{networks, []overlay.Service{on("web", nil)}, nil}, map[string]int64{"web": 0}, "[web]", "[]"},
		{"of the network that had the name", published{networks, []overlay.Service{on("web", nil)}, nil}, map[string]int64{"web": 3}, "[web]", "[]"},
		{"the last one is gone", published{networks, []overlay.Service{portless, local}, nil}, map[string]int64{"web": 7, "lab": 0}, "[]", "[lab web]"},
		{"the network is gone", published{networks[:1], nil, nil}, map[string]int64{"web": 7}, "[]", "[web]"},
		{"the network can't be read", published{networks[:1], []overlay.Service{on("web", nil)}, nil}, map[string]int64{"web": 7}, "[]", "[]"},
		{"a service can't be read", published{networks, nil, []string{"web", "lab"}}, map[string]int64{"web": 7}, "[]", "[]"},
	} {
		join, leave := c.published.changes(c.on)
		names := []string{}
		for _, n := range join {
			names = append(names, n.Name)
		}
		if fmt.Sprint(names) != c.join || fmt.Sprint(leave) != c.leave {
			t.Errorf("%s: joins %s and leaves %s, want %s and %s", c.name, names, leave, c.join, c.leave)
		}
	}
}
