package records

import (
	"os"
	"slices"
	"strings"
	"testing"

	"dcni/pkg/network"
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
