// Package exchange has a node take part in the key exchange of encrypted networks: it
// feeds keys.Machine with what the cluster's store and the kernel say, makes what the
// machine wants so, and publishes the node's record.
package exchange

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"dcni/pkg/overlay"
	"dcni/pkg/overlay/keys"
	"dcni/pkg/wire"
)

// A Kernel has states and policies.
type Kernel interface {
	wire.Host
	// ESP returns the states that were made by this package, by whichever process, and
	// the policies that name one.
	ESP() ([]wire.XfrmUse, []*wire.XfrmPolicy, error)
}

// An Identity is the node, as others may believe it. The zero value is that of a node of
// a cluster without a CA, where records are not signed.
type Identity struct {
	CA          *x509.Certificate // the cluster's
	Certificate []byte            // the node's, DER
	Signer      crypto.Signer     // has the certificate's key
}

// A Store is the cluster's store, open.
type Store struct {
	overlay.Store
	Keys    overlay.Keys
	Cluster string // its ID
	Node    string // this one's name
	Close   func() error
}

// An Exchange is a node's part. Its fields are set before use.
type Exchange struct {
	Log    *slog.Logger
	Kernel Kernel
	Open   func(ctx context.Context) (*Store, error)
	// Identity is asked for with each store that was opened, and before each record is
	// published: certificates are renewed.
	Identity func() (Identity, error)

	mu      sync.Mutex
	view    *view // what the store says; nil: nothing yet
	changed chan struct{}
	wanted  chan chan error

	// The rest is rounds' own.
	machine *keys.Machine
	values  keys.Values // that were published last
	have    []wire.Object
	began   time.Time
	at      time.Time // of the last change of the view; guarded by mu
	rotated int64     // the revision of the last request to rotate
	said    string
}

// Times.
const (
	// period is how often the kernel is compared with what is to be there.
	period = 2 * time.Second
	// gather is how long changes are waited for that come together.
	gather = 20 * time.Millisecond
	pause  = time.Second // before a store is opened again that was away
	// Then all nodes list what all others say: each at a time of chance, so much for each node.
	listPause = 10 * time.Millisecond
	quiet     = 500 * time.Millisecond
)

// New returns an exchange that Run starts.
func New(log *slog.Logger, kernel Kernel, open func(context.Context) (*Store, error), identity func() (Identity, error)) *Exchange {
	return &Exchange{
		Log: log, Kernel: kernel, Open: open, Identity: identity,
		changed: make(chan struct{}, 1), wanted: make(chan chan error), began: time.Now(),
	}
}

// Run takes part until the context ends. Where the store is away, what there is goes on.
// At the end all stays as it is: states and policies are the data path's.
func (e *Exchange) Run(ctx context.Context) {
	var both sync.WaitGroup
	both.Go(func() { e.follow(ctx) })
	both.Go(func() { e.rounds(ctx) })
	both.Wait()
}

// rounds makes a round after each change, and from time to time.
func (e *Exchange) rounds(ctx context.Context) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		var asked chan error
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case asked = <-e.wanted:
		case <-e.changed:
			select {
			case <-ctx.Done():
				return
			case <-time.After(gather):
			}
		}
		err := e.round(ctx)
		if asked != nil {
			asked <- err
		}
		e.tell(err)
	}
}

// tell logs an error once for as long as it stays.
func (e *Exchange) tell(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != e.said {
		e.Log.Warn("keys of encrypted networks", "error", err)
	}
	e.said = text
}

// Sync returns when this node has states with all nodes that are alive and take part,
// when none has said anything new for a while, or when the context ends.
func (e *Exchange) Sync(ctx context.Context) error {
	for {
		answer := make(chan error, 1)
		select {
		case <-ctx.Done():
			return wire.Errorf(wire.CodeTryAgain, "keys of encrypted networks: %v", ctx.Err())
		case e.wanted <- answer:
		}
		if err := <-answer; err == nil && e.settled() {
			return nil
		} else if code := (*wire.Error)(nil); errors.As(err, &code) {
			return err // it will not be better soon: the kernel has no ESP
		}
		select {
		case <-ctx.Done():
		case <-time.After(gather):
		}
	}
}

// settled reports whether there is a state to each node that is alive and has keys.
func (e *Exchange) settled() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.view == nil || e.machine == nil {
		return false
	}
	if time.Since(e.at) > quiet {
		return true // a node that has no state with this one by now will make none
	}
	to := map[netip.Addr]bool{}
	for _, o := range e.have {
		if p, ok := o.(*wire.XfrmPolicy); ok {
			to[p.Dst.Addr()] = true
		}
	}
	for name, n := range e.view.nodes {
		takesPart := e.view.keys[name].Sender != nil
		if name != e.view.self && takesPart && !e.view.left[name] && e.view.alive[name] && n.Address.Is4() == e.view.local().Is4() && !to[n.Address] {
			return false
		}
	}
	return true
}

