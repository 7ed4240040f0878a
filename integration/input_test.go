package integration

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// bridgeConf is a dbridge configuration of network web.
func bridgeConf(body string) string {
	version := "1.1.0"
	if strings.Contains(body, `"static"`) {
		version = "1.0.0" // Debian's plugins know no other
	}
	if body != "" {
		body = ", " + body
	}
	return `{"cniVersion": "` + version + `", "name": "web", "type": "dbridge"` + body + `}`
}

// A wrong is a configuration that is refused wherever it is read for more than
// to delete.
type wrong struct {
	body  string
	code  uint
	words string // of the message, in order
}

// verbs are those that refuse it. STATUS gets no requests of a container.
func (w wrong) verbs() []string {
	if strings.Contains(w.body, "runtimeConfig") || strings.Contains(w.body, "args") {
		return []string{"ADD", "CHECK"}
	}
	return []string{"ADD", "CHECK", "STATUS"}
}

// wrongs are refused at ADD, CHECK and STATUS alike.
var wrongs = []wrong{
	{`"internel": true`, 7, `"internel" did you mean "internal"`},
	{`"iccc": false`, 7, `"iccc" did you mean "icc"`},
	{`"hostbindng": "127.0.0.1"`, 7, `"hostbindng" did you mean "hostBinding"`},
	{`"ipam": {"type": "dipam", "subnets": [{"subnet": "10.1.0.0/24", "iprnge": "10.1.0.0/25"}]}`, 7, `"ipam.subnets[0].iprnge" did you mean "ipam.subnets[0].ipRange"`},
	{`"ipam": {"type": "dipam", "subnet": "10.1.0.0/24", "gatway": "10.1.0.9"}`, 7, `"ipam.gatway" did you mean "ipam.gateway"`},
	{`"ipam": {"type": "dipam", "subnet": "10.1.0.0/24", "routes": [{"dst": "10.5.0.0/16", "gateway": "10.1.0.9"}]}`, 7, `"ipam.routes[0].gateway"`},
	{`"ipam": {"type": "dipam", "stcky": true}`, 7, `"ipam.stcky" did you mean "ipam.sticky"`},
	{`"dns": {"nameserver": ["1.1.1.1"]}`, 7, `dns.nameserver did you mean dns.nameservers`},
	{`"antiSpoof": "yes"`, 7, `antiSpoof "yes": true or false`},
	{`"antiSpoof": 1`, 7, `antiSpoof 1: true or false`},
	{`"icc": "no"`, 7, `icc "no": true or false`},
	{`"mtu": "1500"`, 7, `mtu "1500": whole number`},
	{`"mtu": 1e400`, 7, `mtu 1e400 whole number`},
	{`"mtu": 99999999999999999999`, 7, `mtu 99999999999999999999 whole number`},
	{`"mtu": 67`, 7, `mtu 67: 68 65535`},
	{`"mtu": 65536`, 7, `mtu 65536: 68 65535`},
	{`"mtu": -1`, 7, `mtu -1: 68 65535`},
	{`"bridge": 5`, 7, `bridge 5: a string`},
	{`"bridge": "a/b"`, 7, `bridge "a/b": link name`},
	{`"bridge": "."`, 7, `bridge ".": link name`},
	{`"bridge": "all"`, 7, `bridge "all":`},
	{`"bridge": "default"`, 7, `bridge "default":`},
	{`"bridge": "0123456789abcdef"`, 7, `bridge "0123456789abcdef": 15`},
	{`"trustedHostInterfaces": "eth0"`, 7, `trustedHostInterfaces "eth0": a list`},
	{`"trustedHostInterfaces": ["eth 0"]`, 7, `trustedHostInterfaces[0] "eth 0": link name`},
	{`"trustedHostInterfaces": ["eth0", "eth0"]`, 7, `trustedHostInterfaces[1] "eth0": twice`},
	{`"trustedHostInterfaces": ["eth0"], "internal": true`, 7, `trustedHostInterfaces internal`},
	{`"inhibitIPv4": 1`, 7, `inhibitIPv4 1: true or false`},
	{`"ipv4": false`, 7, `ipv4 false: ipv6`},
	{`"ipv4": false, "ipv6": true, "ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}`, 7, `ipv4 false IPv4 subnet`},
	{`"snatIPv4": "nonsense"`, 7, `snatIPv4 "nonsense": IPv4`},
	{`"snatIPv4": 5`, 7, `snatIPv4 5: a string`},
	{`"snatIPv4": "192.0.2.1/24"`, 7, `snatIPv4 "192.0.2.1/24": one IPv4 address`},
	{`"snatIPv4": "127.0.0.1"`, 7, `snatIPv4 "127.0.0.1": of this host`},
	{`"snatIPv4": "224.0.0.1"`, 7, `snatIPv4 "224.0.0.1": of this host`},
	{`"options": {"com.docker.network.host_ipv4": "2001:db8::1"}`, 7, `snatIPv4 "2001:db8::1": IPv4`},
	{`"options": {"com.docker.network.bridge.trusted_host_interfaces": "eth0:eth0"}`, 7, `trustedHostInterfaces[1] "eth0": twice`},
	{`"options": {"com.docker.network.bridge.gateway_mode_ipv4": "isolated"}`, 7, `gatewayModeIPv4 "isolated": internal`},
	{`"options": {"com.docker.network.bridge.inhibit_ipv4": "maybe"}`, 7, `inhibit_ipv4 "maybe": true or false`},
	{`"options": {"com.docker.network.bridge.host_binding_ipv4": "300.1.1.1"}`, 7, `hostBinding "300.1.1.1": an address of the host`},
	{`"options": {"com.docker.network.container_iface_prefix": "a/b"}`, 7, `container_iface_prefix "a/b": link name`},
	{`"options": {"foo": "bar"}`, 7, `"options.foo": known are`},
	{`"options": []`, 7, `options: an object of strings`},
	{`"ipForwardNoDrop": "yes"`, 7, `ipForwardNoDrop "yes": true or false`},
	{`"acceptRA": true`, 7, `acceptRA true: without the key "bridge"`},
	{`"gatewayModeIPv4": 5`, 7, `gatewayModeIPv4 5: a string`},
	{`"hostBinding": 5`, 7, `hostBinding 5: a string`},
	{`"firewall": 5`, 7, `firewall 5: a string`},
	{`"trustedHostInterfaces": [5]`, 7, `trustedHostInterfaces [5]: a list of strings`},
	{`"ipv4": "false"`, 7, `ipv4 "false": true or false`},
	{`"names": []`, 7, `names: an object`},
	{`"names": {"ttl": -1}`, 7, `names.ttl -1: 0 to 2147483647`},
	{`"names": {"servers": ["x"]}`, 7, `names.servers[0] "x": an IP address`},
	{`"snatIPv4": "2001:db8::1"`, 7, `snatIPv4 "2001:db8::1": IPv4`},
	{`"snatIPv6": "192.0.2.1"`, 7, `snatIPv6 "192.0.2.1": IPv6`},
	{`"snatIPv4": "192.0.2.1", "internal": true`, 7, `snatIPv4 "192.0.2.1": internal`},
	{`"snatIPv4": "192.0.2.1", "ipMasq": false`, 7, `snatIPv4 "192.0.2.1": masquerade`},
	{`"gatewayModeIPv4": "nat-unprotected", "internal": true`, 7, `gatewayModeIPv4 "nat-unprotected" internal`},
	{`"gatewayModeIPv4": "routed", "internal": true`, 7, `gatewayModeIPv4 "routed" internal`},
	{`"gatewayModeIPv4": "routed", "snatIPv4": "192.0.2.1"`, 7, `snatIPv4 "192.0.2.1" routed`},
	{`"gatewayModeIPv6": "isolated"`, 7, `gatewayModeIPv6 "isolated" internal`},
	{`"internal": true, "gatewayModeIPv4": "isolated", "ipam": {"type": "dipam", "subnet": "10.1.0.0/24", "gateway": "10.1.0.9"}`, 7, `ipam.gateway "10.1.0.9" isolated`},
	{`"internal": true, "gatewayModeIPv4": "isolated", "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80}]}`, 2, `portMappings 8080 isolated`},
	{`"gatewayModeIPv6": "none"`, 7, `gatewayModeIPv6 "none" nat routed isolated`},
	{`"firewall": "ebtables"`, 7, `firewall "ebtables" nftables or iptables`},
	{`"hostBinding": "localhost"`, 7, `hostBinding "localhost"`},
	{`"hostBinding": "10.1.0.0/24"`, 7, `hostBinding "10.1.0.0/24"`},
	{`"options": {"com.docker.network.bridge.enable_icc": "false"}, "icc": true`, 7, `enable_icc false icc true`},
	{`"options": {"com.docker.network.bridge.enable_icc": false}`, 7, `options must be a string`},
	{`"options": {"com.docker.network.bridge.enable_icc": "nope"}`, 7, `enable_icc "nope" true or false`},
	{`"options": {"com.docker.network.driver.mtu": "1.5k"}`, 7, `mtu "1.5k" whole number`},
	{`"options": {"com.docker.network.bridge.nam": "x"}`, 7, `"options.com.docker.network.bridge.nam" did you mean`},
	{`"options": {"com.docker.network.bridge.gateway_mode_ipv4": "router"}`, 7, `gatewayModeIPv4 "router"`},
	{`"ipv6": "yes"`, 7, `ipv6 "yes" true or false`},
	{`"ipv6": false, "ipam": {"type": "dipam", "subnet": "fd00:1::/64"}`, 7, `ipv6 false IPv6 subnet`},
	{`"ipv6": true, "mtu": 1279`, 7, `mtu 1279 1280`},
	{`"mtu": 1200, "ipam": {"type": "dipam", "subnets": [{"subnet": "10.1.0.0/24"}, {"subnet": "fd00:1::/64"}]}`, 7, `mtu 1200 1280`},
	{`"ipMasq": true, "masquerade": false`, 7, `ipMasq true masquerade false`},
	{`"icc": true, "ICC": false`, 7, `icc twice`},
	{`"gwPriority": "high"`, 7, `gwPriority "high" whole number`},
	{`"ipam": "dipam"`, 7, `ipam`},
	{`"ipam": {"subnet": "10.1.0.0/24"}`, 7, `ipam.type`},
	{`"ipam": {"type": "/bin/true"}`, 7, `ipam.type "/bin/true"`},
	{`"ipam": {"type": "dipam", "subnet": "10.1.0.1/24"}`, 7, `ipam.subnet "10.1.0.1/24" 10.1.0.0/24`},
	{`"ipam": {"type": "dipam", "subnet": "10.1.0.0"}`, 7, `ipam.subnet "10.1.0.0"`},
	{`"ipam": {"type": "dipam", "subnet": "300.1.0.0/24"}`, 7, `ipam.subnet "300.1.0.0/24"`},
	{`"ipam": {"type": "dipam", "subnet": "10.1.0.0/33"}`, 7, `ipam.subnet "10.1.0.0/33"`},
	{`"ipam": {"type": "dipam", "subnet": "10.1.0.0/32"}`, 7, `ipam.subnet "10.1.0.0/32" no address left`},
	{`"ipam": {"type": "dipam", "subnet": "127.0.0.0/24"}`, 7, `ipam.subnet "127.0.0.0/24" loopback`},
	{`"ipam": {"type": "dipam", "subnet": "239.0.0.0/24"}`, 7, `ipam.subnet "239.0.0.0/24" multicast`},
	{`"ipam": {"type": "dipam", "subnet": "0.0.0.0/0"}`, 7, `ipam.subnet "0.0.0.0/0"`},
	{`"ipam": {"type": "dipam", "subnet": "::ffff:10.1.0.0/120"}`, 7, `ipam.subnet "::ffff:10.1.0.0/120"`},
	{`"ipam": {"type": "dipam", "subnet": "fe80::/63"}`, 7, `ipam.subnet "fe80::/63"`},
	{`"ipam": {"type": "dipam", "subnet": "10.1.0.0/24", "gateway": "10.2.0.1"}`, 7, `ipam.gateway "10.2.0.1" 10.1.0.0/24`},
	{`"ipam": {"type": "dipam", "subnet": "10.1.0.0/24", "gateway": "10.1.0.255"}`, 7, `ipam.gateway "10.1.0.255" broadcast`},
	{`"ipam": {"type": "dipam", "subnet": "10.1.0.0/24", "gateway": "fd00::1"}`, 7, `ipam.gateway "fd00::1"`},
	{`"ipam": {"type": "dipam", "subnet": "10.1.0.0/24", "ipRange": "10.1.1.0/25"}`, 7, `ipam.ipRange "10.1.1.0/25" 10.1.0.0/24`},
	{`"ipam": {"type": "dipam", "subnet": "10.1.0.0/24", "ipRange": "10.1.0.0/23"}`, 7, `ipam.ipRange "10.1.0.0/23"`},
	{`"ipam": {"type": "dipam", "subnet": "10.1.0.0/24", "auxAddresses": {"router": "10.2.0.1"}}`, 7, `ipam.auxAddresses.router "10.2.0.1" 10.1.0.0/24`},
	{`"ipam": {"type": "dipam", "subnet": "10.1.0.0/24", "auxAddresses": {"router": "10.1.0.1"}}`, 7, `ipam.auxAddresses.router "10.1.0.1" gateway`},
	{`"ipam": {"type": "dipam", "subnet": "10.1.0.0/24", "auxAddresses": ["10.1.0.9"]}`, 7, `ipam.auxAddresses an object`},
	{`"ipam": {"type": "dipam", "gateway": "10.1.0.1"}`, 7, `ipam.gateway "10.1.0.1" subnet`},
	{`"ipam": {"type": "dipam", "subnets": [{"subnet": "10.1.0.0/16"}, {"subnet": "10.1.5.0/24"}]}`, 7, `ipam.subnets[1].subnet "10.1.5.0/24" overlaps 10.1.0.0/16`},
	{`"ipam": {"type": "dipam", "subnets": [{"gateway": "10.1.0.1"}]}`, 7, `ipam.subnets[0].gateway "10.1.0.1" subnet`},
	{`"ipam": {"type": "dipam", "subnets": [{}]}`, 7, `ipam.subnets[0].subnet`},
	{`"ipam": {"type": "dipam", "subnet": "10.1.0.0/24", "subnets": [{"subnet": "10.2.0.0/24"}]}`, 7, `ipam.subnets`},
	{`"ipam": {"type": "dipam", "subnets": {"subnet": "10.2.0.0/24"}}`, 7, `ipam.subnets a list`},
	{`"ipam": {"type": "dipam", "subnets": [{"subnet": 5}]}`, 7, `ipam.subnets[0].subnet 5: a string`},
	{`"ipam": {"type": "dipam", "allocation": "random"}`, 7, `ipam.allocation "random" next-fit lowest`},
	{`"ipam": {"type": "dipam", "sticky": "yes"}`, 7, `ipam.sticky "yes" true or false`},
	{`"ipam": {"type": "dipam", "dataDir": "var/lib"}`, 7, `ipam.dataDir "var/lib" absolute`},
	{`"ipam": {"type": "dipam", "routes": [{"dst": "nowhere"}]}`, 7, `ipam.routes[0].dst "nowhere"`},
	{`"ipam": {"type": "dipam", "routes": [{"dst": "10.5.0.0/16", "gw": "fd00::1"}]}`, 7, `ipam.routes[0].gw "fd00::1" family`},
	{`"ipam": {"type": "dipam", "routes": [{"dst": "10.5.0.0/16", "mtu": -1}]}`, 7, `ipam.routes[0].mtu -1`},
	{`"runtimeConfig": {"portMappings": [{"hostPort": 70000, "containerPort": 80}]}`, 7, `portMappings[0].hostPort 70000 65535`},
	{`"runtimeConfig": {"portMappings": [{"hostPort": 80}]}`, 7, `portMappings[0].containerPort 0 1 to 65535`},
	{`"runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 80, "protocol": "icmp"}]}`, 7, `portMappings[0].protocol "icmp" tcp, udp or sctp`},
	{`"runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 80, "hostIP": "localhost"}]}`, 7, `portMappings[0].hostIP "localhost"`},
	{`"runtimeConfig": {"portMappings": [{"hostPort": "80", "containerPort": 80}]}`, 7, `portMappings`},
	{`"runtimeConfig": {"portMappings": {"80": 80}}`, 7, `portMappings a list`},
	{`"runtimeConfig": {"ips": ["10.1.0.300"]}`, 7, `runtimeConfig.ips[0] "10.1.0.300"`},
	{`"runtimeConfig": {"ips": 5}`, 7, `runtimeConfig.ips 5`},
	{`"runtimeConfig": {"mac": "zz"}`, 7, `runtimeConfig.mac "zz"`},
	{`"runtimeConfig": {"mac": "01:00:5e:00:00:01"}`, 7, `runtimeConfig.mac "01:00:5e:00:00:01" unicast`},
	{`"runtimeConfig": {"aliases": "db"}`, 7, `runtimeConfig.aliases`},
	{`"runtimeConfig": {"bandwidth": {"ingressRate": -1}}`, 7, `runtimeConfig.bandwidth -1 numbers of bits`},
	{`"runtimeConfig": {"bandwidth": {"ingressRate": 99999999999999999999}}`, 7, `runtimeConfig.bandwidth 99999999999999999999 numbers of bits`},
	{`"runtimeConfig": {"bandwidth": {"ingressBurst": 8000}}`, 7, `runtimeConfig.bandwidth.ingressBurst 8000 0 without ingressRate`},
	{`"runtimeConfig": {"bandwidth": {"egressRate": 1}}`, 7, `runtimeConfig.bandwidth.egressRate 1: at least 8 bits`},
	{`"runtimeConfig": {"bandwidth": 5}`, 7, `runtimeConfig.bandwidth 5: numbers of bits`},
	{`"runtimeConfig": {"bandwidth": {"ingressRate": "fast"}}`, 7, `runtimeConfig.bandwidth fast must be numbers`},
	{`"runtimeConfig": []`, 7, `runtimeConfig`},
	{`"args": {"cni": {"ips": [5]}}`, 7, `args.cni.ips`},
}

