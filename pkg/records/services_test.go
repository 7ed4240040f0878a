package records

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
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
