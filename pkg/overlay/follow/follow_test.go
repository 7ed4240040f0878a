package follow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dcni/pkg/names"
	"dcni/pkg/overlay"
	"dcni/pkg/overlay/memory"
	"dcni/pkg/service"
	"dcni/pkg/wire"
)

// An entriesHost has the entries of two links.
type entriesHost struct {
	mu      sync.Mutex
	entries map[string]wire.Object
	nodes   []netip.Addr
	changes int
	told    []string // addresses and MACs
	broken  error
	slow    time.Duration // how long an entry takes
}

func (h *entriesHost) PutNodes(list []netip.Addr) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.nodes = list
	return nil
}

func (h *entriesHost) Announce(bridge string, list []*wire.Neigh) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range list {
		h.told = append(h.told, bridge+" "+n.IP.String()+" "+n.MAC)
	}
	return nil
}

func (h *entriesHost) Ensure(o wire.Object) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.broken != nil {
		return false, h.broken
	}
	time.Sleep(h.slow)
	h.changes++
	h.entries[o.Key()] = o
	return true, nil
}

func (h *entriesHost) Remove(o wire.Object) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changes++
	delete(h.entries, o.Key())
	return nil
}

func (h *entriesHost) Check(wire.Object) error { return errors.New("not asked") }
func (h *entriesHost) Probe(wire.Object) error { return errors.New("not asked") }

func (h *entriesHost) Entries(_, _ string) (list []wire.Object, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range h.entries {
		list = append(list, o)
	}
	return list, nil
}

// lines returns the entries of addresses on the VXLAN device, sorted.
func (h *entriesHost) lines() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []string
	for _, o := range h.entries {
		if n, ok := o.(*wire.Neigh); ok && n.Dev == "vx-1" {
			list = append(list, n.IP.String())
		}
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// An lab is one node, n1, of a cluster of which the test plays the others.
type lab struct {
	*testing.T
	*Networks
	cluster *memory.Store
	client  *memory.Store
	machine *entriesHost
	keys    overlay.Keys
	peers   *wire.Peers

	mu    sync.Mutex
	shown []names.Entry
	kept  map[string][]names.Entry

	listed  int           // how often endpoints were
	written int           // how often names were
	served  string        // what is kept of services
	told    int           // how often others were told of that
	slow    time.Duration // how long that takes
}

// A countingStore counts lists of endpoints.
type countingStore struct {
	overlay.Store
	*lab
}

func (s countingStore) List(ctx context.Context, prefix string, each func(overlay.Entry) error) (int64, error) {
	if prefix == s.keys.Endpoint("web", "", "") {
		s.mu.Lock()
		s.listed++
		s.mu.Unlock()
	}
	return s.Store.List(ctx, prefix, each)
}

func (l *lab) PutPeerNames(network string, list []names.Entry) error {
	time.Sleep(l.slow)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.written++
	l.kept[network] = list
	return nil
}

func (l *lab) PeerNames(network string) ([]names.Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if list, ok := l.kept[network]; ok {
		return list, nil
	}
	return nil, fs.ErrNotExist
}

func (l *lab) DeletePeerNames(network string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.kept, network)
	return nil
}

func (l *lab) PutServed(p service.Picture) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []string
	for _, s := range p.Services {
		lines = append(lines, s.Name)
	}
	for _, e := range p.Endpoints {
		lines = append(lines, fmt.Sprintf("%s/%s %s%s", e.Node, e.Owner.Container, e.Addresses[0], map[bool]string{true: " drained"}[e.Drained]+map[bool]string{true: " dead"}[e.Dead]))
	}
	l.served = strings.Join(lines, ", ")
	return nil
}

func (l *lab) Served(string) (service.Picture, error) { return service.Picture{}, fs.ErrNotExist }

func (l *lab) DeleteServed(string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.served = "nothing"
	return nil
}

func newOverlayLab(t *testing.T) *lab {
	store := memory.New()
	l := &lab{
		T: t, cluster: store, client: store.Another(), machine: &entriesHost{entries: map[string]wire.Object{}},
		keys: overlay.Keys{Prefix: "/dcni/1/test/"}, peers: &wire.Peers{Network: "web", Bridge: "br-1", Vxlan: "vx-1"},
		kept: map[string][]names.Entry{},
	}
	l.put(l.keys.Meta(), overlay.Meta{Schema: 1})
	for i, node := range []string{"n1", "n2", "n3"} {
		l.put(l.keys.Node(node), overlay.Node{ID: node, Address: netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), MTU: 1500})
		l.put(l.keys.Alive(node), overlay.Alive{})
	}
	l.begin()
	return l
}

