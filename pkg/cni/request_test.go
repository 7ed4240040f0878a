package cni

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"dcni/pkg/firewall"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

func request(args, body string) (*Request, error) {
	if body != "" {
		body = ", " + body
	}
	r, err := ParseRequest(&Call{
		ContainerID: "c1", IfName: "eth0", NetNS: "/run/netns/c1", Args: args,
		Conf: []byte(`{"cniVersion": "1.1.0", "name": "web", "type": "dbridge"` + body + `}`),
	})
	if err != nil {
		return nil, err
	}
	return r, r.readRuntime()
}

func TestWishes(t *testing.T) {
	for _, c := range []struct {
		name, args, body string
		want             Request // Static, MAC, Ports, Name, Aliases
	}{
		{"nothing", "", "", Request{}},
		{"unknown things are left alone", "IgnoreUnknown=1;X;Y=1;=;Z==", `"runtimeConfig": {"x": 1}, "args": {"cni": {"y": 2}, "z": 3}`, Request{}},
		{"podman", "IgnoreUnknown=1;K8S_POD_NAME=db;IP=10.1.0.9;MAC=02:00:00:00:00:09", "", Request{
			Name: "db", Static: []netip.Addr{netip.MustParseAddr("10.1.0.9")}, MAC: "02:00:00:00:00:09",
		}},
		{"kubernetes", "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=db", "", Request{Name: "shop/db"}},
		{"dnet", "K8S_POD_NAME=x;DNET_NAME=db", "", Request{Name: "db"}},
		{"both families in CNI_ARGS", "IP=10.1.0.9/16,fd00::9/64", "", Request{
			Static: []netip.Addr{netip.MustParseAddr("10.1.0.9"), netip.MustParseAddr("fd00::9")},
		}},
		{
			"later sources replace earlier ones", "IP=10.1.0.1;MAC=02:00:00:00:00:01",
			`"args": {"cni": {"ips": ["10.1.0.2"], "mac": "02:00:00:00:00:02"}}, "runtimeConfig": {"ips": ["10.1.0.3/24"], "mac": "02-00-00-00-00-03"}`,
			Request{Static: []netip.Addr{netip.MustParseAddr("10.1.0.3")}, MAC: "02:00:00:00:00:03"},
		},
		{"go-cni's capitals", "", `"runtimeConfig": {"portMappings": [{"HostPort": 8080, "ContainerPort": 80, "Protocol": "TCP", "HostIP": "::ffff:192.0.2.1"}]}`, Request{
			Ports: []firewall.Port{{HostIP: netip.MustParseAddr("192.0.2.1"), HostPort: 8080, Protocol: "tcp", ContainerPort: 80}},
		}},
		{"defaults of a port", "", `"runtimeConfig": {"portMappings": [{"containerPort": 80}]}`, Request{
			Ports: []firewall.Port{{Protocol: "tcp", ContainerPort: 80}},
		}},
		{"aliases as a list", "", `"runtimeConfig": {"aliases": ["a", "b"]}`, Request{Aliases: []string{"a", "b"}}},
		{"aliases by network", "", `"runtimeConfig": {"aliases": {"web": ["a"], "other": ["b"]}}`, Request{Aliases: []string{"a"}}},
		{"null is nothing", "", `"runtimeConfig": {"aliases": null, "portMappings": null, "ips": null, "mac": null, "bandwidth": null, "ipRanges": null}`, Request{}},
		{"no rate is no limit", "", `"runtimeConfig": {"bandwidth": {"IngressRate": 0, "IngressBurst": 0}}`, Request{}},
		{"rates", "", `"runtimeConfig": {"bandwidth": {"IngressRate": 8000, "egressRate": 16000, "egressBurst": 24000}}`,
			Request{Bandwidth: &network.Bandwidth{IngressRate: 8000, EgressRate: 16000, EgressBurst: 24000}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := request(c.args, c.body)
			if err != nil {
				t.Fatal(err)
			}
			if r.Name != c.want.Name || r.MAC != c.want.MAC || !slices.Equal(r.Static, c.want.Static) ||
				!slices.Equal(r.Ports, c.want.Ports) || !slices.Equal(r.Aliases, c.want.Aliases) || !reflect.DeepEqual(r.Bandwidth, c.want.Bandwidth) {
				t.Errorf("got  %q %q %v %v %v\nwant %q %q %v %v %v", r.Name, r.MAC, r.Static, r.Ports, r.Aliases,
					c.want.Name, c.want.MAC, c.want.Static, c.want.Ports, c.want.Aliases)
			}
		})
	}
}

