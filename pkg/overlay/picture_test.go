package overlay_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"dcni/pkg/overlay"
	"dcni/pkg/wire"
)

// A pictured is a picture with the store's revision that it is of.
type pictured struct {
	overlay.Picture
	store    overlay.Store
	revision int64
	told     []wire.Object // what Changes has said, together
}

// picture returns a node's picture of the network web as the store is.
func picture(t testing.TB, s overlay.Store, self string) *pictured {
	t.Helper()
	p := &pictured{Picture: overlay.Picture{Keys: keys, Self: self, Network: "web", Bridge: "br", Vxlan: "vx"}, store: s}
	p.list(t)
	return p
}

func (p *pictured) list(t testing.TB) {
	t.Helper()
	for _, prefix := range p.Prefixes() {
		var list []overlay.Entry
		revision, err := p.store.List(t.Context(), prefix, func(e overlay.Entry) error {
			list = append(list, e)
			return nil
		})
		must(t, err)
		must(t, p.Reset(prefix, list))
		p.revision = revision
	}
}

func lines(objects []wire.Object) []string {
	list := make([]string, len(objects))
	for i, o := range objects {
		list[i] = o.String()
	}
	return list
}

func wantLines(t *testing.T, objects []wire.Object, want string) {
	t.Helper()
	var list []string
	for line := range strings.SplitSeq(strings.TrimSpace(want), "\n") {
		list = append(list, strings.TrimSpace(line))
	}
	if got := lines(objects); !slices.Equal(got, list) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(list, "\n"))
	}
}

// feed puts entries into a picture, each newer than the last.
func feed(t *testing.T, p *overlay.Picture, changes ...overlay.Change) {
	t.Helper()
	for _, c := range changes {
		feedRevision++
		must(t, p.Apply(overlay.Event{Entry: overlay.Entry{Key: c.Key, Value: c.Value, Created: feedRevision, Modified: feedRevision}, Deleted: c.Delete}))
	}
}

var feedRevision int64

func entry(key string, value any) overlay.Change {
	data, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return overlay.Change{Key: key, Value: data}
}

func node(name, address string) overlay.Change {
	return entry(keys.Node(name), overlay.Node{Address: netip.MustParseAddr(address), MTU: 1500})
}

func endpoint(node, name, mac string, addresses ...string) overlay.Change {
	e := overlay.Endpoint{MAC: mac, Container: name, IfName: "eth0", Names: []string{name}}
	for _, a := range addresses {
		e.Addresses = append(e.Addresses, netip.MustParseAddr(a))
	}
	return entry(keys.Endpoint("web", node, name), e)
}

// empty is the picture of node a, which knows nothing.
func empty() *overlay.Picture {
	return &overlay.Picture{Keys: keys, Self: "a", Network: "web", Bridge: "br", Vxlan: "vx"}
}

