package records

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dcni/pkg/ipam"
	"dcni/pkg/service"
	"dcni/pkg/wire"
)

// TestCache wants a store with a cache to say at each moment what one without says, and to read nothing again that is
// as it was.
func TestCache(t *testing.T) {
	plain := Store{Run: t.TempDir(), Lib: t.TempDir()}
	cached := plain
	cached.Cache = &Cache{}
	put := func(id string, state State, names ...string) {
		r := &Record{
			Attachment: wire.Attachment{Network: "web", Container: id, IfName: "eth0"}, Plugin: "dbridge", State: state, NetNS: "/n", Names: names, IPAM: IPAM{Type: "dipam"},
			Addresses: []ipam.Assigned{{Address: netip.MustParsePrefix("10.1.0.2/24")}},
		}
		if err := plain.Put(r); err != nil {
			t.Fatal(err)
		}
	}
	served := func(name string) {
		if err := plain.PutService(&Service{Service: service.Service{Name: name, Network: "web", Mode: service.VIP}}); err != nil {
			t.Fatal(err)
		}
	}
	said := func(s Store) string {
		n, err := s.ServicesOf("web")
		clients, unread := s.Clients("web")
		return fmt.Sprint(n, clients, err, unread)
	}
	// all that is looked at: three files of records, with a directory of each and two of all, and a service with its directory
	const all = 3 + 3*2 + 1 + 2
	steps := []func(){
		func() { served("api"); put("c1", Up, "api"); put("c2", Up); put("c3", Adding) },
		func() { put("c2", Up, "api") },
		func() { put("c3", Up, "API") },
		func() {
			_ = plain.Delete(wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}, "dbridge")
			put("c4", Up)
		},
		func() { _ = plain.RemoveService("web", "api"); served("db") },
		func() { write(t, filepath.Join(plain.Run, "attachments/web/c2/eth0/dbridge.json"), "{") },
	}
	for i, step := range steps {
		step()
		for limit := time.Now().Add(10 * time.Second); ; {
			if got, want := said(cached), said(plain); got != want {
				t.Fatalf("step %d: %s, want %s", i, got, want)
			}
			kept := 0
			for _, w := range cached.Cache.walks {
				kept += len(w)
			}
			want := all
			if i == len(steps)-1 {
				want-- // the record that can't be read
			}
			if kept == want {
				break
			}
			if time.Now().After(limit) {
				t.Fatalf("step %d: %d are remembered, want %d", i, kept, want)
			}
		}
	}
	calls := 0
	for range 2 {
		w := cached.Cache.walk("own")
		_, _ = remember(w, plain.servicePath("web", "db"), func() (int, error) { calls++; return 0, nil })
		w.end()
	}
	if calls != 1 {
		t.Errorf("read %d times, want once", calls)
	}
	if err := os.RemoveAll(plain.Run); err != nil {
		t.Fatal(err)
	}
	if said(cached) != said(plain) || len(cached.Cache.walks["clients web"]) > 0 {
		t.Error("what is gone is still there")
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
