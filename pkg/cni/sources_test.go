package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// fakeIPAM is an IPAM plugin that answers each verb with a file, fails if there is one
// VERB.fail, and notes what it was called with.
const fakeIPAM = `#!/bin/sh
cd "$(dirname "$0")"
cat > conf
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_NETNS $CNI_IFNAME" >> calls
[ -e $CNI_COMMAND ] && cat $CNI_COMMAND
[ ! -e $CNI_COMMAND.fail ] || { echo told >&2; exit 1; }
`

// ipamRequest is a call of a runtime for container c1, with a configuration of network web.
func ipamRequest(t *testing.T, path, conf string) *Request {
	t.Helper()
	r, err := ParseRequest(&Call{ContainerID: "c1", NetNS: "/ns", IfName: "eth0", Path: path, Conf: fmt.Appendf(nil, `{"cniVersion": "1.1.0", "name": "web", %s}`, conf)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// fakeDelegate installs fakeIPAM with what it answers by file, and returns its folder.
func fakeDelegate(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	err := os.WriteFile(filepath.Join(dir, "fake"), []byte(fakeIPAM), 0o755)
	for name, text := range files {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func calls(dir string) string {
	data, _ := os.ReadFile(filepath.Join(dir, "calls"))
	return strings.ReplaceAll(strings.TrimSpace(string(data)), "\n", ", ")
}

func coded(err error) string {
	if e := (*wire.Error)(nil); errors.As(err, &e) {
		return fmt.Sprint(e.Code, " ", err)
	}
	return err.Error()
}

// TestDelegateClaim: what another suite's IPAM plugin gave is a lease, or is given back.
func TestDelegateClaim(t *testing.T) {
	const one = `{"cniVersion": "1.1.0", "ips": [{"address": "10.1.0.9/24"%s}]%s}`
	for name, c := range map[string]struct {
		result   string
		gateways bool
		want     string // addresses, gateways, routes, name servers
		calls    string
	}{
		"plain":            {fmt.Sprintf(one, "", ""), false, "[{10.1.0.9/24 invalid IP}] [] []", "ADD c1 /ns eth0"},
		"first address":    {fmt.Sprintf(one, "", ""), true, "[{10.1.0.9/24 10.1.0.1}] [] []", "ADD c1 /ns eth0"},
		"its own gateway":  {fmt.Sprintf(one, `, "gateway": "10.1.0.7"`, ""), true, "[{10.1.0.9/24 10.1.0.7}] [] []", "ADD c1 /ns eth0"},
		"unspecified":      {fmt.Sprintf(one, `, "gateway": "0.0.0.0"`, ""), false, "[{10.1.0.9/24 invalid IP}] [] []", "ADD c1 /ns eth0"},
		"unspecified, but": {fmt.Sprintf(one, `, "gateway": "0.0.0.0"`, ""), true, "[{10.1.0.9/24 10.1.0.1}] [] []", "ADD c1 /ns eth0"},
		"routes": {fmt.Sprintf(one, "", `, "routes": [{"dst": "10.9.0.0/16", "gw": "10.1.0.3"}], "dns": {"nameservers": ["192.0.2.53"]}`), false,
			"[{10.1.0.9/24 invalid IP}] [10.9.0.0/16 via 10.1.0.3] [192.0.2.53]", "ADD c1 /ns eth0"},
		"IPv6":       {`{"cniVersion": "1.1.0", "ips": [{"address": "fd00::9/64"}]}`, true, "[{fd00::9/64 fd00::1}] [] []", "ADD c1 /ns eth0"},
		"no address": {`{"cniVersion": "1.1.0"}`, true, `7 ipam.type "fake": gave no address`, "ADD c1 /ns eth0, DEL c1 /ns eth0"},
		"no result":  {`{`, true, `result of fake: `, "ADD c1 /ns eth0, DEL c1 /ns eth0"},
	} {
		dir := fakeDelegate(t, map[string]string{"ADD": c.result})
		r := ipamRequest(t, dir, `"ipam": {"type": "fake"}`)
		l, err := delegate{plugin: "fake", gateways: c.gateways}.Claim(r)
		got := ""
		if err != nil {
			got = coded(err)
		} else {
			var routes []string
			for _, route := range l.Routes {
				routes = append(routes, fmt.Sprintf("%s via %s", route.Dst, route.GW))
			}
			got = fmt.Sprint(l.Addresses, " ", routes, " ", l.DNS.Nameservers)
			if len(l.Subnets) != 1 || l.Subnets[0].Prefix != l.Addresses[0].Address.Masked() || l.From.Type != "fake" || !l.Reused {
				t.Errorf("%s: %+v", name, l)
			}
		}
		if !strings.HasPrefix(got, c.want) || calls(dir) != c.calls {
			t.Errorf("%s: %s, by %s; want %s by %s", name, got, calls(dir), c.want, c.calls)
		}
		if conf, _ := os.ReadFile(filepath.Join(dir, "conf")); string(conf) != string(r.Conf) {
			t.Errorf("%s: was told %s", name, conf)
		}
	}
	dir := fakeDelegate(t, map[string]string{"ADD": fmt.Sprintf(one, "", `, "dns": {"nameservers": ["192.0.2.53"]}`)})
	own := &network.DNS{Nameservers: []string{"192.0.2.1"}}
	if l, err := (delegate{plugin: "fake", dns: own}).Claim(ipamRequest(t, dir, `"ipam": {}`)); err != nil || l.DNS != own {
		t.Errorf("the network's own servers come first: %+v, %v", l, err)
	}
}

// TestDelegateVerbs: each verb is the plugin's, and so is its error.
func TestDelegateVerbs(t *testing.T) {
	d := delegate{plugin: "fake"}
	for verb, do := range map[string]func(r *Request) error{
		"DEL":    d.Release,
		"CHECK":  func(r *Request) error { return d.Check(r, nil) },
		"GC":     func(r *Request) error { return d.Collect(r, nil) },
		"STATUS": d.Status,
	} {
		for _, c := range []struct{ says, want string }{
			{`{"code": 11, "msg": "later"}`, "11 ipam fake: later"},
			{`{"code": 11}`, "ipam fake: exit status 1: told"},
			{`oops`, "ipam fake: exit status 1: told"},
		} {
			dir := fakeDelegate(t, map[string]string{verb: c.says, verb + ".fail": ""})
			if err := do(ipamRequest(t, dir, `"ipam": {}`)); err == nil || coded(err) != c.want {
				t.Errorf("%s, %s: %v, want %s", verb, c.says, err, c.want)
			}
		}
		dir := fakeDelegate(t, nil)
		if err := do(ipamRequest(t, dir, `"ipam": {}`)); err != nil || calls(dir) != verb+" c1 /ns eth0" {
			t.Errorf("%s: %v, called %s", verb, err, calls(dir))
		}
	}
}

// TestDelegateFound: a plugin is a file of its name in one of the folders.
func TestDelegateFound(t *testing.T) {
	dir, other := fakeDelegate(t, nil), t.TempDir()
	if err := os.Mkdir(filepath.Join(other, "fake"), 0o755); err != nil {
		t.Fatal(err)
	}
	base := filepath.Base(dir)
	for _, c := range []struct {
		plugin, path string
		found        bool
	}{
		{"fake", dir, true}, {"fake", other + ":" + dir, true}, {"fake", "/nosuch:" + dir, true},
		{"fake", other, false}, {"fake", "", false}, {"none", dir, false},
		{base + "/fake", filepath.Dir(dir), false}, {"../" + base + "/fake", dir, false},
	} {
		file, err := delegate{plugin: c.plugin}.find(c.path)
		missing := errNoPlugin{}
		if (err == nil) != c.found || c.found && file != filepath.Join(dir, "fake") || !c.found && !errors.As(err, &missing) {
			t.Errorf("%s in %s: %s, %v", c.plugin, c.path, file, err)
		}
	}
}

// TestThroughLink: a plugin that asks through the interface is called once that is there,
// and told DEL where it got nothing.
func TestThroughLink(t *testing.T) {
	dir := fakeDelegate(t, map[string]string{"ADD": `{"cniVersion": "1.1.0", "ips": [{"address": "10.1.0.9/24"}]}`})
	r := ipamRequest(t, dir, `"ipam": {}`)
	source := throughLink{delegate{plugin: "fake"}}
	l, err := source.Claim(r)
	if err != nil || len(l.Addresses) != 0 || l.From.Type != "fake" || calls(dir) != "" {
		t.Fatalf("%+v, %v, called %s", l, err, calls(dir))
	}
	if err := source.Abandon(r, l); err != nil || calls(dir) != "" {
		t.Errorf("nothing was given, and %v, called %s", err, calls(dir))
	}
	if err := source.Confirm(r, l); err != nil || len(l.Addresses) != 1 {
		t.Errorf("%+v, %v", l, err)
	}
	if err := source.Abandon(r, l); err != nil || calls(dir) != "ADD c1 /ns eth0, DEL c1 /ns eth0" {
		t.Errorf("%v, called %s", err, calls(dir))
	}
	dir = fakeDelegate(t, map[string]string{"ADD.fail": "", "DEL.fail": ""})
	l = &Lease{}
	if err := source.Confirm(ipamRequest(t, dir, `"ipam": {}`), l); err == nil || len(l.Addresses) != 0 || calls(dir) != "ADD c1 /ns eth0, DEL c1 /ns eth0" {
		t.Errorf("%+v, %v, called %s", l, err, calls(dir))
	}
}

// aHost has no routes and no name servers.
type aHost struct{}

func (aHost) Routes() ([]ipam.HostRoute, error) { return nil, nil }
func (aHost) Nameservers() []netip.Addr         { return nil }
func (aHost) ID() string                        { return "host" }

// TestIPAMPlugin: dipam on its own, for anybody's main plugin.
func TestIPAMPlugin(t *testing.T) {
	dir := t.TempDir()
	p := &ipamPlugin{store: records.Store{Run: dir + "/run", Lib: dir + "/lib"}, facts: aHost{}}
	const section = `"type": "bridge", "isGateway": 1, "ipam": {"type": "dipam", "subnet": "10.1.0.0/30", "routes": [{"dst": "0.0.0.0/0", "table": 7, "scope": 0}]}`
	r := ipamRequest(t, "", section)
	refused := func(what string, err error, want string) {
		t.Helper()
		if err == nil || !strings.HasPrefix(coded(err), want) {
			t.Errorf("%s: %v, want %s", what, err, want)
		}
	}
	result := func() *types100.Result {
		t.Helper()
		got, err := p.Add(r)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for range 2 { // what it had is given back first
		got := result()
		if len(got.IPs) != 1 || got.IPs[0].Address.String() != "10.1.0.2/30" || got.IPs[0].Gateway.String() != "10.1.0.1" ||
			len(got.Routes) != 1 || got.Routes[0].Dst.String() != "0.0.0.0/0" || *got.Routes[0].Table != 7 || got.Routes[0].Scope == nil {
			t.Fatalf("%+v", got)
		}
		r.Prev = got
	}
	if err := p.Check(r); err != nil {
		t.Error(err)
	}
	if err := p.Status(r); err != nil {
		t.Errorf("full: %v", err) // DEL makes room
	}
	other := *r
	other.Container = "c2"
	refused("CHECK of another", p.Check(&other), "3 ")
	_, err := p.Add(&other)
	refused("ADD", err, "11 ")
	less := *r
	less.Prev = nil
	refused("CHECK without a result", p.Check(&less), "7 prevResult: missing")

	valid := func(list string) *Request { return ipamRequest(t, "", section+`, "cni.dev/valid-attachments": `+list) }
	leased := func() bool { return p.Check(r) == nil }
	lock, err := p.store.LockAttachment(r.Attachment)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.GC(valid(`[]`)); err != nil || !leased() {
		t.Errorf("GC took what is being worked on: %v", err)
	}
	lock.Unlock()
	if err := errors.Join(p.GC(r), p.GC(valid(`[{"containerID": "c1", "ifname": "eth0"}]`))); err != nil || !leased() {
		t.Errorf("GC took what is valid: %v", err)
	}
	if err := p.GC(valid(`[{"containerID": "c1", "ifname": "eth1"}]`)); err != nil || leased() {
		t.Errorf("GC left what is not valid: %v", err)
	}
	refused("GC", p.GC(valid(`5`)), "7 ")
	result()
	if err := p.Del(ipamRequest(t, "", `"ipam": {"type": "dipam", "subnet": 5}`)); err != nil || leased() {
		t.Errorf("DEL, whatever the configuration says: %v", err)
	}
	if err := p.Status(r); err != nil {
		t.Error(err)
	}
	for conf, want := range map[string]string{
		`"ipam": {"type": "host-local"}`:           `7 ipam.type "host-local": must be dipam`,
		`"ipam": {"type": "dipam", "subnet": "x"}`: `7 ipam.subnet "x": `,
		`"ipam": 5`: `7 ipam: must be an object`,
		`"ipam": {}, "runtimeConfig": {"ips": ["x"]}`: `7 `,
	} {
		bad := ipamRequest(t, "", conf)
		bad.Prev = r.Prev
		_, err := p.Add(bad)
		refused("ADD of "+conf, err, want)
		refused("CHECK of "+conf, p.Check(bad), want)
		refused("STATUS of "+conf, p.Status(bad), want)
	}
	long := *r
	long.Container = strings.Repeat("c", 250)
	_, err = p.Add(&long)
	refused("a long ID", err, "4 ")
	if !json.Valid(r.Conf) {
		t.Error("the configuration was changed")
	}
}

// TestReused: who may have an address that was another's a moment ago tells the neighbours.
func TestReused(t *testing.T) {
	for conf, want := range map[string]bool{
		`"ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}`:                                            false,
		`"ipam": {"type": "dipam", "subnet": "10.1.0.0/24", "allocation": "next-fit"}`:                  false,
		`"ipam": {"type": "dipam", "subnet": "10.1.0.0/24", "allocation": "lowest"}`:                    true,
		`"ipam": {"type": "dipam", "subnet": "10.1.0.0/24", "sticky": true}`:                            true,
		`"ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}, "runtimeConfig": {"ips": ["10.1.0.9/24"]}`: true,
	} {
		dir := t.TempDir()
		p := &ipamPlugin{store: records.Store{Run: dir + "/run", Lib: dir + "/lib"}, facts: aHost{}}
		r := ipamRequest(t, "", conf)
		source, err := p.open(r)
		if err != nil {
			t.Fatal(err)
		}
		if l, err := source.Claim(r); err != nil || l.Reused != want {
			t.Errorf("%s: %+v, %v; want reused %t", conf, l, err, want)
		}
	}
}