func TestBadWishes(t *testing.T) {
	for _, c := range []struct {
		args, body string
		code       wire.Code
		want       string
	}{
		{"DNET_NOT_GATEWAY=5", "", 4, `CNI_ARGS DNET_NOT_GATEWAY: "5": must be 4, 6, or both with a comma between`},
		{"IP=10.1.0", "", 7, `CNI_ARGS IP[0] "10.1.0"`},
		{"MAC=02:00", "", 7, `CNI_ARGS MAC "02:00": must be a unicast Ethernet address`},
		{"MAC=01:00:5e:00:00:01", "", 7, `CNI_ARGS MAC "01:00:5e:00:00:01"`},
		{"MAC=00:00:00:00:00:00", "", 7, `CNI_ARGS MAC`},
		{"MAC=02:00:00:00:00:00:00:01", "", 7, `CNI_ARGS MAC`},
		{"", `"args": {"cni": {"ips": 5}}`, 7, `args.cni.ips 5: must be a list of strings`},
		{"", `"args": 5`, 7, `args: must be an object`},
		{"", `"args": {"cni": 5}`, 7, `args.cni: must be an object`},
		{"", `"args": {"cni": {"ips": ["10.1.0"]}}`, 7, `args.cni.ips[0] "10.1.0"`},
		{"", `"args": {"cni": {"mac": 5}}`, 7, `args.cni.mac 5: must be a string`},
		{"", `"args": {"cni": {"mac": "x"}}`, 7, `args.cni.mac "x"`},
		{"", `"runtimeConfig": 5`, 7, `runtimeConfig: must be an object`},
		{"", `"runtimeConfig": {"ips": 5}`, 7, `runtimeConfig.ips 5: must be a list of strings`},
		{"", `"runtimeConfig": {"ips": ["10.1.0"]}`, 7, `runtimeConfig.ips[0] "10.1.0"`},
		{"", `"runtimeConfig": {"mac": 5}`, 7, `runtimeConfig.mac 5: must be a string`},
		{"", `"runtimeConfig": {"bandwidth": 5}`, 7, `runtimeConfig.bandwidth 5: must be {ingressRate`},
		{"", `"runtimeConfig": {"bandwidth": {"egressRate": -1}}`, 7, `runtimeConfig.bandwidth {"egressRate": -1}: must be`},
		{"", `"runtimeConfig": {"mac": "x"}`, 7, `runtimeConfig.mac "x"`},
		{"", `"runtimeConfig": {"portMappings": [{"hostPort": 65536, "containerPort": 80}]}`, 7, `runtimeConfig.portMappings[0].hostPort 65536`},
		{"", `"runtimeConfig": {"portMappings": [{"hostPort": -1, "containerPort": 80}]}`, 7, `hostPort -1`},
		{"", `"runtimeConfig": {"portMappings": [{"hostPort": 80}]}`, 7, `containerPort 0: must be 1 to 65535`},
		{"", `"runtimeConfig": {"portMappings": [{"containerPort": 80}, {"containerPort": 80, "protocol": "icmp"}]}`, 7, `portMappings[1].protocol "icmp"`},
		{"", `"runtimeConfig": {"portMappings": [{"containerPort": 80, "hostIP": "eth0"}]}`, 7, `hostIP "eth0"`},
		{"", `"runtimeConfig": {"portMappings": {"containerPort": 80}}`, 7, `runtimeConfig.portMappings`},
		{"", `"runtimeConfig": {"portMappings": [{"containerPort": "80"}]}`, 7, `runtimeConfig.portMappings`},
		{"", `"runtimeConfig": {"aliases": 5}`, 7, `runtimeConfig.aliases 5`},
		{"", `"runtimeConfig": {"ipRanges": [{"subnet": "10.1.0.0/24"}]}`, 7, `runtimeConfig.ipRanges`},
		{"", `"prevResult": {"cniVersion": "1.1.0", "ips": 5}`, 7, `prevResult`},
	} {
		t.Run(c.args+c.body, func(t *testing.T) {
			_, err := request(c.args, c.body)
			var coded *wire.Error
			if !errors.As(err, &coded) || coded.Code != c.code || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want code %d and %q", err, c.code, c.want)
			}
		})
	}
}

// TestLongWords: what names files is at most as long as a file's name may be.
func TestLongWords(t *testing.T) {
	fits, long := fmt.Sprintf("%0255d", 1), fmt.Sprintf("%0256d", 1)
	for _, c := range []struct {
		container, network string
		code               wire.Code
		want               string
	}{
		{fits, fits, 0, ""},
		{long, "web", wire.CodeEnv, "CNI_CONTAINERID"},
		{"c1", long, wire.CodeEnv, "name"},
	} {
		_, err := ParseRequest(&Call{ContainerID: c.container, IfName: "eth0", Conf: fmt.Appendf(nil, `{"name": %q}`, c.network)})
		var coded *wire.Error
		if c.code == 0 && err == nil {
			continue
		}
		if !errors.As(err, &coded) || coded.Code != c.code || !strings.HasPrefix(err.Error(), c.want) || !strings.HasSuffix(err.Error(), "must be at most 255 bytes") {
			t.Errorf("%d and %d bytes: %v, want code %d", len(c.container), len(c.network), err, c.code)
		}
	}
}

func FuzzCNIArgs(f *testing.F) {
	for _, s := range []string{"", "IgnoreUnknown=1;K8S_POD_NAME=a", "IP=10.1.0.9/16,fd00::9;MAC=02:00:00:00:00:01", ";;=;=;IP=;MAC=;IP=,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, args string) {
		r, err := request(args, "")
		wellFormed(t, r, err)
	})
}

func FuzzRuntimeConfig(f *testing.F) {
	for _, s := range []string{
		`{}`, `null`, `{"portMappings": [{"hostPort": 1, "containerPort": 2, "protocol": "udp", "hostIP": "::1"}]}`,
		`{"ips": ["10.1.0.1/8"], "mac": "02:00:00:00:00:01", "aliases": {"web": ["a"]}, "ipRanges": [[{"subnet": "10.1.0.0/16"}]]}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, rc string) {
		r, err := request("", `"runtimeConfig": `+rc)
		wellFormed(t, r, err)
	})
}

// wellFormed fails if an error has no code, or a request holds what later code
// takes for granted it doesn't.
func wellFormed(t *testing.T, r *Request, err error) {
	var coded *wire.Error
	if err != nil {
		if !errors.As(err, &coded) {
			t.Errorf("error without a code: %v", err)
		}
		return
	}
	for _, p := range r.Ports {
		if p.ContainerPort == 0 || !slices.Contains(firewall.Protocols(), p.Protocol) || p.HostIP.Is4In6() {
			t.Errorf("port %+v", p)
		}
	}
	for _, a := range r.Static {
		if !a.IsValid() || a.Is4In6() || a.Zone() != "" {
			t.Errorf("address %v", a)
		}
	}
}
