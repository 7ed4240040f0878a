package records

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dcni/pkg/ipam"
	"dcni/pkg/records/filecache"
	"dcni/pkg/service"
	"dcni/pkg/wire"
)

// TestCache wants a store with a cache to say at each moment what one without says.
func TestCache(t *testing.T) {
	plain := Store{Run: t.TempDir(), Lib: t.TempDir()}
	cached := plain
	cached.Cache = &filecache.Cache{}
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
		for began := time.Now(); time.Since(began) < 2*filecache.SettleTime; { // not settled, and settled
			if got, want := said(cached), said(plain); got != want {
				t.Fatalf("step %d: %s, want %s", i, got, want)
			}
		}
	}
	if err := os.RemoveAll(plain.Run); err != nil {
		t.Fatal(err)
	}
	if said(cached) != said(plain) {
		t.Error("what is gone is still there")
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
