package registry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dcni/pkg/ipam"
	"dcni/pkg/records"
	"dcni/pkg/records/disk"
	"dcni/pkg/records/recordstest"
)

// TestUnreadable puts each of them in the place of an entry of the registry. It is known
// from other files, is moved away once, and the rest goes on.
func TestUnreadable(t *testing.T) {
	for name, spoil := range recordstest.Spoilers {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "d") // the name of a socket must be short
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			var log bytes.Buffer
			unreadableNetwork(t, records.Store{Run: dir + "/r", Lib: dir + "/l", Log: &log}, spoil, name == "newer")
			if got := strings.Count(log.String(), "was moved to"); got != 1 && name != "newer" {
				t.Errorf("told %d times:\n%s", got, &log)
			}
		})
	}
}

func unreadableNetwork(t *testing.T, s records.Store, spoil func(string) error, newer bool) {
	subnet := netip.MustParsePrefix("10.1.0.0/24")
	put := records.Record{Attachment: owner("c1"), Plugin: "dbridge", State: records.Up, Subnets: []ipam.Subnet{{Prefix: subnet}}}
	put.Network = "shop"
	if err := s.Put(&put); err != nil {
		t.Fatal(err)
	}
	n := Of(s, "")
	shop := Registration{Name: "shop", Explicit: []netip.Prefix{subnet}}
	if _, err := n.Register(shop); err != nil {
		t.Fatal(err)
	}
	recordstest.ReplaceBy(t, spoil, filepath.Join(s.Lib, "networks/shop.json"))
	if err := n.Probe(Registration{Name: "new", Explicit: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/24")}}); err != nil {
		t.Errorf("probe: %v", err)
	}
	if _, err := n.Register(Registration{Name: "new", Explicit: []netip.Prefix{netip.MustParsePrefix("10.3.0.0/24")}}); err != nil {
		t.Errorf("another network: %v", err)
	}
	if _, err := n.Register(Registration{Name: "thief", Explicit: []netip.Prefix{subnet}}); err == nil {
		t.Error("its subnet was given away")
	}
	_, err := n.Register(shop)
	if disk.IsUnreadable(err) != newer || err != nil && !newer {
		t.Errorf("the network itself: %v", err)
	}
}

// TestKeptNames: what was moved away before is in no later file's way, and no entry of
// the registry that can't be moved is in another network's.
func TestKeptNames(t *testing.T) {
	s := testStore(t)
	networks, kept := filepath.Join(s.Lib, "networks"), filepath.Join(s.Lib, "unreadable")
	register := func(name, subnet string) {
		t.Helper()
		if _, err := Of(s, "").Register(Registration{Name: name, Explicit: []netip.Prefix{netip.MustParsePrefix(subnet)}}); err != nil {
			t.Error(err)
		}
	}
	spoil := func(path string) {
		t.Helper()
		if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(s.Lib, 0o755); err != nil {
		t.Fatal(err)
	}
	spoil(kept)
	spoil(networks)
	register("one", "10.1.0.0/24")
	spoil(filepath.Join(networks, "x.json"))
	register("two", "10.2.0.0/24")
	for _, name := range []string{"unreadable.2", "unreadable/networks", "unreadable/networks+x.json"} {
		if _, err := os.Lstat(filepath.Join(s.Lib, name)); err != nil {
			t.Error(err)
		}
	}
	spoil(filepath.Join(networks, "x.json"))
	if err := errors.Join(os.RemoveAll(kept), os.Symlink("/sys", kept)); err != nil { // nothing can be moved there
		t.Fatal(err)
	}
	var log bytes.Buffer
	s.Log = &log
	register("three", "10.3.0.0/24")
	if !strings.Contains(log.String(), "network x ") {
		t.Errorf("told: %q", &log)
	}
}

// TestMendOthers: what is told of another network's entry that can't be read is that it was
// moved, once; one of a newer version stays, and nothing is told.
func TestMendOthers(t *testing.T) {
	for text, told := range map[string]int{"{": 1, `{"version": 99, "name": "lab"}`: 0} {
		s := testStore(t)
		var log bytes.Buffer
		for _, s.Log = range []io.Writer{&log, nil} {
			if err := errors.Join(os.MkdirAll(filepath.Join(s.Lib, "networks"), 0o755), os.WriteFile(filepath.Join(s.Lib, "networks", "lab.json"), []byte(text), 0o600)); err != nil {
				t.Fatal(err)
			}
			for i := range 2 {
				name := fmt.Sprint("web", i)
				if _, err := Of(s, "").Register(Registration{Name: name, WantPool: true, Bridge: fmt.Sprint(s.Log == nil)}); err != nil {
					t.Errorf("%s: %v", text, err)
				}
			}
		}
		if got := strings.Count(log.String(), "\n"); got != told {
			t.Errorf("%s: told %q", text, &log)
		}
	}
}
