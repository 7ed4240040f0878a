package main

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"dcni/pkg/container"
	"dcni/pkg/firewall"
	"dcni/pkg/mode"
	"dcni/pkg/network/catalog"
	"dcni/pkg/records"
)

// lab is an attachment to a network of two plugins.
func (f *fixture) lab() records.Attachment {
	return records.Attachment{
		Network: "lab", IfName: "eth0", Path: []string{f.dir + "/bin"}, Values: map[string]any{"mac": "02:00:00:00:00:0a", "ips": "not asked for"},
		Args: [][2]string{{"IgnoreUnknown", "1"}, {"DNET_NAME", "shop"}},
		Conf: []byte(`{"cniVersion": "1.0.0", "name": "lab", "plugins": [{"type": "first", "capabilities": {"mac": true}}, {"type": "second"}]}`),
	}
}

// TestAttach passes the runtime's values to the plugins, and returns the last
// one's result. DEL gets it back.
func TestAttach(t *testing.T) {
	f := newFixture(t)
	f.stderr = os.Stderr
	f.plugin("first", `echo "$CNI_ARGS" >`+f.dir+`/args; echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.5/24"}]}'`)
	f.plugin("second", `echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.6/24"}]}'`)
	c := f.container(records.Container{ID: idWeb, Name: "shop", Networks: []records.Attachment{f.lab()}})
	result, err := f.attach(c, f.lab(), "/proc/self/ns/net")
	f.must(err)
	if len(result.IPs) != 1 || result.IPs[0].Address.String() != "10.1.0.6/24" {
		t.Errorf("the result is %+v", result)
	}
	read := func(name string) string {
		data, _ := os.ReadFile(f.dir + "/" + name)
		return strings.TrimSpace(string(data))
	}
	if got := read("args"); got != "IgnoreUnknown=1;DNET_NAME=shop" {
		t.Errorf("CNI_ARGS are %s", got)
	}
	if got := read("stdin.first"); !strings.Contains(got, `"runtimeConfig":{"mac":"02:00:00:00:00:0a"}`) {
		t.Errorf("the configuration is %s", got)
	}
	if got := read("stdin.second"); strings.Contains(got, "runtimeConfig") || !strings.Contains(got, `"address":"10.1.0.5/24"`) {
		t.Errorf("the second plugin's configuration is %s", got)
	}
	f.must(f.detach(c, ""))
	if got := read("stdin.second"); !strings.Contains(got, `"address":"10.1.0.6/24"`) {
		t.Errorf("DEL's configuration is %s", got)
	}
	const calls = "first ADD ID eth0 /proc/self/ns/net\nsecond ADD ID eth0 /proc/self/ns/net\nsecond DEL ID eth0 no-netns\nfirst DEL ID eth0 no-netns\n"
	if got, want := f.calls(), strings.ReplaceAll(calls, "ID", idWeb); got != want {
		t.Errorf("plugins called:\n%s, want\n%s", got, want)
	}
}

