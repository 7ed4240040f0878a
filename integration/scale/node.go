package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"dcni/pkg/names"
	"dcni/pkg/overlay"
	"dcni/pkg/overlay/etcd"
	"dcni/pkg/overlay/follow"
	"dcni/pkg/service"
	"dcni/pkg/wire"
)

// keys are the simulated cluster's.
var keys = overlay.Keys{Prefix: "/dcni/1/scale/"}

// A node is one of the cluster's.
type node struct {
	overlay.Cluster
	client  *etcd.Store
	on      []int // networks
	follows bool  // else it only hears of changes
	host    *countingHost
	follow  *follow.Networks

	mu   sync.Mutex
	held []wire.Attachment // the oldest first
	made int               // attachments, ever
}

// patience is how long nodes wait for the store, and the measurement for nodes. All of them
// share a few processors, with whatever else the machine does: what is slow is to be measured,
// and no failure. It is far longer than what real nodes wait.
const patience = 3 * time.Minute

// counts are what all nodes together have had.
type counts struct{ events, entered, removed, kept atomic.Int64 }

func nodeName(i int) string { return fmt.Sprintf("node%d", i) }

func networkName(i int) string { return fmt.Sprintf("net%d", i) }

// newNode makes node i with a client of its own, enters it and keeps it alive until the
// context ends.
func newNode(ctx context.Context, url string, i int, on []int, c *counts) (*node, error) {
	client, err := etcd.Open(etcd.Config{Endpoints: []string{url}, Timeout: patience})
	if err != nil {
		return nil, err
	}
	name := nodeName(i)
	n := &node{Cluster: overlay.Cluster{Store: client, Keys: keys, Node: name}, client: client, on: on, host: newHost(c)}
	enter := put(keys.Node(name), overlay.Node{ID: name, Address: netip.AddrFrom4([4]byte{192, 168, byte(i >> 8), byte(i)}), MTU: 1500})
	if _, _, err := client.Commit(ctx, overlay.Txn{Then: []overlay.Change{enter}}); err != nil {
		return nil, err
	}
	go n.keepAlive(ctx)
	n.follow = &follow.Networks{
		Log: slog.New(slog.DiscardHandler), Kept: keptNames{c},
		Open: func(context.Context) (*follow.Store, error) {
			return &follow.Store{Store: counting{client, c}, Keys: keys, Node: name, Close: func() error { return nil }}, nil
		},
		Host: func() (follow.Host, func(), error) { return n.host, func() {}, nil },
		Show: func(string, []names.Entry) {}, Served: func(string) {},
	}
	n.follow.Begin(ctx)
	go n.follow.Serve(ctx)
	return n, nil
}

// keepAlive keeps the node's alive entry, as dclusterd does.
func (n *node) keepAlive(ctx context.Context) {
	for ctx.Err() == nil {
		_ = n.Store.Keep(ctx, keys.Alive(n.Node), []byte(`{"boot":"scale"}`), overlay.AliveTTL)
		time.Sleep(time.Second)
	}
}

// claim claims an address for one more container, and returns the network's number and
// the address.
func (n *node) claim(ctx context.Context) (network int, a netip.Addr, err error) {
	n.mu.Lock()
	n.made++
	network = n.on[n.made%len(n.on)]
	id := fmt.Sprintf("%s-container-%d", n.Node, n.made)
	n.mu.Unlock()
	at := wire.Attachment{Network: networkName(network), Container: id, IfName: "eth0"}
	got, err := n.Claim(ctx, overlay.Claim{Attachment: at, Name: id, Names: []string{id, id[:12], "web"}, Ready: true})
	if err != nil {
		return 0, a, err
	}
	n.mu.Lock()
	n.held = append(n.held, at)
	n.mu.Unlock()
	return network, got.Addresses[0].Address.Addr(), nil
}

// release gives the oldest container's address back.
func (n *node) release(ctx context.Context) error {
	n.mu.Lock()
	if len(n.held) == 0 {
		n.mu.Unlock()
		return nil
	}
	at := n.held[0]
	n.held = n.held[1:]
	n.mu.Unlock()
	return n.Release(ctx, at)
}

