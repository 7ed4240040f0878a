package container

import (
	"net/netip"
	"testing"
)

func TestResolvConf(t *testing.T) {
	const host = "# of the machine\nsearch old.example\nnameserver 127.0.0.1\nnameserver 192.0.2.53\nnameserver 2001:db8::53\n" +
		"domain example.org\noptions edns0\noptions trust-ad\nsortlist 10.0.0.0\n"
	for name, c := range map[string]struct {
		in   ResolvConf
		want string
	}{
		"the host's, without its loopback and IPv6": {
			ResolvConf{Host: host},
			"nameserver 192.0.2.53\nsearch example.org\noptions edns0 trust-ad\nsortlist 10.0.0.0\n",
		},
		"with IPv6": {
			ResolvConf{Host: host, IPv6: true},
			"nameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch example.org\noptions edns0 trust-ad\nsortlist 10.0.0.0\n",
		},
		"loopback servers only": {
			ResolvConf{Host: "nameserver 127.0.0.53\nnameserver ::1\n"},
			"nameserver 8.8.8.8\nnameserver 8.8.4.4\n",
		},
		"IPv4-mapped servers are IPv4 ones": {
			ResolvConf{Host: "nameserver ::ffff:192.0.2.53\nnameserver ::ffff:127.0.0.1\n"},
			"nameserver ::ffff:192.0.2.53\n",
		},
		"no server at all, IPv6": {
			ResolvConf{IPv6: true},
			"nameserver 8.8.8.8\nnameserver 8.8.4.4\nnameserver 2001:4860:4860::8888\nnameserver 2001:4860:4860::8844\n",
		},
		"the host's network": {ResolvConf{Host: host, Shared: true}, host},
		"the host's network, with flags": {
			ResolvConf{Host: "nameserver 127.0.0.53\nsearch a\n", Shared: true, Flags: DNS{Search: []string{"."}}},
			"nameserver 127.0.0.53\n",
		},
		"of the networks": {
			ResolvConf{Host: host, Result: DNS{Servers: []string{"192.0.2.7"}, Options: []string{"ndots:2"}}},
			"nameserver 192.0.2.7\noptions ndots:2\n",
		},
		"flags before networks": {
			ResolvConf{Host: host, Result: DNS{Servers: []string{"192.0.2.7"}, Options: []string{"ndots:2"}},
				Flags: DNS{Servers: []string{"192.0.2.9"}, Search: []string{"x.org", "y.org"}, Options: []string{"timeout:1"}}},
			"nameserver 192.0.2.9\nsearch x.org y.org\noptions timeout:1\n",
		},
		"the container's own server, which asks the host's": {
			ResolvConf{Host: host, Result: DNS{Servers: []string{"127.0.0.11"}, Options: []string{"ndots:0"}}},
			"nameserver 127.0.0.11\nsearch example.org\noptions edns0 trust-ad ndots:0\nsortlist 10.0.0.0\n",
		},
		"the container's own server on a host that wants dots": {
			ResolvConf{Host: "nameserver ::1\noptions ndots:2\n", Result: DNS{Servers: []string{"127.0.0.11"}, Search: []string{"lab"}, Options: []string{"ndots:0"}}},
			"nameserver 127.0.0.11\nsearch lab\noptions ndots:2\n",
		},
		"the container's own server asks those of the flags": {
			ResolvConf{Host: host, Result: DNS{Servers: []string{"127.0.0.11"}, Options: []string{"ndots:0"}},
				Flags: DNS{Servers: []string{"192.0.2.9"}, Search: []string{"."}, Options: []string{"timeout:1"}}},
			"nameserver 127.0.0.11\noptions timeout:1 ndots:0\nsortlist 10.0.0.0\n",
		},
		"a loopback server that was asked for": {
			ResolvConf{Host: host, Flags: DNS{Servers: []string{"127.0.0.1"}}},
			"nameserver 127.0.0.1\nsearch example.org\noptions edns0 trust-ad\nsortlist 10.0.0.0\n",
		},
	} {
		if got := c.in.Text(); got != c.want {
			t.Errorf("%s:\n%swant:\n%s", name, got, c.want)
		}
	}
}

func TestNeedsResolved(t *testing.T) {
	for text, want := range map[string]bool{
		"nameserver 127.0.0.53\noptions edns0\n":         true,
		"nameserver 127.0.0.53\nnameserver 192.0.2.53\n": false,
		"nameserver 127.0.0.1\n":                         false,
		"":                                               false,
	} {
		if NeedsResolved(text) != want {
			t.Errorf("%q: want %t", text, want)
		}
	}
}

func TestHostsFile(t *testing.T) {
	addrs := []netip.Addr{netip.MustParseAddr("10.1.0.5"), netip.MustParseAddr("fd00::5")}
	gw := []netip.Addr{netip.MustParseAddr("10.1.0.1")}
	extra := []HostEntry{{Name: "up", Gateway: true}, {Name: "db", Addr: netip.MustParseAddr("192.0.2.7")}}
	for name, c := range map[string]struct {
		in   HostsFile
		want string
	}{
		"nothing": {HostsFile{Hostname: "h"}, localhost4},
		"all": {
			HostsFile{Hostname: "h.example.org", Name: "web", Addresses: addrs, IPv6: true, Extra: extra, Gateways: gw},
			localhost4 + localhost6 + "10.1.0.1\tup\n192.0.2.7\tdb\n10.1.0.5\th.example.org h web\nfd00::5\th.example.org h web\n",
		},
		"a name twice": {HostsFile{Hostname: "web", Name: "web", Addresses: addrs[:1]}, localhost4 + "10.1.0.5\tweb\n"},
	} {
		got, err := c.in.Text()
		if err != nil || got != c.want {
			t.Errorf("%s: %v\n%swant:\n%s", name, err, got, c.want)
		}
	}
	if _, err := (HostsFile{Extra: extra}).Text(); err == nil || err.Error() != "unable to derive the IP value for host-gateway" {
		t.Errorf("host-gateway without a gateway: %v", err)
	}
}

func TestParseHost(t *testing.T) {
	for in, want := range map[string]string{
		"db:192.0.2.7": "192.0.2.7", "db=fd00::7": "fd00::7", "db:fd00::7": "fd00::7", "db:[fd00::7]": "fd00::7",
	} {
		if h, err := ParseHost(in); err != nil || h.Name != "db" || h.Addr.String() != want {
			t.Errorf("%s: %+v, %v", in, h, err)
		}
	}
	if h, err := ParseHost("db:host-gateway"); err != nil || !h.Gateway {
		t.Errorf("%+v, %v", h, err)
	}
}
