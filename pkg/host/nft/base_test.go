package nft

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"dcni/pkg/firewall"
	"dcni/pkg/host/hosttest"
	"dcni/pkg/wire"
)

// newFirewall returns a firewall of the thread's namespace with its rules installed.
func newFirewall(t testing.TB) *Firewall {
	t.Helper()
	f := New()
	if err := f.Probe(); err != nil {
		f.Close()
		if hosttest.NFT(t, "list", "tables") != "" {
			t.Fatal(err)
		}
		t.Skip("no nf_tables:", err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.Install(nothingUp); err != nil {
		t.Fatal(err)
	}
	return f
}

func nothingUp() (*firewall.Desired, error) { return &firewall.Desired{}, nil }

func testNetwork(name, bridge string, subnets ...string) *firewall.Network {
	n := &firewall.Network{Name: name, Bridge: bridge, ICC: true, Masquerade: true}
	for _, s := range subnets {
		n.Subnets = append(n.Subnets, netip.MustParsePrefix(s))
	}
	return n
}

func TestRulesListAsSaid(t *testing.T) {
	hosttest.InNewNS(t, func() {
		newFirewall(t)
		if got, want := hosttest.NFT(t, "list", "table", "inet", "dcni"), firewall.Rules().String(); got != want {
			t.Errorf("nft lists\n%s\nwant\n%s", got, want)
		}
	})
}

func TestRulesLoadWithNFT(t *testing.T) {
	hosttest.InNewNS(t, func() {
		file := t.TempDir() + "/rules.nft"
		if err := os.WriteFile(file, []byte(firewall.Rules().String()), 0o600); err != nil {
			t.Fatal(err)
		}
		hosttest.NFT(t, "-f", file)
		ours := hosttest.NFT(t, "--debug=netlink", "list", "table", "inet", "dcni")
		hosttest.NFT(t, "delete", "table", "inet", "dcni")
		newFirewall(t)
		theirs := hosttest.NFT(t, "--debug=netlink", "list", "table", "inet", "dcni")
		if expressionsOf(ours) != expressionsOf(theirs) {
			t.Errorf("nft encodes\n%s\nwe encode\n%s", ours, theirs)
		}
	})
}

// expressionsOf keeps the expressions of a --debug=netlink listing.
func expressionsOf(listing string) string {
	var lines []string
	for line := range strings.Lines(listing) {
		if strings.HasPrefix(line, "  [") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

func TestBaseIsLaidAgain(t *testing.T) {
	hosttest.InNewNS(t, func() {
		f := newFirewall(t)
		n, e := testNetwork("web", "br-a", "10.1.0.0/24"), hosttest.Endpoint("c1", hosttest.Both, hosttest.Port("", 8080, "tcp", 80))
		up := func() (*firewall.Desired, error) {
			return &firewall.Desired{Networks: []*firewall.Network{n}, Endpoints: []*firewall.Endpoint{e}}, nil
		}
		hosttest.NFT(t, "add", "rule", "inet", "dcni", "dcni-user", "ip", "saddr", "192.0.2.1", "drop")
		user := hosttest.NFT(t, "list", "chain", "inet", "dcni", "dcni-user")
		if changed, err := f.Install(up); changed || err != nil {
			t.Errorf("second ensureBase: changed %v, error %v", changed, err)
		}
		damage := [][]string{
			{"flush", "chain", "inet", "dcni", "forward"},
			{"flush", "chain", "inet", "dcni", "version"},
			{"delete", "table", "inet", "dcni"},
			{"flush", "ruleset"},
		}
		for _, args := range damage {
			hosttest.NFT(t, args...)
			if changed, err := f.Install(up); !changed || err != nil {
				t.Errorf("after nft %v: changed %v, error %v", args, changed, err)
			}
			if err := errors.Join(f.CheckNetwork(n), f.CheckEndpoint(e)); err != nil {
				t.Errorf("after nft %v: %v", args, err)
			}
			if got := hosttest.NFT(t, "list", "chain", "inet", "dcni", "dcni-user"); args[0] == "flush" && args[1] == "chain" && got != user {
				t.Errorf("after nft %v: dcni-user is\n%s", args, got)
			}
		}
		hosttest.NFT(t, "flush", "table", "inet", "dcni")
		if changed, err := f.Install(up); !changed || err != nil {
			t.Errorf("after flush table: changed %v, error %v", changed, err)
		}
	})
}

// TestPriorityOfOlderVersion: chains that an older version made with another priority are
// replaced, and stay when the rules are installed once more.
func TestPriorityOfOlderVersion(t *testing.T) {
	hosttest.InNewNS(t, func() {
		hosttest.NFT(t, "add table inet dcni; add chain inet dcni prerouting { type nat hook prerouting priority dstnat; }; "+
			"add chain inet dcni publish; add rule inet dcni prerouting jump publish")
		f := newFirewall(t) // which probes first
		for range 2 {
			if got := hosttest.NFT(t, "list", "chain", "inet", "dcni", "prerouting"); !strings.Contains(got, "priority dstnat - 1;") {
				t.Errorf("the chain is\n%s", got)
			}
			hosttest.NFT(t, "flush", "chain", "inet", "dcni", "version")
			if changed, err := f.Install(nothingUp); !changed || err != nil {
				t.Errorf("again: changed %v, error %v", changed, err)
			}
		}
	})
}

func TestLayGoesPastClashes(t *testing.T) {
	hosttest.InNewNS(t, func() {
		f := New()
		defer f.Close()
		one := hosttest.Endpoint("c1", hosttest.Both, hosttest.Port("", 8080, "tcp", 80))
		two := hosttest.Endpoint("c2", []string{"10.1.0.3"}, hosttest.Port("", 8080, "tcp", 80))
		three := hosttest.Endpoint("c3", []string{"10.1.0.4"}, hosttest.Port("", 8081, "tcp", 80))
		changed, err := f.Install(func() (*firewall.Desired, error) {
			return &firewall.Desired{Endpoints: []*firewall.Endpoint{one, two, three}}, nil
		})
		if !changed || err == nil || !strings.Contains(err.Error(), "web c2/eth0") {
			t.Errorf("changed %v, error %v; want the error to name web c2/eth0", changed, err)
		}
		if err := errors.Join(f.checkBase(), f.CheckEndpoint(one), f.CheckEndpoint(three)); err != nil {
			t.Error(err)
		}
	})
}

func TestNetworkElements(t *testing.T) {
	hosttest.InNewNS(t, func() {
		f := newFirewall(t)
		a := testNetwork("a", "br-a", "10.1.0.0/24", "fd00:1::/64")
		b := testNetwork("b", "br-b", "10.1.1.0/24", "fd00:1:0:1::/64") // next to a's
		empty := hosttest.NFT(t, "list", "table", "inet", "dcni")
		steps := []func(){
			func() {},
			func() { a.ICC = false },
			func() { a.Internal = true },
			func() { a.Internal, a.Masquerade = false, false },
			func() { a.Subnets = a.Subnets[:1]; a.Masquerade = true },
			func() { a.Bridge = "br-c" },
			func() { a.ICC = true },
		}
		for i, step := range steps {
			step()
			for _, n := range []*firewall.Network{a, b} {
				changed, err := f.EnsureNetwork(n)
				if want := i == 0 || n == a; changed != want || err != nil {
					t.Errorf("step %d: network %s: changed %v, error %v", i, n.Name, changed, err)
				}
				if changed, err := f.EnsureNetwork(n); changed || err != nil {
					t.Errorf("step %d: again: changed %v, error %v", i, changed, err)
				}
			}
			if err := errors.Join(f.CheckNetwork(a), f.CheckNetwork(b)); err != nil {
				t.Errorf("step %d: %v", i, err)
			}
			got := hosttest.NFT(t, "list", "table", "inet", "dcni")
			want := len(a.Elements()) + len(b.Elements())
			if n := strings.Count(got, "comment \"a") + strings.Count(got, "comment \"b"); n != want {
				t.Errorf("step %d: %d elements instead of %d:\n%s", i, n, want, got)
			}
		}
		if names, err := f.networks(); err != nil || fmt.Sprint(names) != "[a b]" {
			t.Errorf("networks %v, error %v", names, err)
		}
		for range 2 {
			if err := errors.Join(f.RemoveNetwork(a), f.RemoveNetwork(b)); err != nil {
				t.Error(err)
			}
		}
		if got := hosttest.NFT(t, "list", "table", "inet", "dcni"); got != empty {
			t.Errorf("after removal:\n%s", got)
		}
	})
}

func TestNetworksClash(t *testing.T) {
	hosttest.InNewNS(t, func() {
		f := newFirewall(t)
		if _, err := f.EnsureNetwork(testNetwork("a", "br-a", "10.1.0.0/16")); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			n           *firewall.Network
			refused, is string // what ADD says; what CHECK says
		}{
			{testNetwork("b", "br-a", "10.2.0.0/16"), `must not be the bridge of another network: a has it`, `bridge br-a belongs to network "a"`},
			{testNetwork("b", "br-b", "10.1.5.0/24"), "must not overlap those of another network", "lacks an element of network b"},
		} {
			_, err := f.EnsureNetwork(c.n)
			hosttest.WantCode(t, err, wire.CodeConfig, c.refused)
			if err := f.CheckNetwork(c.n); err == nil || !strings.Contains(err.Error(), c.is) {
				t.Errorf("%v: check says %v, want %q", c.n, err, c.is)
			}
			if names, _ := f.networks(); fmt.Sprint(names) != "[a]" {
				t.Errorf("networks %v", names)
			}
		}
	})
}

// TestClosedHostKeepsItsRules: without the rules, a host whose forwarding dcni switched on
// would be a router, also while no network is in the sets yet.
func TestClosedHostKeepsItsRules(t *testing.T) {
	hosttest.InNewNS(t, func() {
		f := newFirewall(t)
		for _, closed := range [][]firewall.Family{{6}, {}} {
			f.Closed = func() []firewall.Family { return closed }
			if err := f.closeRouter(&firewall.Router{Closed: closed}); err != nil {
				t.Fatal(err)
			}
			isClosed := func(family firewall.Family) bool {
				return f.Check(&firewall.Router{Closed: []firewall.Family{family}}) == nil
			}
			if isClosed(4) || isClosed(6) != (len(closed) == 1) {
				t.Errorf("closed for %v: 4 %v, 6 %v", closed, isClosed(4), isClosed(6))
			}
			if err := f.Remove(firewall.Installation{}); err != nil {
				t.Fatal(err)
			}
			if got := hosttest.NFT(t, "list", "tables"); strings.Contains(got, "inet dcni") != (len(closed) == 1) {
				t.Errorf("closed for %v: %q", closed, got)
			}
		}
	})
}
