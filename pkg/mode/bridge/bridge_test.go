package bridge_test

import (
	"net/netip"
	"strings"
	"testing"

	"dcni/pkg/cni/cnitest"
	"dcni/pkg/ipam"
	"dcni/pkg/mode/bridge"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

func TestPlans(t *testing.T) { cnitest.Plans(t, bridge.Plugin) }

// The networks are default ones, each on a bridge of its own: there links open ports.
func TestCrashMatrix(t *testing.T) {
	plugin := *bridge.Plugin
	plugin.Parse = func(conf network.Conf) (network.Mode, error) {
		mode, err := bridge.Plugin.Parse(conf)
		if err == nil {
			mode.(*bridge.Bridge).Default = true
		}
		return mode, err
	}
	cnitest.Matrix(t, &plugin, `{
		"cniVersion": "1.1.0", "name": "web", "type": "dbridge", "ipv6": true, "icc": false, "antiSpoof": true,
		"ipam": {"type": "dipam", "subnet": "10.1.0.0/24"},
		"runtimeConfig": {
			"ips": ["10.1.0.77"], "mac": "02:42:00:00:00:77",
			"portMappings": [
				{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
				{"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "127.0.0.1"}
			]
		}
	}`)
}

// Names are one more object of the same plan.
func TestCrashMatrixWithNames(t *testing.T) {
	cnitest.Matrix(t, bridge.Plugin, `{
		"cniVersion": "1.1.0", "name": "web", "type": "dbridge", "names": {"intercept": true, "hosts": {"gw": "host-gateway"}},
		"ipam": {"type": "dipam", "subnet": "10.1.0.0/24"},
		"runtimeConfig": {
			"aliases": ["db"], "dns": {"servers": ["192.0.2.53"]},
			"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]
		}
	}`)
}

// TestAdoptedPlan: on a bridge of another owner's, nothing is made that goes for more
// than the network's containers, and what is changed of the bridge is put back.
func TestAdoptedPlan(t *testing.T) {
	conf, err := network.ReadConf([]byte(`{"cniVersion": "1.1.0", "name": "lan", "type": "dbridge", "bridge": "br1", "icc": false,
		"ipForwardNoDrop": true, "ipam": {"type": "dipam", "subnets": [{"subnet": "192.0.2.0/24"}, {"subnet": "2001:db8::/64"}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	mode, err := bridge.Plugin.Parse(conf)
	if err != nil {
		t.Fatal(err)
	}
	e := network.Endpoint{
		Attachment: wire.Attachment{Network: "lan", Container: "c1", IfName: "eth0"}, NetNS: "/run/netns/c1", MTU: 1500, Adopted: true,
	}
	for _, s := range mode.Describe().IPAM.Own.Subnets {
		e.Subnets = append(e.Subnets, s)
		e.Addresses = append(e.Addresses, ipam.Assigned{Address: netip.PrefixFrom(s.Gateway.Next(), s.Prefix.Bits()), Gateway: s.Gateway})
	}
	plan, err := mode.Plan(e)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, line := range plan.Lines() {
		if !strings.HasSuffix(line, "in sandbox") && !strings.Contains(line, "conntrack") && !strings.Contains(line, "type veth") {
			got = append(got, line)
		}
	}
	want := `host    forward all of ipv4
host    sysctl net/ipv4/ip_forward=1
host    forward all of ipv6
host    sysctl net/ipv6/conf/all/forwarding=1
host    rules of table bridge dcni
host    sysctl net/ipv4/conf/br1/route_localnet=1
host    sysctl net/ipv6/conf/br1/disable_ipv6=0
host    addr 192.0.2.1/24 dev br1
host    addr 2001:db8::1/64 dev br1
host    link br1 up
network link br1 type bridge, as its owner made it
network element inet dcni adopted { "br1" . "br1" comment "lan d3fdf2ab" }; masqueraded { "br1" comment "lan" }; subnets4 { "br1" . 192.0.2.0/24 comment "lan" }; subnets6 { "br1" . 2001:db8::/64 comment "lan" }
own     element bridge dcni apart { "vethc3n8os9x3db" comment "lan c1/eth0" }; addresses4 { "vethc3n8os9x3db" . 192.0.2.2 comment "lan c1/eth0" }; addresses6 { "vethc3n8os9x3db" . 2001:db8::2 comment "lan c1/eth0" }; addresses6 { "vethc3n8os9x3db" . fe80::42:c0ff:fe00:202 comment "lan c1/eth0" }
own     rule pref 32765 from addresses of eth0 lookup 1702827843 in sandbox, beside other networks
own     element inet dcni members4 { "br1" . 192.0.2.2 comment "lan c1/eth0" }; members6 { "br1" . 2001:db8::2 comment "lan c1/eth0" }; members6 { "br1" . fe80::42:c0ff:fe00:202 comment "lan c1/eth0" }`
	if text := strings.Join(got, "\n"); text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	for _, o := range plan.Host {
		if _, ok := o.(wire.Root); !ok {
			t.Errorf("%s is left behind", o)
		}
	}
}

// Ports of a routed family are opened, and those of the other are published on the host.
func TestCrashMatrixRouted(t *testing.T) {
	cnitest.Thin(t, bridge.Plugin, `{
		"cniVersion": "1.1.0", "name": "web", "type": "dbridge", "icc": false, "gatewayModeIPv4": "nat-unprotected", "gatewayModeIPv6": "routed",
		"snatIPv4": "192.0.2.7", "trustedHostInterfaces": ["eth1"],
		"ipv6": true, "ipam": {"type": "dipam", "subnet": "10.1.0.0/24"},
		"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}
	}`)
}

// The host is not on an isolated network.
func TestCrashMatrixIsolated(t *testing.T) {
	cnitest.Thin(t, bridge.Plugin, `{
		"cniVersion": "1.1.0", "name": "web", "type": "dbridge", "internal": true, "gatewayModeIPv4": "isolated", "gatewayModeIPv6": "isolated",
		"ipv6": true, "ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}
	}`)
}

// What is said of forwarding goes with its last user.
func TestCrashMatrixForAll(t *testing.T) {
	cnitest.Matrix(t, bridge.Plugin, `{
		"cniVersion": "1.1.0", "name": "web", "type": "dbridge", "ipForwardNoDrop": true,
		"ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}
	}`)
}
