package main

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"dcni/pkg/ipam"
	"dcni/pkg/mode/bridge"
	"dcni/pkg/netns"
	"dcni/pkg/network/catalog"
	"dcni/pkg/wire"
)

// oneLine joins the words of a text.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// compact returns JSON without white space.
func compact(t *testing.T, data []byte) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, data); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// owner is an attachment.
func owner(network, container, ifName string) wire.Attachment {
	return wire.Attachment{Network: network, Container: container, IfName: ifName}
}

// subnet is one without a range of its own.
func subnet(prefix string) ipam.Subnet {
	p := netip.MustParsePrefix(prefix)
	return ipam.Subnet{Prefix: p, Range: p, Gateway: p.Addr().Next()}
}

// ownCookie is that of this process's network namespace, 0 if it can't be read:
// without root dnet can't read it either, and takes the namespace to be there.
func ownCookie(t *testing.T) uint64 {
	t.Helper()
	ns, err := netns.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	cookie, _ := ns.Cookie()
	return cookie
}

// leftovers are what a bridge network leaves on the host.
func leftovers(name, link string) []wire.Object {
	return bridge.Plugin.Driver.(catalog.Remover).Leftovers(name, link)
}
