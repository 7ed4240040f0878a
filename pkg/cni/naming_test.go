package cni

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"dcni/pkg/names"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// A namer is a machine that knows the bundle of one container.
type namer struct {
	HostFacts
	bundle names.Identity
}

func (n namer) Bundle(string) names.Identity { return n.bundle }

const container = "0123456789abcdef0123"

func TestNames(t *testing.T) {
	nerdctl := names.Identity{Container: "fedcba9876543210", Name: "db", Hostname: "dbhost"}
	for _, c := range []struct {
		name, args, runtime string
		bundle              names.Identity
		want, log           string
	}{
		{"nothing", "", ``, names.Identity{}, "0123456789ab", ""},
		{"Podman", "IgnoreUnknown=1;K8S_POD_NAME=db", `"aliases": {"web": ["sql"], "lab": ["x"]}`, names.Identity{}, "db sql 0123456789ab", ""},
		{"the CRI", "K8S_POD_NAMESPACE=ns;K8S_POD_NAME=db-0", ``, names.Identity{}, "db-0 0123456789ab", ""},
		{"annotations", "K8S_POD_NAME=db-0", `"io.kubernetes.cri.pod-annotations": {"dcni-name": "DB", "dcni-hostname": "box", "dcni-aliases": "sql, store,,", "other": "a b"}`,
			names.Identity{}, "db sql store 0123456789ab box", ""},
		{"dnet", "DNET_NAME=db;DNET_HOSTNAME=box", `"aliases": ["sql"]`, names.Identity{}, "db sql 0123456789ab box", ""},
		{"nerdctl", "NERDCTL_CNI_DHCP_HOSTNAME=dbhost", ``, nerdctl, "db fedcba987654 dbhost", ""},
		{"ctr", "", ``, names.Identity{Container: "c1", Name: "c1"}, "c1", ""},
		{"null", "", `"aliases": null, "io.kubernetes.cri.pod-annotations": null`, names.Identity{}, "0123456789ab", ""},
		{"no domain name", "DNET_NAME=a b;DNET_HOSTNAME=ok", ``, names.Identity{}, "0123456789ab ok",
			`ddns: name "a b" of container 0123456789abcdef0123 is left out: it is no domain name`},
		{"Nomad", "IgnoreUnknown=true;NOMAD_REGION=global;NOMAD_JOB_ID=Shop;NOMAD_GROUP_NAME=web;NOMAD_ALLOC_ID=5e5e-1", ``,
			names.Identity{}, "web shop 5e5e-1 0123456789ab", ""},
		{"a job that is no domain name", "NOMAD_JOB_ID=a/b;NOMAD_GROUP_NAME=web", ``, names.Identity{}, "web 0123456789ab",
			`ddns: name "a/b" of container 0123456789abcdef0123 is left out: it is no domain name`},
		{"others' requests", "IP=nonsense;MAC=nonsense", `"ips": 5, "mac": 5, "portMappings": 5, "bandwidth": {"ingressRate": 1}`,
			names.Identity{}, "0123456789ab", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			e := &Engine{Plugin: &network.Plugin{Type: "ddns", Kind: network.Meta}, Facts: namer{bundle: c.bundle}, Log: &log}
			d := network.Description{Names: &network.Names{FromArgs: names.ArgsOfNomad}}
			r := aRequest(t, c.args, `"runtimeConfig": {`+c.runtime+`}`)
			if err := kindOf(e.Plugin).readRuntime(r, d); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(e.names(r, d), " "); got != c.want {
				t.Errorf("is called %q, want %q", got, c.want)
			}
			if got := strings.TrimSpace(log.String()); got != c.log {
				t.Errorf("says %q, want %q", got, c.log)
			}
		})
	}
}

func aRequest(t *testing.T, args, conf string) *Request {
	t.Helper()
	r, err := ParseRequest(&Call{
		ContainerID: container, NetNS: "/run/netns/c1", IfName: "eth0", Args: args,
		Conf: []byte(`{"cniVersion": "1.0.0", "name": "web", ` + conf + `}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestBadNames(t *testing.T) {
	for _, c := range []struct{ runtime, want string }{
		{`"aliases": ["a b"]`, `runtimeConfig.aliases[0] "a b": must be a domain name`},
		{`"aliases": {"lab": ["a b"]}`, `runtimeConfig.aliases.lab[0] "a b": must be a domain name`},
		{`"aliases": 5`, `runtimeConfig.aliases 5: must be a list of names`},
		{`"io.kubernetes.cri.pod-annotations": {"dcni-name": "a b"}`, `runtimeConfig.io.kubernetes.cri.pod-annotations.dcni-name "a b"`},
		{`"io.kubernetes.cri.pod-annotations": {"dcni-hostname": "a/b"}`, `runtimeConfig.io.kubernetes.cri.pod-annotations.dcni-hostname "a/b"`},
		{`"io.kubernetes.cri.pod-annotations": {"dcni-aliases": "ok,a b"}`, `runtimeConfig.io.kubernetes.cri.pod-annotations.dcni-aliases "a b"`},
		{`"io.kubernetes.cri.pod-annotations": ["dcni-name"]`, `runtimeConfig.io.kubernetes.cri.pod-annotations: must be an object`},
	} {
		err := aRequest(t, "", `"runtimeConfig": {`+c.runtime+`}`).readNames()
		var coded *wire.Error
		if !errors.As(err, &coded) || coded.Code != wire.CodeConfig || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want code 7 and %s", c.runtime, err, c.want)
		}
	}
}

func TestInherits(t *testing.T) {
	const interfaces = `"interfaces": [{"name": "br0"}, {"name": "eth0", "sandbox": "/run/netns/c1"}, {"name": "eth1", "sandbox": "/run/netns/c1"}, {"name": "eth0"}]`
	for _, c := range []struct{ name, ips, want string }{
		{"its interface's", `{"address": "10.1.0.2/24", "gateway": "10.1.0.1", "interface": 1}, {"address": "fd00::2/64", "interface": 1}`,
			"[{10.1.0.2/24 10.1.0.1} {fd00::2/64 invalid IP}]"},
		{"not others'", `{"address": "10.1.0.2/24", "interface": 1}, {"address": "10.2.0.2/24", "interface": 2}, {"address": "10.3.0.2/24", "interface": 0}, {"address": "10.4.0.2/24", "interface": 3}, {"address": "10.5.0.2/24"}`,
			"[{10.1.0.2/24 invalid IP}]"},
		{"of no interface, where none is its", `{"address": "10.2.0.2/24", "interface": 2}, {"address": "10.5.0.2/24", "gateway": "10.5.0.1"}`, "[{10.5.0.2/24 10.5.0.1}]"},
		{"out of range", `{"address": "10.2.0.2/24", "interface": 9}, {"address": "10.3.0.2/24", "interface": -1}`, "[]"},
		{"lo's are of no use", `{"address": "127.0.0.1/8"}, {"address": "::1/128"}`, "[]"},
		{"no gateway", `{"address": "10.1.0.2/24", "gateway": "0.0.0.0", "interface": 1}`, "[{10.1.0.2/24 invalid IP}]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := aRequest(t, "", `"prevResult": {"cniVersion": "1.0.0", `+interfaces+`, "ips": [`+c.ips+`]}`)
			if err := r.readNames(); err != nil {
				t.Fatal(err)
			}
			var list []string
			for _, a := range r.prevAddresses() {
				list = append(list, fmt.Sprintf("{%s %s}", a.Address, a.Gateway))
			}
			if got := "[" + strings.Join(list, " ") + "]"; got != c.want {
				t.Errorf("are %s, want %s", got, c.want)
			}
		})
	}
}
