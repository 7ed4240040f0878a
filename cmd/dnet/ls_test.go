package main

import (
	"testing"

	"dcni/pkg/records"
	"dcni/pkg/records/registry"
)

// someNetworks are those of a host with a busy user.
func someNetworks(f *fixture) {
	f.network("00-foreign.conf", `{"cniVersion": "0.4.0", "name": "foreign", "type": "bridge", "ipam": {"type": "host-local", "subnet": "10.77.0.0/16", "gateway": "10.77.0.9"}}`)
	f.network("05-vlan.json", `{"cniVersion": "1.0.0", "name": "vlan9", "plugins": [
	  {"type": "vlan", "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.78.0.0/16"}], [{"subnet": "fd00:78::/64"}]]}}]}`)
	f.network("20-net10.conflist", `{"cniVersion": "1.0.0", "name": "net10", "plugins": [{"type": "dbridge", "internal": true, "ipv6": true}]}`)
	f.network("21-net2.conflist", `{"cniVersion": "1.0.0", "name": "net2", "plugins": [{"type": "dbridge", "ipam": {"type": "dipam", "subnet": "fd00:2::/64"}}]}`)
	f.network("22-web.conflist", `{"cniVersion": "1.0.0", "name": "web", "args": {"podman_labels": {"tier": "front", "com.example.data-base": "x", "owner": ""}},
	  "plugins": [{"type": "dbridge"}, {"type": "ddns"}]}`)
	f.network("README", "No network.")
	f.attached(records.Record{Attachment: owner("web", "c1", "eth0")})
}

func TestList(t *testing.T) {
	f := newFixture(t)
	f.check([]call{{"ls", 0, `NETWORK ID     NAME      DRIVER    SCOPE
17f29b073143   bridge    bridge    local
4740ae6347b0   host      host      local
140bedbf9c3f   none      null      local
`, ""}})
	someNetworks(f)
	const all = `NETWORK ID     NAME      DRIVER    SCOPE
17f29b073143   bridge    bridge    local
656771905e1e   foreign   bridge    local
4740ae6347b0   host      host      local
2daa9a9645f3   net2      bridge    local
774883e771f7   net10     bridge    local
140bedbf9c3f   none      null      local
56170e5b1a6e   vlan9     vlan      local
4b5e57f6eb2f   web       bridge    local
`
	f.check([]call{
		{"ls", 0, all, ""},
		{"list", 0, all, ""},
		{"ls --format table", 0, all, ""},
		{"ls -q -f name=net", 0, "2daa9a9645f3\n774883e771f7\n", ""},
		{"ls -q --format table -f name=net2", 0, "2daa9a9645f3\n", ""},
		{"ls -q --no-trunc -f name=web", 0, "4b5e57f6eb2f42b9039b3d1e13929295f231749c510cbe341cd68036d9af97e2\n", ""},
		{"ls --format raw -f name=net2", 0, "network_id: 2daa9a9645f3\nname: net2\ndriver: bridge\nscope: local\n\n", ""},
		{"ls -q --format raw -f name=net2", 0, "network_id: 2daa9a9645f3\n", ""},
		{"ls --format json -f name=web", 0, `{"CreatedAt":"2026-01-02 03:04:05 +0000 UTC","Driver":"bridge","ID":"4b5e57f6eb2f","IPv4":"true","IPv6":"false",` +
			`"Internal":"false","Labels":"com.example.data-base=x,owner=,tier=front","Name":"web","Scope":"local"}` + "\n", ""},
		{`ls -f type=custom --format 'table {{.Name}}\t{{.IPv4}}\t{{.IPv6}}\t{{.Internal}}\t{{.Label "com.example.data-base"}}'`, 0,
			`NAME      IPV4      IPV6      INTERNAL   data base
foreign   true      false     false      
net2      false     true      false      
net10     true      true      true       
vlan9     true      true      false      
web       true      false     false      x
`, ""},
		{"ls --format {{.Nosuch}}", 1, "", "dnet: template parsing error: ..."},
		{"ls --format {{", 1, "", "dnet: template parsing error: ..."},
	})
	// The registry gives the subnets that the file does not name.
	f.must(registry.Of(f.store, "").Create(registry.Registration{Name: "web", WantULA: true, HostID: "host"}, "", func() error { return nil },
		func(registry.Network) error { return nil }))
	f.check([]call{{"ls -f name=web --format '{{.IPv4}} {{.IPv6}}'", 0, "true true\n", ""}})
}