// begin starts a dnetd's followers, in place of those that ran.
func (l *lab) begin() (end func()) {
	l.Networks = &Networks{
		Log: slog.New(slog.DiscardHandler), Kept: l,
		Open: func(context.Context) (*Store, error) {
			return &Store{Store: countingStore{l.client, l}, Keys: l.keys, Node: "n1", Close: func() error { return nil }}, nil
		},
		Host: func() (Host, func(), error) { return l.machine, func() {}, nil },
		Show: func(_ string, list []names.Entry) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.shown = list
		},
		Served: func(string) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.told++
		},
	}
	ctx, cancel := context.WithCancel(l.Context())
	var tasks sync.WaitGroup
	l.Begin(ctx)
	tasks.Go(func() { l.Serve(ctx) })
	return func() { cancel(); tasks.Wait() }
}

func (l *lab) put(key string, value any) {
	l.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		l.Fatal(err)
	}
	l.commit(overlay.Change{Key: key, Value: data})
}

func (l *lab) commit(c overlay.Change) {
	l.Helper()
	if done, _, err := l.cluster.Commit(l.Context(), overlay.Txn{Then: []overlay.Change{c}}); err != nil || !done {
		l.Fatalf("%v, %v", done, err)
	}
}

// endpoint has a container of a node claim an address, and "" give it back.
func (l *lab) endpoint(node, container, address string) {
	l.Helper()
	key := l.keys.Endpoint("web", node, container)
	if address == "" {
		l.commit(overlay.Change{Key: key, Delete: true})
		return
	}
	l.put(key, overlay.Endpoint{
		Addresses: []netip.Addr{netip.MustParseAddr(address)}, MAC: fmt.Sprintf("02:42:00:00:00:%02x", container[1]),
		Container: container, IfName: "eth0", Names: []string{container}, Ready: true,
	})
}

// want compares entries and names with what is to be there by now.
func (l *lab) want(step, addresses, names string) {
	l.Helper()
	synctest.Wait()
	if got := l.machine.lines(); got != addresses {
		l.Errorf("%s: entries of %q, want %q", step, got, addresses)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []string
	for _, e := range l.shown {
		list = append(list, e.Names...)
	}
	slices.Sort(list)
	if got := strings.Join(list, " "); got != names {
		l.Errorf("%s: names %q, want %q", step, got, names)
	}
}

// TestFollows has entries and names as the cluster's store has them.
func TestFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newOverlayLab(t)
		l.endpoint("n2", "c2", "10.0.0.2")
		l.endpoint("n1", "c1", "10.0.0.1")
		if err := l.Check(l.peers); err == nil {
			t.Error("is followed before it was asked for")
		}
		if err := l.Sync(l.peers); err != nil {
			t.Fatal(err)
		}
		l.want("at once", "10.0.0.2", "c2")
		if err := l.Check(l.peers); err != nil {
			t.Error(err)
		}
		l.endpoint("n3", "c3", "10.0.0.3")
		l.want("one more", "10.0.0.2 10.0.0.3", "c2 c3")
		l.endpoint("n3", "c4", "10.0.0.2")
		l.want("an address that moved", "10.0.0.2 10.0.0.3", "c3 c4")
		l.endpoint("n2", "c2", "")
		l.endpoint("n3", "c4", "")
		l.want("two less", "10.0.0.3", "c3")

		l.commit(overlay.Change{Key: l.keys.Endpoint("web", "n2", "c9"), Value: []byte("not JSON")})
		l.want("a value that can't be read", "10.0.0.3", "c3")

		l.commit(overlay.Change{Key: l.keys.Alive("n3"), Delete: true})
		l.want("a dead node has its addresses", "10.0.0.3", "")
		l.put(l.keys.Alive("n3"), overlay.Alive{})
		l.want("and comes back", "10.0.0.3", "c3")

		l.Forget("web")
		if len(l.Networks.Names()) != 0 || len(l.kept) != 0 {
			t.Errorf("left: %v, %v", l.Networks.Names(), l.kept)
		}
		l.want("forgotten", "10.0.0.3", "") // the plugin removes the links and entries
	})
}

