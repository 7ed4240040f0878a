package overlay_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"dcni/pkg/overlay"
	"dcni/pkg/wire"
)

func TestClaim(t *testing.T) {
	c := newCluster(t, 1)[0]
	n, err := c.CreateNetwork(t.Context(), overlay.Wanted{Name: "web", IPv6: true})
	must(t, err)
	got := claim(t, c, "web", "c1")
	if len(got.Addresses) != 2 || got.Generation != n.Generation || got.Again {
		t.Fatalf("%+v", got)
	}
	four := got.Addresses[0]
	if b := four.Address.Addr().As4(); four.Address.Bits() != 24 || four.Gateway.String() != "10.0.0.1" || got.MAC != fmt.Sprintf("02:42:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3]) {
		t.Errorf("%+v", got)
	}
	if six := got.Addresses[1]; !n.Subnets[1].Prefix.Contains(six.Address.Addr()) || six.Gateway != n.Subnets[1].Gateway {
		t.Errorf("%+v", six)
	}
	consistent(t, c.Store, "web")
	eps, err := c.Endpoints(t.Context(), "web")
	if err != nil || len(eps) != 1 || eps[0].Node != "a" || eps[0].MAC != got.MAC || eps[0].Container != "c1" || eps[0].Names[0] != "c1" {
		t.Errorf("%+v, %v", eps, err)
	}
	if fresh := claim(t, c, "web", "c2"); address(fresh) == address(got) {
		t.Errorf("both have %s", address(got))
	}
}

