package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"dcni/pkg/overlay"
	"dcni/pkg/overlay/etcd"
	"dcni/pkg/overlay/remote"
	"dcni/pkg/records"
	"dcni/pkg/trust"
)

// A backend is the store, as this program has it open.
type backend interface {
	overlay.Store
	// Members tells of each member of the store, and the others change them, see
	// package etcd.
	Members(ctx context.Context) ([]etcd.Member, error)
	KnownMembers(ctx context.Context) ([]etcd.Member, error)
	MemberNames(ctx context.Context) ([]string, error)
	AddLearner(ctx context.Context, name, peer string) (map[string]string, error)
	Promote(ctx context.Context, id string) error
	Remove(ctx context.Context, id string) error
	Refresh(ctx context.Context) error
	// Snapshot writes the store's data.
	Snapshot(ctx context.Context, to io.Writer) error
	// Warning is what to tell about the store's version; "" for nothing.
	Warning(ctx context.Context) (string, error)
	Close() error
}

// An opener opens a node's store, which need not answer now.
type opener func(c config, s state) (backend, error)

// A node is what the host is in its cluster.
type node struct {
	*daemon
	keys     overlay.Keys
	store    backend
	log      *slog.Logger
	identity atomic.Pointer[trust.Identity] // nil where the store is external
	ca       atomic.Pointer[trust.CA]       // nil: the node admits no others, see authority
	files    *conflists
	ingress  *ingress
	paths    *prober
	probing  chan struct{} // is closed once the prober runs

	authorized chan struct{} // is closed once the node has the CA's key

	endTasks context.CancelFunc
	tasks    sync.WaitGroup
	enrolled chan struct{} // is closed once the store has node/NAME
	leaving  atomic.Bool   // the node's keys are to go with its tasks
	leads    atomic.Bool   // the node's member is the store's leader
	closed   sync.Once

	wrongSums atomic.Bool // the NIC computes checksums inside VXLAN wrongly

	recovering sync.Mutex // held while the node puts what it has into the store

	mu        sync.Mutex
	config    config
	child     *child       // nil: the node has no member
	mtu       int          // bytes, of the underlay
	ports     remote.Ports // of the cluster's networks; zero: not known yet
	unplaced  error        // why the node has not its keys in the store; nil: it has
	conflicts []string     // what its containers have that is others' in the store
}

// newNode reads a node's files, and opens its store.
func newNode(d *daemon, c config) (*node, error) {
	n := &node{daemon: d, config: c, keys: overlay.Keys{Prefix: c.Prefix}, log: d.log.With("node", c.Node), enrolled: make(chan struct{}), probing: make(chan struct{}), authorized: make(chan struct{})}
	n.paths = n.newProber()
	n.files = &conflists{dir: d.conf, locks: d.store, log: n.log, list: n.networks}
	n.ingress = &ingress{node: n}
	if c.External == nil {
		i, err := d.state.identity(time.Now())
		if err != nil {
			return nil, err
		}
		n.identity.Store(&i)
		ca, err := d.state.ca()
		if err != nil {
			return nil, err
		}
		n.setAuthority(ca)
	}
	if u, err := findUnderlay(c.Address.String()); err == nil {
		n.mtu = u.mtu
	}
	var err error
	n.store, err = d.open(c, d.state)
	return n, err
}

// start runs the node's tasks, until stop is called.
func (n *node) start(ctx context.Context) {
	tasksCtx, endTasks := context.WithCancel(ctx)
	n.endTasks = endTasks
	c := n.conf()
	if c.Member != nil {
		n.startMember()
	}
	tasks := []func(context.Context){n.keepAlive, n.files.run(n.store, n.keys), n.ingress.run, n.sendReleases, n.releaseEarlier, n.watchMembers, n.probe, n.noteDeaths, n.keepSnapshots}
	if c.External == nil {
		tasks = append(tasks, n.serveDoor, n.renewInTime)
	}
	for _, task := range tasks {
		n.tasks.Go(func() {
			select {
			case <-n.enrolled:
				task(tasksCtx)
			case <-tasksCtx.Done():
			}
		})
	}
}

// stop ends the tasks. alive/NAME stays its time, unless the node leaves: another
// dclusterd takes it over.
func (n *node) stop() {
	n.endTasks()
	n.tasks.Wait()
	n.closeStore()
	if child := n.member(); child != nil { // last: what the tasks do at their end they do with the store
		child.end()
	}
}

// startMember runs the node's member.
func (n *node) startMember() {
	child := newChild(n)
	n.mu.Lock()
	n.child = child
	n.mu.Unlock()
	go child.run()
}

// member returns the node's member, nil if it has none.
func (n *node) member() *child {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.child
}

// closeStore closes the connection to the store.
func (n *node) closeStore() {
	n.closed.Do(func() {
		if err := n.store.Close(); err != nil {
			n.log.Warn("the store was not closed", "error", err)
		}
	})
}

// conf returns the node's configuration as it is now.
func (n *node) conf() config {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.config
}

// reconfigure changes the node's configuration, and writes it down.
func (n *node) reconfigure(change func(*config)) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(&n.config)
	return n.state.write(n.config)
}

// cluster is the node's view of the networks.
func (n *node) cluster() overlay.Cluster {
	return overlay.Cluster{Store: n.store, Keys: n.keys, Node: n.conf().Node, Now: func() int64 { return time.Now().Unix() }}
}

// locks are those that plugins take.
func (n *node) locks() records.Store { return n.daemon.store }

// current is the node's identity.
func (n *node) current() trust.Identity { return *n.identity.Load() }

// clientTLS is the node's side of a connection to another one.
func (n *node) clientTLS() *tls.Config {
	i := n.current()
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: i.Pool(), Certificates: []tls.Certificate{i.TLS()}}
}

func (n *node) self() remote.Self {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.config
	self := remote.Self{Node: c.Node, Cluster: c.Cluster, Prefix: c.Prefix, Members: c.Endpoints, Local: c.Address, MTU: n.mtu, Ports: n.ports, ComputeSums: n.wrongSums.Load()}
	if err := n.unplaced; err != nil && !errors.Is(err, overlay.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
		self.Refused = err.Error()
	}
	return self
}

// sleep waits, and reports false if the context ended.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
