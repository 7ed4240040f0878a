package bridge

import (
	"encoding/json"
	"maps"
	"testing"

	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/network/catalog"
	"dcni/pkg/wire"
)

// TestConfigure wants names on every network but the default bridge.
func TestConfigure(t *testing.T) {
	const capabilities = `"aliases":true,"bandwidth":true,"ips":true,"mac":true,"portMappings":true`
	const withNames = `"aliases":true,"bandwidth":true,"dns":true,"io.kubernetes.cri.pod-annotations":true,"ips":true,"mac":true,"portMappings":true`
	yes := true
	for _, c := range []struct {
		o    catalog.Options
		ipv6 *bool
		want string
	}{
		{want: `{"type":"dbridge","capabilities":{` + withNames + `},"names":{},"ipam":{"type":"dipam"}}`},
		{
			o: catalog.Options{Internal: true, DriverOptions: map[string]string{defaultBridge: "false"}}, ipv6: &yes,
			want: `{"type":"dbridge","capabilities":{` + withNames + `},"internal":true,"ipv6":true,"options":{"` + defaultBridge + `":"false"},"names":{},"ipam":{"type":"dipam"}}`,
		},
		{
			o:    catalog.Options{DriverOptions: map[string]string{defaultBridge: "1"}},
			want: `{"type":"dbridge","capabilities":{` + capabilities + `},"options":{"` + defaultBridge + `":"1"},"ipam":{"type":"dipam"}}`,
		},
	} {
		conf, err := driver{}.Configure(&c.o, ipam.Raw{Type: "dipam"}, c.ipv6)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := json.Marshal(conf); err != nil || string(got) != c.want {
			t.Errorf("%+v: %v\n%s, want\n%s", c.o, err, got, c.want)
		}
	}
	if _, err := (driver{}).Configure(&catalog.Options{DriverOptions: map[string]string{defaultBridge: "maybe"}}, ipam.Raw{}, nil); err == nil {
		t.Error("a default bridge that may be is no error")
	}
}

// TestOptions shows keys under Docker's names, and not what inspect shows elsewhere.
func TestOptions(t *testing.T) {
	for body, want := range map[string]map[string]string{
		``: {},
		`"internal": true, "ipv6": true, "names": {"ttl": 5}, "ipam": {"type": "dipam"}, "comment": "x"`: {},
		`"ipMasq": false, "icc": false, "mtu": 1300, "gwPriority": 5`: {
			"com.docker.network.bridge.enable_ip_masquerade": "false", "com.docker.network.bridge.enable_icc": "false",
			"com.docker.network.driver.mtu": "1300", "gwPriority": "5",
		},
		`"trustedHostInterfaces": ["eth0", "eth1"], "bridge": "br0", "options": {"com.docker.network.container_iface_prefix": "net"}`: {
			"com.docker.network.bridge.trusted_host_interfaces": "eth0:eth1", "com.docker.network.bridge.name": "br0",
			"com.docker.network.container_iface_prefix": "net",
		},
	} {
		c, err := network.ReadConf(conf(body))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := (driver{}).Options(c); err != nil || !maps.Equal(got, want) {
			t.Errorf("%s: %v, %v, want %v", body, got, err, want)
		}
	}
	c, _ := network.ReadConf(conf(`"internel": true`))
	if got, err := (driver{}).Options(c); err == nil || got == nil {
		t.Errorf("an unknown key: %v, %v", got, err)
	}
}

// TestLeftovers wants the bridge last, which is removed first, with the MAC by which
// it is known for dbridge's own.
func TestLeftovers(t *testing.T) {
	list := driver{}.Leftovers("web", "br0")
	b, ok := list[len(list)-1].(*wire.Bridge)
	if !ok || b.Name != "br0" || b.MAC != "02:42:0f:15:75:ab" {
		t.Errorf("left are %v, %+v", list, b)
	}
	if link := (driver{}).Link("web"); link != "br-4b5e57f6eb2f" {
		t.Errorf("the link is %s", link)
	}
}