// All nodes at once fill a subnet: no address is given twice, none is left, and none is
// the network's, the gateway, an auxiliary one or the broadcast address.
func TestClaimAtOnce(t *testing.T) {
	cluster := newCluster(t, 20)
	_, err := cluster[0].CreateNetwork(t.Context(), overlay.Wanted{Name: "web", Network: overlay.Network{
		Subnets: []overlay.Subnet{{Prefix: netip.MustParsePrefix("10.1.0.0/25"), Aux: map[string]netip.Addr{"nas": netip.MustParseAddr("10.1.0.7")}}},
	}})
	must(t, err)
	var mu sync.Mutex
	var wg sync.WaitGroup
	owners, full := map[string]string{}, 0
	for i, c := range cluster {
		wg.Go(func() {
			for j := range 7 {
				name := fmt.Sprintf("c%d-%d", i, j)
				got, err := c.Claim(t.Context(), asking("web", name))
				mu.Lock()
				switch {
				case err != nil:
					wantError(t, err, wire.CodeTryAgain, "no available IPv4 addresses on this network's address pools: web")
					full++
				case owners[address(got)] != "":
					t.Errorf("%s is %s's and %s's", address(got), owners[address(got)], name)
				default:
					owners[address(got)] = name
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(owners) != 124 || full != 140-124 {
		t.Errorf("%d addresses were given, and %d claims refused, want 124 and 16", len(owners), full)
	}
	for _, a := range []string{"10.1.0.0/25", "10.1.0.1/25", "10.1.0.7/25", "10.1.0.127/25"} {
		if owners[a] != "" {
			t.Errorf("%s has %s", owners[a], a)
		}
	}
	consistent(t, cluster[0].Store, "web")
	eps, err := cluster[0].Endpoints(t.Context(), "web")
	must(t, err)
	for _, c := range cluster {
		must(t, c.ReleaseExcept(t.Context(), "web", func(wire.Attachment) bool { return false }))
	}
	must(t, cluster[0].RemoveNetwork(t.Context(), "web"))
	if len(eps) != 124 {
		t.Errorf("%d endpoints", len(eps))
	}
}

// The subnets of a family are alternatives: the next is used when one is full.
func TestClaimSubnets(t *testing.T) {
	c := newCluster(t, 1)[0]
	_, err := c.CreateNetwork(t.Context(), overlay.Wanted{Name: "web", Network: overlay.Network{Subnets: []overlay.Subnet{subnet("10.1.0.0/30"), subnet("10.2.0.0/30")}}})
	must(t, err)
	if got := address(claim(t, c, "web", "c1")) + " " + address(claim(t, c, "web", "c2")); got != "10.1.0.2/30 10.2.0.2/30" {
		t.Error(got)
	}
	_, err = c.Claim(t.Context(), asking("web", "c3"))
	wantError(t, err, wire.CodeTryAgain, "no available IPv4 addresses")
	must(t, c.Release(t.Context(), attachment("web", "c1")))
	if got := address(claim(t, c, "web", "c3")); got != "10.1.0.2/30" {
		t.Error(got)
	}
}

func TestClaimAsked(t *testing.T) {
	cluster := newCluster(t, 2)
	create(t, cluster[0], "web", "10.1.0.0/24")
	if got := claim(t, cluster[0], "web", "c1", "10.1.0.9"); address(got) != "10.1.0.9/24" {
		t.Error(got)
	}
	for _, r := range []struct {
		asked string
		code  wire.Code
		text  string
	}{
		{"10.1.0.9", wire.CodeAddressTaken, "Address already in use: 10.1.0.9 is claimed by c1/eth0 on node a"},
		{"10.1.0.1", wire.CodeAddressTaken, "Address already in use: 10.1.0.1 is the gateway"},
		{"10.1.0.255", wire.CodeConfig, "broadcast"},
		{"10.2.0.1", wire.CodeConfig, "no configured subnet contains IP address 10.2.0.1"},
	} {
		_, err := cluster[1].Claim(t.Context(), asking("web", "c2", r.asked))
		wantError(t, err, r.code, r.text)
	}
	if n := len(entries(t, cluster[0].Store, keys.Endpoint("web", "b", ""))); n != 0 {
		t.Errorf("refused claims left %d endpoints", n)
	}
}

// An ADD again finds what the first one claimed, whatever else it says now.
func TestClaimAgain(t *testing.T) {
	c := newCluster(t, 1)[0]
	create(t, c, "web", "10.1.0.0/24")
	first := claim(t, c, "web", "c1")
	w := asking("web", "c1")
	w.MAC, w.Names = "02:00:00:00:00:01", []string{"other"}
	again, err := c.Claim(t.Context(), w)
	if err != nil || address(again) != address(first) || !again.Again || again.MAC != w.MAC {
		t.Fatalf("%+v, %v", again, err)
	}
	eps, err := c.Endpoints(t.Context(), "web")
	if err != nil || len(eps) != 1 || eps[0].Names[0] != "other" || eps[0].MAC != w.MAC {
		t.Errorf("%+v, %v", eps, err)
	}
	// With another address asked for, it gives the first back.
	asked := "10.1.0.9"
	if address(first) == asked+"/24" {
		asked = "10.1.0.10"
	}
	if got := claim(t, c, "web", "c1", asked); address(got) != asked+"/24" {
		t.Error(got)
	}
	consistent(t, c.Store, "web")
	must(t, c.Release(t.Context(), attachment("web", "c1")))
	consistent(t, c.Store, "web")
	if n := len(entries(t, c.Store, keys.Endpoint("web", "", ""))); n != 0 {
		t.Errorf("%d endpoints", n)
	}
}

// What was written for a network does not attach to another one of its name.
func TestClaimGeneration(t *testing.T) {
	c := newCluster(t, 1)[0]
	_, err := c.Claim(t.Context(), asking("web", "c1"))
	wantError(t, err, 7, `network "web": not in the cluster; dnet create -d overlay makes it`)
	first := create(t, c, "web", "10.1.0.0/24")
	must(t, c.RemoveNetwork(t.Context(), "web"))
	second := create(t, c, "web", "10.1.0.0/24")
	w := asking("web", "c1")
	w.Generation = first.Generation
	_, err = c.Claim(t.Context(), w)
	wantError(t, err, 7, fmt.Sprintf(`network "web": it was removed and made again since this configuration was written (generation %d, now %d)`, first.Generation, second.Generation))
	w.Generation = second.Generation
	_, err = c.Claim(t.Context(), w)
	must(t, err)
}

// A claim by a configuration that was written for the network gets what any gets, and by
// one that was changed since, or is of another generation, it gets the same or nothing.
func TestClaimConfigured(t *testing.T) {
	c := newCluster(t, 1)[0]
	n := create(t, c, "web", "10.1.0.0/29")
	configured := func(name string, subnets ...overlay.Subnet) overlay.Claim {
		w := asking("web", name)
		w.Generation = n.Generation
		for _, s := range subnets {
			w.Subnets = append(w.Subnets, s.IPAM())
		}
		return w
	}
	changed, larger := n.Subnets[0], n.Subnets[0]
	changed.Gateway = netip.MustParseAddr("10.1.0.6")
	larger.Prefix = netip.MustParsePrefix("10.1.0.0/16")
	for i, w := range []overlay.Claim{
		configured("c0", n.Subnets...), configured("c1", changed), configured("c2", larger), configured("c3", n.Subnets...), configured("c0", n.Subnets...), configured("c4", n.Subnets...),
	} {
		got, err := c.Claim(t.Context(), w)
		if err != nil {
			t.Fatal(i, err)
		}
		if a := got.Addresses[0]; got.VNI != n.VNI || a.Address.Bits() != 29 || a.Gateway != n.Subnets[0].Gateway || got.Again != (i == 4) {
			t.Errorf("claim %d: %+v", i, got)
		}
		consistent(t, c.Store, "web")
	}
	_, err := c.Claim(t.Context(), configured("c5", n.Subnets...))
	wantError(t, err, wire.CodeTryAgain, "no available IPv4 addresses")
	old := configured("c6", n.Subnets...)
	old.Generation--
	_, err = c.Claim(t.Context(), old)
	wantError(t, err, wire.CodeConfig, "removed and made again since")
	old.Attachment.Network = "gone"
	_, err = c.Claim(t.Context(), old)
	wantError(t, err, wire.CodeConfig, "not in the cluster")
	consistent(t, c.Store, "web")
}

func TestRelease(t *testing.T) {
	cluster := newCluster(t, 2)
	create(t, cluster[0], "web", "10.1.0.0/24")
	c1 := attachment("web", "c1")
	must(t, cluster[0].Release(t.Context(), c1)) // it has nothing
	claim(t, cluster[0], "web", "c1", "10.1.0.9")
	must(t, cluster[1].Release(t.Context(), c1)) // another node's
	if n := len(entries(t, cluster[0].Store, keys.Addr("web", netip.Addr{}))); n != 1 {
		t.Fatalf("%d addresses", n)
	}
	// Its address became another's while it was cut off.
	key := keys.Addr("web", netip.MustParseAddr("10.1.0.9"))
	for _, change := range []overlay.Change{{Key: key, Delete: true}, {Key: key, Value: []byte("b/other")}} {
		_, _, err := cluster[0].Store.Commit(t.Context(), overlay.Txn{Then: []overlay.Change{change}})
		must(t, err)
	}
	for range 2 {
		must(t, cluster[0].Release(t.Context(), c1))
	}
	if got := entries(t, cluster[0].Store, keys.Addr("web", netip.Addr{})); len(got) != 1 || got[key] != "b/other" {
		t.Error(got)
	}
	if n := len(entries(t, cluster[0].Store, keys.Endpoint("web", "", ""))); n != 0 {
		t.Errorf("%d endpoints", n)
	}
}

func TestReleaseExcept(t *testing.T) {
	cluster := newCluster(t, 2)
	a, b := cluster[0], cluster[1]
	create(t, a, "web", "10.1.0.0/24")
	for _, name := range []string{"c1", "c2", "c3"} {
		claim(t, a, "web", name)
		claim(t, b, "web", name+"b")
	}
	// An address of this node without an endpoint goes, another node's stays.
	must(t, func() error {
		_, _, err := a.Store.Commit(t.Context(), overlay.Txn{Then: []overlay.Change{{Key: keys.Addr("web", netip.MustParseAddr("10.1.0.255")), Value: []byte("a/lost")}}})
		return err
	}())
	must(t, a.ReleaseExcept(t.Context(), "web", func(w wire.Attachment) bool { return w == attachment("web", "c2") }))
	var left []string
	eps, err := a.Endpoints(t.Context(), "web")
	must(t, err)
	for _, e := range eps {
		left = append(left, e.Container)
	}
	if len(left) != 4 || !strings.Contains(strings.Join(left, " "), "c2 ") {
		t.Error(left)
	}
	consistent(t, a.Store, "web")
}

func TestRemoveNode(t *testing.T) {
	cluster := newCluster(t, 2)
	a, b := cluster[0], cluster[1]
	create(t, a, "web", "10.1.0.0/24")
	create(t, a, "db", "10.2.0.0/24")
	for _, c := range cluster {
		claim(t, c, "web", "c"+c.Node)
		claim(t, c, "db", "c"+c.Node)
	}
	write(t, a.Store, keys.Member("b"), map[string]string{"b": "https://192.0.2.2:2380"})
	write(t, a.Store, keys.Endpoint("web", "b", "unread"), "text")
	must(t, put(t, a.Store, keys.Addr("web", netip.MustParseAddr("10.1.0.77")), "b/unread"))
	write(t, a.Store, keys.Alive("b"), overlay.Alive{})
	wantError(t, a.RemoveNode(t.Context(), "b"), 7, `node "b": is alive`)
	must(t, b.RemoveNode(t.Context(), "b")) // it leaves
	for key, value := range entries(t, a.Store, keys.Prefix) {
		if strings.Contains(key, "/b/") || strings.HasPrefix(value, "b/") || key == keys.Node("b") || key == keys.Member("b") {
			t.Error("left:", key, value)
		}
	}
	if n := len(entries(t, a.Store, keys.Prefix+"ep/")); n != 2 {
		t.Errorf("%d endpoints of the other node", n)
	}
	consistent(t, a.Store, "web")
}

// After the store was lost, nodes claim again what they run. Of two that have the same
// address, one keeps it, and the other hears who.
func TestRecover(t *testing.T) {
	old := newCluster(t, 2)
	n, err := old[0].CreateNetwork(t.Context(), overlay.Wanted{Name: "web", IPv6: true})
	must(t, err)
	claim(t, old[0], "web", "c1")
	claim(t, old[1], "web", "c2")
	running := map[string][]overlay.Endpoint{}
	eps, err := old[0].Endpoints(t.Context(), "web")
	must(t, err)
	for _, e := range eps {
		running[e.Node] = append(running[e.Node], e.Endpoint)
	}
	double := running["a"][0]
	double.Container = "c3"

	fresh := newCluster(t, 2)
	for range 2 { // it may be called again
		for i, c := range fresh {
			again, err := c.RecoverNetwork(t.Context(), "web", n.Network)
			if err != nil || again.VNI != n.VNI || fmt.Sprint(again.Subnets) != fmt.Sprint(n.Subnets) {
				t.Fatalf("%+v, %v", again, err)
			}
			conflicts, err := c.Recover(t.Context(), "web", running[c.Node])
			if err != nil || len(conflicts) != 0 {
				t.Fatal(i, conflicts, err)
			}
		}
	}
	conflicts, err := fresh[1].Recover(t.Context(), "web", []overlay.Endpoint{double})
	if err != nil || len(conflicts) != 2 || conflicts[0].String() != fmt.Sprintf("web c3/eth0: address %s is claimed by c1/eth0 on node a", double.Addresses[0]) {
		t.Errorf("%v, %v", conflicts, err)
	}
	consistent(t, fresh[0].Store, "web")
	other := n.Network
	other.VNI = 7777
	_, err = fresh[0].RecoverNetwork(t.Context(), "web", other)
	wantError(t, err, 7, `network "web": it is another one in the cluster, with VNI 4096`)
	if got := entries(t, fresh[0].Store, keys.Prefix+"ep/"); len(got) != 2 {
		t.Error(got)
	}
}

func TestStoreAway(t *testing.T) {
	c := newCluster(t, 1)[0]
	create(t, c, "web", "10.1.0.0/24")
	c.Store.(interface{ Cut() }).Cut()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := c.Claim(ctx, asking("web", "c1"))
	for _, err := range []error{err, c.Release(ctx, attachment("web", "c1")), c.RemoveNetwork(ctx, "web")} {
		if !errors.Is(err, overlay.ErrUnavailable) {
			t.Errorf("%v, want %v", err, overlay.ErrUnavailable)
		}
	}
}
