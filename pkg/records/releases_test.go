package records

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"dcni/pkg/wire"
)

// TestReleasesInOrder: networks and files come in the order of their names.
func TestReleasesInOrder(t *testing.T) {
	c := testStore(t).Cluster()
	var networks, want []string
	for i := range 12 {
		networks = append(networks, fmt.Sprintf("n%02d", i*7%12))
		want = append(want, fmt.Sprintf("n%02d", i))
	}
	for _, network := range networks {
		if err := c.QueueRelease(wire.Attachment{Network: network, Container: "c1", IfName: "eth0"}); err != nil {
			t.Fatal(err)
		}
	}
	list, err := c.Releases()
	var got []string
	for _, a := range list {
		got = append(got, a.Network)
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}

// TestReleases: what is queued is listed until it is dropped, and rubbish is passed over.
func TestReleases(t *testing.T) {
	c := testStore(t).Cluster()
	if list, err := c.Releases(); err != nil || len(list) > 0 {
		t.Fatalf("%v, %v", list, err)
	}
	one, two := wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}, wire.Attachment{Network: "db", Container: "c1", IfName: "eth0"}
	for _, a := range []wire.Attachment{one, two, one} {
		if err := c.QueueRelease(a); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(c.Dir(), "releases", "web")
	for name, text := range map[string]string{"notes": "none of ours", "00000000000000": `{"network": "web", "container": "c9", "ifName": "eth0"}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(c.Dir(), "releases", "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if list, err := c.Releases(); err != nil || !slices.Equal(list, []wire.Attachment{two, one}) {
		t.Errorf("%v, %v", list, err)
	}
	for range 2 {
		if err := c.DropRelease(two); err != nil || c.Released(two) || !c.Released(one) {
			t.Errorf("dropped: %v", err)
		}
	}
	if list, err := c.Releases(); err != nil || !slices.Equal(list, []wire.Attachment{one}) {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := os.Stat(filepath.Join(c.Dir(), "releases", "db")); err == nil {
		t.Error("an empty directory is left")
	}
	if err := c.QueueRelease(wire.Attachment{Network: "../x", Container: "c1", IfName: "eth0"}); err == nil {
		t.Error("a network's name that is a path is taken")
	}
}
