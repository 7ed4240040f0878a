package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"dcni/pkg/host/systemd"
	"dcni/pkg/overlay"
	"dcni/pkg/overlay/remote"
	"dcni/pkg/records"
)

// A daemon is the process: a socket, and the node that the host is, if it is one. The
// daemon itself is the overlay.Store that the socket serves: the node's.
type daemon struct {
	options options
	store   records.Store
	state   state
	conf    records.ConfDir
	log     *slog.Logger
	systemd *systemd.Service // nil: systemd did not start it
	open    opener
	started chan struct{} // is sent when a node begins or ends

	cloneTime     time.Duration
	snapshotEvery time.Duration
	ctx           context.Context
	serving       atomic.Bool

	change sync.Mutex // held while the host becomes a node, or ceases to be one

	mu   sync.Mutex
	node *node // nil: the host is in no cluster, or cannot be
	why  error // why it is no node, though it has the files of one
}

func newDaemon(o options, store records.Store, log *slog.Logger) *daemon {
	return &daemon{
		options: o, store: store, state: state{store.Cluster()}, conf: records.ConfDir(o.confDir), log: log,
		open: openEtcd, started: make(chan struct{}, 1), cloneTime: cloneTime, snapshotEvery: snapshotEvery,
	}
}

// idleTime is how long a dclusterd that dnet started waits for the host to become a node.
const idleTime = 30 * time.Second

// run serves until the context ends.
func (d *daemon) run(ctx context.Context) error {
	lock, err := d.lock(ctx)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	ctx, end := context.WithCancel(ctx)
	defer end()
	d.ctx = ctx
	if err := os.MkdirAll(d.store.Run, 0o755); err != nil {
		return err
	}
	l, err := remote.Listen(d.state.Socket())
	if err != nil {
		return err
	}
	d.begin()
	var tasks sync.WaitGroup
	tasks.Go(func() { d.awaitIdle(ctx, end) })
	tasks.Go(func() { d.beginAgain(ctx) })
	server := &remote.Server{Store: d, Self: d.self, Admin: d.admin}
	tasks.Go(func() {
		if err := server.Serve(ctx, l); err != nil && ctx.Err() == nil {
			d.log.Error("the socket is gone", "error", err)
			end()
		}
	})
	d.serving.Store(true)
	if d.systemd != nil {
		if err := d.systemd.Ready(); err != nil {
			d.log.Warn("systemd is not told that dclusterd serves", "error", err)
		}
	}
	d.log.Info("dclusterd serves", "socket", d.state.Socket())
	<-ctx.Done()
	tasks.Wait()
	d.stop()
	d.log.Info("dclusterd ends")
	return nil
}

// lockTime is how long a dclusterd that ends may take.
const lockTime = 2 * time.Second

// lock waits until this is the host's only dclusterd.
func (d *daemon) lock(ctx context.Context) (*records.Lock, error) {
	for until := time.Now().Add(lockTime); ; {
		lock, free, err := d.store.TryLockCluster()
		if free || err != nil {
			return lock, err
		}
		if time.Now().After(until) || !sleep(ctx, readyPause) {
			return nil, errors.New("another dclusterd runs on this host")
		}
	}
}

// begin makes the host the node that its files say.
func (d *daemon) begin() {
	if !d.state.Joined() {
		return
	}
	c, err := d.state.read()
	if err == nil {
		var n *node
		if n, err = d.start(c); err == nil {
			close(n.enrolled)
		}
	}
	if err == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.why == nil || d.why.Error() != err.Error() {
		d.log.Error("the node can't start", "error", err)
	}
	d.why = err
}

// beginAgain tries again while the host has the files of a node and is none. What was wrong
// may be right by then: the clock of a machine that has none of its own is set after a boot.
func (d *daemon) beginAgain(ctx context.Context) {
	for sleep(ctx, lookPause) {
		d.change.Lock()
		d.mu.Lock()
		waits := d.node == nil && d.why != nil
		d.mu.Unlock()
		if waits {
			d.begin()
		}
		d.change.Unlock()
	}
}

// start runs the tasks of a node.
func (d *daemon) start(c config) (*node, error) {
	n, err := newNode(d, c)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.node, d.why = n, nil
	d.mu.Unlock()
	n.start(d.ctx)
	d.signal()
	return n, nil
}

// stop ends the node's tasks.
func (d *daemon) stop() {
	d.mu.Lock()
	n := d.node
	d.node = nil
	d.mu.Unlock()
	if n != nil {
		n.stop()
	}
	d.signal()
}

func (d *daemon) signal() {
	select {
	case d.started <- struct{}{}:
	default:
	}
}

// awaitIdle ends a dclusterd on demand whose host is in no cluster.
func (d *daemon) awaitIdle(ctx context.Context, end func()) {
	if !d.options.onDemand {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.started:
		case <-time.After(idleTime):
			d.change.Lock() // an init or a join is under way
			joined := d.state.Joined()
			d.change.Unlock()
			if !joined {
				d.log.Info("the host is in no cluster")
				end()
				return
			}
		}
	}
}

// here returns the node that the host is. The error says why it is none.
func (d *daemon) here() (*node, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.node != nil:
		return d.node, nil
	case d.why != nil:
		return nil, noStore{d.why}
	}
	return nil, noStore{errNoCluster}
}

var errNoCluster = errors.New("this host is in no cluster: `dnet cluster init` makes one, and `dnet cluster join` joins one")

// A noStore is an overlay.ErrUnavailable of a host that is no node.
type noStore struct{ why error }

func (e noStore) Error() string   { return e.why.Error() }
func (e noStore) Unwrap() []error { return []error{overlay.ErrUnavailable, e.why} }

// self is what programs of the host ask about the node.
func (d *daemon) self() remote.Self {
	n, err := d.here()
	if err != nil {
		return remote.Self{}
	}
	return n.self()
}

// Get is the node's store's.
func (d *daemon) Get(ctx context.Context, key string) (overlay.Entry, error) {
	n, err := d.here()
	if err != nil {
		return overlay.Entry{}, err
	}
	return n.store.Get(ctx, key)
}

// List is the node's store's.
func (d *daemon) List(ctx context.Context, prefix string, each func(overlay.Entry) error) (int64, error) {
	n, err := d.here()
	if err != nil {
		return 0, err
	}
	count := 0
	revision, err := n.store.List(ctx, prefix, func(e overlay.Entry) error {
		count++
		return each(e)
	})
	if count >= longList {
		debug.FreeOSMemory()
	}
	return revision, err
}

// longList is after how many entries the memory that a list took is given back at once.
const longList = 2000

// Commit is the node's store's.
func (d *daemon) Commit(ctx context.Context, t overlay.Txn) (bool, int64, error) {
	n, err := d.here()
	if err != nil {
		return false, 0, err
	}
	return n.store.Commit(ctx, t)
}

// Watch is the node's store's.
func (d *daemon) Watch(ctx context.Context, prefix string, after int64, each func(int64, []overlay.Event) error) error {
	n, err := d.here()
	if err != nil {
		return err
	}
	return n.store.Watch(ctx, prefix, after, each)
}

// Keep is the node's store's.
func (d *daemon) Keep(ctx context.Context, key string, value []byte, ttl int) error {
	n, err := d.here()
	if err != nil {
		return err
	}
	return n.store.Keep(ctx, key, value, ttl)
}
