package records

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCluster keeps files that root alone reads.
func TestCluster(t *testing.T) {
	c := testStore(t).Cluster()
	if _, err := c.Read("node.key"); !errors.Is(err, fs.ErrNotExist) || c.Joined() {
		t.Errorf("a host that is no node: %v", err)
	}
	for _, text := range []string{"first", "second"} {
		if err := c.Write("node.key", []byte(text)); err != nil {
			t.Fatal(err)
		}
		if data, err := c.Read("node.key"); err != nil || string(data) != text {
			t.Errorf("%q, %v", data, err)
		}
	}
	if info, err := os.Stat(c.Path("node.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := c.Write("cluster.json", []byte("{}")); err != nil || !c.Joined() {
		t.Errorf("not joined: %v", err)
	}
	if err := c.Remove("cluster.json", "node.key", "nosuch"); err != nil || c.Joined() {
		t.Errorf("still joined: %v", err)
	}
}

// TestClusterID draws one, once.
func TestClusterID(t *testing.T) {
	c := testStore(t).Cluster()
	draw := func() string { return strings.Repeat("a", 32) }
	if id, err := c.ID(draw); err != nil || id != draw() {
		t.Fatalf("%q, %v", id, err)
	}
	if id, err := c.ID(func() string { t.Error("drawn again"); return "" }); err != nil || id != draw() {
		t.Errorf("%q, %v", id, err)
	}
	for _, bad := range []string{"", "\n", "abc\n", draw() + "a\n", draw()[1:] + "g\n", draw()[1:] + "A\n"} {
		if err := c.Write("id", []byte(bad)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.ID(draw); err == nil || !strings.HasPrefix(err.Error(), c.Path("id")+": ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestClusterFolders: directories and files beside the node's own.
func TestClusterFolders(t *testing.T) {
	s := testStore(t)
	c := s.Cluster()
	if names, err := c.Names("snapshots"); names != nil || err != nil {
		t.Errorf("none so far: %v, %v", names, err)
	}
	dir, err := c.MakeDir("snapshots")
	if info, failed := os.Stat(dir); err != nil || failed != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", err, failed)
	}
	for _, name := range []string{"b", "a"} {
		if err := c.Write("snapshots/"+name, nil); err != nil {
			t.Fatal(err)
		}
	}
	if names, err := c.Names("snapshots"); !slices.Equal(names, []string{"a", "b"}) || err != nil {
		t.Errorf("%v, %v", names, err)
	}
	if names, err := c.Names("snapshots/a"); err == nil {
		t.Errorf("of a file: %v", names)
	}
	with, err := c.MakeDir("new")
	if err == nil {
		err = errors.Join(c.Write("new/member", []byte("new")), c.ReplaceDir(with, dir))
	}
	if data, _ := c.Read("snapshots/member"); err != nil || string(data) != "new" || c.Exists(with) || c.Exists(c.Path("snapshots/a")) {
		t.Errorf("replaced: %s, %v", data, err)
	}
	if err := c.RemoveDir(dir); err != nil || c.Exists(dir) {
		t.Errorf("removed: %v", err)
	}
	if c.Socket() != s.Run+"/dclusterd.sock" || c.Log() != s.Run+"/dclusterd.log" {
		t.Errorf("%s, %s", c.Socket(), c.Log())
	}
	lock, ok, err := s.TryLockCluster()
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, ok, err := s.TryLockCluster(); ok || err != nil {
		t.Errorf("two dclusterd run: %v", err)
	}
	lock.Unlock()
}

// TestWriteNew: a file is there whole, for root alone, or not at all.
func TestWriteNew(t *testing.T) {
	c, path := testStore(t).Cluster(), filepath.Join(t.TempDir(), "backup")
	hello := func(w io.Writer) error { _, err := io.WriteString(w, "hello"); return err }
	broken := errors.New("broken")
	if _, err := c.WriteNew(path, func(w io.Writer) error { return errors.Join(hello(w), broken) }); !errors.Is(err, broken) || c.Exists(path) {
		t.Errorf("half a file: %v", err)
	}
	size, err := c.WriteNew(path, hello)
	if info, failed := os.Stat(path); size != 5 || err != nil || failed != nil || info.Size() != 5 || info.Mode() != 0o600 {
		t.Errorf("%d bytes, %v, %v", size, err, failed)
	}
	if _, err := c.WriteNew(path, hello); err == nil || !strings.Contains(err.Error(), "must not be there yet") {
		t.Errorf("a file that is there: %v", err)
	}
	if _, err := c.WriteNew(filepath.Join(path, "below"), hello); err == nil {
		t.Error("below a file")
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}
