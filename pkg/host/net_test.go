package host

import (
	"testing"

	"github.com/vishvananda/netlink"
)

func linkUp(t testing.TB, name string) {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetUp(l)
	}
	if err != nil {
		t.Fatalf("link %s up: %v", name, err)
	}
}
