package overlay_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"dcni/pkg/overlay"
	"dcni/pkg/service"
	"dcni/pkg/wire"
)

func TestCreateNetwork(t *testing.T) {
	c := newCluster(t, 3)[0]
	n, err := c.CreateNetwork(t.Context(), overlay.Wanted{Name: "web", IPv6: true})
	must(t, err)
	if n.VNI != 4096 || n.MTU != 1450 || len(n.Subnets) != 2 || n.Subnets[0].Prefix.String() != "10.0.0.0/24" || n.Subnets[0].Gateway.String() != "10.0.0.1" {
		t.Errorf("%+v", n)
	}
	if six := n.Subnets[1]; six.Prefix.Bits() != 64 || six.Prefix.Addr().As16()[0] != 0xfd || six.Gateway != six.Prefix.Addr().Next() {
		t.Errorf("%+v", six)
	}
	again, err := c.Network(t.Context(), "web")
	if err != nil || fmt.Sprint(again) != fmt.Sprint(n) || len(n.ID) != 64 {
		t.Errorf("%+v, %v, want %+v", again, err, n)
	}
	encrypted, err := c.CreateNetwork(t.Context(), overlay.Wanted{Name: "secret", Network: overlay.Network{Encrypted: true}})
	if err != nil || encrypted.MTU != 1416 || encrypted.VNI != 4097 || encrypted.Subnets[0].Prefix.String() != "10.0.1.0/24" {
		t.Errorf("%+v, %v", encrypted, err)
	}
	list, err := c.Networks(t.Context())
	if err != nil || len(list) != 2 || list[0].Name != "secret" || list[1].Generation != n.Generation {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestCreateNetworkRefused(t *testing.T) {
	c := newCluster(t, 2)[1]
	write(t, c.Store, keys.Node("narrow"), overlay.Node{Address: netip.MustParseAddr("192.0.2.77"), MTU: 1400})
	given := func(subnets ...string) (n overlay.Network) {
		for _, s := range subnets {
			n.Subnets = append(n.Subnets, subnet(s))
		}
		return n
	}
	_, err := c.CreateNetwork(t.Context(), overlay.Wanted{Name: "web", Network: overlay.Network{VNI: 5000, Subnets: given("10.1.0.0/24").Subnets}})
	must(t, err)
	for _, r := range []struct {
		w    overlay.Wanted
		code wire.Code
		text string
	}{
		{overlay.Wanted{Name: "web"}, 0, "network with name web already exists"},
		{overlay.Wanted{Name: "bridge"}, 0, "operation is not permitted on predefined bridge network"},
		{overlay.Wanted{Name: "-"}, 7, `name "-": must be letters`},
		{overlay.Wanted{Name: "x", Network: given("10.1.0.128/25")}, 7, `Pool overlaps with other one on this address space: network "web" has 10.1.0.0/24`},
		{overlay.Wanted{Name: "x", Network: given("10.0.0.0/8")}, 7, `network "web"`},
		{overlay.Wanted{Name: "x", Network: given("10.2.0.0/24", "10.2.0.0/25")}, 7, "overlaps 10.2.0.0/24"},
		{overlay.Wanted{Name: "x", Network: given("192.0.2.64/26")}, 7, `subnet "192.0.2.64/26": must not contain a node: "narrow" has 192.0.2.77`},
		{overlay.Wanted{Name: "x", Network: given("10.1.2.3/24")}, 7, "it should be 10.1.2.0/24"},
		{overlay.Wanted{Name: "x", Network: overlay.Network{VNI: 5000}}, 7, `vni 5000: is network "web"'s`},
		{overlay.Wanted{Name: "x", Network: overlay.Network{VNI: 7}}, 7, "vni 7: must be 0 (chosen) or 4096 to 16777215"},
		{overlay.Wanted{Name: "x", Network: overlay.Network{MTU: 1450}}, 7, `mtu 1450: must be at most 1350: the underlay of node "narrow" has 1400 bytes, and an overlay network needs 50 of them`},
		{overlay.Wanted{Name: "x", Network: overlay.Network{MTU: 60}}, 7, "mtu 60: must be 0 (the most that fits, 1350) or 68 to 1350"},
		{overlay.Wanted{Name: "x", Network: overlay.Network{MTU: 1279}, IPv6: true}, 7, "1280 to 1350"},
		{overlay.Wanted{Name: "x", NoIPv4: true}, 0, "IPv4 or IPv6 must be enabled"},
	} {
		_, err := c.CreateNetwork(t.Context(), r.w)
		wantError(t, err, r.code, r.text)
	}
	if n, err := c.CreateNetwork(t.Context(), overlay.Wanted{Name: "low", Network: overlay.Network{MTU: 1300}}); err != nil || n.MTU != 1300 {
		t.Errorf("%+v, %v", n, err)
	}
}

// A subnet that is chosen overlaps no network, no node and nothing to be avoided, and
// pools end.
func TestChosenSubnets(t *testing.T) {
	c := newCluster(t, 1)[0]
	write(t, c.Store, keys.Node("z"), overlay.Node{Address: netip.MustParseAddr("10.0.2.9"), MTU: 1500})
	write(t, c.Store, keys.Meta(), overlay.Meta{Pools: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/21")}, Mask: 24})
	create(t, c, "given", "10.0.0.0/23")
	var got []string
	for _, name := range []string{"x", "y", "z"} {
		n, err := c.CreateNetwork(t.Context(), overlay.Wanted{Name: name, Avoid: []netip.Prefix{netip.MustParsePrefix("10.0.4.128/25")}})
		must(t, err)
		got = append(got, n.Subnets[0].Prefix.String())
	}
	if want := "10.0.3.0/24 10.0.5.0/24 10.0.6.0/24"; strings.Join(got, " ") != want {
		t.Errorf("%s, want %s", got, want)
	}
	create(t, c, "last", "10.0.7.0/24")
	create(t, c, "avoided", "10.0.4.0/24")
	_, err := c.CreateNetwork(t.Context(), overlay.Wanted{Name: "full"})
	wantError(t, err, wire.CodeTryAgain, "all predefined address pools have been fully subnetted")
}

// Networks that all nodes make at once overlap nowhere.
func TestCreateNetworkAtOnce(t *testing.T) {
	cluster := newCluster(t, 20)
	var wg sync.WaitGroup
	for i, c := range cluster {
		wg.Go(func() {
			if _, err := c.CreateNetwork(t.Context(), overlay.Wanted{Name: fmt.Sprint("n", i)}); err != nil {
				t.Error(err)
			}
			_, err := c.CreateNetwork(t.Context(), overlay.Wanted{Name: fmt.Sprint("same", i), Network: overlay.Network{Subnets: []overlay.Subnet{subnet("172.20.0.0/16")}}})
			if err != nil && !strings.Contains(err.Error(), "Pool overlaps with other one") {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	list, err := cluster[0].Networks(t.Context())
	must(t, err)
	if len(list) != 21 {
		t.Errorf("%d networks, want 20 and one of 172.20.0.0/16", len(list))
	}
	seen := map[any]bool{}
	for _, n := range list {
		if seen[n.VNI] || seen[n.Subnets[0].Prefix] {
			t.Errorf("%s has VNI %d and %s, which another has", n.Name, n.VNI, n.Subnets[0].Prefix)
		}
		seen[n.VNI], seen[n.Subnets[0].Prefix] = true, true
	}
}

func TestRemoveNetwork(t *testing.T) {
	cluster := newCluster(t, 2)
	c := cluster[0]
	create(t, c, "web", "10.1.0.0/24")
	claim(t, cluster[1], "web", "c1")
	wantError(t, c.RemoveNetwork(t.Context(), "web"), 0,
		fmt.Sprintf("error while removing network: network web has active endpoints (name:\"c1\" id:%q on node b)", attachment("web", "c1").EndpointID()[:12]))
	must(t, cluster[1].Release(t.Context(), attachment("web", "c1")))
	// What a node has for the ports of services goes along, and what it left that is no endpoint's.
	ingress := service.IngressOf("web")
	_, err := cluster[1].Claim(t.Context(), overlay.Claim{Attachment: ingress, Ready: true})
	must(t, err)
	for owner, want := range map[string]bool{overlay.AttachmentKey(ingress): false, overlay.AttachmentKey(attachment("web", "c1")): true} {
		if got := keys.OfContainer(keys.Endpoint("web", "b", owner)); got != want {
			t.Errorf("%s is a container's: %t", owner, got)
		}
	}
	must(t, func() error {
		_, _, err := c.Store.Commit(t.Context(), overlay.Txn{Then: []overlay.Change{{Key: keys.Addr("web", netip.MustParseAddr("10.1.0.9")), Value: []byte("b/x")}}})
		return err
	}())
	must(t, c.RemoveNetwork(t.Context(), "web"))
	for key := range entries(t, c.Store, keys.Prefix) {
		if strings.Contains(key, "/web") || strings.Contains(key, "/vni/") {
			t.Error("left:", key)
		}
	}
	err = c.RemoveNetwork(t.Context(), "web")
	wantError(t, err, 7, `network "web": not in the cluster; dnet create -d overlay makes it`)
	if !errors.Is(err, overlay.ErrNotFound) {
		t.Errorf("%v is no %v", err, overlay.ErrNotFound)
	}
	// Its VNI comes again late.
	if n := create(t, c, "web", "10.1.0.0/24"); n.VNI != 4097 {
		t.Errorf("VNI %d at once again", n.VNI)
	}
}

// A between is a store in which something happens once before a transaction that
// changes a key.
type between struct {
	overlay.Store
	key     string
	happens func()
}

func (b *between) Commit(ctx context.Context, txn overlay.Txn) (bool, int64, error) {
	if happens := b.happens; happens != nil && slices.ContainsFunc(txn.Then, func(c overlay.Change) bool { return c.Key == b.key }) {
		b.happens = nil
		happens()
	}
	return b.Store.Commit(ctx, txn)
}

// What happens on another node between the look at the store and the transaction counts.
func TestBetween(t *testing.T) {
	cluster := newCluster(t, 2)
	here, other := cluster[0], cluster[1]
	do := func(key string, happens func()) overlay.Cluster {
		c := here
		c.Store = &between{here.Store, key, happens}
		return c
	}
	// A network that overlaps, and one of the same VNI.
	c := do(keys.Network("web"), func() {
		_, err := other.CreateNetwork(t.Context(), overlay.Wanted{Name: "first", Network: overlay.Network{VNI: 9000, Subnets: []overlay.Subnet{subnet("10.1.0.0/24")}}})
		must(t, err)
	})
	_, err := c.CreateNetwork(t.Context(), overlay.Wanted{Name: "web", Network: overlay.Network{Subnets: []overlay.Subnet{subnet("10.1.0.0/16")}}})
	wantError(t, err, 7, `network "first" has 10.1.0.0/24`)
	c = do(keys.Network("web"), func() { create(t, other, "second", "10.2.0.0/24") })
	if n := create(t, c, "web", "10.3.0.0/24"); n.VNI != 4097 {
		t.Errorf("VNI %d", n.VNI)
	}
	// A claim while the network is removed.
	c = do(keys.Network("web"), func() { claim(t, other, "web", "c1") })
	wantError(t, c.RemoveNetwork(t.Context(), "web"), 0, "active endpoints")
	must(t, other.Release(t.Context(), attachment("web", "c1")))
	// A removal while an address is claimed.
	c = do(keys.Use("web"), func() { must(t, other.RemoveNetwork(t.Context(), "web")) })
	_, err = c.Claim(t.Context(), asking("web", "c1"))
	wantError(t, err, 7, "not in the cluster")
	create(t, here, "web", "10.3.0.0/24")
	c = do(keys.Use("web"), func() {
		must(t, other.RemoveNetwork(t.Context(), "web"))
		create(t, other, "web", "10.4.0.0/24")
	})
	_, err = c.Claim(t.Context(), asking("web", "c1"))
	wantError(t, err, 7, "removed and made again just now")
	// The same address, asked for.
	c = do(keys.Use("web"), func() { claim(t, other, "web", "c2", "10.4.0.9") })
	_, err = c.Claim(t.Context(), asking("web", "c1", "10.4.0.9"))
	wantError(t, err, wire.CodeAddressTaken, "c2/eth0 on node b")
	// A release, after which another has the address.
	claim(t, here, "web", "c1", "10.4.0.8")
	c = do(keys.Endpoint("web", "a", overlay.AttachmentKey(attachment("web", "c1"))), func() {
		must(t, here.Release(t.Context(), attachment("web", "c1")))
		claim(t, other, "web", "c3", "10.4.0.8")
	})
	must(t, c.Release(t.Context(), attachment("web", "c1")))
	consistent(t, here.Store, "web")
	if n := len(entries(t, here.Store, keys.Endpoint("web", "b", ""))); n != 2 {
		t.Errorf("%d endpoints of the other node, want 2", n)
	}
}

// While a network is removed and made again all the time, an endpoint keeps it.
func TestRemoveNetworkWhileClaimed(t *testing.T) {
	cluster := newCluster(t, 4)
	create(t, cluster[0], "web", "10.1.0.0/24")
	var wg sync.WaitGroup
	var ended atomic.Int32
	for i, c := range cluster[1:] {
		wg.Go(func() {
			defer ended.Add(1)
			for j := range 100 {
				name := fmt.Sprintf("c%d-%d", i, j)
				var got *overlay.Claimed
				for err := overlay.ErrNotFound; err != nil; { // it is not there just now
					got, err = c.Claim(t.Context(), asking("web", name))
				}
				runtime.Gosched()
				if n, err := c.Network(t.Context(), "web"); err != nil || n.Generation != got.Generation {
					t.Errorf("%s was claimed, and the network is gone: %v", name, err)
				}
				if err := c.Release(t.Context(), attachment("web", name)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for ended.Load() < 3 {
		if cluster[0].RemoveNetwork(t.Context(), "web") == nil {
			create(t, cluster[0], "web", "10.1.0.0/24")
		}
	}
	wg.Wait()
	consistent(t, cluster[0].Store, "web")
}

// A value that can't be read hides no other network, and a name that would lead elsewhere
// as a file's is no network's.
func TestNetworksUnread(t *testing.T) {
	c := newCluster(t, 1)[0]
	create(t, c, "web", "10.1.0.0/24")
	write(t, c.Store, keys.Network("bad"), "text")
	write(t, c.Store, keys.Network("x/../../../../tmp/web"), overlay.Network{VNI: 5000})
	write(t, c.Store, keys.Network(".hidden"), overlay.Network{VNI: 5001})
	list, err := c.Networks(t.Context())
	var unread *overlay.UnreadableError
	if len(list) != 1 || list[0].Name != "web" || !errors.As(err, &unread) || !slices.Equal(unread.Names, []string{"bad"}) {
		t.Errorf("%+v, %v", list, err)
	}

	// Networks are made all the same. What can't be read is named, and its name and VNI are not
	// given again.
	const taken = overlay.MinVNI + 1
	write(t, c.Store, keys.Node("broken"), 7)
	must(t, put(t, c.Store, keys.VNI(taken), "bad"))
	var warned []string
	c.Warn = func(err error) { warned = append(warned, err.Error()) }
	made, err := c.CreateNetwork(t.Context(), overlay.Wanted{Name: "other"})
	if err != nil || made.VNI != taken+1 {
		t.Errorf("VNI %d, %v", made.VNI, err)
	}
	if len(warned) != 2 || !strings.Contains(warned[0], "net/bad") || !strings.Contains(warned[1], "node/broken") {
		t.Errorf("warned of %q", warned)
	}
	_, err = c.CreateNetwork(t.Context(), overlay.Wanted{Name: "bad"})
	wantError(t, err, 0, "network with name bad already exists")
	_, err = c.CreateNetwork(t.Context(), overlay.Wanted{Name: "third", Network: overlay.Network{VNI: taken}})
	wantError(t, err, 7, `is network "bad"'s`)

	// It can be removed.
	must(t, c.RemoveNetwork(t.Context(), "bad"))
	if left := entries(t, c.Store, keys.Network("bad")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	made, err = c.CreateNetwork(t.Context(), overlay.Wanted{Name: "third", Network: overlay.Network{VNI: taken}})
	if err != nil || made.VNI != taken {
		t.Errorf("VNI %d, %v", made.VNI, err)
	}
}

// Nodes that can't be read hide no other, and make no difference to what others do.
func TestNodesUnread(t *testing.T) {
	c := newCluster(t, 2)[0]
	write(t, c.Store, keys.Node("bad"), "text")
	nodes, err := c.Nodes(t.Context())
	var unread *overlay.UnreadableError
	if len(nodes) != 2 || !errors.As(err, &unread) || !slices.Equal(unread.Names, []string{"bad"}) {
		t.Errorf("%+v, %v", nodes, err)
	}
	must(t, c.RemoveNode(t.Context(), "bad"))
	if nodes, err := c.Nodes(t.Context()); len(nodes) != 2 || err != nil {
		t.Errorf("%+v, %v", nodes, err)
	}
}