func TestObjects(t *testing.T) {
	p := empty()
	feed(t, p, node("a", "192.0.2.1"), node("b", "192.0.2.2"), node("idle", "192.0.2.9"),
		endpoint("a", "local", "02:42:0a:00:00:02", "10.0.0.2"),
		endpoint("b", "c1", "02:42:0a:00:00:03", "10.0.0.3", "fd00::3"),
		endpoint("unknown", "c2", "02:42:0a:00:00:04", "10.0.0.4"))
	router := overlay.RouterMAC("b", "web")
	wantLines(t, p.Objects(), `
		fdb `+router+` dev vx dst 192.0.2.2 self permanent
		fdb `+router+` dev vx master sticky static
		neigh 169.254.62.35 dev br lladdr `+router+` PERMANENT
		fdb 02:42:0a:00:00:03 dev vx dst 192.0.2.2 self permanent
		fdb 02:42:0a:00:00:03 dev vx master sticky static
		neigh 10.0.0.3 dev vx lladdr 02:42:0a:00:00:03 PERMANENT
		neigh 10.0.0.3 dev br lladdr 02:42:0a:00:00:03 PERMANENT
		neigh fd00::3 dev vx lladdr 02:42:0a:00:00:03 PERMANENT
		neigh fd00::3 dev br lladdr 02:42:0a:00:00:03 PERMANENT`)
	p.Flood = true
	wantLines(t, p.Objects(), `
		fdb `+router+` dev vx dst 192.0.2.2 self permanent
		fdb `+router+` dev vx master sticky static
		neigh 169.254.62.35 dev br lladdr `+router+` PERMANENT
		fdb 00:00:00:00:00:00 dev vx dst 192.0.2.2 self permanent
		fdb 02:42:0a:00:00:03 dev vx dst 192.0.2.2 self permanent
		fdb 02:42:0a:00:00:03 dev vx master sticky static
		neigh 10.0.0.3 dev br lladdr 02:42:0a:00:00:03 PERMANENT
		neigh fd00::3 dev br lladdr 02:42:0a:00:00:03 PERMANENT`)
	p.Flood = false
	// Its node gets another address, and then the endpoint goes.
	feed(t, p, node("b", "192.0.2.7"))
	if got := lines(p.Objects()); !strings.Contains(got[0], "dst 192.0.2.7") || !strings.Contains(got[3], "dst 192.0.2.7") {
		t.Error(got)
	}
	feed(t, p, overlay.Change{Key: keys.Endpoint("web", "b", "c1"), Delete: true})
	if got := p.Objects(); len(got) != 0 {
		t.Error(lines(got))
	}
}

// An underlay of IPv6 has nodes of IPv6 only, and one of IPv4 the others.
func TestObjectsUnderlay(t *testing.T) {
	p := empty()
	feed(t, p, node("a", "2001:db8::1"), node("b", "2001:db8::2"), node("c", "192.0.2.3"),
		endpoint("b", "c1", "02:42:0a:00:00:03", "10.0.0.3"), endpoint("c", "c2", "02:42:0a:00:00:04", "10.0.0.4"))
	got := strings.Join(lines(p.Objects()), "\n")
	if !strings.Contains(got, "fdb 02:42:0a:00:00:03 dev vx dst 2001:db8::2 self permanent") || strings.Contains(got, "02:42:0a:00:00:04") {
		t.Error(got)
	}
	feed(t, p, node("a", "192.0.2.1"))
	got = strings.Join(lines(p.Objects()), "\n")
	if !strings.Contains(got, "fdb 02:42:0a:00:00:04 dev vx dst 192.0.2.3 self permanent") || strings.Contains(got, "02:42:0a:00:00:03") {
		t.Error(got)
	}
}

// An endpoint that moved is where its newest entry says, also if the node that it was on
// never gave it back.
func TestMoved(t *testing.T) {
	where := func(p *overlay.Picture, key string) string {
		for _, o := range p.Objects() {
			if o.Key() == key {
				return o.String()
			}
		}
		return ""
	}
	p := empty()
	const mac = "02:42:0a:00:00:03"
	feed(t, p, node("a", "192.0.2.1"), node("b", "192.0.2.2"), node("c", "192.0.2.3"),
		endpoint("b", "c1", mac, "10.0.0.3", "fd00::3"))
	before := p.Objects()
	feed(t, p, endpoint("c", "c1", mac, "10.0.0.3"))
	if got := where(p, "fdb "+mac+" dev vx"); !strings.Contains(got, "dst 192.0.2.3") {
		t.Error(got)
	}
	if got := where(p, "neigh fd00::3 dev br"); got == "" {
		t.Error("the old node's other address is gone")
	}
	gone, wanted := overlay.Differences(before, p.Objects())
	if len(gone) != 0 || len(wanted) != 4 { // three of node c, and of the endpoint its FDB entry
		t.Errorf("gone %q, wanted %q", lines(gone), lines(wanted))
	}
	// Another MAC: the old one is nowhere.
	feed(t, p, endpoint("c", "c1", "02:42:0a:00:00:99", "10.0.0.3", "fd00::3"))
	if got := where(p, "fdb "+mac+" dev vx"); got != "" {
		t.Error(got)
	}
	// To this node: nothing is elsewhere.
	feed(t, p, endpoint("a", "c1", mac, "10.0.0.3", "fd00::3"))
	if got := p.Objects(); len(got) != 0 {
		t.Error(lines(got))
	}
}

