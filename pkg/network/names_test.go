package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"dcni/pkg/names"
	"dcni/pkg/wire"
)

// ddnsString is a configuration as one line.
func ddnsString(d *Names) string {
	s := fmt.Sprintf("servers %v search %v options %v ttl %d", d.Servers, d.DNS.Search, d.DNS.Options, d.TTL)
	if d.Intercept {
		s += " intercept"
	}
	if d.Gateway {
		s += " gateway"
	}
	if d.DNS.Domain != "" {
		s += " domain " + d.DNS.Domain
	}
	if d.Given != nil {
		s += fmt.Sprintf(" names %v", *d.Given)
	}
	return s
}

func TestParseDDNS(t *testing.T) {
	for _, c := range []struct{ name, conf, want string }{
		{"nothing", ``, "servers [] search [] options [ndots:0] ttl 600"},
		{"everything", `"servers": ["192.0.2.53", "[fd00::53]:5353"], "search": ["lan", "example.com."], "options": ["timeout:1"],
			"ttl": 0, "intercept": true, "names": true, "hosts": ["db:10.0.0.1"], "comment": "x", "cni.dev/x": 1`,
			"servers [192.0.2.53:53 [fd00::53]:5353] search [lan example.com.] options [timeout:1 ndots:0] ttl 0 intercept names true"},
		{"the user's ndots", `"options": ["ndots:2", "use-vc"]`, "servers [] search [] options [ndots:2 use-vc] ttl 600"},
		{"the runtime's come first", `"servers": ["192.0.2.53"], "search": ["lan"], "options": ["ndots:1"],
			"runtimeConfig": {"dns": {"Servers": ["192.0.2.99"], "Searches": ["pod"], "Options": ["ndots:5"], "Other": 1}}`,
			"servers [192.0.2.99:53] search [pod] options [ndots:5] ttl 600"},
		{"part by part", `"servers": ["192.0.2.53"], "search": ["lan"], "options": ["use-vc"],
			"runtimeConfig": {"dns": {"servers": null, "searches": [], "options": ["timeout:2"]}}`,
			"servers [192.0.2.53:53] search [lan] options [timeout:2 ndots:0] ttl 600"},
		{"no search", `"search": ["."], "dns": {"search": ["lan"], "domain": "lan"}`, "servers [] search [] options [ndots:0] ttl 600"},
		{"the dns section", `"dns": {"nameservers": ["192.0.2.53"], "search": ["lan"], "domain": "example.com", "options": ["use-vc"]}`,
			"servers [192.0.2.53:53] search [lan] options [use-vc ndots:0] ttl 600 domain example.com"},
		{"plugins before", `"prevResult": {"dns": {"nameservers": ["192.0.2.53"], "search": ["lan"]}}`,
			"servers [192.0.2.53:53] search [lan] options [ndots:0] ttl 600"},
		{"our own result", `"prevResult": {"dns": {"nameservers": ["127.0.0.11"], "options": ["ndots:0"]}}`,
			"servers [] search [] options [ndots:0] ttl 600"},
		{"keys fold", `"TTL": 5, "Intercept": true`, "servers [] search [] options [ndots:0] ttl 5 intercept"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := readDDNS(ddnsConf(c.conf))
			if err != nil {
				t.Fatal(err)
			}
			if got := ddnsString(d); got != c.want {
				t.Errorf("is %s\nwant %s", got, c.want)
			}
			if !slices.Equal(d.DNS.Nameservers, []string{"127.0.0.11"}) {
				t.Errorf("nameservers of the result: %v", d.DNS.Nameservers)
			}
		})
	}
}

func ddnsConf(more string) []byte {
	conf := `{"cniVersion": "1.1.0", "name": "web", "type": "ddns"`
	if more != "" {
		conf += ", " + more
	}
	return []byte(conf + "}")
}

