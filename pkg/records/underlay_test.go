package records

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"dcni/pkg/names"
)

// TestUnderlayNodes: what can't be read is as if there were none.
func TestUnderlayNodes(t *testing.T) {
	s := testStore(t)
	for _, want := range []string{"[]", "[192.0.2.1 2001:db8::1]", "[192.0.2.2]"} {
		if want != "[]" {
			var nodes []netip.Addr
			for _, text := range map[string][]string{"[192.0.2.1 2001:db8::1]": {"192.0.2.1", "2001:db8::1"}, "[192.0.2.2]": {"192.0.2.2"}}[want] {
				nodes = append(nodes, netip.MustParseAddr(text))
			}
			if err := s.PutUnderlayNodes(nodes); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := s.UnderlayNodes(); fmt.Sprint(got) != want || err != nil {
			t.Errorf("%v, %v; want %s", got, err, want)
		}
	}
	for _, text := range []string{"", "{", `["192.0.2.1", "x"]`, "5"} {
		if err := os.WriteFile(s.underlayPath(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := s.UnderlayNodes(); len(got) != 0 || err != nil {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	if err := errors.Join(os.Remove(s.underlayPath()), os.Mkdir(s.underlayPath(), 0o700)); err != nil {
		t.Fatal(err)
	}
	if got, err := s.UnderlayNodes(); len(got) != 0 || err != nil {
		t.Errorf("a directory: %v, %v", got, err)
	}
}

func TestPeerNames(t *testing.T) {
	s := testStore(t)
	if _, err := s.PeerNames("web"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
	list := []names.Entry{{Container: "c1", IfName: "eth0", Names: []string{"db"}, Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.2")}}}
	if err := errors.Join(s.DeletePeerNames("web"), s.PutPeerNames("web", nil), s.PutPeerNames("web", list)); err != nil {
		t.Fatal(err)
	}
	if got, err := s.PeerNames("web"); fmt.Sprint(got) != fmt.Sprint(list) || err != nil {
		t.Errorf("%v, %v; want %v", got, err, list)
	}
	if err := os.WriteFile(s.peerNamesPath("web"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PeerNames("web"); err == nil {
		t.Error("half a file was read")
	}
	if err := s.DeletePeerNames("web"); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(s.peerNamesPath("web")); err == nil {
		t.Error("it is still there")
	}
	if err := os.MkdirAll(filepath.Join(s.peerNamesPath("web"), "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.DeletePeerNames("web"); err == nil {
		t.Error("a directory was deleted")
	}
}

// TestConfigured: a file that can't be read may configure any network, one that is not
// there none.
func TestConfigured(t *testing.T) {
	dir := t.TempDir()
	if (ConfDir(dir)).Configures("web") {
		t.Error("an empty directory does")
	}
	for text, want := range map[string]bool{
		"": true, "{": true, `{"name": "web"}`: true, `{"name": "lab"}`: false, `{"name": 5}`: false, `[]`: false, `{}`: false,
	} {
		path := filepath.Join(dir, "1.conflist")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := Configured(path, "web"); got != want {
			t.Errorf("%q: %t", text, got)
		}
		if got := (ConfDir(dir)).Configures("web"); got != (text == `{"name": "web"}`) {
			t.Errorf("%q in the directory: %t", text, got)
		}
	}
	if Configured(filepath.Join(dir, "2.conflist"), "web") {
		t.Error("a file that is not there does")
	}
	if err := os.Mkdir(filepath.Join(dir, "3.conflist"), 0o700); err != nil {
		t.Fatal(err)
	}
	if !Configured(filepath.Join(dir, "3.conflist"), "web") {
		t.Error("what is no file does not")
	}
	if !(ConfDir(filepath.Join(dir, "1.conflist"))).Configures("web") {
		t.Error("a directory that can't be read does not")
	}
}

// TestBrokenChanges: of a change whose file says nothing, the file's name tells what it is.
func TestBrokenChanges(t *testing.T) {
	for _, text := range []string{"", "{", "{}", `{"key": ""}`, `{"key": 5}`, "[]"} {
		s := testStore(t)
		if err := s.PutChange(&Change{Key: "link eth0", Dev: "eth0"}); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.changePath("link eth0"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		list, err := s.Changes()
		if err != nil || len(list) != 1 || list[0].Key != "link eth0" || !list[0].Unreadable || list[0].Dev != "eth0" {
			t.Errorf("%q: %v, %v", text, list, err)
		}
	}
}

// TestKeptConnection: what libcni keeps under a name of file is an attachment's only if
// it says so.
func TestKeptConnection(t *testing.T) {
	const conf = "eyJjbmlWZXJzaW9uIjogIjEuMC4wIn0=" // {"cniVersion": "1.0.0"}
	kept := func(network, container, ifName, config string) string {
		return fmt.Sprintf(`{"kind": "cniCacheV1", "networkName": %q, "containerId": %q, "ifName": %q, "netns": "/ns", "config": %q}`, network, container, ifName, config)
	}
	for text, want := range map[string]bool{
		kept("web", "c1", "eth0", conf):     true,
		kept("web-c1", "", "eth0", conf):    false,
		kept("lab", "c1", "eth0", conf):     false,
		kept("web", "c2", "eth0", conf):     false,
		kept("web", "c1", "eth1", conf):     false,
		kept("web", "c1", "eth0", ""):       false,
		kept("web", "c1", "eth0", "eA=="):   false,
		kept("web", "c1", "eth0", "%%%"):    false,
		kept("web", "c1", "eth0", conf)[1:]: false,
	} {
		dir := t.TempDir()
		if got := keptIn(dir, "", owner("c1")); got != nil {
			t.Errorf("nothing was kept: %+v", got)
		}
		if err := os.WriteFile(filepath.Join(dir, "web-c1-eth0"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got := keptIn(dir, "", owner("c1"))
		if (got != nil) != want || got != nil && (got.NetNS != "/ns" || got.CNIVersion != "1.0.0" || got.Container != "c1" || got.Attachment.IfName != "eth0") {
			t.Errorf("%s: %+v", text, got)
		}
	}
}
