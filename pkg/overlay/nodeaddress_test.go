package overlay_test

import (
	"net/netip"
	"strings"
	"sync"
	"testing"

	"dcni/pkg/overlay"
	"dcni/pkg/wire"
)

func createWithNodes(t *testing.T, c overlay.Cluster, prefixes ...string) overlay.Existing {
	t.Helper()
	w := overlay.Wanted{Name: "web", Network: overlay.Network{NodeAddresses: true}}
	for _, p := range prefixes {
		w.Subnets = append(w.Subnets, subnet(p))
	}
	n, err := c.CreateNetwork(t.Context(), w)
	must(t, err)
	return n
}

// A node has one address of each family, whichever of its containers asks first, and keeps
// it without any.
func TestClaimNode(t *testing.T) {
	cluster := newCluster(t, 2)
	n := createWithNodes(t, cluster[0], "10.1.0.0/24", "fd00:1::/64")
	if err := cluster[0].CheckNode(t.Context(), n); err == nil || err.Error() != "the cluster does not know that node a has an address on network web" {
		t.Errorf("before: %v", err)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	got := map[string]map[netip.Prefix]int{}
	for _, c := range cluster {
		got[c.Node] = map[netip.Prefix]int{}
		for range 5 {
			wg.Go(func() {
				list, err := c.ClaimNode(t.Context(), n)
				mu.Lock()
				defer mu.Unlock()
				if err != nil || len(list) != 2 || list[0].Bits() != 24 || list[1].Bits() != 64 {
					t.Errorf("%s: %v, %v", c.Node, list, err)
				}
				for _, p := range list {
					got[c.Node][p]++
				}
			})
		}
	}
	wg.Wait()
	for node, list := range got {
		if len(list) != 2 {
			t.Errorf("node %s has %v", node, list)
		}
		for p := range list {
			if node == "a" && got["b"][p] != 0 {
				t.Errorf("both nodes have %s", p)
			}
		}
	}
	claim(t, cluster[0], "web", "c1")
	must(t, cluster[0].ReleaseExcept(t.Context(), "web", func(wire.Attachment) bool { return false }))
	consistent(t, cluster[0].Store, "web")
	must(t, cluster[0].CheckNode(t.Context(), n))
	for key := range entries(t, cluster[0].Store, keys.Endpoint("web", "", "")) {
		if !keys.OfNode(key) {
			t.Errorf("%s is left", key)
		}
	}
}

// An address that a node has is said to be the node's, and a container's is no node's.
func TestNodeAddressTaken(t *testing.T) {
	cluster := newCluster(t, 2)
	n := createWithNodes(t, cluster[0], "10.1.0.0/24")
	own, err := cluster[0].ClaimNode(t.Context(), n)
	must(t, err)
	_, err = cluster[1].Claim(t.Context(), asking("web", "c1", own[0].Addr().String()))
	wantError(t, err, ipamTaken, "claimed by node a itself")
}

const ipamTaken = wire.Code(101)

func TestNodeAddressFull(t *testing.T) {
	cluster := newCluster(t, 2)
	n := createWithNodes(t, cluster[0], "10.1.0.0/30")
	claim(t, cluster[0], "web", "c1")
	_, err := cluster[0].ClaimNode(t.Context(), n)
	wantError(t, err, wire.CodeTryAgain, "nodeAddresses: node a needs an address as well: no available IPv4 addresses on this network's address pools: web")
	if strings.Contains(err.Error(), "\n") {
		t.Error(err)
	}
}

// What nodes have keeps no network from being removed, and goes with it, also of more nodes
// than a transaction has room for; and it goes with its node.
func TestNodeAddressesGo(t *testing.T) {
	cluster := newCluster(t, 2)
	n := createWithNodes(t, cluster[0], "10.1.0.0/16", "fd00:1::/64")
	for i := range 150 {
		c := cluster[0]
		c.Node = strings.Repeat("n", i+1)
		_, err := c.ClaimNode(t.Context(), n)
		must(t, err)
	}
	_, err := cluster[1].ClaimNode(t.Context(), n)
	must(t, err)
	must(t, cluster[0].RemoveNode(t.Context(), "b"))
	if left := entries(t, cluster[0].Store, keys.Endpoint("web", "b", "")); len(left) > 0 {
		t.Errorf("left of node b: %v", left)
	}
	consistent(t, cluster[0].Store, "web")
	claim(t, cluster[0], "web", "c1")
	if err := cluster[0].RemoveNetwork(t.Context(), "web"); err == nil || strings.Count(err.Error(), "on node") != 1 || !strings.Contains(err.Error(), `"c1"`) {
		t.Errorf("with a container: %v", err)
	}
	must(t, cluster[0].Release(t.Context(), attachment("web", "c1")))
	must(t, cluster[0].RemoveNetwork(t.Context(), "web"))
	for _, prefix := range []string{keys.Endpoint("web", "", ""), keys.Addr("web", netip.Addr{})} {
		if left := entries(t, cluster[0].Store, prefix); len(left) > 0 {
			t.Errorf("%d entries are left below %s", len(left), prefix)
		}
	}
}

// After the store was lost, a node has the address again that is on its bridge, or is told
// whose it is.
func TestRecoverNode(t *testing.T) {
	cluster := newCluster(t, 2)
	createWithNodes(t, cluster[0], "10.1.0.0/24")
	own := []netip.Prefix{netip.MustParsePrefix("10.1.0.7/24")}
	for range 2 {
		conflicts, err := cluster[0].RecoverNode(t.Context(), "web", own)
		if err != nil || len(conflicts) > 0 {
			t.Errorf("%v, %v", conflicts, err)
		}
	}
	consistent(t, cluster[0].Store, "web")
	conflicts, err := cluster[1].RecoverNode(t.Context(), "web", own)
	if err != nil || len(conflicts) != 1 || conflicts[0].String() != "network web: this node's own address 10.1.0.7 is claimed by node a itself" {
		t.Errorf("%v, %v", conflicts, err)
	}
}

// The MAC of a node's own address is that of its bridge, which is entered once.
func TestObjectsOfNode(t *testing.T) {
	p := empty()
	router := overlay.RouterMAC("b", "web")
	feed(t, p, node("a", "192.0.2.1"), node("b", "192.0.2.2"),
		entry(keys.Endpoint("web", "b", "x"), overlay.Endpoint{MAC: router, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("fd00::9")}}))
	wantLines(t, p.Objects(), `
		fdb `+router+` dev vx dst 192.0.2.2 self permanent
		fdb `+router+` dev vx master sticky static
		neigh 169.254.62.35 dev br lladdr `+router+` PERMANENT
		neigh 10.0.0.9 dev vx lladdr `+router+` PERMANENT
		neigh 10.0.0.9 dev br lladdr `+router+` PERMANENT
		neigh fd00::9 dev vx lladdr `+router+` PERMANENT
		neigh fd00::9 dev br lladdr `+router+` PERMANENT`)
}
