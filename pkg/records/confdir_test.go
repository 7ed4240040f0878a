package records

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConfDir(t *testing.T) {
	d := ConfDir(filepath.Join(t.TempDir(), "net.d"))
	list, err := d.List()
	if err != nil || len(list) != 0 {
		t.Fatalf("a directory that is not there has %v, %v", list, err)
	}
	if err := d.Write("web", []byte(`{"name": "web"}`)); err != nil {
		t.Fatal(err)
	}
	if err := d.Write("web", []byte(`{"name": "web", "more": 1}`)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"10-a.conf", "05-b.json", "notes.txt", ".dcni-1.tmp"} {
		if err := os.WriteFile(filepath.Join(string(d), name), []byte(`{"name": "a"}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if list, err = d.List(); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range list {
		names = append(names, filepath.Base(f.Path))
		if f.Err != nil || f.Modified.IsZero() || len(f.Data) == 0 {
			t.Errorf("%+v", f)
		}
	}
	if got := strings.Join(names, " "); got != "05-b.json 10-a.conf dcni-web.conflist" {
		t.Errorf("listed %s", got)
	}
	if !d.Configures("web") || !d.Configures("a") || d.Configures("notes") || !Configured(d.Path("web"), "web") || Configured(d.Path("web"), "a") {
		t.Error("Configures or Configured is wrong")
	}
	info, err := os.Stat(d.Path("web"))
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("runtimes that are not root's can't read it: %v, %v", info.Mode(), err)
	}
	if err := d.Remove(d.Path("web")); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(d.Path("web")); err != nil || d.Configures("web") {
		t.Errorf("removed twice: %v", err)
	}
}

// TestCreateNetwork: a registration stands if the file was written, and is not
// there if it was not.
func TestCreateNetwork(t *testing.T) {
	s := testStore(t)
	n := s.Networks("")
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
