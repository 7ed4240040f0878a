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
	whole := []byte(`{"name": "web", "more": 1}`)
	if !d.Holds(d.Path("web"), whole) || d.Holds(d.Path("web"), whole[1:]) || d.Holds(d.Path("gone"), whole) || d.Holds("", whole) {
		t.Error("a file's list is not compared with what is there")
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

// TestSweepConf removes what killed writers left, and nothing of a writer that is at work or of others.
func TestSweepConf(t *testing.T) {
	s := Store{Run: t.TempDir(), Lib: t.TempDir()}
	d := ConfDir(filepath.Join(t.TempDir(), "net.d"))
	if err := s.SweepConf(d); err != nil {
		t.Fatalf("a directory that is not there: %v", err)
	}
	if err := d.Write("web", []byte(`{"name": "web"}`)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".dcni-web.tmp", ".dcni-lab.tmp", ".dcni-a b.tmp", "dcni-x.tmp", ".dcni-x.conflist"} {
		if err := os.WriteFile(filepath.Join(string(d), name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	lock, err := s.LockNetwork("lab")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{".dcni-a b.tmp .dcni-lab.tmp .dcni-x.conflist dcni-web.conflist dcni-x.tmp", ".dcni-a b.tmp .dcni-x.conflist dcni-web.conflist dcni-x.tmp"} {
		if err := s.SweepConf(d); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(string(d))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%q is left, want %q", got, want)
		}
		lock.Unlock()
	}
}
