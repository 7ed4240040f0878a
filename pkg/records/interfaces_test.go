package records

import (
	"slices"
	"testing"

	"dcni/pkg/names"
	"dcni/pkg/wire"
)

func TestInterfaces(t *testing.T) {
	a, b := wire.Attachment{Network: "web", Container: "a", IfName: "eth0"}, wire.Attachment{Network: "web", Container: "b", IfName: "eth0"}
	bridge := &Record{Attachment: a, Plugin: "dbridge"}
	named, foreign := &Record{Attachment: a, Plugin: "ddns", Resolver: &names.Resolver{}}, &Record{Attachment: b, Plugin: "ddns", Resolver: &names.Resolver{}}
	for _, list := range [][]*Record{{bridge, named, foreign}, {named, bridge, foreign}} {
		if got := Interfaces(list); !slices.Equal(got, []*Record{bridge, foreign}) {
			t.Errorf("%v: got %v", list, got)
		}
	}
}
