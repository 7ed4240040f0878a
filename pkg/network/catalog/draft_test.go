package catalog_test

import (
	"net/netip"
	"strings"
	"testing"

	"dcni/pkg/mode"
	"dcni/pkg/network"
	"dcni/pkg/network/catalog"
)

func yes() *bool { v := true; return &v }
func no() *bool  { v := false; return &v }

func addrs(texts ...string) (out []netip.Addr) {
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

// TestMatch puts ranges, gateways and auxiliary addresses to subnets, in
// whichever order they are given.
func TestMatch(t *testing.T) {
	o := catalog.Options{
		Name: "web", Driver: "bridge",
		Subnets:  []string{"fd00:1::/64", "10.1.0.0/16", "10.2.0.0/16"},
		Ranges:   prefixes("10.2.3.0/24", "fd00:1::100/120"),
		Gateways: addrs("10.1.0.9", "10.2.0.9"),
		Aux:      map[string]string{"a": "10.2.0.7", "b": "fd00:1::7", "c": "10.2.0.8"},
	}
	d, err := o.Draft(mode.All)
	if err != nil {
		t.Fatal(err)
	}
	if d.WantPool || d.WantULA {
		t.Error("a subnet would be chosen")
	}
	got, err := d.Conflist(prefixes("fd00:1::/64", "10.1.0.0/16", "10.2.0.0/16"))
	if err != nil {
		t.Fatal(err)
	}
	const want = `
      "ipam": {
        "type": "dipam",
        "subnets": [
          {
            "subnet": "fd00:1::/64",
            "ipRange": "fd00:1::100/120",
            "auxAddresses": {
              "b": "fd00:1::7"
            }
          },
          {
            "subnet": "10.1.0.0/16",
            "gateway": "10.1.0.9"
          },
          {
            "subnet": "10.2.0.0/16",
            "ipRange": "10.2.3.0/24",
            "gateway": "10.2.0.9",
            "auxAddresses": {
              "a": "10.2.0.7",
              "c": "10.2.0.8"
            }
          }
        ]
      }`
	if !strings.Contains(string(got), want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestFamilies: which subnets are chosen follows from what is said of families
// and from the subnets that are given.
func TestFamilies(t *testing.T) {
	for _, c := range []struct {
		ipv4, ipv6 *bool
		subnets    string
		pool, ula  bool
	}{
		{nil, nil, "", true, false},
		{nil, yes(), "", true, true},
		{no(), yes(), "", false, true},
		{yes(), no(), "", true, false},
		{nil, nil, "10.1.0.0/24", false, false},
		{nil, yes(), "10.1.0.0/24", false, true},
		{nil, nil, "fd00::/64", true, false},
		{no(), nil, "fd00::/64", false, false},
		{nil, yes(), "10.1.0.0/24 fd00::/64", false, false},
	} {
		o := catalog.Options{Name: "web", Driver: "bridge", IPv4: c.ipv4, IPv6: c.ipv6, Subnets: strings.Fields(c.subnets)}
		d, err := o.Draft(mode.All)
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		if d.WantPool != c.pool || d.WantULA != c.ula {
			t.Errorf("%+v: pool %t, ula %t", c, d.WantPool, d.WantULA)
		}
	}
	// Docker's option says the same as the flag.
	o := catalog.Options{Name: "web", Driver: "bridge", DriverOptions: map[string]string{"com.docker.network.enable_ipv6": "true"}}
	if d, err := o.Draft(mode.All); err != nil || !d.WantULA {
		t.Errorf("enable_ipv6: %+v, %v", d, err)
	}
}

// TestConflistReads: what is written is what is read.
func TestConflistReads(t *testing.T) {
	o := catalog.Options{
		Name: "a.b-c_d", Driver: "bridge", Internal: true, Attachable: true, IPv6: yes(),
		Labels:        map[string]string{"html": "<&>", "none": ""},
		DriverOptions: map[string]string{"com.docker.network.bridge.name": "br0", "com.docker.network.container_iface_prefix": "net"},
		IPAMOptions:   map[string]string{"allocation": "lowest", "sticky": "true"},
	}
	d, err := o.Draft(mode.All)
	if err != nil {
		t.Fatal(err)
	}
	data, err := d.Conflist(prefixes("172.17.0.0/16", "fd00::/64"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), `"html": "<&>"`) {
		t.Errorf("not for people: %s", data)
	}
	c, err := catalog.ParseConflist(data, mode.All)
	if err != nil {
		t.Fatal(err)
	}
	f, err := c.Facts(nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "a.b-c_d" || c.Driver != "bridge" || !c.Attachable || c.Labels["html"] != "<&>" || len(c.Labels) != 2 {
		t.Errorf("read %+v", c)
	}
	if !f.Internal || !f.IPv4 || !f.IPv6 || f.Link != "br0" || len(f.Subnets) != 2 || len(f.Options) != 2 ||
		f.IPAMOptions["allocation"] != "lowest" || f.IPAMOptions["sticky"] != "true" {
		t.Errorf("facts %+v", f)
	}
}

func TestCreateLongName(t *testing.T) {
	for n, ok := range map[int]bool{174: true, 175: false} {
		o := catalog.Options{Name: strings.Repeat("n", n), Driver: "bridge"}
		if _, err := o.Draft(mode.All); (err == nil) != ok {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// TestCreateDriver: networks are made by the plugin whose driver is named, with Docker's errors.
func TestCreateDriver(t *testing.T) {
	for driver, want := range map[string]string{
		"bridge": "dbridge", "macvlan": "dmacvlan", "ipvlan": "dipvlan",
		"host": `only one instance of "host" network is allowed`,
		"x":    `plugin "x" not found`, "ddns": `plugin "ddns" not found`,
	} {
		o := catalog.Options{Name: "web", Driver: driver}
		d, err := o.Draft(mode.All)
		got := ""
		if err == nil {
			var data []byte
			data, err = d.Conflist(nil)
			if c, bad := catalog.ParseConflist(data, mode.All); err == nil && bad == nil {
				got = c.Type
			}
		}
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", driver, got, want)
		}
	}
}

// TestCreatePrefix: the names of interfaces begin as asked for, if links may be named so.
func TestCreatePrefix(t *testing.T) {
	for prefix, ok := range map[string]bool{"": true, "lan": true, "abcdefghijklm": true, "abcdefghijklmn": false, "a/b": false} {
		o := catalog.Options{Name: "web", Driver: "bridge", DriverOptions: map[string]string{network.IfacePrefix: prefix}}
		if _, err := o.Draft(mode.All); (err == nil) != ok {
			t.Errorf("%q: %v", prefix, err)
		}
	}
}
