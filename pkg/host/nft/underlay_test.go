package nft

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dcni/pkg/firewall"
	"dcni/pkg/host/hosttest"
	"dcni/pkg/wire"
)

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// arrives sends a packet over loopback and tells whether it came.
func arrives(t *testing.T, from string, port int) bool {
	t.Helper()
	to := "127.0.0.1"
	if strings.Contains(from, ":") {
		to = "::1"
	}
	ears, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(to), Port: port})
	if err != nil {
		t.Fatal(err)
	}
	defer ears.Close()
	c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)}, ears.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("hello")); err != nil && !errors.Is(err, syscall.EPERM) {
		t.Fatal(err)
	}
	_ = ears.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	_, err = ears.Read(make([]byte, 9))
	return err == nil
}

// TestUnderlay: a closed port takes packets of nodes only, in both families, and comes
// back with its nodes after each way to harm it.
func TestUnderlay(t *testing.T) {
	hosttest.InNewNS(t, func() {
		hosttest.LoUp(t)
		hosttest.Shell(t, "ip addr add fd00::9/128 dev lo nodad")
		f := newFirewall(t)
		if changed, err := f.Ensure(&firewall.Nodes{Addresses: addrs("127.0.0.1")}); changed || err != nil {
			t.Errorf("nodes without the table: %t, %v", changed, err)
		}
		u := &firewall.Underlay{Port: 4789, Known: addrs("127.0.0.1", "::1")}
		mustEnsure := func(o wire.Object, want bool) {
			t.Helper()
			if changed, err := f.Ensure(o); changed != want || err != nil {
				t.Fatalf("ensure %s: %t, %v; want %t", o, changed, err, want)
			}
			if err := f.Check(o); err != nil {
				t.Fatalf("check %s: %v", o, err)
			}
		}
		travel := func(when string, want map[string]bool) {
			t.Helper()
			for from, passes := range want {
				if got := arrives(t, from, 4789); got != passes {
					t.Errorf("%s: from %s it arrives: %t\n%s", when, from, got, hosttest.NFT(t, "list", "ruleset"))
				}
			}
		}
		nodesOnly := map[string]bool{"127.0.0.1": true, "127.0.0.9": false, "::1": true, "fd00::9": false}
		travel("without rules", map[string]bool{"127.0.0.9": true, "fd00::9": true})
		mustEnsure(u, true)
		mustEnsure(u, false)
		travel("closed", nodesOnly)
		if !arrives(t, "127.0.0.9", 4790) {
			t.Error("another port is closed, too")
		}
		for _, harm := range []string{
			"flush chain inet dcni-underlay input", "delete table inet dcni-underlay", "flush ruleset",
			"insert rule inet dcni-underlay input accept", "add table inet dcni-underlay { flags dormant; }",
			"flush set inet dcni-underlay tunnels", "flush chain inet dcni-underlay forward", "flush chain inet dcni-underlay output",
		} {
			hosttest.NFT(t, harm)
			if f.Check(u) == nil {
				t.Errorf("after nft %s CHECK finds nothing", harm)
			}
			mustEnsure(u, true)
			travel("after nft "+harm, nodesOnly)
		}
		n := &firewall.Nodes{Addresses: addrs("127.0.0.9", "fd00::9", "::1")}
		mustEnsure(n, true)
		mustEnsure(n, false)
		travel("other nodes", map[string]bool{"127.0.0.1": false, "127.0.0.9": true, "::1": true, "fd00::9": true})
		hosttest.NFT(t, "delete", "element", "inet", "dcni-underlay", "nodes4", "{ 127.0.0.9 }")
		if f.Check(n) == nil {
			t.Error("CHECK does not miss a node")
		}

		second := &firewall.Underlay{Port: 4787}
		mustEnsure(second, true)
		if err := f.Remove(u); err != nil || f.Check(second) != nil {
			t.Errorf("%v; the other port: %v", err, f.Check(second))
		}
		travel("open again", map[string]bool{"127.0.0.1": true, "127.0.0.7": true})
		for range 2 {
			if err := f.Remove(second); err != nil {
				t.Error(err)
			}
		}
		if out := hosttest.NFT(t, "list", "tables"); strings.Contains(out, "underlay") {
			t.Errorf("left: %s", out)
		}
	})
}

