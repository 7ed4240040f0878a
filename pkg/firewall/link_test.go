package firewall

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"dcni/pkg/wire"
)

func TestExposed(t *testing.T) {
	for text, want := range map[string]string{
		"80": "[80/tcp]", "80/udp": "[80/udp]", "80-82/TCP": "[80/tcp 81/tcp 82/tcp]", "65535/sctp": "[65535/sctp]",
		"": "error", "0": "error", "65536": "error", "82-80": "error", "80/icmp": "error", "a": "error", "1-2-3": "error",
	} {
		list, err := ParseExposed(text)
		got := fmt.Sprint(list)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q: %s, %v; want %s", text, got, err, want)
		}
	}
	list := ExposedPorts([]Exposed{{"udp", 53}, {"tcp", 90}}, []Port{{Protocol: "tcp", ContainerPort: 80}, {Protocol: "udp", ContainerPort: 53}})
	if got := fmt.Sprint(list); got != "[80/tcp 90/tcp 53/udp]" {
		t.Error(got)
	}
}

func end(container, name string, addresses ...string) *Links {
	l := &Links{Owner: wire.Attachment{Network: "bridge", Container: container, IfName: "eth0"}, NetNS: "/ns/" + container, Bridge: "dcni0", Name: name}
	for _, a := range addresses {
		l.Addresses = append(l.Addresses, netip.MustParseAddr(a))
	}
	l.Gateways = []netip.Addr{netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("fd00::1")}
	return l
}

func TestLinks(t *testing.T) {
	web, db := end("aaaa1111", "web", "10.1.0.2", "fd00::2"), end("bbbb2222cccc3333", "db", "10.1.0.3", "fd00::3")
	db.Exposed = []Exposed{{"tcp", 80}}
	for word, want := range map[string]bool{"db": true, "bbbb2222cccc3333": true, "bbbb2222cccc": true, "bbbb2222ccc": false, "bbbb": false, "aaaa": false, "web": false, "d": false} {
		web.Targets = []string{word}
		if web.LinksTo(db) != want {
			t.Errorf("%q: %v", word, !want)
		}
	}
	if web.Targets = []string{"web"}; web.LinksTo(web) {
		t.Error("a container links to itself")
	}
	want := []string{
		`links4 { "dcni0" . 10.1.0.2 . 10.1.0.3 . tcp . 80 comment "bridge aaaa1111/eth0" }`,
		`links6 { "dcni0" . fd00::2 . fd00::3 . tcp . 80 comment "bridge aaaa1111/eth0" }`,
	}
	var got []string
	for _, e := range web.Elements(db) {
		got = append(got, e.String())
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q", got)
	}
	if list := db.Elements(web); len(list) != 0 {
		t.Errorf("the other way round: %v", list)
	}
	routes := db.RoutesTo(web)
	if len(routes) != 2 || routes[0].String() != "route 10.1.0.2/32 via 10.1.0.1 dev eth0 in sandbox" || routes[1].String() != "route fd00::2/128 via fd00::1 dev eth0 in sandbox" {
		t.Errorf("routes: %v", routes)
	}
	four := end("cccc", "four", "10.1.0.4")
	if routes := four.RoutesTo(web); len(routes) != 1 {
		t.Errorf("without IPv6: %v", routes)
	}
}
