package records

import (
	"os"
	"slices"
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
	if _, err := s.InfoFromChain(a, "ddns"); err == nil {
		t.Error("a record that can't be read tells nothing, without an error")
	}
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
