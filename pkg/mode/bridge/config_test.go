package bridge

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"dcni/pkg/network"
	"dcni/pkg/wire"
)

func conf(body string) []byte {
	if body != "" {
		body = ", " + body
	}
	return []byte(`{"cniVersion": "1.1.0", "name": "web", "type": "dbridge"` + body + `}`)
}

func read(data []byte) (*Bridge, error) {
	c, err := network.ReadConf(data)
	if err != nil {
		return nil, err
	}
	return parseBridge(c)
}

func TestBridgeDefaults(t *testing.T) {
	b, err := read(conf(""))
	if err != nil {
		t.Fatal(err)
	}
	// sha256("web") begins 4b5e57f6eb2f.
	if b.Link != "br-4b5e57f6eb2f" || !b.ICC || b.Internal || !b.Masquerade || b.HostBinding.IsValid() ||
		b.MTU != 0 || b.IPv6 != nil || b.GwPriority != 0 || !b.IPForward || b.IPAM.Type != "dipam" {
		t.Errorf("defaults are %+v", b)
	}
	d, err := read(conf(`"defaultBridge": true`))
	if err != nil || d.Link != "dcni0" {
		t.Errorf("the default bridge is %q, %v", d.Link, err)
	}
}

func TestDockerNames(t *testing.T) {
	b, err := read(conf(`"options": {
		"com.docker.network.bridge.name": "mybr",
		"com.docker.network.bridge.enable_icc": "false",
		"com.docker.network.bridge.enable_ip_masquerade": "0",
		"com.docker.network.bridge.host_binding_ipv4": "127.0.0.1",
		"com.docker.network.driver.mtu": "1400",
		"com.docker.network.container_iface_prefix": "net"}, "mtu": 1400`))
	if err != nil {
		t.Fatal(err)
	}
	if b.Link != "mybr" || b.ICC || b.Masquerade || b.MTU != 1400 || b.HostBinding != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("got %+v", b)
	}
}

// TestDockerBinding: Docker's option means both families by 0.0.0.0, and our key IPv4 only.
func TestDockerBinding(t *testing.T) {
	for _, c := range []struct{ body, want string }{
		{`"options": {"com.docker.network.bridge.host_binding_ipv4": "0.0.0.0"}`, "invalid IP"},
		{`"options": {"com.docker.network.bridge.host_binding_ipv4": "192.0.2.1"}`, "192.0.2.1"},
		{`"hostBinding": "0.0.0.0"`, "0.0.0.0"},
	} {
		b, err := read(conf(c.body))
		if err != nil || b.HostBinding.String() != c.want {
			t.Errorf("%s: %v, error %v, want %s", c.body, b, err, c.want)
		}
	}
}

func TestKeysFoldCase(t *testing.T) {
	b, err := read(conf(`"MTU": 1400, "Internal": true, "comment": "x", "cni.dev/x": 1, "ipMasq": false, "masquerade": false`))
	if err != nil || b.MTU != 1400 || !b.Internal || b.Masquerade {
		t.Errorf("got %+v, %v", b, err)
	}
}