// TestServed has services kept with their tasks, and others told of each change, but not where
// there are none.
func TestServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newOverlayLab(t)
		l.endpoint("n2", "c2", "10.0.0.2")
		if err := l.Sync(l.peers); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			step string
			do   func()
			want string
			told bool
		}{
			{"no services", func() {}, "", false},
			{"a container", func() { l.endpoint("n2", "c4", "10.0.0.4") }, "", false},
			{"a service", func() {
				l.put(l.keys.Service("web", "c2"), service.Service{Name: "c2", Network: "web", Mode: service.VIP, Affinity: service.NoAffinity})
			}, "c2, n2/c2 10.0.0.2", true},
			{"a task of nothing", func() { l.endpoint("n3", "c3", "10.0.0.3") }, "c2, n2/c2 10.0.0.2", false},
			{"the node is drained", func() {
				l.put(l.keys.Node("n2"), overlay.Node{ID: "n2", Address: netip.AddrFrom4([4]byte{192, 0, 2, 2}), MTU: 1500, Drained: true})
			}, "c2, n2/c2 10.0.0.2 drained", true},
			{"the node is dead", func() { l.commit(overlay.Change{Key: l.keys.Alive("n2"), Delete: true}) }, "c2, n2/c2 10.0.0.2 drained dead", true},
			{"and back", func() { l.put(l.keys.Alive("n2"), overlay.Alive{}) }, "c2, n2/c2 10.0.0.2 drained", true},
			{"unreadable", func() { l.commit(overlay.Change{Key: l.keys.Service("web", "c4"), Value: []byte("no JSON")}) }, "c2, n2/c2 10.0.0.2 drained", false},
			{"the store away", func() { l.client.Cut() }, "c2, n2/c2 10.0.0.2 drained", false},
			{"forgotten", func() { l.Forget("web") }, "nothing", true},
		} {
			before := l.told
			c.do()
			time.Sleep(serveLongest)
			synctest.Wait()
			l.mu.Lock()
			if l.served != c.want || l.told > before != c.told {
				t.Errorf("%s: kept %q, and told %d times; want %q, %t", c.step, l.served, l.told-before, c.want, c.told)
			}
			l.mu.Unlock()
		}
	})
}

// TestAnnounces has containers told of what comes, of what has another MAC, and of nothing
// that was there.
func TestAnnounces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newOverlayLab(t)
		l.endpoint("n2", "c2", "10.0.0.2")
		if err := l.Sync(l.peers); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			step string
			do   func()
			want string
		}{
			{"at first", func() {}, ""},
			{"one more", func() { l.endpoint("n3", "c3", "10.0.0.3") }, "br-1 10.0.0.3 02:42:00:00:00:33"},
			{"on this node", func() { l.endpoint("n1", "c1", "10.0.0.1") }, ""},
			{"another MAC", func() { l.endpoint("n3", "c4", "10.0.0.2") }, "br-1 10.0.0.2 02:42:00:00:00:34"},
			{"a look at all", func() { time.Sleep(settlePeriod) }, ""},
			{"lost", func() {
				_ = l.machine.Remove(&wire.Neigh{Dev: "vx-1", IP: netip.MustParseAddr("10.0.0.3")})
				time.Sleep(settlePeriod)
			}, "br-1 10.0.0.3 02:42:00:00:00:33"},
			{"gone", func() { l.endpoint("n3", "c3", "") }, ""},
		} {
			c.do()
			synctest.Wait()
			l.machine.mu.Lock()
			if told := strings.Join(l.machine.told, ", "); told != c.want {
				t.Errorf("%s: told of %q, want %q", c.step, told, c.want)
			}
			l.machine.told = nil
			l.machine.mu.Unlock()
		}
		l.Forget("web")
	})
}

// TestNodes has VXLAN taken from the cluster's nodes, also from those that come later.
func TestNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newOverlayLab(t)
		if err := l.Sync(l.peers); err != nil {
			t.Fatal(err)
		}
		want := func(addresses string) {
			t.Helper()
			synctest.Wait()
			l.machine.mu.Lock()
			defer l.machine.mu.Unlock()
			if got := fmt.Sprint(l.machine.nodes); got != addresses {
				t.Errorf("nodes %s, want %s", got, addresses)
			}
		}
		want("[192.0.2.1 192.0.2.2 192.0.2.3]")
		l.put(l.keys.Node("n4"), overlay.Node{ID: "n4", Address: netip.MustParseAddr("2001:db8::4"), MTU: 1500})
		want("[192.0.2.1 192.0.2.2 192.0.2.3 2001:db8::4]")
		l.commit(overlay.Change{Key: l.keys.Node("n2"), Delete: true})
		want("[192.0.2.1 192.0.2.3 2001:db8::4]")
		l.Forget("web")
	})
}