// begin follows the node's networks, as after the first container's ADD.
func (n *node) begin() {
	n.follows = true
	for _, i := range n.on {
		name := networkName(i)
		go func() { _ = n.follow.Sync(&wire.Peers{Network: name, Bridge: "br-" + name, Vxlan: "vx-" + name}) }() // late, it goes on
	}
}

// counting is a store that counts the changes that it hears of.
type counting struct {
	overlay.Store
	*counts
}

func (c counting) Watch(ctx context.Context, prefix string, after int64, each func(int64, []overlay.Event) error) error {
	return c.Store.Watch(ctx, prefix, after, func(revision int64, changes []overlay.Event) error {
		c.events.Add(int64(len(changes)))
		return each(revision, changes)
	})
}

// keptNames counts how often names are written down.
type keptNames struct{ *counts }

func (k keptNames) PutPeerNames(string, []names.Entry) error { k.kept.Add(1); return nil }
func (k keptNames) PeerNames(string) ([]names.Entry, error)  { return nil, fs.ErrNotExist }
func (k keptNames) DeletePeerNames(string) error             { return nil }
func (k keptNames) PutServed(service.Picture) error          { return nil }
func (k keptNames) Served(string) (service.Picture, error)   { return service.Picture{}, fs.ErrNotExist }
func (k keptNames) DeleteServed(string) error                { return nil }

// A countingHost has the entries that it is given, and notes when it first got those of
// an endpoint on another node.
type countingHost struct {
	*counts
	mu      sync.Mutex
	entries map[string]map[string]wire.Object // by link and key
	peers   atomic.Int64                      // endpoints on other nodes
	seen    map[place]time.Time               // nil: not noted
}

// A place is an address of a network.
type place struct {
	vxlan string
	ip    netip.Addr
}

func newHost(c *counts) *countingHost {
	return &countingHost{counts: c, entries: map[string]map[string]wire.Object{}}
}

// note begins to note when endpoints are first seen, anew.
func (h *countingHost) note() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen = map[place]time.Time{}
}

func link(o wire.Object) (dev string, peer netip.Addr) {
	switch o := o.(type) {
	case *wire.FDB:
		return o.Dev, netip.Addr{}
	case *wire.Neigh:
		if o.Dev[0] == 'v' {
			return o.Dev, o.IP
		}
		return o.Dev, netip.Addr{}
	}
	return "", netip.Addr{}
}

// Ensure notes an entry.
func (h *countingHost) Ensure(o wire.Object) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.entered.Add(1)
	dev, peer := link(o)
	on, key := h.entries[dev], o.Key()
	if on == nil {
		on = map[string]wire.Object{}
		h.entries[dev] = on
	}
	if on[key] == nil && peer.IsValid() {
		h.peers.Add(1)
		if h.seen != nil {
			if p := (place{dev, peer}); h.seen[p].IsZero() {
				h.seen[p] = time.Now()
			}
		}
	}
	on[key] = o
	return true, nil
}

// Remove forgets an entry.
func (h *countingHost) Remove(o wire.Object) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.removed.Add(1)
	dev, peer := link(o)
	key := o.Key()
	if h.entries[dev][key] != nil && peer.IsValid() {
		h.peers.Add(-1)
	}
	delete(h.entries[dev], key)
	return nil
}

// Entries lists those of two links.
func (h *countingHost) Entries(bridge, vxlan string) (list []wire.Object, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, dev := range []string{bridge, vxlan} {
		for _, o := range h.entries[dev] {
			list = append(list, o)
		}
	}
	return list, nil
}

var errNotAsked = errors.New("not asked")

// Check is not asked.
func (h *countingHost) Check(wire.Object) error { return errNotAsked }

// Probe is not asked.
func (h *countingHost) Probe(wire.Object) error { return errNotAsked }

// PutNodes lets nothing in.
func (h *countingHost) PutNodes([]netip.Addr) error { return nil }

// Announce tells nothing.
func (h *countingHost) Announce(string, []*wire.Neigh) error { return nil }