// Each node has an address of its own, the same whenever and in whichever order nodes
// come, and none that is reserved.
func TestLinkLocals(t *testing.T) {
	p := empty()
	var changes []overlay.Change
	for i := range 40_000 {
		changes = append(changes, node(fmt.Sprint("node", i), "192.0.2.1"))
	}
	feed(t, p, changes...)
	first := p.LinkLocals()
	seen := map[netip.Addr]bool{}
	for name, a := range first {
		b := a.As4()
		if seen[a] || b[0] != 169 || b[1] != 254 || b[2] == 0 || b[2] == 255 || a == netip.MustParseAddr("169.254.169.254") {
			t.Errorf("%s: %s", name, a)
		}
		seen[a] = true
	}
	slices.Reverse(changes)
	other := empty()
	feed(t, other, changes...)
	for name, a := range other.LinkLocals() {
		if first[name] != a {
			t.Errorf("%s: %s, and %s in another order", name, first[name], a)
		}
	}
}

func TestReset(t *testing.T) {
	p := empty()
	feed(t, p, node("b", "192.0.2.2"), endpoint("b", "c1", "02:42:0a:00:00:03", "10.0.0.3"))
	must(t, p.Reset(keys.Endpoint("web", "", ""), nil))
	if got := p.Endpoints(); len(got) != 0 {
		t.Error(got)
	}
	feed(t, p, endpoint("b", "c2", "02:42:0a:00:00:03", "10.0.0.3"))
	if got := p.Objects(); len(got) != 7 {
		t.Errorf("the node is forgotten: %q", lines(got))
	}
	good := endpoint("b", "c3", "02:42:0a:00:00:04", "10.0.0.4")
	err := p.Reset(keys.Endpoint("web", "", ""), []overlay.Entry{{Key: keys.Endpoint("web", "b", "c2"), Value: []byte("x")}, {Key: good.Key, Value: good.Value}})
	if got := p.Endpoints(); err == nil || len(got) != 2 {
		t.Errorf("%v, endpoints %v: one value can't be read", err, got)
	}
	feed(t, p, overlay.Change{Key: good.Key, Delete: true})
	if err := p.Apply(overlay.Event{Entry: overlay.Entry{Key: keys.Node("b"), Value: []byte("x")}}); err == nil || len(p.Objects()) != 7 {
		t.Errorf("%v, %d objects", err, len(p.Objects()))
	}
}

