package catalog_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"dcni/pkg/firewall"
	"dcni/pkg/ipam"
	"dcni/pkg/mode"
	"dcni/pkg/network/catalog"
	"dcni/pkg/wire"
)

// list is the file of network web with one plugin.
func list(t *testing.T, plugin string) *catalog.Conflist {
	t.Helper()
	c, err := catalog.ParseConflist([]byte(`{"name": "web", "plugins": [`+plugin+`]}`), mode.All)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFacts(t *testing.T) {
	const bridge = "br-4b5e57f6eb2f"
	for _, c := range []struct {
		plugin, registered string
		want               string
	}{
		{`{"type": "dbridge"}`, "", "IPv4 default map[] []"},
		{`{"type": "dbridge"}`, "172.17.0.0/16", "IPv4 default map[] [172.17.0.0/16 via 172.17.0.1]"},
		{`{"type": "dbridge", "ipv6": true}`, "", "IPv4 IPv6 default map[] []"},
		{`{"type": "dbridge", "ipv6": true}`, "172.17.0.0/16 fd00::/64", "IPv4 IPv6 default map[] [172.17.0.0/16 via 172.17.0.1 fd00::/64 via fd00::1]"},
		{`{"type": "dbridge", "ipam": {"type": "dipam", "subnet": "fd00::/64", "sticky": true, "allocation": "lowest", "dataDir": "/x"}}`, "fd00::/64",
			"IPv6 default map[allocation:lowest sticky:true] [fd00::/64 via fd00::1]"},
		{`{"type": "dbridge", "ipv6": true, "ipam": {"type": "dipam", "subnet": "10.1.0.0/24"}}`, "", "IPv4 IPv6 default map[] [10.1.0.0/24 via 10.1.0.1]"},
		{`{"type": "dbridge", "internal": true, "ipam": {"type": "host-local", "subnet": "10.1.0.0/24"}}`, "", "IPv4 internal host-local map[] []"},
		{`{"type": "doverlay", "vni": 0, "ipam": {"type": "cluster", "subnets": [{"subnet": "10.1.0.0/24"}, {"subnet": "fd00::/64"}]}}`, "",
			"IPv4 IPv6 cluster map[] [10.1.0.0/24 via 10.1.0.1 fd00::/64 via fd00::1]"},
		{`{"type": "bridge", "internal": true}`, "", "IPv4 internal default map[] []"},
		{`{"type": "bridge", "ipam": {"type": "host-local", "subnet": "10.1.0.7/24", "gateway": "10.1.0.9"}}`, "", "IPv4 host-local map[] [10.1.0.0/24 via 10.1.0.9]"},
		{`{"type": "bridge", "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}, {"subnet": "x"}]]}}`, "",
			"IPv4 IPv6 host-local map[] [10.1.0.0/24 via invalid IP fd00::/64 via invalid IP]"},
		{`{"type": "bridge", "ipam": {"type": "dipam", "subnets": [{"subnet": "fd00::/64"}]}}`, "fd00::/64 fd01::/64",
			"IPv6 default map[] [fd00::/64 via invalid IP fd01::/64 via fd01::1]"},
		{`{"type": "bridge", "ipam": 5}`, "", "IPv4 default map[] []"},
	} {
		f, err := list(t, c.plugin).Facts(prefixes(strings.Fields(c.registered)...))
		if got := factsText(f); err != nil || got != c.want {
			t.Errorf("%s, %s: %v\n got %s\nwant %s", c.plugin, c.registered, err, got, c.want)
		}
		if own := strings.Contains(c.plugin, `"dbridge"`) || strings.Contains(c.plugin, `"doverlay"`); own != (f.Link == bridge) {
			t.Errorf("%s: bridge %q", c.plugin, f.Link)
		}
	}
	if _, err := list(t, `{"type": "dbridge", "mtu": 5}`).Facts(nil); err == nil {
		t.Error("the error that ADD will give is not told")
	}
}

// TestRoutes wants a line for each subnet that a machine on the LAN can reach by the host.
func TestRoutes(t *testing.T) {
	const routed = `{"type": "dipvlan", "parent": "eth0", "mode": "l3", "ipam": {"type": "dipam", "subnets": [{"subnet": "10.9.0.0/24"}, {"subnet": "fd00:9::/64"}]}`
	for _, c := range []struct{ plugin, host, want string }{
		{routed + `}`, "fe80::1 192.0.2.1 192.0.2.9 2001:db8::1", "[10.9.0.0/24 via 192.0.2.1 fd00:9::/64 via 2001:db8::1]"},
		{routed + `}`, "192.0.2.1 fe80::1", "[10.9.0.0/24 via 192.0.2.1]"},
		{routed + `}`, "", "[]"},
		{routed + `, "internal": true}`, "192.0.2.1", "[]"},
		{`{"type": "dipvlan", "parent": "eth0", "ipam": {"type": "dipam", "subnet": "10.9.0.0/24"}}`, "192.0.2.1", "[]"},
	} {
		f, err := list(t, c.plugin).Facts(nil)
		var host []netip.Addr
		for _, word := range strings.Fields(c.host) {
			host = append(host, netip.MustParseAddr(word))
		}
		if got := fmt.Sprint(f.Routes(host)); err != nil || got != c.want {
			t.Errorf("%s, %s: %s, %v, want %s", c.plugin, c.host, got, err, c.want)
		}
	}
}

func factsText(f catalog.Facts) string {
	var words []string
	for word, is := range map[string]bool{"IPv4": f.IPv4, "IPv6": f.IPv6, "internal": f.Internal} {
		if is {
			words = append(words, word)
		}
	}
	var subnets []string
	for _, s := range f.Subnets {
		subnets = append(subnets, fmt.Sprintf("%s via %s", s.Prefix, s.Gateway))
	}
	return strings.Join(append(slices.Sorted(slices.Values(words)), f.IPAM, fmt.Sprint(f.IPAMOptions), fmt.Sprint(subnets)), " ")
}

// TestOptions: what is written under our names is shown under Docker's.
func TestOptions(t *testing.T) {
	f, err := list(t, `{"type": "dbridge", "icc": false, "mtu": 1400, "gwPriority": 5, "internal": true, "comment": "x", "ipMasq": true,
		"options": {"com.docker.network.bridge.name": "br0"}}`).Facts(nil)
	const want = "map[com.docker.network.bridge.enable_icc:false com.docker.network.bridge.enable_ip_masquerade:true " +
		"com.docker.network.bridge.name:br0 com.docker.network.driver.mtu:1400 gwPriority:5]"
	if got := fmt.Sprint(f.Options); err != nil || got != want {
		t.Errorf("%v\n got %s\nwant %s", err, got, want)
	}
}

type created string

func (c created) String() string { return string(c) }

func TestInspect(t *testing.T) {
	c := list(t, `{"type": "dbridge", "ipam": {"type": "dipam", "subnets": [
		{"subnet": "10.1.0.0/24", "ipRange": "10.1.0.128/25", "auxAddresses": {"nas": "10.1.0.9"}}, {"subnet": "fd00:1::/64"}]}}`)
	f, err := c.Facts(nil)
	if err != nil {
		t.Fatal(err)
	}
	at := func(container, ifname string, ports []firewall.Port, addresses ...string) catalog.ShownEndpoint {
		e := catalog.ShownEndpoint{Attachment: wire.Attachment{Network: "web", Container: container, IfName: ifname}, Name: "n" + container, Ports: ports}
		for _, a := range addresses {
			e.Addresses = append(e.Addresses, ipam.Assigned{Address: netip.MustParsePrefix(a)})
		}
		return e
	}
	second := at("c1", "eth1", nil, "10.1.0.131/24")
	attached := []catalog.ShownEndpoint{
		second,
		at("c1", "eth0", []firewall.Port{{HostPort: 80, ContainerPort: 8080, Protocol: "tcp"}}, "fd00:1::2/64", "fd00:1::3/64", "10.1.0.130/24", "10.1.0.132/24"),
		at("c2", "eth0", []firewall.Port{
			{HostPort: 80, ContainerPort: 80, Protocol: "udp"},
			{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 81, ContainerPort: 80, Protocol: "udp"},
		}, "10.1.0.133/24"),
	}
	out := c.Inspect(created("now"), f, attached, addrs("10.1.0.130", "10.1.0.131", "fd00:1::2"))
	for want, is := range map[string]any{
		"[{10.1.0.0/24 10.1.0.128/25 10.1.0.128 map[nas:10.1.0.9]} {fd00:1::/64  fd00:1::1 map[]}]": out.IPAM.Config,
		"map[10.1.0.0/24:{6 124} fd00:1::/64:{3 18446744073709551613}]":                             out.Status.IPAM.Subnets,
		"10.1.0.130/24 fd00:1::2/64":                fmt.Sprint(out.Containers["c1"].IPv4Address, out.Containers["c1"].IPv6Address),
		"map[8080/tcp:[{0.0.0.0 80} {:: 80}]]":      out.Containers["c1"].Ports,
		"map[80/udp:[{0.0.0.0 80} {127.0.0.1 81}]]": out.Containers["c2"].Ports,
		"10.1.0.131/24 map[]":                       fmt.Sprint(out.Containers["ep-"+second.EndpointID()].IPv4Address, out.Containers["ep-"+second.EndpointID()].Ports),
		"3":                                         len(out.Containers),
	} {
		if got := fmt.Sprint(is); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	foreign := list(t, `{"type": "bridge", "ipam": {"type": "host-local", "subnet": "10.1.0.0/24"}}`)
	f, _ = foreign.Facts(nil)
	if out := foreign.Inspect(created(""), f, nil, nil); out.Status != nil || len(out.IPAM.Config) != 1 || out.Containers == nil {
		t.Errorf("another IPAM's addresses are counted: %+v", out)
	}
}

// TestRemover: what is left on the host is told by the driver, of our networks alone.
func TestRemover(t *testing.T) {
	for plugin, want := range map[string]bool{`{"type": "dbridge"}`: true, `{"type": "dhost"}`: false, `{"type": "bridge"}`: false, `{"type": "ddns"}`: false} {
		if got := list(t, plugin).Remover() != nil; got != want {
			t.Errorf("%s: %t", plugin, got)
		}
	}
}