// TestPutsBack has lost entries entered again, and only those changed that differ.
func TestPutsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newOverlayLab(t)
		l.endpoint("n2", "c2", "10.0.0.2")
		l.endpoint("n2", "c3", "10.0.0.3")
		if err := l.Sync(l.peers); err != nil {
			t.Fatal(err)
		}
		l.want("at once", "10.0.0.2 10.0.0.3", "c2 c3")
		for step, wait := range map[string]func() error{
			"asked for": func() error { return l.Sync(l.peers) },
			"by itself": func() error { time.Sleep(settlePeriod); return nil },
		} {
			lost := &wire.Neigh{Dev: "vx-1", IP: netip.MustParseAddr("10.0.0.3")}
			l.machine.changes = 0
			_ = l.machine.Remove(lost)
			_, _ = l.machine.Ensure(&wire.Neigh{Dev: "vx-1", IP: netip.MustParseAddr("10.0.0.9")})
			if err := l.Check(l.peers); err == nil || !strings.Contains(err.Error(), "1 entries for other nodes are missing: neigh 10.0.0.3 ") {
				t.Errorf("%s: check says %v", step, err)
			}
			if err := wait(); err != nil {
				t.Fatal(err)
			}
			l.want(step, "10.0.0.2 10.0.0.3", "c2 c3")
			if n := l.machine.changes - 2; n != 2 {
				t.Errorf("%s: %d changes, want 2", step, n)
			}
		}
		l.machine.broken = errors.New("no buffer space")
		l.endpoint("n2", "c4", "10.0.0.4")
		synctest.Wait()
		if err := l.Sync(l.peers); err == nil || !strings.Contains(err.Error(), "no buffer space") {
			t.Errorf("said %v", err)
		}
		l.machine.broken = nil
		if err := l.Sync(l.peers); err != nil {
			t.Error(err)
		}
		l.want("when it can be", "10.0.0.2 10.0.0.3 10.0.0.4", "c2 c3 c4")
	})
}

// TestStoreAway leaves all as it is while the store is away, also in a dnetd that
// starts while it waits.
func TestStoreAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newOverlayLab(t)
		l.endpoint("n2", "c2", "10.0.0.2")
		end := l.begin()
		if err := l.Sync(l.peers); err != nil {
			t.Fatal(err)
		}
		l.client.Cut()
		l.endpoint("n2", "c3", "10.0.0.3")
		time.Sleep(time.Hour)
		l.want("away", "10.0.0.2", "c2")
		if err := l.Check(l.peers); err != nil {
			t.Errorf("check while the store is away: %v", err)
		}

		end()
		l.shown = nil
		l.begin()
		began := time.Now()
		err := l.Sync(l.peers)
		if took := time.Since(began); err == nil || took > 2*SyncTimeout {
			t.Errorf("%v after %v", err, took)
		}
		l.want("another dnetd", "10.0.0.2", "c2")

		l.client.Mend()
		time.Sleep(pauseLongest)
		l.want("back again", "10.0.0.2 10.0.0.3", "c2 c3")
	})
}

// TestResumes has a store that was away asked for what has changed, and all of it listed
// only where it can't say.
func TestResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newOverlayLab(t)
		l.endpoint("n2", "c2", "10.0.0.2")
		if err := l.Sync(l.peers); err != nil {
			t.Fatal(err)
		}
		other := memory.New() // with less in it
		for step, s := range []struct {
			name  string
			away  func()
			lists int
		}{
			{"shortly", func() {}, 0},
			{"for long", func() { time.Sleep(2 * resumeWithin) }, 1},
			{"compacted", func() {
				l.endpoint("n2", "c2", "10.0.0.8")
				l.endpoint("n2", "c2", "10.0.0.9")
				e, err := l.cluster.Get(t.Context(), l.keys.Endpoint("web", "n2", "c2"))
				if err == nil {
					err = l.cluster.Compact(t.Context(), e.Modified)
				}
				if err != nil {
					t.Fatal(err)
				}
			}, 1},
			{"restored", func() {
				l.cluster, l.client = other, other.Another()
				l.put(l.keys.Meta(), overlay.Meta{Schema: 1})
			}, 1},
		} {
			before, client := l.listed, l.client
			client.Cut()
			time.Sleep(time.Second)
			s.away()
			address := "10.0.0.1" + string(rune('0'+step))
			l.put(l.keys.Node("n2"), overlay.Node{ID: "n2", Address: netip.MustParseAddr("192.0.2.2")})
			l.put(l.keys.Alive("n2"), overlay.Alive{})
			l.endpoint("n2", "c2", address)
			client.Mend()
			time.Sleep(3*pauseLongest + time.Second)
			l.want(s.name, address, "c2")
			if n := l.listed - before; n != s.lists {
				t.Errorf("%s: endpoints were listed %d times, want %d", s.name, n, s.lists)
			}
		}
	})
}