func TestParseDDNSErrors(t *testing.T) {
	for _, c := range []struct{ conf, want string }{
		{`"zzzzzzzzzzzz": 1`, `unknown key "zzzzzzzzzzzz": known are args, capabilities, cniVersion, cniVersions, comment, dns, fromArgs, gateway, hosts, intercept, ipam, name, names, options,`},
		{`"server": []`, `unknown key "server": did you mean "servers"?`},
		{`"interceptt": true`, `unknown key "interceptt": did you mean "intercept"?`},
		{`"servers": "192.0.2.53"`, `servers "192.0.2.53": must be a list of strings`},
		{`"servers": ["dns.example"]`, `servers[0] "dns.example": must be an IP address`},
		{`"servers": ["192.0.2.53", "0.0.0.0"]`, `servers[1] "0.0.0.0": must be an IP address`},
		{`"servers": ["127.0.0.11"]`, `servers[0] "127.0.0.11": must not be the container's own name server`},
		{`"search": ["lan", "a b"]`, `search[1] "a b": must be a domain name`},
		{`"search": [".", "lan"]`, `search[0] "": must be a domain name`},
		{`"options": ["ndots:x"]`, `options[0] "ndots:x": must be ndots: and a number from 0 to 255`},
		{`"options": ["use-vc\nnameserver 192.0.2.1"]`, `options[0] "use-vc`},
		{`"options": ["use vc"]`, `options[0] "use vc": must be one option of resolv.conf(5)`},
		{`"options": ["usé-vc"]`, `options[0] "usé-vc": must be one option of resolv.conf(5)`},
		{"\"options\": [\"use\x7f\"]", "options[0] \"use\x7f\": must be one option of resolv.conf(5)"},
		{`"options": [""]`, `options[0] "": must be one option of resolv.conf(5)`},
		{`"ttl": -1`, `ttl -1: must be 0 to 2147483647 (seconds)`},
		{`"ttl": 1.5`, `ttl 1.5: must be a whole number`},
		{`"hosts": ["db"]`, `hosts[0] "db": must be NAME:ADDRESS`},
		{`"hosts": ["db:10.0.0.1", "d b:10.0.0.1"]`, `hosts[1] "d b": must be a domain name`},
		{`"hosts": ["db:10.0.0"]`, `hosts[0] "10.0.0": must be an IP address`},
		{`"hosts": "db:10.0.0.1"`, `hosts "db:10.0.0.1": must be an object {name: address}, or a list of NAME:ADDRESS`},
		{`"hosts": {"db": 5}`, `hosts {"db": 5}: must be an object {name: address}, or a list of NAME:ADDRESS`},
		{`"names": "yes"`, `names "yes": must be true or false`},
		{`"gateway": true`, `gateway true: must be false: ddns knows no bridge; the key "names" of dbridge and doverlay has it`},
		{`"intercept": 1`, `intercept 1: must be true or false`},
		{`"ipam": {"type": "dipam"}`, `ipam: must not be given`},
		{`"dns": {"nameserver": []}`, `unknown key "dns.nameserver": did you mean "dns.nameservers"?`},
		{`"dns": {"nameservers": ["x"]}`, `dns.nameservers[0] "x": must be an IP address`},
		{`"dns": {"domain": "a\nb"}`, "dns.domain \"a\nb\": must be a domain name"},
		{`"runtimeConfig": {"dns": {"servers": ["x"]}}`, `runtimeConfig.dns.servers[0] "x": must be an IP address`},
		{`"runtimeConfig": {"dns": {"searches": ["a b"]}}`, `runtimeConfig.dns.searches[0] "a b": must be a domain name`},
		{`"runtimeConfig": {"dns": {"options": "ndots:5"}}`, `runtimeConfig.dns.options "ndots:5": must be a list of strings`},
		{`"runtimeConfig": {"dns": []}`, `runtimeConfig.dns: must be an object`},
		{`"prevResult": {"dns": {"nameservers": ["x"]}}`, `prevResult.dns.nameservers[0] "x"`},
	} {
		_, err := readDDNS(ddnsConf(c.conf))
		var coded *wire.Error
		if !errors.As(err, &coded) || coded.Code != wire.CodeConfig || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want code 7 and %s", c.conf, err, c.want)
		}
	}
}

func TestDDNSHosts(t *testing.T) {
	d, err := readDDNS(ddnsConf(`"hosts": ["gw:host-gateway", "db=10.0.0.1"]`))
	if err != nil {
		t.Fatal(err)
	}
	hosts, err := d.Hosts([]netip.Addr{netip.MustParseAddr("10.1.0.1")})
	if got, want := fmt.Sprint(hosts, err), "[{gw [10.1.0.1]} {db [10.0.0.1]}] <nil>"; got != want {
		t.Errorf("hosts are %s, want %s", got, want)
	}
	object, err := readDDNS(ddnsConf(`"hosts": {"gw": "host-gateway", "db": "10.0.0.1"}, "ipam": null`))
	if err != nil {
		t.Fatal(err)
	}
	hosts, err = object.Hosts([]netip.Addr{netip.MustParseAddr("10.1.0.1")})
	if got, want := fmt.Sprint(hosts, err), "[{db [10.0.0.1]} {gw [10.1.0.1]}] <nil>"; got != want {
		t.Errorf("hosts of an object are %s, want %s", got, want)
	}
	if _, err := d.Hosts(nil); err == nil || !strings.Contains(err.Error(), "the network has no gateway") {
		t.Errorf("with no gateway: %v", err)
	}
}

