package records

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dcni/pkg/ipam"
	"dcni/pkg/service"
	"dcni/pkg/wire"
)

// TestServicesOnDisk wants services and marks of tasks to come back as they were written, one
// that can't be read to hide no other, and nothing to be left.
func TestServicesOnDisk(t *testing.T) {
	s := Store{Run: t.TempDir(), Lib: t.TempDir()}
	a := wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}
	rec := &Record{
		Attachment: a, Plugin: "dbridge", State: Up, NetNS: "/run/netns/c1", Name: "c1", Names: []string{"c1", "api"}, IPAM: IPAM{Type: "dipam"},
		Addresses: []ipam.Assigned{{Address: netip.MustParsePrefix("10.1.0.2/24")}},
	}
	if err := s.Put(rec); err != nil {
		t.Fatal(err)
	}
	shown := func() string {
		n, err := s.ServicesOf("web")
		text := ""
		for _, v := range n.Services {
			text += v.Name + fmt.Sprint(v.VIPs)
			for _, task := range n.Tasks(v) {
				text += " " + string(task.State)
			}
			text += ";"
		}
		return text + fmt.Sprint(err != nil)
	}
	check := func(step, want string) {
		t.Helper()
		if got := shown(); got != want {
			t.Errorf("%s: %s, want %s", step, got, want)
		}
	}
	check("none", "false")
	for _, name := range []string{"api", "db"} {
		v := &Service{Service: service.Service{Name: name, Network: "web", Mode: service.VIP, VIPs: []netip.Addr{netip.MustParseAddr("10.1.0.9")}, Health: "tcp:80"}}
		if err := s.PutService(v); err != nil {
			t.Fatal(err)
		}
	}
	check("not checked", "api[10.1.0.9] unhealthy;db[10.1.0.9];false")
	steps := []struct {
		name string
		do   func() error
		want string
	}{
		{"healthy", func() error { return s.SetHealthy("api", a, true) }, "api[10.1.0.9] ready;db[10.1.0.9];false"},
		{"drained", func() error { return s.Drain(a, true) }, "api[10.1.0.9] draining;db[10.1.0.9];false"},
		{"forgotten", func() error { return s.ForgetTask(a) }, "api[10.1.0.9] unhealthy;db[10.1.0.9];false"},
		{"unreadable", func() error { return os.WriteFile(filepath.Join(s.Lib, "services/web/db.json"), nil, 0o600) }, "api[10.1.0.9] unhealthy;true"},
		{"removed", func() error { return s.RemoveService("web", "db") }, "api[10.1.0.9] unhealthy;false"},
		{"drained again", func() error { return s.Drain(a, true) }, "api[10.1.0.9] draining;false"},
		{"healthy again", func() error { return s.SetHealthy("api", a, true) }, "api[10.1.0.9] draining;false"},
		{"the last one removed", func() error { return s.RemoveService("web", "api") }, "false"},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
		check(step.name, step.want)
	}
	for _, path := range []string{filepath.Join(s.Lib, "services"), filepath.Join(s.Run, "drained"), filepath.Join(s.Run, "healthy")} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is left", path)
		}
	}
	if s.HasService("../web", "api") || s.HasService("web", "../api") {
		t.Error("a service elsewhere")
	}
}

