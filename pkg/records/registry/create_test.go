package registry

import (
	"os"
	"testing"
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