// onlyAtAdd are fine as configurations, and refused for what is on the machine
// or asked for.
var onlyAtAdd = []wrong{
	{`"bridge": "lo"`, 7, `existing interface lo is not a bridge`},
	{`"bridge": "eth0"`, 7, `existing interface eth0 is not a bridge`},
	{`"bridge": "mv0"`, 7, `existing interface mv0 is not a bridge`},
	{`"bridge": "vx0"`, 7, `existing interface vx0 is not a bridge`},
	{`"ipam": {"type": "no-such-ipam"}`, 7, `ipam.type "no-such-ipam" CNI_PATH`},
	{`"ipam": {"type": "dipam", "subnet": "10.99.0.128/25"}`, 7, `overlaps 10.99.0.128/25 "web" 10.99.0.0/24 "other"`},
	{`"ipam": {"type": "dipam", "subnet": "10.0.0.0/8"}`, 7, `overlaps 10.0.0.0/8 "web" 10.99.0.0/24 "other"`},
	{`"ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}, "runtimeConfig": {"ips": ["10.2.0.5/24"]}`, 7, `10.2.0.5`},
	{`"ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}, "runtimeConfig": {"ips": ["10.1.0.255"]}`, 7, `10.1.0.255 broadcast`},
	{`"ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}, "runtimeConfig": {"ips": ["10.1.0.1"]}`, 101, `10.1.0.1 gateway`},
	{`"ipam": {"type": "dipam", "subnet": "10.1.0.0/24", "auxAddresses": {"router": "10.1.0.9"}}, "runtimeConfig": {"ips": ["10.1.0.9"]}`, 101, `10.1.0.9 "router"`},
	{`"ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}, "runtimeConfig": {"ips": ["fd00::5"]}`, 7, `fd00::5`},
	{`"ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}, "runtimeConfig": {"ipRanges": [[{"subnet": "10.1.0.0/25"}]]}`, 7, `ipRanges[0][0].subnet "10.1.0.0/25" overlaps`},
	{`"ipv6": true, "ipam": {"type": "static", "addresses": [{"address": "10.1.0.5/24"}]}`, 7, `ipv6 true`},
	{`"ipv6": false, "ipam": {"type": "static", "addresses": [{"address": "fd00::5/64"}]}`, 7, `ipv6 false`},
	{`"ipam": {"type": "static"}`, 7, `ipam.type "static" address`},
	{`"ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}, "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80}]}`, 102, `Bind for 0.0.0.0:8080 failed: port is already allocated`},
	{`"ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}, "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "hostIP": "127.0.0.1"}]}`, 102, `Bind for 127.0.0.1:8080 failed: port is already allocated`},
	{`"ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}, "runtimeConfig": {"portMappings": [{"hostPort": 9090, "containerPort": 80}]}`, 102, `failed to bind host port 0.0.0.0:9090/tcp: address already in use`},
	{`"ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}, "runtimeConfig": {"portMappings": [{"hostPort": 81, "containerPort": 80}, {"hostPort": 8080, "containerPort": 80}]}`, 102, `Bind for 0.0.0.0:8080 failed`},
	{`"ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}, "runtimeConfig": {"portMappings": [{"hostPort": 81, "containerPort": 80}, {"hostPort": 81, "containerPort": 90}]}`, 7, `81`},
	{`"ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}, "runtimeConfig": {"portMappings": [{"hostPort": 81, "containerPort": 80, "hostIP": "198.51.100.9"}]}`, 7, `hostIP "198.51.100.9" address of this host`},
	{`"hostBinding": "198.51.100.9", "ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}, "runtimeConfig": {"portMappings": [{"hostPort": 81, "containerPort": 80}]}`, 7, `198.51.100.9`},
	{`"ipForward": false, "ipam": {"type": "dipam", "subnet": "fd00:5::/64"}`, 7, `ipForward false net.ipv6.conf.all.forwarding`},
}

