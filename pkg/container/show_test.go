package container

import (
	"net/netip"
	"strings"
	"testing"

	"dcni/pkg/firewall"
)

func TestAgo(t *testing.T) {
	for seconds, want := range map[int64]string{
		0: "Less than a second", 1: "1 second", 59: "59 seconds", 60: "About a minute", 120: "2 minutes",
		3600: "About an hour", 7200: "2 hours", 47 * 3600: "47 hours", 48 * 3600: "2 days", 14 * 86400: "2 weeks",
	} {
		if got := Ago(seconds); got != want {
			t.Errorf("%d s: %s, want %s", seconds, got, want)
		}
	}
}

func TestShowPorts(t *testing.T) {
	for want, publish := range map[string][]string{
		"": nil,
		"0.0.0.0:8080->80/tcp, [::]:8080->80/tcp":         {"8080:80"},
		"127.0.0.1:8080->80/udp":                          {"127.0.0.1:8080:80/udp"},
		"[::1]:8080->80/tcp":                              {"[::1]:8080:80"},
		"0.0.0.0:80-82->80-82/tcp, [::]:80-82->80-82/tcp": {"80-82:80-82"},
		"0.0.0.0:8000->80/tcp, [::]:8000->80/tcp, 0.0.0.0:8001->81/tcp, [::]:8001->81/tcp":     {"8000-8001:80-81"},
		"127.0.0.1:80->80/tcp, 192.0.2.1:81->81/tcp":                                           {"192.0.2.1:81:81", "127.0.0.1:80:80"},
		"0.0.0.0:90->80/tcp, 0.0.0.0:92->81/tcp":                                               {"0.0.0.0:92:81", "0.0.0.0:90:80"},
		"0.0.0.0:8080->80/tcp, 0.0.0.0:8081->80/tcp":                                           {"0.0.0.0:8081:80", "0.0.0.0:8080:80"},
		"0.0.0.0:53->53/tcp, 0.0.0.0:53->53/udp, [::]:53->53/udp":                              {"53:53/udp", "0.0.0.0:53:53"},
		"0.0.0.0:5353->53/udp, [::]:5353->53/udp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp":     {"8080:80", "5353:53/udp"},
		"0.0.0.0:80-81->80-81/tcp, 0.0.0.0:53->53/udp, 0.0.0.0:90->90/tcp, 0.0.0.0:99->10/tcp": {"0.0.0.0:99:10", "0.0.0.0:90:90", "0.0.0.0:80-81:80-81", "0.0.0.0:53:53/udp"},
	} {
		var list []Publish
		for _, s := range publish {
			p, err := ParsePublish(s)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, p...)
		}
		e := &firewall.Endpoint{Ports: Ports(list), Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("fd00::2")}}
		sibling := *e // on another network, of which the container has an address as well
		if got := ShowPorts([]*firewall.Endpoint{e, &sibling}, nil); got != want {
			t.Errorf("%s: %s, want %s", publish, got, want)
		}
	}
}

// A family that the container has no address of is not published.
func TestShowPortsOfOneFamily(t *testing.T) {
	list, err := ParsePublish("8080:80")
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{"10.1.0.2": "0.0.0.0:8080->80/tcp", "fd00::2": "[::]:8080->80/tcp"} {
		e := &firewall.Endpoint{Ports: Ports(list), Addresses: []netip.Addr{netip.MustParseAddr(address)}}
		sibling := *e // on another network, of which the container has an address as well
		if got := ShowPorts([]*firewall.Endpoint{e, &sibling}, nil); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}

// What is exposed and not published stands with its own number alone.
func TestShowPortsExposed(t *testing.T) {
	list, err := ParsePublish("8080:80")
	if err != nil {
		t.Fatal(err)
	}
	e := &firewall.Endpoint{Ports: Ports(list), Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.2")}}
	for text, want := range map[string]string{
		"80":          "0.0.0.0:8080->80/tcp",
		"53/udp":      "53/udp, 0.0.0.0:8080->80/tcp",
		"90-92 80-81": "81/tcp, 90-92/tcp, 0.0.0.0:8080->80/tcp",
	} {
		exposed, err := parseExpose(strings.Fields(text))
		if err != nil {
			t.Fatal(err)
		}
		if got := ShowPorts([]*firewall.Endpoint{e}, exposed); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	if got := ShowPorts(nil, []firewall.Exposed{{Protocol: "tcp", Port: 80}}); got != "80/tcp" {
		t.Errorf("nothing published: %s", got)
	}
}

func TestShorten(t *testing.T) {
	if got := Shorten("wörterbuch", 5); got != "wört…" {
		t.Error(got)
	}
	if got := Shorten("wört", 4); got != "wört" {
		t.Error(got)
	}
}

func TestFind(t *testing.T) {
	list := []Named{{"aa11", "web"}, {"aa22", "db"}, {"bb33", "aa1"}}
	for word, want := range map[string]string{
		"aa11": "web", "web": "web", "/db": "db", "bb": "aa1", "aa1": "aa1",
		"aa": "Multiple IDs found with provided prefix: aa: aa11 (web), aa22 (db)", "": "No such container: ", "x": "No such container: x",
	} {
		i, err := Find(list, word)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = list[i].Name
		}
		if got != want {
			t.Errorf("%q: %s, want %s", word, got, want)
		}
	}
}
