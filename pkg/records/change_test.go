package records

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"dcni/pkg/records/disk"
	"dcni/pkg/records/recordstest"
	"dcni/pkg/wire"
)

func TestChanges(t *testing.T) {
	s := Store{Run: t.TempDir()}
	if c, err := s.Change("forwarding 4"); c != nil || err != nil {
		t.Errorf("nothing there: %v, %v", c, err)
	}
	forwarding := &Change{Key: "forwarding 4", Family: 4, Was: map[string]string{"net/ipv4/ip_forward": "0"}}
	up := &Change{Key: "borrowed up br1", Dev: "br1"}
	for _, c := range []*Change{forwarding, up} {
		if err := s.PutChange(c); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Change("forwarding 4")
	if err != nil || fmt.Sprint(*got) != fmt.Sprint(*forwarding) {
		t.Errorf("got %v, %v", got, err)
	}
	if list, err := s.Changes(); err != nil || len(list) != 2 || list[0].Dev != "br1" || fmt.Sprint(*list[1]) != fmt.Sprint(*forwarding) {
		t.Errorf("got %v, %v", list, err)
	}
	// One that can't be read says nothing of how it was, and stops nothing.
	if err := os.WriteFile(s.changePath("forwarding 4"), []byte(`{"was`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Change("forwarding 4"); err != nil || got == nil || len(got.Was) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
	for _, key := range []string{"forwarding 4", "borrowed up br1", "borrowed up br1"} {
		if err := s.DeleteChange(key); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(s.Run, "host")); !os.IsNotExist(err) {
		t.Errorf("the directory is left: %v", err)
	}
}

// Of a change that can't be read, the name of its file tells which object made it.
func TestUnreadableChanges(t *testing.T) {
	s := Store{Run: t.TempDir()}
	want := []*Change{
		{Key: "borrowed addr 10.7.0.1/24 dev br_1", Address: netip.MustParsePrefix("10.7.0.1/24"), Dev: "br_1"},
		{Key: "borrowed addr fd00::1/64 dev br1", Address: netip.MustParsePrefix("fd00::1/64"), Dev: "br1"},
		{Key: "borrowed sysctl net/ipv4/conf/br_1/forwarding", Setting: "net/ipv4/conf/br_1/forwarding"},
		{Key: "borrowed up br_1", Dev: "br_1"},
		{Key: "encrypted 4787", Encrypted: 4787},
		{Key: "forwarding 4", Family: 4},
		{Key: "forwarding 6 for all", Family: 6, ForAll: true},
		{Key: "link dm_0", Dev: "dm_0"},
		{Key: "link eth0.10", Dev: "eth0.10"},
		{Key: "permit br_1", Permit: "br_1"},
		{Key: "table bridge dcni", Frames: true},
		{Key: "underlay 4789", Port: 4789},
	}
	for _, c := range want {
		if err := s.PutChange(c); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.changePath(c.Key), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		c.Unreadable = true
	}
	if err := os.WriteFile(s.changePath("underlay 4789"), []byte("{}"), 0o600); err != nil { // it has no key
		t.Fatal(err)
	}
	directory := s.changePath("link eth0.10")
	if err := errors.Join(os.Remove(directory), os.MkdirAll(directory+"/within", 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, foreign := range []string{"notes", "4", "link_", "forwarding_x", "borrowed_addr_7"} {
		if err := os.WriteFile(filepath.Join(s.changes(), foreign+".json"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Changes()
	if err != nil || len(got) != len(want) {
		t.Fatalf("got %v, %v", got, err)
	}
	for i, c := range got {
		if !disk.IsUnreadable(s.CheckChange(c.Key)) {
			t.Errorf("%s can be read", c.Key)
		}
		if fmt.Sprint(*c) != fmt.Sprint(*want[i]) {
			t.Errorf("got %+v, want %+v", *c, *want[i])
		}
		if err := s.DeleteChange(c.Key); err != nil || s.HasChange(c.Key) {
			t.Errorf("%s is left: %v", c.Key, err)
		}
	}
	if kept, err := disk.NamesIn(filepath.Join(s.Run, "unreadable")); err != nil || len(kept) != len(want) {
		t.Errorf("kept are %q, %v", kept, err)
	}
}

// TestChangeSupplants: one that can't be read is kept and told when it is written again.
func TestChangeSupplants(t *testing.T) {
	for name, spoil := range recordstest.Spoilers {
		if name == "newer" { // changes have no version
			continue
		}
		dir, err := os.MkdirTemp("", "d") // the name of a socket must be short
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		var log bytes.Buffer
		s := Store{Run: dir, Log: &log}
		c := &Change{Key: "forwarding 4", Family: 4}
		if err := s.CheckChange(c.Key); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("none there: %v", err)
		}
		if err := s.PutChange(c); err != nil {
			t.Fatal(err)
		}
		recordstest.ReplaceBy(t, spoil, s.changePath(c.Key))
		if err := s.PutChange(c); err != nil || s.CheckChange(c.Key) != nil {
			t.Errorf("%s: %v, then %v", name, err, s.CheckChange(c.Key))
		}
		if strings.Count(log.String(), "was moved to "+dir+"/unreadable/host+forwarding_4.json") != 1 {
			t.Errorf("%s: told %q", name, &log)
		}
	}
}

func TestUnused(t *testing.T) {
	s := Store{Run: t.TempDir()}
	keys := []string{"forwarding 4", "forwarding 6"}
	own := wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}
	put := func(network string, state State, host ...string) {
		t.Helper()
		r := &Record{Attachment: wire.Attachment{Network: network, Container: "c2", IfName: "eth0"}, Plugin: "dbridge", State: state, Host: host}
		if err := s.Put(r); err != nil {
			t.Fatal(err)
		}
	}
	want := func(what, want string) {
		t.Helper()
		if got, err := s.Unused(keys, own); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s: got %v, %v, want %s", what, got, err, want)
		}
	}
	want("no records", "[forwarding 4 forwarding 6]")
	if err := s.Put(&Record{Attachment: own, Plugin: "dbridge", State: Deleting, Host: keys}); err != nil {
		t.Fatal(err)
	}
	want("its own record", "[forwarding 4 forwarding 6]")
	put("beta", Up, "forwarding 4")
	want("another network", "[forwarding 6]")
	put("web", Deleting, "forwarding 6")
	want("its own network", "[]")
	put("web", Up)
	want("a network that needs nothing", "[forwarding 6]")
	last := &Record{Attachment: wire.Attachment{Network: "web", Container: "c3", IfName: "eth0"}, Plugin: "dbridge", State: Up, Host: keys}
	if err := s.Put(last); err != nil {
		t.Fatal(err)
	}
	want("another container of a network than the first", "[]")
	if err := s.Delete(last.Attachment, "dbridge"); err != nil {
		t.Fatal(err)
	}
	put("web", Adding)
	want("being added", "[]")
	if err := os.WriteFile(s.recordPath(wire.Attachment{Network: "web", Container: "c2", IfName: "eth0"}, "dbridge"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	want("unreadable", "[]")
	if err := os.WriteFile(s.recordPath(wire.Attachment{Network: "web", Container: "c2", IfName: "eth0"}, "dbridge"), []byte(`{"version": 99, "state": "up"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	want("of a newer version", "[]")
}

// TestClosed: whether the host is closed as a router is noted for each family.
func TestClosed(t *testing.T) {
	s := Store{Run: t.TempDir()}
	if err := s.SetClosed(4, false); err != nil || s.Closed(4) {
		t.Errorf("open, and was never closed: %v", err)
	}
	for range 2 {
		if err := s.SetClosed(4, true); err != nil || !s.Closed(4) || s.Closed(6) {
			t.Errorf("closed for IPv4: %v", err)
		}
	}
	if list, err := s.Changes(); len(list) > 0 || err != nil {
		t.Errorf("a change of nothing: %v, %v", list, err)
	}
	for range 2 {
		if err := s.SetClosed(4, false); err != nil || s.Closed(4) {
			t.Errorf("open again: %v", err)
		}
	}
	if err := os.MkdirAll(filepath.Join(s.closedPath(6), "within"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.SetClosed(6, false); err != nil || s.Closed(6) {
		t.Errorf("a directory is in the way: %v", err)
	}
}

// TestUnusedOfOddNames: a container whose name looks like a record's file is looked into, and
// what is no record needs nothing.
func TestUnusedOfOddNames(t *testing.T) {
	s := Store{Run: t.TempDir()}
	odd := wire.Attachment{Network: "web", Container: "c1.json", IfName: "eth0"}
	if err := s.Put(&Record{Attachment: odd, Plugin: "dbridge", State: Up, Host: []string{"forwarding 4"}}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(s.recordPath(odd, "dbridge")), "notes"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	unused, err := s.Unused([]string{"forwarding 4", "forwarding 6"}, wire.Attachment{})
	if fmt.Sprint(unused) != "[forwarding 6]" || err != nil {
		t.Errorf("unused are %v, %v", unused, err)
	}
}

// TestFirstSays: of a network the first record alone is read, where that is asked for.
func TestFirstSays(t *testing.T) {
	s := Store{Run: t.TempDir()}
	for container, key := range map[string]string{"c1": "forwarding 4", "c2": "forwarding 6"} {
		r := &Record{Attachment: wire.Attachment{Network: "web", Container: container, IfName: "eth0"}, Plugin: "dbridge", State: Up, Host: []string{key}}
		if err := s.Put(r); err != nil {
			t.Fatal(err)
		}
	}
	for onlyFirst, want := range map[bool]string{true: "[forwarding 6 link br1]", false: "[link br1]"} {
		keys := []string{"forwarding 4", "forwarding 6", "link br1"}
		if got, err := unusedIn(filepath.Join(s.attachments(), "web"), "", keys, onlyFirst); err != nil || fmt.Sprint(got) != want {
			t.Errorf("the first alone %t: %v, %v, want %s", onlyFirst, got, err, want)
		}
	}
}

// TestChangeTypes: a file that is JSON and has a field of another type can't be read, whichever
// field that is, and what is wrong with it is told.
func TestChangeTypes(t *testing.T) {
	s := Store{Run: t.TempDir()}
	c := &Change{Key: "forwarding 4", Family: 4}
	if err := s.PutChange(c); err != nil {
		t.Fatal(err)
	}
	path := s.changePath(c.Key)
	fields := reflect.TypeFor[Change]()
	for i := range fields.NumField() {
		name, _, _ := strings.Cut(fields.Field(i).Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		for _, wrong := range []string{`{"a": [1]}`, `[[1]]`, `1.5`} {
			text := fmt.Sprintf(`{"key": "forwarding 4", %q: %s}`, name, wrong)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			unread, is := errors.AsType[*disk.UnreadableError](s.CheckChange(c.Key))
			if !is || !strings.HasPrefix(unread.Err.Error(), name+" is "+wrong+": must be ") {
				t.Errorf("%s: %v", text, s.CheckChange(c.Key))
			}
			if got, err := s.Change(c.Key); err != nil || !got.Unreadable {
				t.Errorf("%s: %+v, %v", text, got, err)
			}
		}
	}
	for text, want := range map[string]string{
		`[]`: "has no key", `null`: "has no key", `{"key": null}`: "has no key", `{"key": ""}`: "has no key", `{`: "is not JSON",
		`{"key": "forwarding 4", "family": "four"}`: `family is "four": must be a number`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if unread, is := errors.AsType[*disk.UnreadableError](s.CheckChange(c.Key)); !is || unread.Err.Error() != want {
			t.Errorf("%s: %v, want %s", text, s.CheckChange(c.Key), want)
		}
	}
}