// TestBadInput says no to each wrong configuration with one error, and the
// machine is as before: no bridge, no rule, no lease, no record, no network.
func TestBadInput(t *testing.T) {
	r := newFixture(t)
	r.netns("c0", "c1")
	r.run("ip", "link", "add", "mv0", "link", "eth0", "type", "macvlan")
	r.run("ip", "link", "add", "vx0", "type", "vxlan", "id", "7", "dstport", "4789")
	server, err := bound(endpoint{addr: netip.MustParseAddrPort("0.0.0.0:9090"), proto: "tcp"})
	if err != nil {
		t.Fatal(err)
	}
	end, err := keep(server)
	if err = errors.Join(err, server.Close()); err != nil {
		t.Fatal(err)
	}
	defer end()
	other := `{"cniVersion": "1.1.0", "name": "other", "type": "dbridge", "ipam": {"type": "dipam", "subnet": "10.99.0.0/24"},
		"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80}]}}`
	r.ok(r.plugin("ADD", "dbridge", other, "containerid=c0", "netns=c0"))
	before := takePicture()
	for _, c := range wrongs {
		conf := bridgeConf(c.body)
		good := true
		for _, verb := range c.verbs() {
			good = r.refused(verb+" "+c.body, r.plugin(verb, "dbridge", conf), c.code, c.words) && good
		}
		for _, verb := range []string{"DEL", "GC"} {
			if a := r.plugin(verb, "dbridge", bridgeConf(c.body+none)); a.err != nil && (verb == "DEL" || !strings.Contains(c.body, "/bin/true")) {
				t.Errorf("%s %s: %s", verb, c.body, a.out)
			}
		}
		if good && !r.same(c.body, before) || !good {
			before = takePicture()
		}
	}
	for _, c := range onlyAtAdd {
		if c.status() {
			r.refused("STATUS "+c.body, r.plugin("STATUS", "dbridge", bridgeConf(c.body)), 50, c.words)
		}
		good := r.refused("ADD "+c.body, r.plugin("ADD", "dbridge", bridgeConf(c.body)), c.code, c.words)
		if good && !r.same(c.body, before) || !good {
			r.plugin("DEL", "dbridge", bridgeConf(c.body))
			before = takePicture()
		}
	}
}

// status reports whether STATUS knows of it as well: all but the requests, and
// what only an IPAM plugin of another suite knows.
func (w wrong) status() bool {
	return !strings.Contains(w.body, "runtimeConfig") && !strings.Contains(w.body, "static") && !strings.Contains(w.body, "no-such")
}

// none is what a runtime adds for GC when nothing is attached.
const none = `, "cni.dev/valid-attachments": []`
