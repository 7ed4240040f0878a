package iptables

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dcni/pkg/firewall"
	"dcni/pkg/wire"
)

func owner(container string) wire.Attachment {
	return wire.Attachment{Network: "web", Container: container, IfName: "eth0"}
}

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func addresses(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// policies are what goldens are of.
var policies = map[string]wire.Object{
	"plain": &firewall.Network{Name: "web", Bridge: "br-web", Subnets: prefixes("10.1.0.0/24", "fd00:1::/64"), ICC: true, Masquerade: true},
	"snat": &firewall.Network{Name: "web", Bridge: "br-web", Subnets: prefixes("10.1.0.0/24"), ICC: true, Masquerade: true,
		SNAT: addresses("192.0.2.7")},
	"apart":     &firewall.Network{Name: "web", Bridge: "br-web", Subnets: prefixes("10.1.0.0/24"), Trusted: []string{"eth1"}},
	"internal":  &firewall.Network{Name: "web", Bridge: "br-web", Subnets: prefixes("10.1.0.0/24"), ICC: true, Internal: true},
	"internal6": &firewall.Network{Name: "web", Bridge: "br-web", Subnets: prefixes("fd00:1::/64"), ICC: true, Internal: true},
	"routed": &firewall.Network{Name: "web", Bridge: "br-web", Subnets: prefixes("10.1.0.0/24", "fd00:1::/64"), ICC: true, Masquerade: true,
		Unprotected: []firewall.Family{4}, Routed: []firewall.Family{6}},
	"adopted":        &firewall.Network{Name: "web", Bridge: "br0", Subnets: prefixes("10.1.0.0/24"), Adopted: true, Masquerade: true},
	"member":         &firewall.Member{Owner: owner("c1"), Bridge: "br0", Addresses: addresses("10.1.0.2", "fd00:1::2")},
	"overlay":        &firewall.Network{Name: "web", Bridge: "br-web", Subnets: prefixes("10.1.0.0/24", "fd00:1::/64"), ICC: true, Masquerade: true, Overlay: true},
	"hosts":          &firewall.Network{Name: "web", Bridge: "br-web", Subnets: prefixes("10.1.0.0/24"), ICC: true, Masquerade: true, Hosts: true},
	"overlay_member": &firewall.Member{Owner: owner("c1"), Bridge: "br-web", Addresses: addresses("10.1.0.2", "fd00:1::2"), Overlay: true},
	"endpoint": &firewall.Endpoint{Owner: owner("c1"), Bridge: "br-web", Addresses: addresses("10.1.0.2", "fd00:1::2"), Trusted: true, Ports: []firewall.Port{
		{HostPort: 8080, Protocol: "tcp", ContainerPort: 80},
		{HostPort: 53, Protocol: "udp", ContainerPort: 53, HostIP: netip.MustParseAddr("192.0.2.1")},
		{HostPort: 81, Protocol: "sctp", ContainerPort: 81, HostIP: netip.MustParseAddr("2001:db8::1")},
		{HostPort: 0, Protocol: "tcp", ContainerPort: 82}, // not yet chosen
	}},
}

// TestGolden compares all rules with what is in testdata; with UPDATE=1 in the environment it
// writes that.
func TestGolden(t *testing.T) {
	texts := map[string]string{}
	for name, o := range policies {
		texts[name] = strings.Join(Lines(o), "\n") + "\n"
	}
	for name, r := range map[string]Router{
		"base": {}, "closed": {Closed: true, Filtered: true, Passing: []firewall.Passing{{Bridge: "br-other"}, {Bridge: "br-lan", Address: netip.MustParseAddr("10.5.0.9")}, {Bridge: "br-lan", Address: netip.MustParseAddr("fd00:5::9")}}},
	} {
		for _, six := range []bool{false, true} {
			for _, rule := range Base(six, r) {
				texts[name] += "-t " + rule.Table + " " + rule.String() + "\n"
			}
		}
	}
	for name, text := range texts {
		path := filepath.Join("testdata", name+".rules")
		if os.Getenv("UPDATE") != "" {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || string(want) != text {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, text, want)
		}
	}
}

// TestUses: all chains with rules of the host's, and no others of iptables' own.
func TestUses(t *testing.T) {
	for _, r := range append(Base(false, Router{Closed: true}), Network(policies["overlay"].(*firewall.Network), false)...) {
		if !Uses(r.Table, r.Chain) {
			t.Errorf("%s", r)
		}
	}
	for _, c := range []Chain{{"raw", "OUTPUT"}, {"nat", "KUBE-SERVICES"}, {"mangle", "FORWARD"}} {
		if Uses(c.Table, c.Name) {
			t.Errorf("%s", c)
		}
	}
}

// TestNames: chains' names fit, whatever the network's name.
func TestNames(t *testing.T) {
	const most = 28 // XT_EXTENSION_MAXNAMELEN, less its end
	n := &firewall.Network{Name: strings.Repeat("n", 200), Bridge: "br0", Subnets: prefixes("10.1.0.0/24", "fd00::/64"), Adopted: true}
	for _, six := range []bool{false, true} {
		for _, r := range Network(n, six) {
			if len(r.Chain) > most || len(r.Comment) > 127 {
				t.Errorf("%s", r)
			}
		}
	}
}
