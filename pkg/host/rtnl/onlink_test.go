package rtnl

import (
	"net/netip"
	"testing"
)

// A neighbour is on the link, and no address of the subnet itself.
func TestNeighbour(t *testing.T) {
	for own, want := range map[string]string{
		"10.1.0.1/24": "10.1.0.2", "10.1.0.254/24": "10.1.0.253", "10.1.0.1/30": "10.1.0.2", "10.1.0.2/30": "10.1.0.1",
		"10.1.0.0/31": "10.1.0.1", "10.1.0.1/31": "10.1.0.0", "10.1.0.1/32": "",
		"fd00::1/64": "fd00::2", "fd00::1/127": "fd00::", "fd00::1/128": "",
	} {
		got, ok := neighbour(netip.MustParsePrefix(own))
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("of %s: %s, want %s", own, got, want)
		}
	}
}