func TestListFilters(t *testing.T) {
	f := newFixture(t)
	someNetworks(f)
	for filter, want := range map[string]string{
		"-f driver=null -f driver=host":      "host none",
		"-f id=4b5e57":                       "web",
		"-f label=tier=front -f label=owner": "web",
		"-f label=tier=front -f label=none":  "",
		"-f label=tier=back":                 "",
		"-f type=builtin -f scope=local":     "bridge host none",
		"-f scope=swarm":                     "",
		"-f dangling=true":                   "foreign net2 net10 vlan9",
		"-f dangling=0":                      "bridge host none web",
		"-f name=^net -f name=vlan":          "net2 net10 vlan9",
	} {
		status, stdout, stderr := f.dnet("ls --format {{.Name}} " + filter)
		if got := oneLine(stdout); got != want || status != 0 || stderr != "" {
			t.Errorf("ls %s: %q, %d, %s, want %q", filter, got, status, stderr, want)
		}
	}
	f.check([]call{
		{"ls -f foo=bar", 1, "", "dnet: invalid filter 'foo'\n"},
		{"ls -f type=foo", 1, "", "dnet: invalid filter: 'type'='foo'\n"},
		{"ls -f dangling=maybe", 1, "", "dnet: invalid filter 'dangling=maybe'\n"},
		{"ls -f foo", 125, "", "dnet: invalid argument \"foo\" for \"-f, --filter\" flag: bad format of filter (expected name=value)\n"},
	})
}

// TestBrokenFiles wants a warning for each, and the other networks.
func TestBrokenFiles(t *testing.T) {
	f := newFixture(t)
	f.network("10-web.conflist", `{"cniVersion": "1.0.0", "name": "web", "plugins": [{"type": "dbridge"}]}`)
	f.network("60-broken.conflist", `{"cniVersion":`)
	f.network("61-nameless.conflist", `{"cniVersion": "1.0.0", "plugins": [{"type": "bridge"}]}`)
	f.network("62-second.conflist", `{"cniVersion": "1.0.0", "name": "web", "plugins": [{"type": "vlan"}]}`)
	f.mkdir("net.d/70-folder.json")
	const warnings = `dnet: warning: DIR/net.d/60-broken.conflist: unexpected end of JSON input: left out
dnet: warning: DIR/net.d/61-nameless.conflist: name: must be given: left out
dnet: warning: DIR/net.d/62-second.conflist: network web is configured by DIR/net.d/10-web.conflist: left out
dnet: warning: DIR/net.d/70-folder.json: is no regular file: left out
`
	f.check([]call{
		{"ls -f type=custom --format '{{.Name}} {{.Driver}}'", 0, "web bridge\n", warnings},
		{"inspect -f {{.Driver}} web", 0, "bridge\n", warnings},
	})
	// A file takes the place of a network that is built in.
	f = newFixture(t)
	f.network("10-bridge.conflist", `{"cniVersion": "1.0.0", "name": "bridge", "args": {"podman_labels": {"a": "b"}}, "plugins": [{"type": "vlan"}]}`)
	f.check([]call{{"ls -f type=builtin --format '{{.Name}} {{.Driver}} {{.Labels}}'", 0, "bridge vlan a=b\nhost host \nnone null \n", ""}})
	// What ADD would refuse is listed, and inspect says why.
	f.network("62-refused.conflist", `{"cniVersion": "1.0.0", "name": "refused", "plugins": [{"type": "dbridge", "internel": true}]}`)
	f.check([]call{
		{"ls -f name=refused --format '{{.Name}} {{.IPv4}}'", 0, "refused true\n", ""},
		{"inspect -f {{.Name}} refused", 0, "refused\n", "dnet: warning: DIR/net.d/62-refused.conflist: unknown key \"internel\": did you mean \"internal\"?\n"},
	})
}
