package records

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"dcni/pkg/records/disk"
)

// connection is one of container c1's.
func connection(network string, since int) *Connection {
	return &Connection{
		Container: "c1", Attachment: Attachment{Network: network, IfName: "eth1", Conf: []byte(`{"name": "` + network + `"}`)},
		Since: time.Unix(int64(since), 0).UTC(), Result: []byte(`{"ips": []}`),
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
	c := keptIn(dir, is)
	if c == nil || c.CNIVersion != "1.1.0" || string(c.Conf) != `{"cniVersion": "1.1.0"}` || c.Args[0] != [2]string{"K", "V"} || c.Values["mac"] != "m" || c.NetNS != "/n" {
		t.Errorf("%+v", c)
	}
	is.Network, is.Container = "web-default", "c1" // which makes the same name
	if c := keptIn(dir, is); c != nil {
		t.Errorf("%+v", c)
	}
}
