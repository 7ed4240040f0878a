package main

import (
	"net/netip"
	"strings"
	"testing"

	"dcni/pkg/ipam"
	"dcni/pkg/names"
	"dcni/pkg/records"
)

// TestFollowLinks: a link is to the container of that name, and to none whose ID begins so.
func TestFollowLinks(t *testing.T) {
	f := newFixture(t)
	c := &records.Container{ID: idWeb, Name: "web", Stage: records.Running, Links: []names.Link{{Target: "ab", Alias: "db"}}, Hostname: "web"}
	f.must(f.store.AddContainer(c, func([]*records.Container) error { return nil }))
	for _, one := range []struct{ id, name, address string }{{strings.Repeat("ab", 32), "other", "10.9.0.7/24"}, {strings.Repeat("cd", 32), "ab", "10.9.0.8/24"}} {
		f.attached(records.Record{
			Attachment: owner("bridge", one.id, "eth0"), State: records.Up, Name: one.name, IPAM: records.IPAM{Type: "dipam"},
			Addresses: []ipam.Assigned{{Address: netip.MustParsePrefix(one.address)}},
		})
	}
	_, err := f.store.WriteContainerFile(c.ID, "hosts", "127.0.0.1\tlocalhost\n10.9.0.2\tdb cdcdcdcdcdcd ab\n")
	f.must(err)
	f.app.followAllLinks()
	text, err := f.app.containerFile(c, hostsFile)
	f.must(err)
	if want := "127.0.0.1\tlocalhost\n10.9.0.8\tdb ab\n"; text != want {
		t.Errorf("%q, want %q", text, want)
	}
}