// Whatever is claimed, given back, lost and moved on three nodes, the entries of the
// three pictures together are what is in the store, whether a picture was fed with
// changes or listed.
func TestPicturesAreTheStore(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 0))
		cluster := newCluster(t, 3)
		_, err := cluster[0].CreateNetwork(t.Context(), overlay.Wanted{Name: "web", IPv6: true, Network: overlay.Network{Subnets: []overlay.Subnet{subnet("10.1.0.0/28")}}})
		must(t, err)
		var pictures []*pictured
		for _, c := range cluster {
			pictures = append(pictures, picture(t, c.Store, c.Node))
		}
		for step := range 60 {
			churn(t, random, cluster)
			for _, p := range pictures {
				switch random.IntN(4) {
				case 0: // it is late
				case 1:
					p.list(t)
					p.wantChanges(t)
				default:
					p.follow(t)
				}
			}
			if step%10 == 9 {
				for _, p := range pictures {
					p.follow(t)
				}
				compare(t, cluster[0].Store, pictures)
			}
		}
		consistent(t, cluster[0].Store, "web")
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// churn does something to an endpoint.
func churn(t *testing.T, random *rand.Rand, cluster []overlay.Cluster) {
	c := cluster[random.IntN(len(cluster))]
	name := fmt.Sprint("c", random.IntN(8))
	switch random.IntN(6) {
	case 0, 1, 2:
		_, err := c.Claim(t.Context(), asking("web", name)) // also the same name on another node
		if err != nil && !strings.Contains(err.Error(), "no available") {
			t.Fatal(err)
		}
	case 3:
		must(t, c.Release(t.Context(), attachment("web", name)))
	case 4:
		must(t, c.ReleaseExcept(t.Context(), "web", func(wire.Attachment) bool { return random.IntN(3) > 0 }))
	case 5: // it moves with its addresses
		eps, err := c.Endpoints(t.Context(), "web")
		must(t, err)
		if len(eps) == 0 {
			return
		}
		e := eps[random.IntN(len(eps))]
		from := cluster[slices.IndexFunc(cluster, func(c overlay.Cluster) bool { return c.Node == e.Node })]
		must(t, from.Release(t.Context(), attachment("web", e.Container)))
		_, err = c.Recover(t.Context(), "web", []overlay.Endpoint{e.Endpoint})
		must(t, err)
	}
}

// follow feeds a picture with what changed since, revision by revision.
func (p *pictured) follow(t *testing.T) {
	t.Helper()
	_, _, err := p.store.Commit(t.Context(), overlay.Txn{Then: []overlay.Change{{Key: keys.Prefix + "mark"}}})
	must(t, err)
	mark, err := p.store.Get(t.Context(), keys.Prefix+"mark")
	must(t, err)
	done := errors.New("done")
	err = p.store.Watch(t.Context(), keys.Prefix, p.revision, func(revision int64, changes []overlay.Event) error {
		for _, e := range changes {
			if err := p.Apply(e); err != nil {
				return err
			}
		}
		if p.revision = revision; revision >= mark.Modified {
			return done
		}
		return nil
	})
	if !errors.Is(err, done) {
		t.Fatal(err)
	}
}

// compare wants the pictures' entries to be the store's endpoints: on each node those of
// the other two.
func compare(t *testing.T, s overlay.Store, pictures []*pictured) {
	t.Helper()
	union := map[string]bool{}
	want := map[string]bool{}
	list, err := overlay.Cluster{Store: s, Keys: keys}.Endpoints(t.Context(), "web")
	must(t, err)
	for _, p := range pictures {
		p.wantChanges(t)
		var objects []wire.Object
		for _, e := range list {
			if e.Node == p.Self {
				continue
			}
			dst := netip.AddrFrom4([4]byte{192, 0, 2, e.Node[0] - 'a' + 1})
			objects = append(objects, &wire.FDB{Dev: "vx", MAC: e.MAC, Dst: dst}, &wire.FDB{Dev: "vx", MAC: e.MAC})
			for _, a := range e.Addresses {
				objects = append(objects, &wire.Neigh{Dev: "vx", IP: a, MAC: e.MAC}, &wire.Neigh{Dev: "br", IP: a, MAC: e.MAC})
				want[fmt.Sprint(a, " ", e.MAC, " ", e.Node)] = true
			}
		}
		var got []wire.Object
		for _, o := range p.Objects() {
			if !ofRouter(o, pictures) {
				got = append(got, o)
			}
		}
		a, b := lines(objects), lines(got)
		slices.Sort(a)
		slices.Sort(b)
		if !slices.Equal(a, b) {
			t.Errorf("node %s has\n%s\nthe store has\n%s", p.Self, strings.Join(b, "\n"), strings.Join(a, "\n"))
		}
		for _, e := range p.Endpoints() {
			for _, a := range e.Addresses {
				if e.Node != p.Self {
					union[fmt.Sprint(a, " ", e.MAC, " ", e.Node)] = true
				}
			}
		}
	}
	if len(union) != len(want) || cmp.Compare(fmt.Sprint(union), fmt.Sprint(want)) != 0 {
		t.Errorf("together %v, the store has %v", union, want)
	}
}