// TestPluginErrors shows what a plugin says, in whatever form.
func TestPluginErrors(t *testing.T) {
	f := newFixture(t)
	f.stderr = os.Stderr
	f.plugin("second", "")
	for script, want := range map[string]string{
		`echo '{"code": 102, "msg": "port is already allocated"}'; exit 1`:      "network lab: port is already allocated",
		`echo '{"code": 999, "msg": " busy ", "details": "try later"}'; exit 1`: "network lab: busy : try later",
		`echo oops; exit 3`: "network lab: first: exit status 3: oops",
		`kill -9 $$`:        "network lab: first: signal: killed:",
	} {
		f.plugin("first", script)
		_, err := f.attach(&records.Container{ID: idWeb}, f.lab(), "/proc/self/ns/net")
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", script, err, want)
		}
	}
	missing := f.lab()
	missing.Path = []string{"/nosuch"}
	for at, want := range map[*records.Attachment]string{
		{Network: "lab", Conf: []byte("{")}: "network lab: error parsing configuration list: unexpected end of JSON input",
		&missing:                            `network lab: plugin type="first" failed (add): failed to find plugin "first" in path [/nosuch]`,
	} {
		if _, err := f.attach(&records.Container{ID: idWeb}, *at, ""); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestDetachGoesOn calls DEL of all networks, the last one first, and returns all
// errors.
func TestDetachGoesOn(t *testing.T) {
	f := newFixture(t)
	f.stderr = os.Stderr
	f.plugin("first", "")
	f.plugin("second", `echo '{"code": 11, "msg": "busy"}'; exit 1`)
	one, two := f.lab(), f.lab()
	one.IfName, two.IfName, two.Network = "eth0", "eth1", "two"
	err := f.detach(&records.Container{ID: idWeb, Networks: []records.Attachment{one, two}}, "")
	if err == nil || err.Error() != "network two: busy\nnetwork lab: busy" {
		t.Errorf("the error is %v", err)
	}
	if got, want := f.calls(), "second DEL "+idWeb+" eth1 no-netns\nsecond DEL "+idWeb+" eth0 no-netns\n"; got != want {
		t.Errorf("plugins called:\n%s, want\n%s", got, want)
	}
	var printed *types.Error
	if !errors.As(err, &printed) || printed.Code != types.ErrTryAgainLater {
		t.Errorf("the error's code is lost: %+v", printed)
	}
}

// TestCheckInstalled wants every plugin, and the IPAM plugin as well.
func TestCheckInstalled(t *testing.T) {
	f := newFixture(t)
	for _, name := range []string{"main", "meta", "ipam"} {
		f.plugin(name, "")
	}
	for plugins, want := range map[string]string{
		`{"type": "main", "ipam": {"type": "ipam"}}, {"type": "meta"}`:   "",
		`{"type": "main", "ipam": {"type": "nosuch"}}, {"type": "meta"}`: `network lab: failed to find plugin "nosuch" in path [DIR/bin]`,
		`{"type": "main"}, {"type": "nosuch"}`:                           `network lab: failed to find plugin "nosuch" in path [DIR/bin]`,
		`{"type": "main", "ipam": 5}`:                                    `network lab: json: cannot unmarshal number into Go struct field .ipam of type struct { Type string "json:\"type\"" }`,
	} {
		c, err := catalog.ParseConflist([]byte(`{"cniVersion": "1.0.0", "name": "lab", "plugins": [`+plugins+`]}`), mode.All)
		f.must(err)
		got := ""
		if err := checkInstalled(Network{Conflist: c}, []string{f.dir + "/bin"}); err != nil {
			got = strings.ReplaceAll(err.Error(), f.dir, "DIR")
		}
		if got != want {
			t.Errorf("%s: %s, want %s", plugins, got, want)
		}
	}
}

// portTaken is a plugin that has port 8000 and 8001 taken.
const portTaken = `
for port in 8000 8001; do
	if grep -q '"hostPort":'$port $DIR/stdin.first; then
		echo '{"code": 102, "msg": "Bind for 0.0.0.0:'$port' failed: port is already allocated"}'
		exit 1
	fi
done
echo '{"cniVersion": "1.0.0"}'
`

// TestConnect goes on to the next host port of a range where one is taken, and
// keeps on record what DEL has to be called for.
func TestConnect(t *testing.T) {
	f := newFixture(t)
	f.stderr = os.Stderr
	f.plugin("first", strings.ReplaceAll(portTaken, "$DIR", f.dir))
	for publish, want := range map[string]string{"8000-8005:80": "8002", "8000-8001:80": "", "8001:80": ""} {
		r := f.containerOn(container.Options{Publish: []string{publish}}, nil)
		at := f.lab()
		at.Conf = []byte(`{"cniVersion": "1.0.0", "name": "lab", "plugins": [{"type": "first", "capabilities": {"portMappings": true}}]}`)
		lab, err := catalog.ParseConflist(at.Conf, mode.All)
		f.must(err)
		f.must(f.conf.Write("lab", at.Conf))
		r.requests = []networkRequest{{ports: r.spec.Ports, found: Network{Conflist: lab}}, {}}
		at.Values = map[string]any{"portMappings": firewall.PortMappings(container.Ports(r.spec.Ports))}
		r.c.Networks = []records.Attachment{at, f.lab()}
		r.c.Process.PID = os.Getpid()
		f.must(f.store.AddContainer(r.c, func([]*records.Container) error { return nil }))
		_, err = r.connect(0, "/proc/self/ns/net")
		kept, _ := f.store.Container(idWeb)
		port := kept.Networks[0].Values["portMappings"].([]any)[0].(map[string]any)["hostPort"]
		if want == "" && (err == nil || len(r.c.Networks) != 1) || want != "" && (err != nil || port != 8002.0 || len(r.c.Networks) != 2) {
			t.Errorf("-p %s: %v, on record is port %v of %d networks", publish, err, port, len(r.c.Networks))
		}
		f.must(f.store.RemoveContainer(idWeb))
	}
}
