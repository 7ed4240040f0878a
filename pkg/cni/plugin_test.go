package cni

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"dcni/pkg/mode/bridge"
	"dcni/pkg/mode/ipvlan"
	"dcni/pkg/mode/macvlan"
	"dcni/pkg/mode/none"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// TestPrintPlan: people see the plan of a first container, of a plugin's configuration or of
// the plugin's part of a list, or what is wrong with it.
func TestPrintPlan(t *testing.T) {
	const (
		own    = `"type": "dbridge", "ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}`
		parent = `"type": "dmacvlan", "parent": "eth0", "ipam": {"type": "dipam", "subnet": "192.0.2.0/24"}`
	)
	for name, c := range map[string]struct {
		plugin *network.Plugin
		conf   string
		head   string // the first line
		lines  string // one of them
		err    string
	}{
		"a plugin":          {bridge.Plugin, `{"cniVersion": "1.1.0", "name": "web", ` + own + `}`, "# eth0 on network web, first address of each subnet, mtu 1500", "addr 10.1.0.2/24 dev eth0", ""},
		"a list":            {bridge.Plugin, `{"cniVersion": "1.1.0", "name": "web", "plugins": [{"type": "tuning"}, {"mtu": 1400, ` + own + `}]}`, "# eth0 on network web, first address of each subnet, mtu 1400", "addr 10.1.0.2/24 dev eth0", ""},
		"on a parent":       {macvlan.Plugin, `{"cniVersion": "1.1.0", "name": "lan", ` + parent + `}`, "# eth0 on network lan, first address of each subnet, mtu 1500, parent's MAC 02:00:00:00:00:01", "addr 192.0.2.1/24 dev eth0", ""},
		"in mode l2":        {ipvlan.Plugin, `{"cniVersion": "1.1.0", "name": "lan", ` + strings.Replace(parent, "dmacvlan", "dipvlan", 1) + `}`, "# eth0 on network lan, first address of each subnet, mtu 1500", "addr 192.0.2.1/24 dev eth0", ""},
		"no interface":      {none.Plugin, `{"cniVersion": "1.1.0", "name": "none", "type": "dnone"}`, "# eth0 on network none", "link lo up", ""},
		"the last address":  {bridge.Plugin, `{"cniVersion": "1.1.0", "name": "web", "type": "dbridge", "ipam": {"type": "dipam", "subnet": "10.1.0.0/24", "gateway": "10.1.0.255"}}`, "", "", "ipam.gateway \"10.1.0.255\": is the broadcast address"},
		"above the gateway": {bridge.Plugin, `{"cniVersion": "1.1.0", "name": "web", "type": "dbridge", "ipam": {"type": "dipam", "subnet": "10.1.0.0/31", "gateway": "10.1.0.1"}}`, "# eth0 on network web, first address of each subnet, mtu 1500", "addr 10.1.0.0/31 dev eth0", ""},
		"IPv6 of its own":   {bridge.Plugin, `{"cniVersion": "1.1.0", "name": "web", "ipv6": true, ` + own + `}`, "# eth0 on network web, first address of each subnet, mtu 1500", "addr fd00:dc41:dc41::2/64 dev eth0", ""},
		"no subnet":         {bridge.Plugin, `{"cniVersion": "1.1.0", "name": "web", "type": "dbridge"}`, "# eth0 on network web, first address of each subnet, mtu 1500", "addr 172.17.0.2/16 dev eth0", ""},
		"no JSON":           {bridge.Plugin, `{`, "", "", "6 configuration: "},
		"no such plugin":    {bridge.Plugin, `{"name": "web", "plugins": [{"type": "bridge"}, {}]}`, "", "", `7 plugins: none of type "dbridge"`},
		"an unknown key":    {bridge.Plugin, `{"cniVersion": "1.1.0", "name": "web", "x": 1, ` + own + `}`, "", "", `7 unknown key "x"`},
		"no name":           {none.Plugin, `{"cniVersion": "1.1.0", "type": "dnone"}`, "", "", `7 name "": `},
		"bad ports":         {bridge.Plugin, `{"cniVersion": "1.1.0", "name": "web", "runtimeConfig": {"portMappings": 5}, ` + own + `}`, "", "", `7 runtimeConfig.portMappings`},
	} {
		var out bytes.Buffer
		err := command(c.plugin, []string{"plan"}, strings.NewReader(c.conf), &out)
		if c.err != "" {
			if err == nil || !strings.Contains(coded(err), c.err) || out.Len() > 0 {
				t.Errorf("%s: %v, want %s; printed %s", name, err, c.err, &out)
			}
			continue
		}
		head, rest, _ := strings.Cut(out.String(), "\n")
		if err != nil || head != c.head || !strings.Contains(rest, c.lines) {
			t.Errorf("%s: %v, printed\n%s\nwant %s, and %s", name, err, &out, c.head, c.lines)
		}
	}
	for _, args := range [][]string{{"plans"}, {"heal", "a/b"}, {"pop-netns", "web", "c1", "eth0"}} {
		err := command(bridge.Plugin, args, strings.NewReader("{}"), &bytes.Buffer{})
		if err == nil || !strings.Contains(err.Error(), args[len(args)-1]) && !strings.Contains(err.Error(), "unknown command") {
			t.Errorf("%v: %v", args, err)
		}
	}
}

