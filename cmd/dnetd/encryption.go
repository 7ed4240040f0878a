package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"dcni/pkg/host"
	"dcni/pkg/overlay"
	"dcni/pkg/overlay/keys/exchange"
	"dcni/pkg/overlay/remote"
	"dcni/pkg/records"
	"dcni/pkg/trust"
	"dcni/pkg/wire"
)

// An encryption has keys with the cluster's other nodes for as long as this one has
// containers on encrypted networks. Private keys are in its memory only: after a restart
// it draws new ones, and the kernel goes on with those that it has until then.
type encryption struct {
	store records.Store
	log   *slog.Logger

	mu       sync.Mutex
	ctx      context.Context // of the exchange; nil: none may begin any more, or yet
	networks map[string]bool // that are encrypted
	running  *keyExchange    // nil: no network is
}

// keyExchange is an exchange that runs.
type keyExchange struct {
	*exchange.Exchange
	cancel context.CancelFunc
	done   chan struct{}
	host   *host.Host
}

// keysTimeout is how long a request waits for keys.
const keysTimeout = 800 * time.Millisecond

// serve lets exchanges run until the context ends. What they made stays.
func (e *encryption) serve(ctx context.Context) {
	e.mu.Lock()
	e.ctx = ctx
	e.mu.Unlock()
	<-ctx.Done()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ctx = nil
	if e.running != nil {
		e.running.stop()
	}
}

// begin notes that a network is encrypted. The first one begins the exchange.
func (e *encryption) begin(network string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx == nil {
		return wire.Errorf(wire.CodeTryAgain, "network %s: dnetd is ending", network)
	}
	if e.running == nil {
		if err := e.start(); err != nil {
			return err
		}
	}
	e.networks[network] = true
	return nil
}

// start begins the exchange. The caller holds the mutex.
func (e *encryption) start() error {
	machine, err := host.New(e.store)
	if err != nil {
		return err
	}
	machine.NeverStartDnetd = true
	ctx, cancel := context.WithCancel(e.ctx)
	r := &keyExchange{cancel: cancel, done: make(chan struct{}), host: machine}
	r.Exchange = exchange.New(e.log, machine, openExchange(e.store), identity(e.store))
	go func() {
		defer close(r.done)
		r.Run(ctx)
	}()
	e.running, e.networks = r, map[string]bool{}
	return nil
}

// stop ends the exchange. What it made stays.
func (r *keyExchange) stop() {
	r.cancel()
	<-r.done
	r.host.Close()
}

// sync waits a while until this node has keys with the others.
func (e *encryption) sync(network string) error {
	e.mu.Lock()
	r := e.running
	known := r != nil && e.networks[network]
	e.mu.Unlock()
	if !known {
		return wire.Errorf(wire.CodeTryAgain, "network %s: dnetd has no keys for it", network)
	}
	ctx, cancel := context.WithTimeout(context.Background(), keysTimeout)
	defer cancel()
	return r.Sync(ctx)
}

// knows returns an error if an encrypted network is not seen to.
func (e *encryption) knows(network string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running == nil || !e.networks[network] {
		return wire.Errorf(wire.CodeInternal, "network %s: dnetd has no keys for it", network)
	}
	return nil
}

// forget notes that a network is gone. The last one takes the states along.
func (e *encryption) forget(network string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.networks, network)
	r := e.running
	if r == nil || len(e.networks) > 0 {
		return
	}
	e.running = nil
	r.cancel()
	<-r.done
	ctx, cancel := context.WithTimeout(context.Background(), keysTimeout)
	defer cancel()
	if err := r.Leave(ctx); err != nil {
		e.log.Warn("keys of encrypted networks are left", "error", err)
	}
	r.host.Close()
}

// openExchange returns what opens the cluster's store, which dclusterd serves.
func openExchange(store records.Store) func(ctx context.Context) (*exchange.Store, error) {
	return func(ctx context.Context) (*exchange.Store, error) {
		client, err := remote.Dial(store.Cluster().Socket(), storeTimeout)
		if err != nil {
			return nil, err
		}
		self, err := client.Self(ctx)
		if err != nil {
			_ = client.Close() // it has said nothing
			return nil, err
		}
		return &exchange.Store{
			Store: client, Keys: overlay.Keys{Prefix: self.Prefix}, Cluster: self.Cluster, Node: self.Node, Close: client.Close,
		}, nil
	}
}

// The files of records.Cluster that say who the node is, PEM.
const (
	fileCA   = "ca.crt"
	fileCert = "node.crt"
	fileKey  = "node.key"
)

// identity returns what reads this node's certificate and key, and the CA's certificate,
// from where dclusterd keeps them. A cluster on a store of its own making has all, one on
// an external store none.
func identity(store records.Store) func() (exchange.Identity, error) {
	return func() (id exchange.Identity, err error) {
		files := store.Cluster()
		ca, err := files.Read(fileCA)
		if errors.Is(err, fs.ErrNotExist) {
			return exchange.Identity{}, nil
		}
		cert, certErr := files.Read(fileCert)
		key, keyErr := files.Read(fileKey)
		if err = errors.Join(err, certErr, keyErr); err != nil {
			return exchange.Identity{}, err
		}
		if id.CA, err = trust.ParseCert(files.Path(fileCA), ca); err != nil {
			return exchange.Identity{}, err
		}
		own, err := trust.ParseCert(files.Path(fileCert), cert)
		if err != nil {
			return exchange.Identity{}, err
		}
		private, err := trust.ParseKey(files.Path(fileKey), key)
		if err != nil {
			return exchange.Identity{}, err
		}
		id.Certificate, id.Signer = own.Raw, private
		return id, nil
	}
}