func TestBridgeErrors(t *testing.T) {
	for _, c := range []struct {
		body string
		code wire.Code
		says string // words of the message, in order
	}{
		{`"internel": true`, 7, `unknown key "internel": did you mean "internal"`},
		{`"zzzzzzzzzzzz": 1`, 7, `unknown key "zzzzzzzzzzzz": known are`},
		{`"acceptRA": true`, 7, `acceptRA true: false without the key "bridge"`},
		{`"acceptRA": 1, "bridge": "br1"`, 7, `acceptRA 1: true or false`},
		{`"mtu": 67`, 7, `mtu 67: 0 68 to 65535`},
		{`"mtu": 65536`, 7, `mtu 65536: 0 68 to 65535`},
		{`"mtu": -1`, 7, `mtu -1:`},
		{`"mtu": "1500"`, 7, `mtu "1500": whole number`},
		{`"mtu": 1500.5`, 7, `mtu 1500.5: whole number`},
		{`"icc": "no"`, 7, `icc "no": true or false`},
		{`"internal": 1`, 7, `internal 1: true or false`},
		{`"bridge": "sixteen-letters-"`, 7, `bridge "sixteen-letters-": 15 bytes`},
		{`"bridge": "a/b"`, 7, `bridge "a/b":`},
		{`"bridge": ".."`, 7, `bridge "..":`},
		{`"bridge": "all"`, 7, `bridge "all":`},
		{`"bridge": "a b"`, 7, `bridge "a b":`},
		{`"hostBinding": "localhost"`, 7, `hostBinding "localhost": address`},
		{`"firewall": "pf"`, 7, `firewall "pf": nftables`},
		{`"gatewayModeIPv4": "isolated"`, 7, `gatewayModeIPv4 "isolated": "internal": true`},
		{`"gatewayModeIPv6": "isolated", "internal": false`, 7, `gatewayModeIPv6 "isolated": "internal": true`},
		{`"gatewayModeIPv4": "isolated", "internal": true, "snatIPv4": "192.0.2.9"`, 7, `snatIPv4 "192.0.2.9": "internal"`},
		{`"gatewayModeIPv4": "isolated", "internal": true, "ipam": {"type": "dipam", "subnet": "10.1.0.0/24", "gateway": "10.1.0.1"}`, 7, `ipam.gateway "10.1.0.1": must not gatewayModeIPv4 isolated`},
		{`"gatewayModeIPv6": "isolated", "internal": true, "ipam": {"type": "dipam", "subnets": [{"subnet": "10.1.0.0/24", "gateway": "10.1.0.1"}, {"subnet": "fd00::/64", "gateway": "fd00::1"}]}`, 7, `ipam.gateway "fd00::1": must not gatewayModeIPv6 isolated`},
		{`"ipv4": false`, 7, `ipv4 false: "ipv6": true IPv6 subnet`},
		{`"ipv4": "no"`, 7, `ipv4 "no": true or false`},
		{`"ipv4": false, "ipv6": false`, 7, `ipv4 false: "ipv6": true`},
		{`"ipv4": false, "ipv6": true, "ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}`, 7, `ipv4 false: IPv4 subnet`},
		{`"inhibitIPv4": "yes"`, 7, `inhibitIPv4 "yes": true or false`},
		{`"gatewayModeIPv4": "Routed"`, 7, `gatewayModeIPv4 "Routed": nat nat-unprotected routed isolated`},
		{`"gatewayModeIPv4": true`, 7, `gatewayModeIPv4 true: a string`},
		{`"gatewayModeIPv4": "routed", "internal": true`, 7, `gatewayModeIPv4 "routed": nat isolated "internal"`},
		{`"gatewayModeIPv6": "nat-unprotected", "internal": true`, 7, `gatewayModeIPv6 "nat-unprotected": nat isolated "internal"`},
		{`"gatewayModeIPv4": "routed", "snatIPv4": "192.0.2.9"`, 7, `snatIPv4 "192.0.2.9": routed gateway mode`},
		{`"trustedHostInterfaces": "eth0"`, 7, `trustedHostInterfaces "eth0": a list`},
		{`"trustedHostInterfaces": ["eth0", "a/b"]`, 7, `trustedHostInterfaces[1] "a/b": 15 bytes`},
		{`"trustedHostInterfaces": [""]`, 7, `trustedHostInterfaces[0] "":`},
		{`"trustedHostInterfaces": ["eth0", "eth0"]`, 7, `trustedHostInterfaces[1] "eth0": twice`},
		{`"trustedHostInterfaces": ["eth0"], "internal": true`, 7, `trustedHostInterfaces ["eth0"]: "internal"`},
		{`"trustedHostInterfaces": ["br9"], "bridge": "br9"`, 7, `trustedHostInterfaces ["br9"]: own bridge`},
		{`"gatewayModeIPv6": "natted"`, 7, `gatewayModeIPv6 "natted": nat`},
		{`"snatIPv4": "2001:db8::1"`, 7, `snatIPv4 "2001:db8::1": one IPv4 address of this host`},
		{`"snatIPv6": "192.0.2.9"`, 7, `snatIPv6 "192.0.2.9": one IPv6 address of this host`},
		{`"snatIPv6": "::ffff:192.0.2.9"`, 7, `snatIPv6 "::ffff:192.0.2.9": one IPv6 address`},
		{`"snatIPv4": "192.0.2.0/24"`, 7, `snatIPv4 "192.0.2.0/24":`},
		{`"snatIPv4": "127.0.0.1"`, 7, `snatIPv4 "127.0.0.1":`},
		{`"snatIPv4": "224.0.0.1"`, 7, `snatIPv4 "224.0.0.1":`},
		{`"snatIPv6": "fe80::1%eth0"`, 7, `snatIPv6 "fe80::1%eth0":`},
		{`"snatIPv4": 5`, 7, `snatIPv4 5: a string`},
		{`"snatIPv4": "192.0.2.9", "masquerade": false`, 7, `snatIPv4 "192.0.2.9": must not "masquerade": false`},
		{`"snatIPv6": "2001:db8::9", "internal": true`, 7, `snatIPv6 "2001:db8::9": must not "internal": nothing leaves`},
		{`"ipv6": false, "ipam": {"type": "dipam", "subnet": "fd00:1::/64"}`, 7, `ipv6 false: IPv6 subnet`},
		{`"ipv6": true, "mtu": 1279`, 7, `mtu 1279: 1280`},
		{`"ipMasq": "yes"`, 7, `ipMasq "yes": must be true or false`},
		{`"ipMasq": true, "masquerade": false`, 7, `ipMasq true: masquerade false`},
		{`"mtu": 1500, "MTU": 1400`, 7, `mtu: twice`},
		{`"mtu": 1500, "options": {"com.docker.network.driver.mtu": "1400"}`, 7, `options.com.docker.network.driver.mtu 1400: mtu 1500`},
		{`"options": {"com.docker.network.driver.mtu": "abc"}`, 7, `options.com.docker.network.driver.mtu "abc": whole number`},
		{`"options": {"com.docker.network.bridge.enable_icc": "maybe"}`, 7, `enable_icc "maybe": true or false`},
		{`"options": {"com.docker.network.bridge.icc": "true"}`, 7, `unknown key "options.com.docker.network.bridge.icc": mean`},
		{`"options": ["x"]`, 7, `options:`},
		{`"ipam": {}`, 7, `ipam.type "":`},
		{`"ipam": {"type": "../dipam"}`, 7, `ipam.type "../dipam": path`},
		{`"ipam": {"type": "dipam", "subent": "10.1.0.0/24"}`, 7, `unknown key "ipam.subent": did you mean "ipam.subnet"`},
		{`"ipam": {"type": "dipam", "subnet": 5}`, 7, `ipam.subnet 5: a string`},
		{`"ipam": {"type": "dipam", "subnet": "10.1.0.0/33"}`, 7, `ipam.subnet "10.1.0.0/33":`},
		{`"ipam": []`, 7, `ipam`},
		{`"ipam": {"type": "dipam", "subnets": [{"subnet": "10.1.0.0/24"}, {"iprnge": "10.1.0.0/25"}]}`, 7, `unknown key "ipam.subnets[1].iprnge": did you mean "ipam.subnets[1].ipRange"`},
		{`"ipam": {"type": "dipam", "subnets": [{"subnet": 5}]}`, 7, `ipam.subnets[0].subnet 5: a string`},
		{`"ipam": {"type": "dipam", "subnets": [5]}`, 7, `ipam.subnets[0] 5: an object`},
		{`"ipam": {"type": "dipam", "routes": [{"dst": "10.1.0.0/24", "via": "10.1.0.1"}]}`, 7, `unknown key "ipam.routes[0].via"`},
		{`"dns": {"nameserver": ["10.1.0.1"]}`, 7, `unknown key "dns.nameserver": did you mean "dns.nameservers"`},
		{`"dns": 5`, 7, `dns 5: an object`},
	} {
		_, err := read(conf(c.body))
		var coded *wire.Error
		if !errors.As(err, &coded) {
			t.Errorf("%s: %v, want a coded error", c.body, err)
			continue
		}
		if coded.Code != c.code || !inOrder(err.Error(), c.says) {
			t.Errorf("%s:\n got %d %q\nwant %d %q", c.body, coded.Code, err, c.code, c.says)
		}
	}
}