// round looks at all there is, and makes it as it is to be.
func (e *Exchange) round(ctx context.Context) error {
	e.mu.Lock()
	v := e.view
	if v == nil {
		e.mu.Unlock()
		return fmt.Errorf("the cluster's store: %w", overlay.ErrUnavailable)
	}
	in := v.input()
	if !in.Local.IsValid() {
		e.mu.Unlock()
		return fmt.Errorf("node %s: it is not in the cluster's store", v.self)
	}
	rotate, store := v.rotate, v.store
	e.mu.Unlock()

	states, policies, err := e.Kernel.ESP()
	if err != nil {
		return err
	}
	in.Now, in.States, in.Policies = int64(time.Since(e.began)/time.Second), states, policies
	if err := e.start(v, states, policies, rotate, in.Now); err != nil {
		return err
	}
	in.Rotate, e.rotated = rotate > e.rotated, max(rotate, e.rotated)
	stepped := e.machine.Step(in)
	have, applied := wire.Apply(e.Kernel, e.have, e.machine.Objects())
	e.mu.Lock()
	e.have = have
	e.mu.Unlock()
	if err := e.publish(ctx, v, store); err != nil {
		return err
	}
	if applied != nil {
		return applied
	}
	return stepped
}

// Leave ends this node's part, after Run has ended: no encrypted network is left here. It
// removes all states, and what the node has said.
func (e *Exchange) Leave(ctx context.Context) error {
	states, policies, err := e.Kernel.ESP()
	have := make([]wire.Object, 0, len(states)+len(policies))
	for _, s := range states {
		have = append(have, s.Object())
	}
	for _, p := range policies {
		have = append(have, p)
	}
	_, removed := wire.Apply(e.Kernel, have, nil)
	store, opened := e.Open(ctx)
	if opened != nil {
		return errors.Join(err, removed, opened)
	}
	var t overlay.Txn
	for _, key := range store.Keys.KeyRecords(store.Node) {
		t.Then = append(t.Then, overlay.Change{Key: key, Delete: true})
	}
	_, _, gone := store.Commit(ctx, t)
	return errors.Join(err, removed, gone, store.Close())
}

// start makes the machine, in the first round, and another where the node has become one
// of another cluster.
func (e *Exchange) start(v *view, states []wire.XfrmUse, policies []*wire.XfrmPolicy, rotate, now int64) error {
	if e.machine != nil && e.machine.Is(v.cluster, v.self) {
		return nil
	}
	machine, err := keys.New(v.cluster, v.self, rand.Reader, now)
	if err != nil {
		return err
	}
	have := make([]wire.Object, 0, len(states)+len(policies))
	for _, s := range states {
		have = append(have, s.Object())
	}
	for _, p := range policies {
		have = append(have, p)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.machine, e.have, e.rotated = machine, have, rotate
	return nil
}

// publish puts into the store what the node says, where the store has another record or
// none, and else what has changed of it. It says only what is in the kernel by now.
func (e *Exchange) publish(ctx context.Context, v *view, store *Store) error {
	if store == nil {
		return nil
	}
	k, changed := e.machine.Keys()
	e.mu.Lock()
	there := v.own != nil && slices.Equal(v.own, v.written)
	e.mu.Unlock()
	if !changed && there {
		return nil
	}
	now, err := k.Values()
	if err != nil {
		return err
	}
	was := &e.values
	if !there {
		was = nil
	}
	t, record, err := e.changes(v.self, store.Keys, was, now)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, period)
	defer cancel()
	// Noted first: the change may be seen before Commit returns.
	e.mu.Lock()
	if record != nil {
		v.own, v.written = record, record
	}
	e.mu.Unlock()
	_, revision, err := store.Commit(ctx, t)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		v.written = nil // it may be there or not
		return fmt.Errorf("publish the key record: %w", err)
	}
	if record != nil {
		v.writtenAt = revision
	}
	e.values = now
	e.machine.Published(k)
	return nil
}

// changes returns the transaction that makes a node's values what they are now, where the
// store has others: those of earlier, or for nil it is not known which. It returns the
// value of the record, nil where that stays.
func (e *Exchange) changes(node string, keyOf overlay.Keys, was *keys.Values, now keys.Values) (t overlay.Txn, record []byte, err error) {
	id, err := e.Identity()
	if err != nil {
		return t, nil, err
	}
	put := func(key string, value []byte) (signed []byte, err error) {
		if signed, err = keys.Sign(value, id.Certificate, id.Signer, rand.Reader); err == nil {
			t.Then = append(t.Then, overlay.Change{Key: key, Value: signed})
		}
		return signed, err
	}
	if was == nil || !slices.Equal(was.Record, now.Record) {
		if record, err = put(keyOf.Key(node), now.Record); err != nil {
			return t, nil, err
		}
	}
	for page := range overlay.KeyPages {
		key, value := keyOf.KeyPage(page, node), now.Pages[page]
		switch {
		case was != nil && slices.Equal(was.Pages[page], value):
		case value == nil:
			t.Then = append(t.Then, overlay.Change{Key: key, Delete: true})
		default:
			if _, err := put(key, value); err != nil {
				return t, nil, err
			}
		}
	}
	return t, record, nil
}
