// Package follow keeps what a node has of overlay networks as the cluster's store says:
// the entries by which its containers reach those on other nodes, their names, and the
// services with their tasks on all nodes.
package follow

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"dcni/pkg/names"
	"dcni/pkg/overlay"
	"dcni/pkg/service"
	"dcni/pkg/wire"
)

// A Store is the cluster's store, open.
type Store struct {
	overlay.Store
	Keys  overlay.Keys
	Node  string // this one's name
	Close func() error
}

// A Host is where the entries are.
type Host interface {
	wire.Host
	// Entries lists those that are on a network's two links.
	Entries(bridge, vxlan string) ([]wire.Object, error)
	// PutNodes has VXLAN taken from the nodes at these addresses only, all of the
	// cluster's.
	PutNodes(list []netip.Addr) error
	// Announce tells the containers on a bridge who has which address.
	Announce(bridge string, list []*wire.Neigh) error
}

// Kept is where names of other nodes' containers are kept for the next process: it knows
// them also if the store is away when it starts. What is known of services is kept there for
// plugins as well.
type Kept interface {
	PutPeerNames(network string, list []names.Entry) error
	PeerNames(network string) ([]names.Entry, error)
	DeletePeerNames(network string) error
	PutServed(p service.Picture) error
	Served(network string) (service.Picture, error)
	DeleteServed(network string) error
}

// Networks are the overlay networks that a node has containers on. Where the store is
// away, all stays as it was. The first four fields are set before use.
type Networks struct {
	Log  *slog.Logger
	Kept Kept
	Open func(ctx context.Context) (*Store, error)
	Host func() (Host, func(), error) // with what closes it
	// Show takes the names of a network's containers on other nodes, all of them.
	Show func(network string, list []names.Entry)
	// Served is called when something else is known of a network's services than before, where
	// it has some, or had. It must not wait for anything.
	Served func(network string)
	// Trim, unless it is nil, is called after thousands of entries were compared with the
	// kernel's, which takes as much memory as all else, for a moment.
	Trim func()

	mu        sync.Mutex
	ctx       context.Context // of the followers; nil: none may begin any more, or yet
	followers map[string]*follower
	running   sync.WaitGroup
}

// Times of following.
const (
	SyncTimeout  = time.Second            // how long a request waits for the first picture
	pauseFirst   = 250 * time.Millisecond // before the store is asked again that was away, at first
	pauseLongest = 2 * time.Second        // likewise, in the end
	settleTime   = 10 * time.Second       // nodes need less to fill a store that was made anew
	settlePeriod = 30 * time.Second       // entries are compared with the kernel's so often

	// Changes are gathered for so many times as long as it took to apply those before, which
	// is some 0.1 ms. One that comes later is applied at once.
	gatherShare   = 4
	gatherLongest = 200 * time.Millisecond

	// Names are shown again, and kept, after so many times as long as that takes, which is
	// some 5 and 20 ms for 10,000 endpoints.
	nameShare   = 20
	nameLongest = 150 * time.Millisecond
	keepShare   = 50
	keepLongest = 2 * time.Second

	// What is known of services is kept again after so many times as long as that takes, which
	// is some 5 ms for 1,000 tasks. It is to be with all clients 300 ms after a change.
	serveShare   = 4
	serveLongest = 50 * time.Millisecond

	// After an interruption that was not longer, changes are asked for from where they
	// ended. After a longer one all is listed again: the store may have been restored, or
	// lost its last changes with a member.
	resumeWithin = time.Minute
	// To list again, all nodes wait for a time of chance, which is so long for each of them.
	listPause = 10 * time.Millisecond

	manyEntries = 4000 // to be compared with the kernel's, after which Trim is called
)

// Begin lets networks be followed until the context ends, which [Networks.Serve] has to
// be called for.
func (n *Networks) Begin(ctx context.Context) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ctx = ctx
}

// Serve returns when the context has ended, and with it all that is followed.
func (n *Networks) Serve(ctx context.Context) {
	<-ctx.Done()
	n.mu.Lock()
	n.ctx = nil
	n.mu.Unlock()
	n.running.Wait()
}

// Sync follows a network, and returns when its entries are there, or after a while with
// an error of code 11. Where it is followed already, the entries are compared with the
// kernel's.
func (n *Networks) Sync(p *wire.Peers) error {
	n.mu.Lock()
	f := n.followers[p.Network]
	if f == nil || f.peers != *p {
		if n.ctx == nil {
			n.mu.Unlock()
			return wire.Errorf(wire.CodeTryAgain, "network %s: dnetd is ending", p.Network)
		}
		if f != nil {
			f.cancel()
		}
		f = n.follow(p)
	}
	n.mu.Unlock()
	return f.ask(true)
}

// follow begins to follow a network. The caller holds the mutex.
func (n *Networks) follow(p *wire.Peers) *follower {
	ctx, cancel := context.WithCancel(n.ctx)
	before := n.followers[p.Network]
	f := &follower{Networks: n, peers: *p, cancel: cancel, done: make(chan struct{}), requests: make(chan request)}
	if n.followers == nil {
		n.followers = map[string]*follower{}
	}
	n.followers[p.Network] = f
	n.running.Go(func() {
		defer close(f.done)
		if before != nil {
			<-before.done
		}
		f.run(ctx)
	})
	return f
}

// Check returns an error if a network is not followed, or the kernel does not have its
// entries as the store says. While the store is away there is nothing to compare with.
func (n *Networks) Check(p *wire.Peers) error {
	n.mu.Lock()
	f := n.followers[p.Network]
	n.mu.Unlock()
	if f == nil || f.peers != *p {
		return wire.Errorf(wire.CodeInternal, "network %s: dnetd does not follow it", p.Network)
	}
	if !f.current.Load() {
		return nil
	}
	return f.ask(false)
}

// Forget ends following a network, and returns when nothing is entered any more.
func (n *Networks) Forget(network string) {
	n.mu.Lock()
	f := n.followers[network]
	delete(n.followers, network)
	n.mu.Unlock()
	if f == nil {
		return
	}
	f.cancel()
	<-f.done
	n.Show(network, nil)
	if err := errors.Join(n.Kept.DeletePeerNames(network), n.Kept.DeleteServed(network)); err != nil {
		n.Log.Warn("names of other nodes are left", "network", network, "error", err)
	}
	n.Served(network)
}

// Names returns the networks that are followed, sorted.
func (n *Networks) Names() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Sorted(maps.Keys(n.followers))
}