// TestServedOnDisk wants what is known of a cluster's network to come back, with this host's
// containers as they are on record, and nothing to be left when the network goes.
func TestServedOnDisk(t *testing.T) {
	s := Store{Run: t.TempDir(), Lib: t.TempDir()}
	a := wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}
	far := wire.Attachment{Network: "web", Container: "c2", IfName: "eth0"}
	address := netip.MustParsePrefix("10.1.0.2/24")
	if s.KnowsServices("web") || s.HasServices("web") {
		t.Error("something is known before")
	}
	must := func(errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	must(s.PutServed(service.Picture{Node: "n1", Network: service.Network{Name: "web"}}))
	if list, err := s.ServiceNetworks(); !s.KnowsServices("web") || s.HasServices("web") || len(list) > 0 || err != nil {
		t.Errorf("a network without services: %t, %v, %v", s.HasServices("web"), list, err)
	}
	p := service.Picture{Node: "n1", Network: service.Network{
		Name: "web", Services: []service.Service{{Name: "api", Network: "web", Mode: service.VIP, Health: "tcp:80"}},
		Endpoints: []service.Endpoint{
			{Owner: a, Node: "n1", Names: []string{"api"}, Addresses: []netip.Addr{address.Addr()}, Drained: true},
			{Owner: far, Node: "n2", Names: []string{"api"}, Addresses: []netip.Addr{address.Addr().Next()}, Healthy: []string{"api"}, Since: 7},
		},
	}}
	must(s.PutServed(p), s.SetHealthy("api", a, true), s.SetHealthy("old", a, true), s.Put(&Record{
		Attachment: a, Plugin: "doverlay", State: Up, NetNS: "/run/netns/c1", Name: "c1", Names: []string{"c1", "api"}, IPAM: IPAM{Type: "cluster"},
		Addresses: []ipam.Assigned{{Address: address}},
	}))
	want := "/c1 draining, n2/c2 ready"
	shown := func() string {
		n, err := s.ServicesOf("web")
		must(err)
		var list []string
		for _, v := range n.Services {
			for _, task := range n.Tasks(v) {
				list = append(list, task.Node+"/"+task.Owner.Container+" "+string(task.State))
			}
		}
		return strings.Join(list, ", ")
	}
	if got := shown(); got != want {
		t.Errorf("tasks %s, want %s", got, want)
	}
	if list, err := s.ServiceNetworks(); !s.HasServices("web") || fmt.Sprint(list) != "[web]" || err != nil {
		t.Errorf("networks with services: %v, %v", list, err)
	}
	p.Endpoints[0].Drained = false
	must(s.PutServed(p))
	if got, want := shown(), "/c1 ready, n2/c2 ready"; got != want {
		t.Errorf("tasks %s, want %s", got, want)
	}
	if left := s.marks(s.healthyDir("web")); len(left) != 1 || !left["api"] {
		t.Errorf("checks are known of %v", left)
	}
	p.Services[0].Health = ""
	must(s.PutServed(p))
	if left := s.marks(s.healthyDir("web")); len(left) != 0 {
		t.Errorf("checks are known of %v", left)
	}
	must(s.SetHealthy("api", a, true), s.DeleteServed("web"), s.DeleteServed("web"))
	for _, dir := range []string{"served", "healthy"} {
		if _, err := os.Lstat(filepath.Join(s.Run, dir)); err == nil {
			t.Errorf("%s is left", dir)
		}
	}
}

// TestMeant wants the containers that a word may mean, and to be told which are tasks, whatever else is on the network.
func TestMeant(t *testing.T) {
	s := Store{Run: t.TempDir(), Lib: t.TempDir()}
	for _, v := range []service.Service{{Name: "api"}, {Name: "old", Removing: true}} {
		v.Network, v.Mode = "web", service.VIP
		if err := s.PutService(&Service{Service: v}); err != nil {
			t.Fatal(err)
		}
	}
	for id, r := range map[string]Record{
		"ab1": {Name: "one", Names: []string{"one", "API"}}, "ab2": {Name: `tw"o`, Names: []string{"old"}}, "c3": {Name: "one.two"}, "d4": {State: Adding, Name: "api"},
	} {
		r.Attachment, r.Plugin, r.NetNS, r.IPAM.Type = wire.Attachment{Network: "web", Container: id, IfName: "eth0"}, "dbridge", "/n", "dipam"
		if r.State == "" {
			r.State = Up
		}
		if err := s.Put(&r); err != nil {
			t.Fatal(err)
		}
	}
	for word, want := range map[string]string{
		"one": "ab1 true;", "/one": "ab1 true;", "on": "", "ab": "ab1 true;ab2 false;", "c3": "c3 false;", `tw"o`: "ab2 false;", "api": "d4 false;", "nothing": "",
	} {
		list, err := s.Meant("web", word)
		got := ""
		for _, r := range list {
			is, unread := s.IsTask(r)
			got += fmt.Sprintf("%s %t;", r.Container, is)
			if unread != nil {
				t.Error(unread)
			}
		}
		if got != want || err != nil {
			t.Errorf("%s: %s, %v, want %s", word, got, err, want)
		}
	}
	broken := filepath.Join(s.Lib, "services", "web", "api.json")
	if err := os.WriteFile(broken, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	list, _ := s.Meant("web", "one")
	if is, err := s.IsTask(list[0]); is || err == nil {
		t.Errorf("a service that can't be read: %t, %v", is, err)
	}
}
