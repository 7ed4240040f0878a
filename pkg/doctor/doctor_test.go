package doctor

import (
	"net/netip"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"dcni/pkg/firewall"
	"dcni/pkg/firewall/foreign"
	"dcni/pkg/wire"
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, p := range list {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// web is a network with one container that publishes port 8080, behind eth0.
func web() Facts {
	return Facts{
		Networks: []Network{{Name: "web", Driver: "bridge", File: "/etc/cni/net.d/web.conflist", Link: "br-web", Subnets: prefixes("10.1.0.0/24")}},
		Attachments: []Attachment{{
			Attachment: wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}, Name: "shop", Link: "br-web", MTU: 1500,
			Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.2")}, Names: true,
			Ports: []firewall.Port{{HostPort: 8080, Protocol: "tcp", ContainerPort: 80}},
		}},
		Forwards: map[int]bool{4: true, 6: false},
		Uplink:   Uplink{"eth0", 1500},
		Routes: []Route{
			{netip.MustParsePrefix("0.0.0.0/0"), "eth0", false}, {netip.MustParsePrefix("0.0.0.0/1"), "tun0", true},
			{netip.MustParsePrefix("10.1.0.0/24"), "br-web", true}, {netip.MustParsePrefix("10.0.0.0/8"), "eth0", false},
		},
		Servers:    []netip.Addr{netip.MustParseAddr("9.9.9.9")},
		Neighbours: []NeighbourTable{{4, 100, 1024}, {6, 100, 1024}},
	}
}

func chain(tool, family, table, name, hook string, drops bool, rules ...foreign.Rule) foreign.Chain {
	return foreign.Chain{Tool: tool, Family: family, Table: table, Name: name, Hook: hook, Drops: drops, Rules: rules}
}

var (
	in    = foreign.Rule{In: []string{"br-web"}, Verdict: foreign.Accept}
	out   = foreign.Rule{Out: []string{"br-web"}, Verdict: foreign.Accept}
	reply = foreign.Rule{Established: true, Verdict: foreign.Accept}
)

// otherSuite adds a network of ptp's with two containers, and one of the reference bridge.
func otherSuite(f *Facts) {
	f.Closed, f.Users = map[int]bool{4: true}, []foreign.Chain{chain("nft", "inet", "dcni", "dcni-user", "", false)}
	f.Networks = append(f.Networks, Network{Name: "routed", Driver: "ptp", Foreign: true, Subnets: prefixes("10.2.0.0/24")},
		Network{Name: "ref", Driver: "cni:bridge", Foreign: true, Subnets: prefixes("10.3.0.0/24")})
	for dst, dev := range map[string]string{"10.2.0.2/32": "veth1a", "10.2.0.3/32": "veth2b", "10.3.0.0/24": "cni0"} {
		f.Routes = append(f.Routes, Route{netip.MustParsePrefix(dst), dev, true})
	}
}

// TestFindings has what each finding is made of, and what is none.
func TestFindings(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(f *Facts)
		want   []string // "id subject: fix"
	}{
		{"a healthy host", func(*Facts) {}, nil},
		{"no facts", func(f *Facts) { *f = Facts{} }, nil},
		{"no ipvlan", func(f *Facts) { f.Missing = []Missing{{"ipvlan links", "ipvlan", []string{"lan"}, "no module"}} }, []string{"kernel ipvlan links: modprobe ipvlan"}},
		{"forwarding off", func(f *Facts) { f.Forwards[4] = false }, []string{"forwarding IPv4: sysctl -w net.ipv4.ip_forward=1"}},
		{"of IPv6, too", func(f *Facts) { f.Networks[0].Subnets = prefixes("fd00::/64") }, []string{"forwarding IPv6: sysctl -w net.ipv6.conf.all.forwarding=1"}},
		{"which ADD will switch on", func(f *Facts) { f.Forwards[4], f.Attachments = false, nil }, nil},
		{"which ADD may not switch on", func(f *Facts) { f.Forwards[4], f.Attachments, f.Networks[0].NoForward = false, nil, true },
			[]string{"forwarding IPv4: sysctl -w net.ipv4.ip_forward=1"}},
		{"and an internal network", func(f *Facts) { f.Forwards[4], f.Networks[0].Internal = false, true }, nil},
		{"without IPv6 in the kernel", func(f *Facts) { f.Forwards, f.Networks[0].Subnets = map[int]bool{4: true}, prefixes("fd00::/64") }, nil},
		{"closed for another suite's networks", func(f *Facts) { otherSuite(f) }, []string{"closed IPv4: " +
			"nft add rule inet dcni dcni-user iifname 'veth*' oifname 'veth*' accept && nft add rule inet dcni dcni-user iifname 'veth*' oifname eth0 accept && " +
			"nft add rule inet dcni dcni-user iifname cni0 oifname eth0 accept"}},
		{"with these rules", func(f *Facts) {
			otherSuite(f)
			accept := func(in, out string) foreign.Rule {
				return foreign.Rule{In: []string{in}, Out: []string{out}, Verdict: foreign.Accept}
			}
			f.Users[0].Rules = []foreign.Rule{accept("veth*", "eth0"), accept("veth*", "veth*"), accept("cni0", "eth0")}
		}, nil},
		{"with one that asks for addresses", func(f *Facts) {
			otherSuite(f)
			f.Users[0].Rules = []foreign.Rule{{Other: true, Verdict: foreign.Accept}}
		}, nil},
		{"and not closed", func(f *Facts) { otherSuite(f); f.Closed[4] = false }, nil},
		{"and no container", func(f *Facts) { otherSuite(f); f.Routes = f.Routes[:4] }, nil},
		{"and no table of dcni's", func(f *Facts) { otherSuite(f); f.Users = nil }, nil},
		{"rules flushed", func(f *Facts) { f.Rules = "no table" }, []string{"rules dcni: dnetd --once"}},
		{"iptables drops", func(f *Facts) {
			f.Chains = []foreign.Chain{chain("iptables", "ip", "filter", "FORWARD", "forward", true)}
		},
			[]string{"forward-drop ip filter FORWARD: iptables -I FORWARD -i br-web -j ACCEPT && iptables -I FORWARD -o br-web -j ACCEPT"}},
		{"with both rules", func(f *Facts) {
			f.Chains = []foreign.Chain{chain("iptables", "ip", "filter", "FORWARD", "forward", true, in, out)}
		}, nil},
		{"with Docker's chain", func(f *Facts) {
			f.Chains = []foreign.Chain{chain("iptables", "ip", "filter", "FORWARD", "forward", true, foreign.Rule{Verdict: foreign.Jump, To: "DOCKER-USER"}), chain("iptables", "ip", "filter", "DOCKER-USER", "", false)}
		}, []string{"forward-drop ip filter FORWARD: iptables -I DOCKER-USER -i br-web -j ACCEPT && iptables -I DOCKER-USER -o br-web -j ACCEPT"}},
		{"where they are, behind a jump", func(f *Facts) {
			f.Chains = []foreign.Chain{
				chain("iptables", "ip", "filter", "FORWARD", "forward", true, foreign.Rule{Verdict: foreign.Jump, To: "DOCKER-USER"}),
				chain("iptables", "ip", "filter", "DOCKER-USER", "", false, in, reply, out),
				chain("iptables", "ip6", "filter", "DOCKER-USER", "", false),
			}
		}, nil},
		{"answers and ways out pass, ports don't", func(f *Facts) {
			f.Chains = []foreign.Chain{chain("nft", "inet", "mine", "fwd", "forward", true, reply, foreign.Rule{In: []string{"br-*"}, Verdict: foreign.Accept})}
		}, []string{"forward-drop inet mine fwd: nft insert rule inet mine fwd iifname br-web accept && nft insert rule inet mine fwd oifname br-web accept"}},
		{"what was rewritten passes, too", func(f *Facts) {
			f.Chains = []foreign.Chain{chain("nft", "inet", "mine", "fwd", "forward", true, reply, foreign.Rule{Published: true, Verdict: foreign.Accept}, foreign.Rule{In: []string{"br-*"}, Verdict: foreign.Accept})}
		}, nil},
		{"a rule that asks for more proves nothing", func(f *Facts) {
			f.Chains = []foreign.Chain{chain("nft", "ip", "mine", "fwd", "forward", true, foreign.Rule{Other: true, Verdict: foreign.Accept})}
		}, []string{"forward-drop ip mine fwd: nft insert rule ip mine fwd iifname br-web accept && nft insert rule ip mine fwd oifname br-web accept"}},
		{"nor does one for a protocol", func(f *Facts) {
			f.Chains = []foreign.Chain{chain("nft", "ip", "mine", "fwd", "forward", false, foreign.Rule{Protocol: "tcp", Port: 25, Verdict: foreign.Drop}, foreign.Rule{Protocol: "udp", Verdict: foreign.Drop})}
		}, nil},
		{"return comes back to the policy", func(f *Facts) {
			f.Chains = []foreign.Chain{chain("nft", "ip", "mine", "fwd", "forward", true, foreign.Rule{Verdict: foreign.Return}, in, out)}
		}, []string{"forward-drop ip mine fwd: nft insert rule ip mine fwd iifname br-web accept && nft insert rule ip mine fwd oifname br-web accept"}},
		{"a chain that jumps to itself ends", func(f *Facts) {
			f.Chains = []foreign.Chain{chain("nft", "ip", "mine", "fwd", "forward", false, foreign.Rule{Verdict: foreign.Jump, To: "fwd"})}
		}, nil},
		{"drops at another hook are no matter", func(f *Facts) { f.Chains = []foreign.Chain{chain("nft", "ip", "mine", "input", "", true)} }, nil},
		{"of IPv6 alone", func(f *Facts) {
			f.Chains = []foreign.Chain{chain("ip6tables", "ip6", "filter", "FORWARD", "forward", true)}
		}, nil},
		{"ufw, of both families", func(f *Facts) {
			f.Forwards[6], f.Networks[0].Subnets = true, prefixes("10.1.0.0/24", "fd00::/64")
			f.Chains = []foreign.Chain{
				chain("iptables", "ip", "filter", "FORWARD", "forward", true), chain("iptables", "ip", "filter", "ufw-before-forward", "", false),
				chain("ip6tables", "ip6", "filter", "FORWARD", "forward", true), chain("ip6tables", "ip6", "filter", "ufw6-before-forward", "", false),
			}
		}, []string{"ufw ip filter FORWARD: ufw route allow in on br-web && ufw route allow out on br-web"}},
		{"firewalld, for two networks", func(f *Facts) {
			f.Networks = append(f.Networks, Network{Name: "lab", Link: "br-lab", Subnets: prefixes("10.2.0.0/24")})
			f.Chains = []foreign.Chain{chain("nft", "inet", "firewalld", "filter_FORWARD", "forward", false, reply, foreign.Rule{Verdict: foreign.Drop})}
		}, []string{"firewalld inet firewalld filter_FORWARD: for b in br-web br-lab; do firewall-cmd --zone=trusted --add-interface=$b && firewall-cmd --permanent --zone=trusted --add-interface=$b; done"}},
		{"a rule for a published port", func(f *Facts) {
			f.Chains = []foreign.Chain{chain("nft", "ip", "mine", "pre", "prerouting", false, foreign.Rule{Protocol: "tcp", Port: 8080, Verdict: foreign.DNAT, Handle: 7}, foreign.Rule{Protocol: "udp", Port: 8080, Verdict: foreign.DNAT})}
		}, []string{"competing-port 8080/tcp: nft delete rule ip mine pre handle 7"}},
		{"of iptables'", func(f *Facts) {
			f.Chains = []foreign.Chain{chain("iptables", "ip", "nat", "DOCKER", "", false, reply, foreign.Rule{Protocol: "tcp", Port: 8080, Verdict: foreign.DNAT, Handle: 7})}
		}, []string{"competing-port 8080/tcp: iptables -t nat -D DOCKER 2"}},
		{"dcni's own, of iptables", func(f *Facts) {
			f.Chains = []foreign.Chain{chain("iptables", "ip", "nat", "DCNI", "", false, foreign.Rule{Protocol: "tcp", Port: 8080, Verdict: foreign.DNAT})}
		}, nil},
		{"NetworkManager", func(f *Facts) { f.Managed = []string{"br-web", "eth0", "veth035irk9ux1p"} },
			[]string{`networkmanager br-web veth035irk9ux1p: printf '[keyfile]\nunmanaged-devices+=interface-name:br-*,interface-name:dcni0,interface-name:veth???????????,interface-name:v??????????????\n'` +
				" >/etc/NetworkManager/conf.d/dcni.conf && nmcli general reload && nmcli device set br-web managed no && nmcli device set veth035irk9ux1p managed no"}},
		{"systemd-networkd", func(f *Facts) {
			f.Networkd = []Configured{{"br-web", "/etc/systemd/network/all.network"}, {"eth0", "/etc/systemd/network/all.network"}}
		}, []string{`networkd br-web: mkdir -p /etc/systemd/network && printf '[Match]\nName=` + NetworkdNames() + `\n\n[Link]\nUnmanaged=yes\n' >/etc/systemd/network/05-dcni.network && networkctl reload; dnetd --once`}},
		{"a large MTU", func(f *Facts) { f.Uplink.MTU, f.Networks[0].MTU = 1400, 1500 },
			[]string{`mtu web: sed -i -E 's/("(mtu|com.docker.network.driver.mtu)" *: *"?)1500/\11400/' /etc/cni/net.d/web.conflist`}},
		{"which nothing leaves", func(f *Facts) {
			f.Uplink.MTU, f.Networks[0].MTU, f.Networks[0].Internal, f.Attachments[0].Internal = 1400, 1500, true, true
		}, nil},
		{"an MTU that was right", func(f *Facts) { f.Uplink.MTU = 1400 }, []string{"mtu web c1/eth0: dnet disconnect web c1 && dnet connect web c1"}},
		{"no way out", func(f *Facts) { f.Uplink = Uplink{} }, nil},
		{"two networks in one place", func(f *Facts) {
			f.Networks = append(f.Networks, Network{Name: "lab", Driver: "bridge", Link: "br-lab", Internal: true, Subnets: prefixes("10.1.0.0/16", "fd00::/64"),
				Options: map[string]string{"com.docker.network.bridge.enable_icc": "false", "gwPriority": "3"}, Labels: map[string]string{"a": "b c"}})
		}, []string{"overlap web lab: dnet rm lab && dnet create --internal --ipv6 -o com.docker.network.bridge.enable_icc=false --label 'a=b c' lab"}},
		{"the one without containers moves", func(f *Facts) {
			f.Networks = slices.Insert(f.Networks, 0, Network{Name: "lab", Driver: "bridge", Link: "br-lab", Subnets: prefixes("10.1.0.0/16")})
		}, []string{"overlap lab web: dnet rm lab && dnet create lab"}},
		{"a VPN's route", func(f *Facts) { f.Routes = append(f.Routes, Route{netip.MustParsePrefix("10.0.0.0/9"), "tun0", true}) },
			[]string{"route-overlap web: dnet disconnect -f web c1 && dnet rm web && dnet create web"}},
		{"a longer one by a router", func(f *Facts) {
			f.Routes = append(f.Routes, Route{netip.MustParsePrefix("10.1.0.64/26"), "eth0", false})
		},
			[]string{"route-overlap web: dnet disconnect -f web c1 && dnet rm web && dnet create web"}},
		{"a stale lease", func(f *Facts) {
			f.Stale = []Lease{{"web", netip.MustParseAddr("10.1.0.9"), wire.Attachment{Container: "c9", IfName: "eth0"}, "/lib/it's/10.1.0.9"}}
		}, []string{`stale-lease 10.1.0.9: rm '/lib/it'\''s/10.1.0.9'`}},
		{"a container that is gone", func(f *Facts) { f.Attachments[0].Gone, f.Agent = true, "none" }, []string{"orphan web c1/eth0: dnetd --once"}},
		{"one of dnet run", func(f *Facts) { f.Attachments[0].Gone, f.Attachments[0].ByDnet = true, true }, []string{"orphan web c1/eth0: dnet stop --rm shop"}},
		{"no dnetd", func(f *Facts) { f.Agent = "none" }, []string{"agent dnetd: dnetd --once"}},
		{"no dnetd of systemd's", func(f *Facts) { f.Agent, f.AgentUnit = "none", true }, []string{"agent dnetd: systemctl restart dnetd"}},
		{"no store", func(f *Facts) { f.Cluster.Away = "no leader" }, []string{"store cluster: dnet cluster status"}},
		{"packets to other nodes", func(f *Facts) {
			f.Cluster.Peers = []Peer{{"n2", netip.MustParseAddr("192.0.2.12"), "lost", "lost"}, {"n3", netip.MustParseAddr("192.0.2.13"), "ok", "ok"},
				{"n4", netip.MustParseAddr("192.0.2.14"), "lost at 1500", "-"}, {"n6", netip.MustParseAddr("2001:db8::16"), "lost", "ok"}}
		}, []string{
			"tunnel n2: nft insert rule inet filter input ip saddr 192.0.2.12 udp dport 4789 accept && dnet cluster node ls",
			"tunnel n4: tracepath -n -m 3 192.0.2.14 && dnet cluster node ls",
			"tunnel n6: nft insert rule inet filter input ip6 saddr 2001:db8::16 udp dport 4789 accept && dnet cluster node ls",
		}},
		{"ESP, where a network is encrypted", func(f *Facts) {
			f.Networks[0].Encrypted, f.Cluster.Peers = true, []Peer{{"n2", netip.MustParseAddr("192.0.2.12"), "ok", "lost"}}
		}, []string{"tunnel n2: nft insert rule inet filter input ip saddr 192.0.2.12 meta l4proto esp accept && dnet cluster node ls"}},
		{"checksums", func(f *Facts) { f.Cluster.WrongSums = true }, []string{"checksums vxlan: systemctl restart dclusterd # after an update of the NIC's driver or firmware: it is tested again then"}},
		{"no dnetd, and no need of one", func(f *Facts) { f.Agent, f.Attachments[0].Names = "none", false }, nil},
		{"dnetd as the host's server", func(f *Facts) { f.Servers = append(f.Servers, netip.MustParseAddr("127.0.0.11")) },
			[]string{`resolver-loop 127.0.0.11: sed -i -E '/^nameserver +127\.0\.0\.11 *$/d' /etc/resolv.conf`}},
		{"a container as the only one", func(f *Facts) { f.Servers[0] = netip.MustParseAddr("10.1.0.2") },
			[]string{`resolver-loop 10.1.0.2: sed -i -E 's/^nameserver +10\.1\.0\.2 *$/nameserver 8.8.8.8/' /etc/resolv.conf`}},
		{"a container behind port 53", func(f *Facts) {
			f.Servers[0], f.Local = netip.MustParseAddr("192.0.2.1"), []netip.Addr{netip.MustParseAddr("192.0.2.1")}
			f.Attachments[0].Ports = []firewall.Port{{HostPort: 53, Protocol: "udp", ContainerPort: 53}}
		}, []string{`resolver-loop 192.0.2.1: sed -i -E 's/^nameserver +192\.0\.2\.1 *$/nameserver 8.8.8.8/' /etc/resolv.conf`}},
		{"port 53 of another address", func(f *Facts) {
			f.Servers[0], f.Local = netip.MustParseAddr("192.0.2.1"), []netip.Addr{netip.MustParseAddr("192.0.2.1")}
			f.Attachments[0].Ports = []firewall.Port{{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 53, Protocol: "udp", ContainerPort: 53}}
		}, nil},
		{"a port that another has", func(f *Facts) {
			f.Listeners = []Listener{{f.Attachments[0].Attachment, f.Attachments[0].Ports[0], 12, "nginx"}}
		}, []string{"port-held 8080/tcp: kill 12"}},
		{"a process that is not seen", func(f *Facts) {
			f.Listeners = []Listener{{f.Attachments[0].Attachment, f.Attachments[0].Ports[0], 0, ""}}
		}, []string{"port-held 8080/tcp: ss -lnp 'sport = :8080'"}},
		{"a gateway's port 53", func(f *Facts) { f.Held = []HeldGateway{{"web", netip.MustParseAddr("10.1.0.1"), "dnsmasq has it"}} },
			[]string{"gateway-held 10.1.0.1: ss -lnp 'sport = :53'"}},
		{"a full neighbour table", func(f *Facts) { f.Neighbours[1].Entries = 900 },
			[]string{"neighbours IPv6: sysctl -w net.ipv6.neigh.default.gc_thresh3=4096 net.ipv6.neigh.default.gc_thresh2=2048"}},
		{"records of the host's that can't be read", func(f *Facts) {
			for _, key := range []string{"borrowed addr 10.7.0.1/24 dev br_1", "borrowed up br_1", "encrypted 4787", "forwarding 4", "forwarding 6 for all", "link eth0.10", "permit br_1", "table bridge dcni", "underlay 4789"} {
				f.Unreadable = append(f.Unreadable, Unreadable{key, "/run/dcni/host/x y.json", "is not JSON"})
			}
		}, []string{
			"host-record borrowed addr 10.7.0.1/24 dev br_1: rm -r '/run/dcni/host/x y.json'", "host-record borrowed up br_1: rm -r '/run/dcni/host/x y.json'",
			"host-record forwarding 4: dnetd --once", "host-record link eth0.10: dnetd --once",
		}},
		{"more containers than it takes", func(f *Facts) { f.Neighbours[0].Limit = 1 },
			[]string{"neighbours IPv4: sysctl -w net.ipv4.neigh.default.gc_thresh3=256 net.ipv4.neigh.default.gc_thresh2=128"}},
	} {
		f := web()
		c.change(&f)
		var got []string
		for _, x := range Findings(f) {
			got = append(got, x.ID+" "+x.Subject+": "+x.Fix)
			if x.Problem == "" || x.Breaks == "" || strings.HasSuffix(x.Problem, ".") || strings.HasSuffix(x.Breaks, ".") || strings.Contains(x.Fix, "\n") {
				t.Errorf("%s: %+v", c.name, x)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s:\n got %q\nwant %q", c.name, got, c.want)
		}
	}
}

// What doctor says to write is what is shipped.
func TestNetworkdNames(t *testing.T) {
	shipped, err := os.ReadFile("../../scripts/network/05-dcni.network")
	if err != nil || !strings.Contains(string(shipped), "\nName="+NetworkdNames()+"\n") {
		t.Errorf("%v: the file that is shipped has other names than %s", err, NetworkdNames())
	}
	for name, ours := range map[string]bool{
		"br-4b5e57f6eb2f": true, "vx-4b5e57f6eb2f": true, "dm-4b5e57f6eb2f": true, "di-4b5e57f6eb2f": true, "mh-4b5e57f6eb2f": true, "dcni0": true,
		wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}.HostLink(): true,
		"eth0": false, "br-lan": false, "vlan-production": false, "virbr0": false, "veth12345678": false,
	} {
		is := slices.ContainsFunc(strings.Fields(NetworkdNames()), func(pattern string) bool { m, _ := path.Match(pattern, name); return m })
		if is != ours {
			t.Errorf("%s matches: %t", name, is)
		}
	}
}

// A container on two networks is counted once where dnetd does not answer.
func TestAgentCountsContainers(t *testing.T) {
	f := web()
	again := f.Attachments[0]
	again.Network, again.IfName = "lab", "eth1"
	again.Peers = true
	f.Attachments, f.Agent = append(f.Attachments, again), "none"
	const want = "1 container has no names, and 1 container does not follow what moves between nodes"
	if got := agent(f); len(got) != 1 || got[0].Breaks != want {
		t.Errorf("got %+v, want %s", got, want)
	}
}
