package records

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dcni/pkg/wire"
)

// TestList writes records of several networks and containers and reads them again.
func TestList(t *testing.T) {
	s := testStore(t)
	at := func(network, container, ifname string) wire.Attachment {
		return wire.Attachment{Network: network, Container: container, IfName: ifname}
	}
	for _, a := range []wire.Attachment{at("web", "c1", "eth0"), at("web", "c2", "eth0"), at("lab", "c1", "eth1")} {
		if err := s.Put(&Record{Attachment: a, Plugin: "dbridge", State: Up}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Put(&Record{Attachment: at("web", "c1", "eth0"), Plugin: "ddns"}); err != nil {
		t.Fatal(err)
	}
	text := func(list []*Record, err error) string {
		var words []string
		for _, r := range list {
			words = append(words, r.Attachment.String()+" "+r.Plugin)
		}
		return strings.Join(words, ", ") + errText(err)
	}
	want(t, text(s.List("")), "lab c1/eth1 dbridge, web c1/eth0 dbridge, web c1/eth0 ddns, web c2/eth0 dbridge")
	want(t, text(s.List("web")), "web c1/eth0 dbridge, web c1/eth0 ddns, web c2/eth0 dbridge")
	want(t, text(s.List("none")), "")
	want(t, text(s.OfContainer("c1")), "lab c1/eth1 dbridge, web c1/eth0 dbridge, web c1/eth0 ddns")
	if err := os.WriteFile(s.recordPath(at("web", "c2", "eth0"), "dbridge"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := s.List("web")
	want(t, text(list, err), "web c1/eth0 dbridge, web c1/eth0 ddns, web c2/eth0 dbridge")
	want(t, string(list[2].State), "lost")
	for network, there := range map[string]bool{"web": true, "lab": true, "none": false} {
		if got, err := s.Attached(network); got != there || err != nil {
			t.Errorf("%s has attachments: %t, %v", network, got, err)
		}
	}
}

// TestDeleteAndPrune removes records and what is left of their directories.
func TestDeleteAndPrune(t *testing.T) {
	s := testStore(t)
	for _, a := range []wire.Attachment{owner("c1"), owner("c2")} {
		for _, plugin := range []string{"dbridge", "ddns"} {
			if err := s.Put(&Record{Attachment: a, Plugin: plugin}); err != nil {
				t.Fatal(err)
			}
		}
	}
	tree := func() string {
		var paths []string
		filepath.WalkDir(s.attachments(), func(path string, _ os.DirEntry, _ error) error {
			paths = append(paths, strings.TrimPrefix(path, s.attachments()))
			return nil
		})
		return strings.TrimSpace(strings.Join(paths, " "))
	}
	if err := errors.Join(s.Delete(owner("c1"), "ddns"), s.Delete(owner("c1"), "ddns"), s.Delete(owner("c2"), "dbridge"), s.Delete(owner("c2"), "ddns")); err != nil {
		t.Fatal(err)
	}
	want(t, tree(), "/web /web/c1 /web/c1/eth0 /web/c1/eth0/dbridge.json")
	for _, dir := range []string{"web/c3/eth0", "web/c1/eth1", "lab/c1/eth0"} {
		if err := os.MkdirAll(filepath.Join(s.attachments(), dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.Prune("web")
	want(t, tree(), "/lab /lab/c1 /lab/c1/eth0 /web /web/c1 /web/c1/eth0 /web/c1/eth0/dbridge.json")
	s.Prune("")
	want(t, tree(), "/web /web/c1 /web/c1/eth0 /web/c1/eth0/dbridge.json")
	if got, err := s.Attached("lab"); got || err != nil {
		t.Errorf("lab has attachments: %t, %v", got, err)
	}
}

// TestCheckWords refuses identities that are no file names.
func TestCheckWords(t *testing.T) {
	long := strings.Repeat("x", unix.NAME_MAX)
	for word, ok := range map[string]bool{
		"a": true, "...": true, long: true, long + "x": false, "": false, ".": false, "..": false, "a/b": false, "a\x00": false,
	} {
		for i := range 3 {
			words := []string{"n", "c", "i"}
			words[i] = word
			err := CheckWords(wire.Attachment{Network: words[0], Container: words[1], IfName: words[2]})
			if (err == nil) != ok || err != nil && code(err) != wire.CodeEnv {
				t.Errorf("%q: %v", words, err)
			}
		}
	}
	if err := testStore(t).Put(&Record{Attachment: wire.Attachment{Network: "..", Container: "c", IfName: "i"}}); code(err) != wire.CodeEnv {
		t.Errorf("a record outside the directory: %v", err)
	}
}

// TestFull: a file system is full without a block or without an inode, if it has a number of them.
func TestFull(t *testing.T) {
	for fs, want := range map[unix.Statfs_t]bool{
		{Blocks: 9, Bavail: 1, Files: 9, Ffree: 1}: false,
		{Blocks: 9, Bavail: 0, Files: 9, Ffree: 1}: true,
		{Blocks: 9, Bavail: 1, Files: 9, Ffree: 0}: true,
		{Blocks: 1, Bavail: 0}:                     true,
		{Files: 1, Ffree: 0}:                       true,
		{}:                                         false,
	} {
		if got := full(&fs); got != want {
			t.Errorf("%+v: full %t", fs, got)
		}
	}
}

// TestProbe: directories need not be there, but files must be possible in them.
func TestProbe(t *testing.T) {
	s := testStore(t)
	if err := s.Probe(""); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(s.Run); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("made a directory: %v", err)
	}
	file := filepath.Join(filepath.Dir(s.Run), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := s.Probe(filepath.Join(file, "below"))
	if !errors.Is(err, unix.ENOTDIR) || !strings.Contains(err.Error(), file) {
		t.Errorf("below a file: %v", err)
	}
	if err := (Store{Run: file}).Probe(); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("a file: %v", err)
	}
	if d := Default(); d.DataDir("") != "/var/lib/dcni" || d.DataDir("/x/../y") != "/y" {
		t.Errorf("data directories %s, %s", d.DataDir(""), d.DataDir("/x/../y"))
	}
}

// TestLockKinds: each kind of lock excludes itself, for one name, and no other kind.
func TestLockKinds(t *testing.T) {
	s := testStore(t)
	locks := map[string]func() (*Lock, error){
		"network":  func() (*Lock, error) { return s.LockNetwork("web") },
		"lab":      func() (*Lock, error) { return s.LockNetwork("lab") },
		"host":     s.LockHost,
		"firewall": s.LockFirewall,
		"agent":    func() (*Lock, error) { return s.LockAgent("web") },
		"sandbox":  func() (*Lock, error) { return s.LockSandbox(1) },
		"sandbox2": func() (*Lock, error) { return s.LockSandbox(2) },
	}
	for name, lock := range locks {
		l, err := lock()
		if err != nil {
			t.Fatal(name, err)
		}
		defer l.Unlock()
	}
	first, ok, err := s.TryLockAgentStart()
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, ok, err := s.TryLockAgentStart(); ok || err != nil {
		t.Errorf("taken twice: %t, %v", ok, err)
	}
	first.Unlock()
	first.Unlock() // does nothing
	(*Lock)(nil).Unlock()
	if again, ok, err := s.TryLockAgentStart(); !ok || err != nil {
		t.Errorf("free again: %t, %v", ok, err)
	} else {
		again.Unlock()
	}
}