// wantChanges wants what Changes has said, together, to be what Objects says.
func (p *pictured) wantChanges(t *testing.T) {
	t.Helper()
	for range 2 { // some as they were told before, then all
		if got, want := lines(p.Objects()), lines(p.Anew()); !slices.Equal(got, want) {
			t.Fatalf("node %s: objects are\n%s\nwant\n%s", p.Self, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		p.takeChanges(t)
	}
	all := func(string) bool { return true }
	if got, want := fmt.Sprint(p.Names(all)), fmt.Sprint(p.NamesAnew()); got != want {
		t.Fatalf("node %s: names are\n%s\nwant\n%s", p.Self, got, want)
	}
	got, want := lines(p.told), lines(p.Anew())
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) || slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "invalid") }) {
		t.Fatalf("node %s: changes make\n%s\nwant\n%s", p.Self, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// takeChanges adds what Changes says to what it has said.
func (p *pictured) takeChanges(t *testing.T) {
	t.Helper()
	was, now := p.Changes()
	for _, o := range was {
		i := slices.IndexFunc(p.told, func(other wire.Object) bool { return other.String() == o.String() })
		if i < 0 {
			t.Fatalf("%s: was never said to be there", o)
		}
		p.told = slices.Delete(p.told, i, i+1)
	}
	p.told = append(p.told, now...)
}

// ofRouter reports whether an entry is of a node, not of an endpoint.
func ofRouter(o wire.Object, pictures []*pictured) bool {
	router := func(mac string) bool {
		return slices.ContainsFunc(pictures, func(p *pictured) bool { return overlay.RouterMAC(p.Self, "web") == mac })
	}
	switch o := o.(type) {
	case *wire.FDB:
		return router(o.MAC)
	case *wire.Neigh:
		return o.IP.IsLinkLocalUnicast()
	}
	return false
}

// What Changes says is what Objects says, whatever becomes of nodes, and of endpoints with
// each other's addresses and MACs.
func TestChanges(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	p := &pictured{Picture: *empty()}
	one := func(format string, n int) string { return fmt.Sprintf(format, 1+random.IntN(n)) }
	for range 3000 {
		var c overlay.Change
		switch name := string(rune('a' + random.IntN(4))); random.IntN(8) {
		case 0:
			c = node(name, one("192.0.2.%d", 3))
		case 1:
			c = node(name, one("2001:db8::%d", 3))
		case 2:
			c = overlay.Change{Key: keys.Node(name), Delete: true}
		case 3, 4:
			c = overlay.Change{Key: keys.Endpoint("web", name, one("c%d", 4)), Delete: true}
		default:
			c = endpoint(name, one("c%d", 4), one("02:42:00:00:00:%02d", 4), one("10.0.0.%d", 6), one("fd00::%d", 6))
		}
		feed(t, &p.Picture, c)
		switch random.IntN(300) {
		case 0: // all have changed by then
			must(t, p.Reset(keys.Endpoint("web", "", ""), nil))
			for i := range 200 {
				feed(t, &p.Picture, endpoint("b", fmt.Sprint("d", i), "02:42:00:00:01:01", fmt.Sprint("10.0.1.", i)))
			}
			p.wantChanges(t)
		default:
			if random.IntN(3) == 0 {
				p.wantChanges(t)
			}
		}
	}
}

func TestDifferences(t *testing.T) {
	fdb := func(mac, dst string) wire.Object {
		return &wire.FDB{Dev: "vx", MAC: mac, Dst: netip.MustParseAddr(dst)}
	}
	have := []wire.Object{fdb("1", "192.0.2.1"), fdb("2", "192.0.2.1"), fdb("3", "192.0.2.1")}
	want := []wire.Object{fdb("2", "192.0.2.2"), fdb("3", "192.0.2.1"), fdb("4", "192.0.2.1")}
	gone, wanted := overlay.Differences(have, want)
	wantLines(t, gone, "fdb 1 dev vx dst 192.0.2.1 self permanent")
	wantLines(t, wanted, "fdb 2 dev vx dst 192.0.2.2 self permanent\nfdb 4 dev vx dst 192.0.2.1 self permanent")
}

// BenchmarkObjects has a network of 10,000 endpoints on 200 nodes, of which all are looked
// at.
func BenchmarkObjects(b *testing.B) {
	p := large(b)
	have := p.Objects()
	b.ReportAllocs()
	for b.Loop() {
		overlay.Differences(have, p.Objects())
	}
}

// BenchmarkChanges has one of these endpoints change.
func BenchmarkChanges(b *testing.B) {
	p := large(b)
	p.Changes()
	change := endpoint("n7", "c7", "02:42:0a:00:07:07", "10.0.7.7")
	e := overlay.Event{Entry: overlay.Entry{Key: change.Key, Value: change.Value, Created: 1}}
	b.ReportAllocs()
	for b.Loop() {
		e.Deleted = !e.Deleted
		must(b, p.Apply(e))
		overlay.Differences(p.Changes())
	}
}

// BenchmarkNames has one of these endpoints change its names.
func BenchmarkNames(b *testing.B) {
	p := large(b)
	all := func(string) bool { return true }
	change := endpoint("n7", "c7", "02:42:0a:00:07:07", "10.0.7.7")
	e := overlay.Event{Entry: overlay.Entry{Key: change.Key, Value: change.Value, Created: 1}}
	b.ReportAllocs()
	for b.Loop() {
		e.Deleted = !e.Deleted
		must(b, p.Apply(e))
		p.Names(all)
	}
}

func large(b *testing.B) *overlay.Picture {
	p := empty()
	for i := range 200 {
		name := fmt.Sprint("n", i)
		change := node(name, fmt.Sprintf("192.0.2.%d", i+1))
		must(b, p.Apply(overlay.Event{Entry: overlay.Entry{Key: change.Key, Value: change.Value}}))
		for j := range 50 {
			change := endpoint(name, fmt.Sprint("c", j), fmt.Sprintf("02:42:0a:00:%02x:%02x", i, j), fmt.Sprintf("10.0.%d.%d", i, j))
			must(b, p.Apply(overlay.Event{Entry: overlay.Entry{Key: change.Key, Value: change.Value, Created: int64(i*50 + j)}}))
		}
	}
	return p
}

// What the kernel would not take, or would take for something else, is not believed.
func TestUnusable(t *testing.T) {
	p := empty()
	feed(t, p, node("b", "192.0.2.2"), endpoint("b", "c1", "02:42:0a:00:00:03", "10.0.0.3"))
	before := lines(p.Objects())
	for _, c := range []overlay.Change{
		entry(keys.Node("c"), overlay.Node{ID: "c"}), node("c", "::ffff:192.0.2.3"), node("c", "224.0.0.1"), node("c", "0.0.0.0"),
		endpoint("b", "c2", "", "10.0.0.4"), endpoint("b", "c2", "garbage", "10.0.0.4"), endpoint("b", "c2", "ff:ff:ff:ff:ff:ff", "10.0.0.4"),
		endpoint("b", "c2", wire.FloodMAC, "10.0.0.4"), endpoint("b", "c2", "02:42:0a:00:00:04:05:06", "10.0.0.4"),
		endpoint("b", "c2", "02:42:0a:00:00:04", "224.0.0.1"),
	} {
		if err := p.Apply(overlay.Event{Entry: overlay.Entry{Key: c.Key, Value: c.Value, Created: 99, Modified: 99}}); err == nil {
			t.Errorf("%s = %s is believed", c.Key, c.Value)
		}
	}
	if got := lines(p.Objects()); !slices.Equal(got, before) || len(p.Underlay()) != 1 {
		t.Errorf("%q, nodes %v", got, p.Underlay())
	}
}
