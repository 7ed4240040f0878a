package macvlan

import (
	"cmp"
	"strconv"

	"dcni/pkg/wire"
)

// rawReference are the keys of the reference plugin macvlan that dmacvlan does not have
// (containernetworking/plugins, plugins/main/macvlan). They are taken where they say what
// dmacvlan does anyway. dmacvlan's manual has the table, and the reasons for people.
type rawReference struct {
	Master          *string `json:"master"` // another word for parent
	LinkInContainer *bool   `json:"linkInContainer"`
	BcQueueLen      *uint32 `json:"bcqueuelen"`
	MAC             *string `json:"mac"`
}

// check refuses what says otherwise than dmacvlan does.
func (r *rawReference) check() error {
	for _, k := range []struct{ key, given, must, why string }{
		{"linkInContainer", text(r.LinkInContainer, strconv.FormatBool), "false", "the parent is a link of the host"},
		{"bcqueuelen", text(r.BcQueueLen, func(n uint32) string { return strconv.FormatUint(uint64(n), 10) }), "0", "the length is the parent's and counts for all networks on it"},
		{"mac", text(r.MAC, func(s string) string { return s }), "", "a network has many containers; the runtime asks for the MAC of one"},
	} {
		if k.given != "" && k.given != k.must {
			return wire.Errorf(wire.CodeConfig, "%s %s: must be %s with dmacvlan, or left out: %s", k.key, k.given, cmp.Or(k.must, "empty"), k.why)
		}
	}
	return nil
}

// text returns a value as text, "" where it is not given.
func text[T any](p *T, of func(T) string) string {
	if p == nil {
		return ""
	}
	return of(*p)
}
