package registry

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"dcni/pkg/records/disk"
)

// TestCreateNetwork: a registration stands if the file was written, and is not
// there if it was not.
func TestCreateNetwork(t *testing.T) {
	s := testStore(t)
	n := Of(s, "")
	nothing := func() error { return nil }
	written := func(Network) error { return nil }
	refuse := func(Network) error { return os.ErrPermission }
	pool := func(name string) Registration {
		return Registration{Name: name, WantPool: true, Alive: func(Network) bool { return false }}
	}
	if err := n.Create(pool("web"), "/web", nothing, refuse); err == nil {
		t.Fatal("no error")
	}
	if err := n.Create(pool("web"), "/web", func() error { return os.ErrExist }, written); err == nil {
		t.Fatal("no error")
	}
	if _, err := n.Get("web"); err == nil {
		t.Fatal("registered all the same")
	}
	if err := n.Create(pool("web"), "/web", nothing, written); err != nil {
		t.Fatal(err)
	}
	web, err := n.Get("web")
	if err != nil || web.Conf != "/web" || len(web.FromPool) != 0 || web.Subnets[0].String() != "172.17.0.0/16" {
		t.Fatalf("registered %+v, %v", web, err)
	}
	// It is what ADD will ask for by the file.
	want(t, registerText(n, Registration{Name: "web", Explicit: web.Subnets}), "[172.17.0.0/16]")
	if again, _ := n.Get("web"); again.Conf != "/web" {
		t.Error("ADD has forgotten the file")
	}
	// A registration that no file names is given back.
	if err := n.Create(pool("db"), "/db", nothing, written); err != nil {
		t.Fatal(err)
	}
	db, err := n.Get("db")
	if err != nil || db.Subnets[0].String() != "172.17.0.0/16" {
		t.Fatalf("registered %+v, %v", db, err)
	}
	if _, err := n.Get("web"); err == nil {
		t.Error("two have one subnet")
	}
}

// TestCreateKnown: what an ADD registered before is replaced, and is back where the file could
// not be written. An entry of a newer version is not touched.
func TestCreateKnown(t *testing.T) {
	n := Of(testStore(t), "")
	check, configured := func() error { return nil }, 0
	pool := Registration{Name: "web", WantPool: true}
	want(t, registerText(n, pool), "[172.17.0.0/16]")
	before, err := n.Get("web")
	if err != nil {
		t.Fatal(err)
	}
	web := Registration{Name: "web", Explicit: prefixes("10.1.0.0/24")}
	if err := n.Create(web, "/web", check, func(Network) error { configured++; return os.ErrPermission }); !errors.Is(err, os.ErrPermission) {
		t.Error(err)
	}
	now, err := n.Get("web")
	want(t, fmt.Sprint(now, err), fmt.Sprint(before, nil))
	if err := n.Create(web, "/web", check, func(Network) error { configured++; return nil }); err != nil || configured != 2 {
		t.Errorf("%v, configured %d times", err, configured)
	}
	now, err = n.Get("web")
	want(t, fmt.Sprint(now, err), "{web [10.1.0.0/24] [] []  /web} <nil>")
	if err := os.WriteFile(filepath.Join(n.lib, "networks", "web.json"), []byte(`{"version": 99, "name": "web"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := n.Create(web, "/web", check, func(Network) error { configured++; return nil }); !disk.IsUnreadable(err) || configured != 2 {
		t.Errorf("an entry of a newer version: %v, configured %d times", err, configured)
	}
}