// nft lists the table as it is said.
func TestUnderlayListsAsSaid(t *testing.T) {
	hosttest.InNewNS(t, func() {
		f := newFirewall(t)
		if _, err := f.Ensure(&firewall.Underlay{Port: 4789}); err != nil {
			t.Fatal(err)
		}
		hosttest.NFT(t, "flush", "set", "inet", "dcni-underlay", "tunnels")
		if got, want := hosttest.NFT(t, "list", "table", "inet", "dcni-underlay"), firewall.UnderlayTable().String(); got != want {
			t.Errorf("nft lists\n%s\nwant\n%s", got, want)
		}
	})
}

// TestHostToOtherNodes: the host reaches the containers of an overlay network that it
// has. Others it is refused at once; nothing is sent to them.
func TestHostToOtherNodes(t *testing.T) {
	hosttest.InNewNS(t, func() {
		l := hosttest.NewTopology(t)
		l.Bridge("br-a", 1)
		l.Container("a1", "br-a", 1, 2)
		l.Container("far", "br-a", 1, 3) // what is on another node looks like that
		for _, name := range []string{"a1", "far"} {
			l.Serve(l.Nodes[name], 80)
		}
		f := newFirewall(t)
		n := testNetwork("web", "br-a", "10.1.0.0/24", "fd00:1::/64")
		m := &firewall.Member{Owner: wire.Attachment{Network: "web", Container: "a1", IfName: "eth0"}, Bridge: "br-a", Addresses: addrs("10.1.0.2", "fd00:1::2")}
		for _, overlay := range []bool{false, true} {
			n.Overlay = overlay
			for _, o := range []wire.Object{n, m} {
				if _, err := f.Ensure(o); err != nil {
					t.Fatal(err)
				}
			}
			for _, v6 := range []bool{false, true} {
				for _, name := range []string{"a1", "far"} {
					to := netip.AddrPortFrom(l.Nodes[name].Addr(v6), 80)
					seen := l.Reach(l.Host, "tcp", to)
					if reached, want := seen != "", name == "a1" || !overlay; reached != want {
						t.Errorf("overlay %t: %s is reached: %t", overlay, to, reached)
					}
					if name == "a1" || !overlay {
						continue
					}
					err := l.Host.Do(func() error {
						_, err := net.DialTimeout("tcp", to.String(), 5*time.Second)
						return err
					})
					if !errors.Is(err, syscall.EHOSTUNREACH) {
						t.Errorf("%s: %v, want %v", to, err, syscall.EHOSTUNREACH)
					}
				}
			}
			if seen := l.Reach(l.Nodes["far"], "tcp", netip.MustParseAddrPort("10.1.0.2:80")); seen != "10.1.0.3" {
				t.Errorf("between containers: %s", fmt.Sprintf("%q", seen))
			}
		}
	})
}

// TestNodesAtOnce: two that change the nodes at the same time hinder neither.
func TestNodesAtOnce(t *testing.T) {
	hosttest.InNewNS(t, func() {
		newFirewall(t)
		one, two := New(), New()
		defer one.Close()
		defer two.Close()
		if _, err := one.Ensure(&firewall.Underlay{Port: 4789}); err != nil {
			t.Fatal(err)
		}
		if two.Check(&firewall.Underlay{Port: 4789}) != nil { // its socket is of this namespace
			t.Fatal("not closed")
		}
		var wg sync.WaitGroup
		for i, f := range []*Firewall{one, two} {
			wg.Go(func() {
				for n := range 200 {
					if _, err := f.Ensure(&firewall.Nodes{Addresses: addrs("192.0.2.1", fmt.Sprintf("192.0.2.%d", 2+(n+i)%3))}); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	})
}
