package network

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseGuest(t *testing.T) {
	for _, c := range []struct{ conf, want string }{
		{`{"cniVersion": "1.1.0", "name": "none", "type": "dnone", "dns": {"search": ["lan"]}, "comment": "x", "cni.dev/x": 1}`, ""},
		{`{"name": "none", "runtimeConfig": {"anything": 1}, "args": {"cni": {"x": 1}}, "prevResult": {}, "ipam": null}`, ""},
		{`{"name": "none", "ipam": {"type": "dipam"}}`, "ipam: must not be given: network none"},
		{`{"name": "none", "ipam": {}}`, "ipam: must not be given"},
		{`{"name": "none", "capability": {}}`, `unknown key "capability": did you mean "capabilities"?`},
		{`{"name": "none", "internal": true}`, `unknown key "internal"`},
		{`{"name": "none", "dns": {"serch": []}}`, `unknown key "dns.serch": did you mean "dns.search"?`},
		{`[]`, "configuration: must be an object"},
		{`{"name": 5}`, "name 5: must be a string"},
	} {
		n, err := readGuest([]byte(c.conf))
		switch {
		case c.want == "" && (err != nil || n.Name != "none"):
			t.Errorf("%s: %v, %v", c.conf, n, err)
		case c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)):
			t.Errorf("%s: %v, want %s", c.conf, err, c.want)
		}
	}
}

func readGuest(raw []byte) (*Guest, error) {
	conf, err := ReadConf(raw)
	if err != nil {
		return nil, err
	}
	return conf.Guest(nil)
}

// TestGuestOptions: a network's own keys are read beside those of every network.
func TestGuestOptions(t *testing.T) {
	for conf, want := range map[string]string{
		`{"name": "none", "internal": true, "dns": null}`: "{true}",
		`{"name": "none"}`:                 "{false}",
		`{"name": "none", "internal": 1}`:  "internal 1: must be true or false",
		`{"name": "none", "internals": 1}`: `unknown key "internals": did you mean "internal"?`,
	} {
		var options struct {
			Internal bool `json:"internal"`
		}
		c, err := ReadConf([]byte(conf))
		var g *Guest
		if err == nil {
			g, err = c.Guest(&options)
		}
		got := fmt.Sprint(options)
		if err != nil {
			got = err.Error()
		} else if g.DNS != nil {
			t.Errorf("%s: dns %v", conf, g.DNS)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", conf, got, want)
		}
	}
}
