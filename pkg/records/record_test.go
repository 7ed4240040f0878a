package records

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/records/disk"
	"dcni/pkg/wire"
)

func TestInfoFromChain(t *testing.T) {
	s := Store{Run: t.TempDir(), Lib: t.TempDir()}
	a := wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}
	other := wire.Attachment{Network: "web", Container: "c1", IfName: "eth1"}
	beside := func(want network.Info) {
		t.Helper()
		if got, err := s.InfoFromChain(a, "ddns"); err != nil || got != want {
			t.Errorf("beside ddns: %+v, %v, want %+v", got, err, want)
		}
	}
	beside(network.Info{})
	for _, r := range []Record{
		{Attachment: a, Plugin: "dbridge", State: Up, Info: network.Info{NoNames: true, Priority: -5}},
		{Attachment: a, Plugin: "tuning", State: Up},
		{Attachment: a, Plugin: "dead", State: Deleting, Info: network.Info{Internal: true}},
		{Attachment: a, Plugin: "ddns", State: Up, Info: network.Info{Internal: true}},
		{Attachment: other, Plugin: "dbridge", State: Up, Info: network.Info{Internal: true}},
	} {
		if err := s.Put(&r); err != nil {
			t.Fatal(err)
		}
	}
	beside(network.Info{NoNames: true, Priority: -5})
	if err := os.WriteFile(s.recordPath(a, "broken"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	beside(network.Info{NoNames: true, Priority: -5}) // it says nothing
	if err := os.Mkdir(s.recordPath(a, "directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	beside(network.Info{NoNames: true, Priority: -5}) // nor does this
}

// TestOthers asks whether a network, or any network, has attachments besides one of
// container c1.
func TestOthers(t *testing.T) {
	own := wire.Attachment{Network: "web", Container: "c1", IfName: "eth1"}
	for _, c := range []struct {
		other        wire.Attachment
		onWeb, onAny bool
	}{
		{own, false, false},
		{wire.Attachment{Network: "web", Container: "c1", IfName: "eth10"}, true, true},
		{wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}, true, true},
		{wire.Attachment{Network: "web", Container: "c10", IfName: "eth1"}, true, true},
		{wire.Attachment{Network: "lab", Container: "c2", IfName: "eth0"}, false, true},
	} {
		s := Store{Run: t.TempDir(), Lib: t.TempDir()}
		for _, r := range []Record{{Attachment: own, Plugin: "dbridge"}, {Attachment: own, Plugin: "ddns"}, {Attachment: c.other, Plugin: "dbridge"}} {
			if err := s.Put(&r); err != nil {
				t.Fatal(err)
			}
		}
		for network, want := range map[string]bool{"web": c.onWeb, "": c.onAny} {
			if got, err := s.Others(network, own); got != want || err != nil {
				t.Errorf("others than %s on %q, with %s: %t, %v", own, network, c.other, got, err)
			}
		}
		if got, err := s.Others("web", c.other); got != (c.other != own) || err != nil {
			t.Errorf("others than %s on web, with %s: %t, %v", c.other, own, got, err)
		}
	}
}

// OfAttachment reads the records of one attachment and of no other.
func TestOfAttachment(t *testing.T) {
	s := Store{Run: t.TempDir(), Lib: t.TempDir()}
	own := wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}
	if list, err := s.OfAttachment(own); list != nil || err != nil {
		t.Errorf("without a record: %v, %v", list, err)
	}
	for _, r := range []Record{
		{Attachment: own, Plugin: "dbridge"}, {Attachment: own, Plugin: "ddns"},
		{Attachment: wire.Attachment{Network: "web", Container: "c1", IfName: "eth1"}, Plugin: "dbridge"},
		{Attachment: wire.Attachment{Network: "lab", Container: "c1", IfName: "eth0"}, Plugin: "dbridge"},
	} {
		if err := s.Put(&r); err != nil {
			t.Fatal(err)
		}
	}
	list, err := s.OfAttachment(own)
	var plugins []string
	for _, r := range list {
		plugins = append(plugins, r.Plugin)
	}
	if slices.Sort(plugins); !slices.Equal(plugins, []string{"dbridge", "ddns"}) || err != nil {
		t.Errorf("records of %v, %v", plugins, err)
	}
	any := wire.Attachment{Network: "web", Container: "c1", IfName: "eth*"}
	if list, err := s.OfAttachment(any); len(list) > 0 || err != nil {
		t.Errorf("a name that is a pattern: %v, %v", list, err)
	}
}

// OneOfEach reads one record of each network, and passes by what can't be read.
func TestOneOfEach(t *testing.T) {
	s := Store{Run: t.TempDir(), Lib: t.TempDir()}
	if list, err := s.OneOfEach(); err != nil || len(list) > 0 {
		t.Errorf("nothing there: %v, %v", list, err)
	}
	for _, name := range []string{"web c1", "web c2", "lan c1", "lan c3"} {
		in, container, _ := strings.Cut(name, " ")
		a := wire.Attachment{Network: in, Container: container, IfName: "eth0"}
		if err := s.Put(&Record{Attachment: a, Plugin: "dmacvlan", State: Up}); err != nil {
			t.Fatal(err)
		}
	}
	broken := s.recordPath(wire.Attachment{Network: "lan", Container: "c1", IfName: "eth0"}, "dmacvlan")
	if err := os.WriteFile(broken, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for plugin, parent := range map[string]*network.Parent{"ddns": nil, "dmacvlan": {Name: "eth0"}} {
		a := wire.Attachment{Network: "lan", Container: "c3", IfName: "eth0"}
		if err := s.Put(&Record{Attachment: a, Plugin: plugin, State: Up, Parent: parent}); err != nil {
			t.Fatal(err)
		}
	}
	list, err := s.OneOfEach()
	if len(list) > 0 && list[0].Parent == nil {
		t.Error("the record of the parent is passed over")
	}
	if err != nil || len(list) != 2 || list[0].Network != "lan" || list[0].Container != "c3" || list[1].Network != "web" {
		t.Errorf("got %v, %v", list, err)
	}
}

// TestForeignRecord: a record that is another one's, or in a state that is not known, can't be
// read, and its attachment is lost.
func TestForeignRecord(t *testing.T) {
	s := testStore(t)
	for name, r := range map[string]Record{
		"attachment": {Attachment: owner("c2"), Plugin: "dbridge", State: Up},
		"plugin":     {Attachment: owner("c1"), Plugin: "ddns", State: Up},
		"state":      {Attachment: owner("c1"), Plugin: "dbridge", State: "half"},
	} {
		data, err := json.Marshal(r)
		if err == nil {
			err = s.writeFile(s.recordPath(owner("c1"), "dbridge"), data)
		}
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.Get(owner("c1"), "dbridge"); !disk.IsUnreadable(err) {
			t.Errorf("another %s: %+v, %v", name, got, err)
		}
		if list, err := s.List("web"); err != nil || len(list) != 1 || list[0].State != Lost || list[0].Creator != ByCNI {
			t.Errorf("another %s: %v, %v", name, list, err)
		}
	}
	if err := os.MkdirAll(s.ContainerDir("c1"), 0o755); err != nil {
		t.Fatal(err)
	}
	if list, err := s.List("web"); err != nil || list[0].Creator != ByDnet {
		t.Errorf("of a container of dnet's: %v, %v", list[0].Creator, err)
	}
}

// TestHas asks whether an attachment is on record, and which others its container has.
func TestHas(t *testing.T) {
	s := testStore(t)
	if s.Has(owner("c1")) {
		t.Error("nothing is on record")
	}
	lab := owner("c1")
	lab.Network = "lab"
	for _, a := range []wire.Attachment{owner("c1"), owner("c2"), lab} {
		if err := s.Put(&Record{Attachment: a, Plugin: "dbridge", State: Up}); err != nil {
			t.Fatal(err)
		}
	}
	if !s.Has(owner("c1")) || s.Has(owner("c3")) {
		t.Error("c1 is on record, and c3 is not")
	}
	if list := s.Siblings(lab); len(list) != 1 || list[0].Attachment != owner("c1") {
		t.Errorf("siblings: %v", list)
	}
	if err := os.WriteFile(s.recordPath(lab, "dbridge"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !s.Has(lab) {
		t.Error("a record that can't be read is none")
	}
}

// TestDeleteHalfWritten: a writer that was killed leaves a file beside, of which no record came.
func TestDeleteHalfWritten(t *testing.T) {
	s := testStore(t)
	a := wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}
	if err := s.Put(&Record{Attachment: a, Plugin: "dbridge", State: Adding}); err != nil {
		t.Fatal(err)
	}
	half := s.Root(s.Run).TempName(s.recordPath(a, "dbridge"))
	for range 2 { // with a record, and without
		if err := os.WriteFile(half, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.Delete(a, "dbridge"); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(half); err == nil {
			t.Error("it is still there")
		}
	}
}

// TestDeleteWhatDied: DEL removes the directories that another one left which died.
func TestDeleteWhatDied(t *testing.T) {
	s := testStore(t)
	if err := s.Put(&Record{Attachment: owner("c1"), Plugin: "dbridge"}); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Dir(s.recordPath(owner("c1"), "dbridge"))); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(owner("c1"), "dbridge"); err != nil || disk.Exists(filepath.Join(s.attachments(), "web")) || !disk.Exists(s.attachments()) {
		t.Errorf("directories are left: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(s.recordPath(owner("c2"), "dbridge"), "within"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(owner("c2"), "dbridge"); err == nil {
		t.Error("a directory in a record's place was removed with all that is in it")
	}
}

// TestAddressesThere: without IPv6 in the sandbox, its addresses are not there.
func TestAddressesThere(t *testing.T) {
	r := Record{Addresses: []ipam.Assigned{{Address: netip.MustParsePrefix("10.1.0.2/24")}, {Address: netip.MustParsePrefix("fd00::2/64")}}}
	if got := r.AddressesThere(); len(got) != 2 {
		t.Errorf("%v", got)
	}
	r.IPv6Off = true
	if got := r.AddressesThere(); len(got) != 1 || !got[0].Address.Addr().Is4() || len(r.Addresses) != 2 {
		t.Errorf("%v of %v", got, r.Addresses)
	}
}

// TestTooLargeRecord: one that could not be read again is not written.
func TestTooLargeRecord(t *testing.T) {
	s := testStore(t)
	r := &Record{Attachment: owner("c1"), Plugin: "dbridge", Names: []string{strings.Repeat("n", disk.MaxFile)}}
	if err := s.Put(r); err == nil || !strings.Contains(err.Error(), "at most") || s.Has(owner("c1")) {
		t.Errorf("%v", err)
	}
}

// TestStates: a record is read back in each state.
func TestStates(t *testing.T) {
	s := testStore(t)
	for _, state := range []State{Adding, Up, Deleting, Lost} {
		if err := s.Put(&Record{Attachment: owner("c1"), Plugin: "dbridge", State: state}); err != nil {
			t.Fatal(err)
		}
		if r, err := s.Get(owner("c1"), "dbridge"); err != nil || r.State != state {
			t.Errorf("%s: %+v, %v", state, r, err)
		}
	}
}

// TestInfoIn: a record that can't be read says nothing of its network, and one that is not up.
func TestInfoIn(t *testing.T) {
	for text, want := range map[string]struct{ says, fails bool }{
		`{"state": "up", "traits": {"internal": true}}`:                {says: true},
		`{"state": "adding", "traits": {"internal": true}}`:            {},
		`{"state": "up", "traits": {"internal": true}, "traits": 5}`:   {fails: true},
		`{"state": "down", "traits": {"internal": true}, "traits": 5}`: {fails: true},
	} {
		info, err := infoIn([]byte(text))
		if says := info != (network.Info{}); says != want.says || (err != nil) != want.fails {
			t.Errorf("%s: %+v, %v", text, info, err)
		}
	}
}

// TestWrongContent: a record that is up is of its own network and of a namespace that has a path.
func TestWrongContent(t *testing.T) {
	const right = `{"name": "web"}`
	for _, c := range []struct {
		netns, config string
		state         State
		ok            bool
	}{
		{"/run/netns/c1", right, Up, true},
		{"", right, Up, false},
		{"c1", right, Up, false},
		{"/run/netns/c1", `null`, Up, false},
		{"/run/netns/c1", `{}`, Up, false},
		{"/run/netns/c1", `[]`, Up, false},
		{"/run/netns/c1", `{"name": "other"}`, Up, false},
		{"", `null`, Deleting, true}, // nothing is planned from it
		{"", `null`, Adding, true},
	} {
		s := testStore(t)
		a := owner("c1")
		a.Network = "web"
		if err := s.Put(&Record{Attachment: a, Plugin: "dbridge", State: c.state, NetNS: c.netns, Config: json.RawMessage(c.config)}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(a, "dbridge"); (err == nil) != c.ok || err != nil && !disk.IsUnreadable(err) {
			t.Errorf("netns %q, config %s, %s: %v", c.netns, c.config, c.state, err)
		}
	}
}

// A container on one network has no siblings, and that is found out without decoding its own
// record: each ADD asks.
func TestSiblingsOfOne(t *testing.T) {
	s := Store{Run: t.TempDir(), Lib: t.TempDir()}
	a := wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}
	r := &Record{Attachment: a, Plugin: "dbridge", State: Up, NetNS: "/run/netns/c1", Config: json.RawMessage(`{"name": "web"}`)}
	for n := range 100 { // to decode a name is an allocation
		r.Names = append(r.Names, strings.Repeat("n", n+1))
	}
	if err := s.Put(r); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(5, func() {
		if list := s.Siblings(a); len(list) > 0 {
			t.Fatalf("siblings: %+v", list)
		}
	}); n > 100 {
		t.Errorf("%v allocations: the record was decoded", n)
	}
}
