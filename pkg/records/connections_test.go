package records

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"dcni/pkg/records/disk"
)

// connection is one of container c1's.
func connection(network string, since int) *Connection {
	return &Connection{
		Container: "c1", Attachment: Attachment{Network: network, IfName: "eth1", Conf: []byte(`{"name": "` + network + `"}`)},
		Moment: Moment{Since: time.Unix(int64(since), 0).UTC()}, Result: []byte(`{"ips": []}`),
	}
}

// TestConnections come back in the order in which they were made, and leave no folder.
func TestConnections(t *testing.T) {
	s := Store{Run: t.TempDir()}
	if s.HasConnections("c1") {
		t.Error("there are connections before the first")
	}
	for i, network := range []string{"web", "lab"} {
		if err := s.PutConnection(connection(network, i)); err != nil {
			t.Fatal(err)
		}
	}
	list, err := s.Connections("c1")
	if err != nil || len(list) != 2 || list[0].Network != "web" || list[1].Network != "lab" || string(list[1].Conf) == "" {
		t.Fatalf("%v, %v", list, err)
	}
	if all, err := s.Connected(); err != nil || len(all) != 1 || all[0] != "c1" || !s.HasConnections("c1") {
		t.Errorf("connected are %v, %v", all, err)
	}
	// One that can't be read hides no other, and is moved away when nothing else is left.
	path := filepath.Join(s.ConnectionDir("c1"), "bad.json")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if list, err := s.Connections("c1"); !disk.IsUnreadable(err) || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
	for _, c := range list {
		if err := s.RemoveConnection(c); err != nil {
			t.Error(err)
		}
	}
	if err := s.ForgetConnections("c1"); err != nil || s.HasConnections("c1") {
		t.Errorf("%v; there are still connections", err)
	}
	if _, err := os.Stat(filepath.Join(s.Run, "unreadable", "connections+c1+bad.json")); err != nil {
		t.Error(err)
	}
	if err := s.PutConnection(&Connection{Container: "../c1", Attachment: Attachment{Network: "web", IfName: "eth0"}}); err == nil {
		t.Error("a container of that name was recorded")
	}
}

// TestKept reads what libcni keeps, and only of the attachment that was asked for.
func TestKept(t *testing.T) {
	dir := t.TempDir()
	const file = `{"kind": "cniCacheV1", "containerId": "default-c1", "networkName": "web", "ifName": "eth0", "netns": "/n",
		"config": "eyJjbmlWZXJzaW9uIjogIjEuMS4wIn0=", "cniArgs": [["K", "V"]], "capabilityArgs": {"mac": "m"}, "result": {"ips": []}}`
	if err := os.WriteFile(filepath.Join(dir, "web-default-c1-eth0"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	is := connection("web", 0).Of()
	is.Container, is.IfName = "default-c1", "eth0"
	c := keptIn(dir, "", is)
	if c == nil || c.CNIVersion != "1.1.0" || string(c.Conf) != `{"cniVersion": "1.1.0"}` || c.Args[0] != [2]string{"K", "V"} || c.Values["mac"] != "m" || c.NetNS != "/n" {
		t.Errorf("%+v", c)
	}
	is.Network, is.Container = "web-default", "c1" // which makes the same name
	if c := keptIn(dir, "", is); c != nil {
		t.Errorf("%+v", c)
	}
}

// TestForgetConnections: a folder with a connection stays, also where that is of a newer
// version, and so does one whose file can't be removed.
func TestForgetConnections(t *testing.T) {
	s := Store{Run: t.TempDir()}
	kept := connection("web", 1)
	if err := s.PutConnection(kept); err != nil {
		t.Fatal(err)
	}
	if err := s.ForgetConnections("c1"); err != nil || !s.HasConnections("c1") {
		t.Errorf("a connection was forgotten: %v", err)
	}
	path := filepath.Join(s.ConnectionDir("c1"), "web.json")
	if err := os.WriteFile(path, []byte(`{"version": 99}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.ForgetConnections("c1"); err != nil || !disk.Exists(path) {
		t.Errorf("one of a newer version was moved away: %v", err)
	}
	if err := errors.Join(os.Remove(path), os.MkdirAll(filepath.Join(path, "within"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveConnection(kept); err == nil || !disk.Exists(path) {
		t.Errorf("what can't be removed: %v", err)
	}
	if err := errors.Join(os.RemoveAll(path), s.RemoveConnection(kept)); err != nil || s.HasConnections("c1") {
		t.Errorf("one that is gone: %v", err)
	}
	if err := s.ForgetConnections("c2"); err != nil {
		t.Errorf("of a container without: %v", err)
	}
	killed := connection("web", 1) // its writer dies when it wrote half of it
	killed.Container = "c3"
	if err := errors.Join(s.PutConnection(killed), os.Truncate(s.connectionPath("c3", "web"), 9),
		os.Rename(s.connectionPath("c3", "web"), s.connectionPath("c3", "web")+".new")); err != nil {
		t.Fatal(err)
	}
	if list, err := s.Connections("c3"); err != nil || len(list) > 0 {
		t.Errorf("half written: %v, %v", list, err)
	}
	if err := s.ForgetConnections("c3"); err != nil || s.HasConnections("c3") || disk.Exists(filepath.Join(s.Run, "tmp")) {
		t.Errorf("half written, and forgotten: %v", err)
	}
	if all, err := s.Connected(); err != nil || len(all) > 0 {
		t.Errorf("connected are %v, %v", all, err)
	}
	var names []string
	for _, id := range []string{"d", "b", "e", "a", "c"} {
		c := connection("web", 1)
		c.Container = id
		if err := s.PutConnection(c); err != nil {
			t.Fatal(err)
		}
		names = append(names, id)
	}
	slices.Sort(names)
	if all, err := s.Connected(); err != nil || !slices.Equal(all, names) {
		t.Errorf("connected are %v, %v, want %v", all, err, names)
	}
}

// TestForeignConnection: what is in the place of a connection and says another one's name is
// unreadable.
func TestForeignConnection(t *testing.T) {
	s := Store{Run: t.TempDir()}
	for name, change := range map[string]func(c *Connection){
		"container": func(c *Connection) { c.Container = "c2" },
		"network":   func(c *Connection) { c.Network = "lab" },
		"interface": func(c *Connection) { c.IfName = "" },
	} {
		c := connection("web", 1)
		change(c)
		data, err := json.Marshal(c)
		if err == nil {
			err = errors.Join(os.MkdirAll(s.ConnectionDir("c1"), 0o700), os.WriteFile(s.connectionPath("c1", "web"), data, 0o600))
		}
		if err != nil {
			t.Fatal(err)
		}
		if list, err := s.Connections("c1"); !disk.IsUnreadable(err) || len(list) > 0 {
			t.Errorf("another %s: %v, %v", name, list, err)
		}
	}
}

// TestLockConnections: a container's connections change under one lock.
func TestLockConnections(t *testing.T) {
	s := testStore(t)
	lock, err := s.LockConnections("c1")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	if _, ok, err := s.TryLockConnections("c1"); ok || err != nil {
		t.Errorf("locked twice: %v", err)
	}
	other, ok, err := s.TryLockConnections("c2")
	if other.Unlock(); !ok || err != nil {
		t.Errorf("another container's: %v", err)
	}
}
