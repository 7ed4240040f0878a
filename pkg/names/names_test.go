package names_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"dcni/pkg/names"
	"dcni/pkg/wire"
)

func TestNames(t *testing.T) {
	long := strings.Repeat("a", 64)
	for _, c := range []struct {
		id   names.Identity
		want string
	}{
		{names.Identity{Container: "0123456789abcdef", Name: "Web", Hostname: "h1", Aliases: []string{"db", "web"}}, "web db 0123456789ab h1"},
		{names.Identity{Container: "c1"}, "c1"},
		{names.Identity{Container: "0123456789ab", Name: "my_web.1", Hostname: "my_web.1"}, "my_web.1 0123456789ab"},
		{names.Identity{Container: "0123456789ab", Name: long, Hostname: "has space"}, "0123456789ab"},
		{names.Identity{Container: "0123456789ab", Name: "a..b", Hostname: "web."}, "0123456789ab"},
		{names.Identity{}, ""},
	} {
		if got := strings.Join(c.id.Names(), " "); got != c.want {
			t.Errorf("%+v: %s, want %s", c.id, got, c.want)
		}
	}
}

// TestManyNames has a container with a million names: comparing each with all
// others would take a quarter of an hour.
func TestManyNames(t *testing.T) {
	i := names.Identity{Container: "c1"}
	for n := range 1_000_000 {
		i.Aliases = append(i.Aliases, fmt.Sprint("alias-", n))
	}
	if got := len(i.Names()); got != 1_000_001 {
		t.Errorf("%d names", got)
	}
}

func TestCheck(t *testing.T) {
	label := strings.Repeat("a", 63)
	for name, ok := range map[string]bool{
		"web": true, "Web-1_x": true, "a.b.c": true, "_http._tcp": true, "1": true,
		label: true, label + "a": false,
		strings.Join([]string{label, label, label, label[:61]}, "."): true,
		strings.Join([]string{label, label, label, label[:62]}, "."): false,
		"": false, ".": false, "a.": false, ".a": false, "a..b": false,
		"a b": false, "a/b": false, "a\x00": false, "ä": false, "*": false, "a:b": false,
	} {
		err := names.Check("aliases[0]", name)
		if (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
		if err != nil && !strings.HasPrefix(errText(err), "code 7: aliases[0] \""+name+"\": must be a domain name") {
			t.Errorf("%q: %s", name, errText(err))
		}
	}
}

func TestAliases(t *testing.T) {
	for _, c := range []struct{ json, onWeb, err string }{
		{``, "", ""},
		{`null`, "", ""},
		{`["db", "sql"]`, "db sql", ""},
		{`{"web": ["db"], "lab": ["x"]}`, "db", ""},
		{`{"lab": ["x"]}`, "", ""},
		{`["d b"]`, "", `code 7: aliases[0] "d b": must be a domain name`},
		{`{"web": ["ok", ""]}`, "", `code 7: aliases.web[1] "": must be a domain name`},
		{`{"web": "db"}`, "", `code 7: aliases {"web": "db"}: must be a list of names, or an object`},
		{`"db"`, "", `code 7: aliases "db": must be a list of names, or an object`},
		{`["a", 5]`, "", `code 7: aliases ["a", 5]: must be a list of names, or an object`},
	} {
		a, err := names.ParseAliases("aliases", []byte(c.json))
		if !strings.HasPrefix(errText(err), c.err) || (err == nil) != (c.err == "") {
			t.Errorf("%s: %s, want %s", c.json, errText(err), c.err)
		}
		if got := strings.Join(a.On("web"), " "); got != c.onWeb {
			t.Errorf("%s: %s, want %s", c.json, got, c.onWeb)
		}
	}
}

func TestHosts(t *testing.T) {
	gateways := []netip.Addr{addr("10.1.0.1"), addr("fd00::1")}
	for _, c := range []struct{ list, want, err string }{
		{"", "[]", ""},
		{"db:10.9.0.1 DB=fd00::9 x:[::1] y:::1", "[{db [10.9.0.1 fd00::9]} {x [::1]} {y [::1]}]", ""},
		{"up:host-gateway", "[{up [10.1.0.1 fd00::1]}]", ""},
		{"x:::ffff:10.0.0.1", "[{x [10.0.0.1]}]", ""},
		{"db", "", `code 7: hosts[0] "db": must be NAME:ADDRESS`},
		{"a:1.2.3.4 b:nope", "", `code 7: hosts[1] "nope": must be an IP address`},
		{"a:fe80::1%eth0", "", `code 7: hosts[0] "fe80::1%eth0": must be an IP address`},
		{"a!:1.2.3.4", "", `code 7: hosts[0] "a!": must be a domain name`},
		{":1.2.3.4", "", `code 7: hosts[0] "": must be a domain name`},
	} {
		hosts, err := names.ParseHosts("hosts", strings.Fields(c.list), gateways)
		if !strings.HasPrefix(errText(err), c.err) || (err == nil) != (c.err == "") {
			t.Errorf("%s: %s, want %s", c.list, errText(err), c.err)
		}
		if err == nil && fmt.Sprint(hosts) != c.want {
			t.Errorf("%s: %v, want %s", c.list, hosts, c.want)
		}
	}
	_, err := names.ParseHosts("hosts", []string{"up:host-gateway"}, nil)
	if want := `code 7: hosts[0] "host-gateway": the network has no gateway; must be an IP address`; errText(err) != want {
		t.Errorf("%s, want %s", errText(err), want)
	}
}

func TestServers(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.53":        "[192.0.2.53:53]",
		"192.0.2.53:5353":   "[192.0.2.53:5353]",
		"fd00::53":          "[[fd00::53]:53]",
		"[fd00::53]:5353":   "[[fd00::53]:5353]",
		"fe80::1%eth0":      "[[fe80::1%eth0]:53]",
		"[fe80::1%eth0]:53": "[[fe80::1%eth0]:53]",
		"::ffff:192.0.2.53": "[192.0.2.53:53]",
		"":                  "", "dns": "", "192.0.2": "", "192.0.2.1:0": "", "192.0.2.1:70000": "", "0.0.0.0": "", "[::]:53": "", "192.0.2.1/24": "",
	} {
		servers, err := names.ParseServers("servers", []string{text})
		switch {
		case err == nil && fmt.Sprint(servers) != want:
			t.Errorf("%s: %v, want %s", text, servers, want)
		case err != nil && (want != "" || !strings.HasPrefix(errText(err), `code 7: servers[0] "`+text+`": must be an IP address`)):
			t.Errorf("%s: %s", text, errText(err))
		}
	}
}

func TestTTL(t *testing.T) {
	for seconds, ok := range map[int64]bool{0: true, 600: true, 1<<31 - 1: true, -1: false, 1 << 31: false} {
		got, err := names.CheckTTL("ttl", seconds)
		if (err == nil) != ok || ok && int64(got) != seconds {
			t.Errorf("%d: %d, %v", seconds, got, err)
		}
	}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func errText(err error) string {
	if err == nil {
		return ""
	}
	var e *wire.Error
	if errors.As(err, &e) {
		return fmt.Sprintf("code %d: %s", e.Code, e)
	}
	return err.Error()
}