func TestDDNSQuiet(t *testing.T) {
	for _, c := range []struct {
		conf         string
		network, say bool
	}{
		{``, false, false}, {``, true, true},
		{`"names": true`, true, false}, {`"names": false`, false, true},
	} {
		d, err := readDDNS(ddnsConf(c.conf))
		if err != nil {
			t.Fatal(err)
		}
		if got := d.NoNames(Info{NoNames: c.network}); got != c.say {
			t.Errorf("{%s} on a network that is quiet (%v): %v", c.conf, c.network, got)
		}
	}
}

// FuzzParseDDNS: no configuration panics, and an accepted one keeps its promises.
func FuzzParseDDNS(f *testing.F) {
	f.Add(ddnsConf(`"servers": ["192.0.2.53", "[fd00::53]:5353"], "search": ["."], "options": ["ndots:5"], "ttl": 5`))
	f.Add(ddnsConf(`"hosts": ["a:host-gateway", "b:[::1]"], "runtimeConfig": {"dns": {"Servers": ["1.1.1.1"]}}, "prevResult": {"dns": {}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := readDDNS(data)
		if err != nil {
			if coded := (*wire.Error)(nil); !errors.As(err, &coded) {
				t.Fatalf("%q: an error without a code: %v", data, err)
			}
			return
		}
		for _, s := range d.Servers {
			if !s.IsValid() || s.Port() == 0 || s.Addr() == names.Address {
				t.Errorf("server %v of %q", s, data)
			}
		}
		if line := strings.Join(append(d.DNS.Search, d.DNS.Options...), ""); strings.ContainsAny(line, " \t\n\r") {
			t.Errorf("%q smuggles %q into resolv.conf", data, line)
		}
		if !slices.ContainsFunc(d.DNS.Options, isNdots) {
			t.Errorf("%q has no ndots", data)
		}
		if _, err := d.Hosts([]netip.Addr{netip.MustParseAddr("10.0.0.1")}); err != nil {
			t.Errorf("%q: %v", data, err)
		}
		if !json.Valid(data) {
			t.Errorf("%q is no JSON", data)
		}
	})
}

func readDDNS(raw []byte) (*Names, error) {
	conf, err := ReadConf(raw)
	if err != nil {
		return nil, err
	}
	return conf.DDNS()
}

// TestNamesSection: a plugin that makes an interface has ddns's keys in a section.
func TestNamesSection(t *testing.T) {
	for conf, want := range map[string]string{
		``:                         "none",
		`"names": null`:            "none",
		`"names": {}`:              "servers [] search [] options [ndots:0] ttl 600 names true",
		`"names": {}, "dns": null`: "servers [] search [] options [ndots:0] ttl 600 names true",
		`"names": {"ttl": 5, "servers": ["192.0.2.53"]}, "dns": {"search": ["lan"]}`: "servers [192.0.2.53:53] search [lan] options [ndots:0] ttl 5 names true",
		`"names": {"gateway": true}`:            "servers [] search [] options [ndots:0] ttl 600 gateway names true",
		`"names": {"gateway": "yes"}`:           `names.gateway "yes": must be true or false`,
		`"names": 5`:                            `names: must be an object`,
		`"names": {"tll": 5}`:                   `unknown key "names.tll": did you mean "names.ttl"?`,
		`"names": {"ttl": -1}`:                  `names.ttl -1: must be 0 to 2147483647 (seconds)`,
		`"names": {}, "dns": {"serch": []}`:     `unknown key "dns.serch": did you mean "dns.search"?`,
		`"names": {}, "dns": {"search": [" "]}`: `dns.search[0] " ": must be a domain name`,
	} {
		c, err := ReadConf(ddnsConf(conf))
		if err != nil {
			t.Fatal(err)
		}
		n, err := c.Names()
		got := "none"
		switch {
		case err != nil:
			got = err.Error()
		case n != nil:
			got = ddnsString(n)
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", conf, got, want)
		}
	}
}