// TestReportCodes: an error has the code that it carries, that of a delegate with all that it
// says; what can't be read or written is 5, all else 999.
func TestReportCodes(t *testing.T) {
	foreign := &types.Error{Code: 11, Msg: "later", Details: "busy"}
	path, link := &os.PathError{Op: "open", Path: "/x", Err: os.ErrPermission}, &os.LinkError{Op: "rename", Old: "/x", New: "/y", Err: os.ErrPermission}
	for _, c := range []struct {
		err  error
		want failure
	}{
		{wire.Errorf(wire.CodePortTaken, "port"), failure{"1.0.0", 102, "port", ""}},
		{fmt.Errorf("ADD: %w", wire.Errorf(wire.CodePortTaken, "port")), failure{"1.0.0", 102, "ADD: port", ""}},
		{fmt.Errorf("ADD: %w", foreign), failure{"1.0.0", 11, "later", "busy"}},
		{fmt.Errorf("ADD: %w", path), failure{"1.0.0", 5, "ADD: open /x: permission denied", ""}},
		{fmt.Errorf("ADD: %w", link), failure{"1.0.0", 5, "ADD: rename /x /y: permission denied", ""}},
		{errors.New("else"), failure{"1.0.0", 999, "else", ""}},
	} {
		if got := report(c.err, "1.0.0"); *got != c.want {
			t.Errorf("%v: %+v, want %+v", c.err, *got, c.want)
		}
	}
}

// TestAttend: an error goes to standard output, with the version of the configuration where
// that is known; what can't be written is told on stderr.
func TestAttend(t *testing.T) {
	vars := map[string]string{
		"CNI_COMMAND": "CHECK", "CNI_CONTAINERID": "c1", "CNI_NETNS": "/ns", "CNI_IFNAME": "eth0", "CNI_PATH": "/opt/cni/bin",
	}
	attend := func(conf string, stdout interface{ Write([]byte) (int, error) }, open func() (verbs, error)) (string, error) {
		var stderr bytes.Buffer
		p := process{func(k string) string { return vars[k] }, strings.NewReader(conf), stdout, &stderr}
		err := p.attend(open)
		return stderr.String(), err
	}
	works := func() (verbs, error) { return &spy{}, nil }
	broken := func() (verbs, error) { return nil, errors.New("no kernel") }
	for _, c := range []struct {
		conf string
		open func() (verbs, error)
		want string // in standard output
	}{
		{`{"name": "web", "cniVersion": "1.0.0"}`, works, ""},
		{`{"name": "web", "cniVersion": "1.0.0"}`, broken, `"cniVersion": "1.0.0"`},
		{`{"name": "web", "cniVersion": "0.3.0"}`, works, `does not know CHECK`},
	} {
		var out bytes.Buffer
		told, err := attend(c.conf, &out, c.open)
		if (err == nil) != (c.want == "") || !strings.Contains(out.String(), c.want) || c.want == "" && out.Len() > 0 || told != "" {
			t.Errorf("%s: %v, printed %q and %q, want %s", c.conf, err, &out, told, c.want)
		}
	}
	if told, err := attend(`{}`, full{}, works); err == nil || told != "no space left on device\n" {
		t.Errorf("what can't be written: %v, %q", err, told)
	}
	var out bytes.Buffer
	if about(&out, "dnone"); out.String() != "CNI dnone plugin "+Version+"\nCNI protocol versions supported: 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n" {
		t.Error(out.String())
	}
}