// TestKeepsAtLeisure writes names down less often than they change where that takes long,
// and the last ones all the same.
func TestKeepsAtLeisure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newOverlayLab(t)
		l.slow = 10 * time.Millisecond
		end := l.begin()
		if err := l.Sync(l.peers); err != nil {
			t.Fatal(err)
		}
		for i := range 200 {
			l.endpoint("n2", "c"+string(rune('a'+i%20)), "10.0.0.2")
			time.Sleep(20 * time.Millisecond)
		}
		time.Sleep(keepLongest)
		l.want("all", "10.0.0.2", "ct")
		if got := l.kept["web"]; len(got) != 1 || got[0].Container != "ct" || l.written > 10 {
			t.Errorf("kept %v, %d times", got, l.written)
		}
		for _, name := range []string{"c8", "c9"} {
			l.endpoint("n2", name, "10.0.0.2")
			time.Sleep(20 * time.Millisecond)
		}
		end()
		if got := l.kept["web"]; len(got) != 1 || got[0].Container != "c9" {
			t.Errorf("after its end %v is kept", got)
		}
	})
}

// TestMadeAnew: of a store that was lost and made again, what is not there yet has not
// gone; after a while, it has.
func TestMadeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newOverlayLab(t)
		l.endpoint("n2", "c2", "10.0.0.2")
		l.endpoint("n2", "c3", "10.0.0.3")
		if err := l.Sync(l.peers); err != nil {
			t.Fatal(err)
		}
		l.client.Cut()
		time.Sleep(time.Second)
		l.put(l.keys.Recovery(), "anew")
		l.endpoint("n2", "c2", "")
		l.endpoint("n2", "c3", "")
		l.commit(overlay.Change{Key: l.keys.Node("n2"), Delete: true})
		l.client.Mend()
		time.Sleep(settleTime - time.Second)
		l.want("empty", "10.0.0.2 10.0.0.3", "c2 c3")
		l.put(l.keys.Node("n2"), overlay.Node{ID: "n2", Address: netip.AddrFrom4([4]byte{192, 0, 2, 2}), MTU: 1500})
		l.endpoint("n2", "c2", "10.0.0.2")
		time.Sleep(settleTime)
		l.want("filled", "10.0.0.2", "c2")

		l.client.Cut()
		time.Sleep(time.Second)
		l.commit(overlay.Change{Key: l.keys.Meta(), Delete: true})
		l.endpoint("n2", "c2", "")
		l.client.Mend()
		time.Sleep(time.Hour)
		l.want("not even a cluster", "10.0.0.2", "c2")
	})
}

// TestGathers gathers changes that come soon after others, and applies one that comes
// later at once.
func TestGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newOverlayLab(t)
		if err := l.Sync(l.peers); err != nil {
			t.Fatal(err)
		}
		l.machine.slow = 10 * time.Millisecond
		l.endpoint("n2", "c2", "10.0.0.2")
		time.Sleep(100 * time.Millisecond) // seven entries take 70
		l.machine.slow = 0
		l.endpoint("n2", "c3", "10.0.0.3")
		l.want("soon", "10.0.0.2", "c2")
		time.Sleep(time.Second)
		l.want("gathered", "10.0.0.2 10.0.0.3", "c2 c3")
		l.machine.slow = 10 * time.Millisecond
		l.endpoint("n2", "c4", "10.0.0.4")
		time.Sleep(time.Second)
		l.machine.slow = 0
		l.endpoint("n2", "c5", "10.0.0.5")
		l.want("late", "10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5", "c2 c3 c4 c5")
	})
}
