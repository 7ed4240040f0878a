package container

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"dcni/pkg/names"
	"dcni/pkg/network"
)

// TestWanted: what a record has of networks comes back whole, in its order; one that is wanted
// again comes last.
func TestWanted(t *testing.T) {
	priority := -5
	lab := Network{
		Name: "lab", IPv4: netip.MustParseAddr("10.1.0.9"), IPv6: netip.MustParseAddr("fd00::9"), MAC: "02:42:00:00:00:09",
		Aliases: []string{"db"}, GwPriority: &priority, IfName: "lab0", Links: []names.Link{{Target: "shop", Alias: "s"}},
		Sysctls: []network.Setting{{Name: "net.ipv4.conf.IFNAME.log_martians", Value: "1"}},
	}
	w := Wanted{{Name: "web"}}.With(lab).With(Network{Name: "aux"})
	data, err := w.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, known, err := ParseWanted(data)
	if err != nil || !known || !reflect.DeepEqual(got, w) {
		t.Errorf("%s is %+v, %t, %v", data, got, known, err)
	}
	if again := got.With(Network{Name: "web"}); !slices.Equal(again.Names(), []string{"lab", "aux", "web"}) || !slices.Equal(got.Names(), []string{"web", "lab", "aux"}) {
		t.Errorf("wanted again: %v, before %v", again.Names(), got.Names())
	}
	none := got.Without("web").Without("lab").Without("aux")
	if data, err = none.Encode(); err != nil || string(data) != "[]" || none.Has("lab") || !got.Has("lab") {
		t.Errorf("none: %s, %v", data, err)
	}
	if data, err = Wanted(nil).Encode(); err != nil || string(data) != "[]" {
		t.Errorf("nil: %s, %v", data, err)
	}
	if got, known, err := ParseWanted(nil); got != nil || known || err != nil {
		t.Errorf("not on record: %v, %t, %v", got, known, err)
	}
	if _, known, err := ParseWanted(json.RawMessage(`{}`)); known || err == nil {
		t.Errorf("of another form: %t, %v", known, err)
	}
}
