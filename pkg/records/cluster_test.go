package records

import (
	"errors"
	"io/fs"
	"os"
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
	for _, bad := range []string{"", "\n", "abc\n"} {
		if err := c.Write("id", []byte(bad)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.ID(draw); err == nil || !strings.HasPrefix(err.Error(), c.Path("id")+": ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
