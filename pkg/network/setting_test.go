package network

import (
	"net/netip"
	"strings"
	"testing"

	"dcni/pkg/ipam"
	"dcni/pkg/wire"
)

func TestParseSettings(t *testing.T) {
	const good = "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.neigh.IFNAME.base_reachable_time_ms=20000,net.mpls.conf.IFNAME.input=1"
	list, err := ParseSettings(strings.Replace(good, "IFNAME", "ifname", 1))
	if err != nil || JoinSettings(list) != good {
		t.Errorf("%v, %v", list, err)
	}
	for _, bad := range []string{
		"", ",", "net.ipv4.conf.IFNAME.log_martians", "net.ipv4.conf.IFNAME.log_martians=", "net.ipv4.conf.eth0.log_martians=1",
		"net.ipv4.conf.all.log_martians=1", "net.core.conf.IFNAME.x=1", "net.ipv4.ip_forward=1", "kernel.ipv4.conf.IFNAME.x=1",
		"net.ipv4.../IFNAME.x=1", "net.ipv4.conf.IFNAME.a/b=1", "net.ipv4.conf.IFNAME.a.b=1", "net.ipv4.conf.IFNAME.x=1;2",
		"net.ipv4.conf.IFNAME.log_martians=1,", "net.ipv6.conf.IFNAME.disable_ipv6=1", "net.ipv6.conf.IFNAME.disable_ipv6=0",
	} {
		if _, err := ParseSettings(bad); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestSettings: what is asked for comes in place of what every interface has, or before it is up.
func TestSettings(t *testing.T) {
	e := Endpoint{
		Attachment: wire.Attachment{Network: "web", Container: "c1", IfName: "eth7"}, NetNS: "/ns",
		Subnets:   []ipam.Subnet{{Prefix: netip.MustParsePrefix("10.1.0.0/24")}, {Prefix: netip.MustParsePrefix("fd00::/64")}},
		Addresses: []ipam.Assigned{{Address: netip.MustParsePrefix("10.1.0.2/24")}},
	}
	plain := len(e.Interface())
	e.Sysctls, _ = ParseSettings("net.ipv4.conf.IFNAME.arp_notify=0,net.ipv6.conf.IFNAME.accept_ra=2,net.ipv4.conf.IFNAME.log_martians=0,net.ipv4.conf.IFNAME.log_martians=1")
	var lines []string
	for _, o := range e.Interface() {
		lines = append(lines, o.String())
	}
	text := strings.Join(lines, "\n")
	for _, want := range []string{
		"sysctl net/ipv4/conf/eth7/log_martians=1 in sandbox\nlink eth7 up", "arp_notify=0 in", "accept_ra=2 ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if len(lines) != plain+1 {
		t.Errorf("%d objects besides one more than %d:\n%s", len(lines), plain, text)
	}
	// what a plugin behind sets counts, and what it leaves stays
	behind := Chained{Sysctls: map[string]string{"net/ipv4/conf/eth7/log_martians": "0"}}
	text = ""
	for _, o := range behind.Apply(e.Interface()) {
		text += o.String() + "\n"
	}
	if !strings.Contains(text, "log_martians=0") || !strings.Contains(text, "accept_ra=2") {
		t.Error(text)
	}
}