// inOrder reports whether the words of one text are in another, in order.
func inOrder(text, words string) bool {
	for _, w := range strings.Fields(words) {
		i := strings.Index(text, w)
		if i < 0 {
			return false
		}
		text = text[i+len(w):]
	}
	return true
}

func TestForeignIPAMIsLeftAlone(t *testing.T) {
	b, err := read(conf(`"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}]], "anything": 1}`))
	if err != nil || b.IPAM.Type != "host-local" {
		t.Errorf("got %+v, %v", b, err)
	}
}

func FuzzParseBridge(f *testing.F) {
	for _, body := range []string{
		"", `"mtu": 1500`, `"options": {"com.docker.network.driver.mtu": "1400"}`,
		`"ipam": {"type": "dipam", "subnets": [{"subnet": "10.0.0.0/8", "ipRange": "10.1.0.0/16"}]}`,
	} {
		f.Add(conf(body))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := read(data)
		var coded *wire.Error
		switch {
		case err != nil && !errors.As(err, &coded):
			t.Errorf("error without a code: %v", err)
		case err == nil && !network.ValidLink(b.Link):
			t.Errorf("bridge %q", b.Link)
		}
	})
}

func TestBridgeLimits(t *testing.T) {
	for body, ok := range map[string]bool{
		`"mtu": 68`: true, `"mtu": 67`: false, `"mtu": 65535`: true, `"mtu": 65536`: false,
		`"ipv6": true, "mtu": 1280`: true, `"ipv6": true, "mtu": 1279`: false, `"ipv6": true, "mtu": 0`: true, `"ipv6": false, "mtu": 1279`: true,
		`"mtu": 1279, "ipam": {"type": "dipam", "subnet": "fd00:1::/64"}`: false,
		`"mtu": 1279, "ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}`: true,
		`"hostBinding": "0.0.0.0"`:                                        true, `"hostBinding": "::1"`: true, `"hostBinding": "fe80::1%eth0"`: false, `"hostBinding": "224.0.0.1"`: false, `"hostBinding": "x"`: false,
		`"ipam": null`: true,
	} {
		if _, err := read(conf(body)); (err == nil) != ok {
			t.Errorf("%s: %v", body, err)
		}
	}
}
