package container_test

import (
	"net/netip"
	"strings"
	"testing"

	"dcni/pkg/cni/cnitest"
	"dcni/pkg/mode/container"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

func TestPlans(t *testing.T) { cnitest.Plans(t, container.Plugin) }

func TestCrashMatrix(t *testing.T) {
	cnitest.Matrix(t, container.Plugin, `{"cniVersion": "1.1.0", "name": "joined", "type": "dcontainer", "container": "donor"}`)
}

func TestParse(t *testing.T) {
	for conf, want := range map[string]string{
		`{"name": "joined", "container": "web1", "dns": {"search": ["lan"]}}`: "",
		`{"name": "joined"}`:                                               "container: missing; must be the ID, the beginning of the ID, or the name",
		`{"name": "joined", "container": ""}`:                              "container: missing",
		`{"name": "joined", "container": null}`:                            "container: missing",
		`{"name": "joined", "container": 5}`:                               "container 5: must be a string",
		`{"name": "joined", "contaner": "web1"}`:                           `unknown key "contaner": did you mean "container"?`,
		`{"name": "joined", "container": "web1", "ipam": {"type": "x"}}`:   "ipam: must not be given",
		`{"name": "joined", "container": "web1", "parent": "eth0"}`:        `unknown key "parent"`,
		`{"name": "joined", "container": "web1", "dns": {"serch": ["x"]}}`: `unknown key "dns.serch"`,
	} {
		c, err := network.ReadConf([]byte(conf))
		if err != nil {
			t.Fatal(err)
		}
		mode, err := container.Plugin.Parse(c)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", conf, err)
		case want == "":
			if d := mode.Describe(); d.Joins != "web1" || d.Name != "joined" || !d.Shared() || d.DNS == nil {
				t.Errorf("%s: %+v", conf, d)
			}
		default:
			refused(t, conf, err, wire.CodeConfig, want)
		}
	}
}

// refused wants an error of a code that begins so.
func refused(t *testing.T, what string, err error, code wire.Code, want string) {
	t.Helper()
	coded, ok := err.(*wire.Error) //nolint:errorlint // the very error
	if !ok || coded.Code != code || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%s: %v, want code %d, %s", what, err, code, want)
	}
}

func TestValidate(t *testing.T) {
	pod := map[string]string{"K8S_POD_INFRA_CONTAINER_ID": "c1"}
	for _, c := range []struct {
		join network.Join
		code wire.Code // 0: taken
		want string
	}{
		{join: network.Join{}},
		{join: network.Join{Args: pod}},
		{join: network.Join{There: true, Found: wire.NetNSInfo{Fixed: true, Links: []string{"eth0"}}}},
		{network.Join{Chained: true}, 7, "prevResult: must not be given"},
		{network.Join{Host: true, Args: pod}, 103, "container: is in the host's network namespace"},
		{network.Join{Found: wire.NetNSInfo{Fixed: true}}, 103, `CNI_NETNS "": is a process's own network namespace, which can't be exchanged: use the runtime's own switch: ctr run --with-ns network:PATH`},
		{network.Join{Found: wire.NetNSInfo{Links: []string{"eth0"}}}, 103, `CNI_NETNS "": has eth0 besides lo`},
		{network.Join{Found: wire.NetNSInfo{Processes: []string{"12 (sleep)"}}}, 103, `CNI_NETNS "": process 12 (sleep) is in it already`},
		{network.Join{Asked: network.Asked{Ports: true}}, 7, "portMappings: conflicting options: port publishing and the container type network mode"},
		{network.Join{Asked: network.Asked{MAC: "02:42:0a:01:00:05"}}, 7, "mac 02:42:0a:01:00:05: conflicting options: mac-address and the network mode"},
		{network.Join{Asked: network.Asked{IPs: []netip.Addr{netip.MustParseAddr("10.1.0.5")}}}, 7, "ips [10.1.0.5]: user specified IP address is supported on user defined networks only"},
		{network.Join{Asked: network.Asked{Ranges: true}}, 7, "ipRanges: must not be given"},
		{network.Join{Asked: network.Asked{Aliases: []string{"db"}}}, 7, "aliases [db]: network-scoped aliases are only supported for user-defined networks"},
	} {
		err := container.Plugin.Validate(c.join)
		if c.code != 0 {
			refused(t, c.want, err, c.code, c.want)
		} else if err != nil {
			t.Errorf("%+v: %v", c.join, err)
		}
	}
}

// In the host's network namespace, root must allow it, and lo is the host's own matter.
func TestHostPermission(t *testing.T) {
	for source, want := range map[string]string{
		network.HostNetNS: "allowed by /etc/dcni/allow-host-network",
		"/run/netns/web1": "link lo up netns /run/netns/web1",
	} {
		plan, err := container.Container{}.Plan(network.Endpoint{Source: source})
		if err != nil || len(plan.Own) != 2 || plan.Own[0].String() != want {
			t.Errorf("%s: %v, %v; want %s first", source, plan.Own, err, want)
		}
	}
}
