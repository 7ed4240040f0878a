package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"dcni/pkg/cni"
	"dcni/pkg/overlay"
	"dcni/pkg/trust/join"
)

// Times of the node's own keys.
const (
	retryPause = time.Second      // after the store did not answer
	lookPause  = 5 * time.Second  // between two looks at the underlay
	placePause = time.Minute      // between two at node/NAME in the store
	cloneTime  = 45 * time.Second // another's alive/NAME may outlive it so long, see overlay.AliveTTL
)

// errRemoved says that an administrator has removed the node.
var errRemoved = errors.New("the node was removed from the cluster: `dnet cluster leave --force`, and join again with a token")

// keepAlive keeps node/NAME as it should be, and alive/NAME there.
func (n *node) keepAlive(ctx context.Context) {
	for ctx.Err() == nil {
		err := n.place(ctx)
		if err == nil {
			err = n.awaitOwn(ctx)
		}
		if err == nil {
			err = n.cluster().Return(ctx)
		}
		if err == nil {
			err = n.claimAgain(ctx)
		}
		if err == nil {
			err = n.learnPorts(ctx)
		}
		n.placed(err)
		if err == nil {
			err = n.hold(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		n.placed(err)
		sleep(ctx, retryPause)
	}
}

// placed notes whether the node has its keys, and logs when that changes.
func (n *node) placed(err error) {
	n.mu.Lock()
	before := n.unplaced
	n.unplaced = err
	n.mu.Unlock()
	switch {
	case err == nil && before != nil:
		n.log.Info("the store has the node's keys again")
	case err != nil && (before == nil || before.Error() != err.Error()):
		n.log.Warn("the store has not the node's keys", "error", err)
	}
}

// hold renews alive/NAME, and looks at the underlay now and then. When the node ends and
// does not leave, the key stays its time: the connection to the store is closed first.
func (n *node) hold(ctx context.Context) error {
	value, err := n.aliveValue()
	if err != nil {
		return err
	}
	keep, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	kept := make(chan error, 1)
	go func() { kept <- n.store.Keep(keep, n.keys.Alive(n.conf().Node), value, overlay.AliveTTL) }()
	for was, at := n.look(), time.Now(); ; {
		select {
		case err := <-kept:
			return err
		case <-ctx.Done():
			if !n.leaving.Load() {
				n.closeStore()
			}
			cancel()
			<-kept //nolint:errcheck // it ends because of this
			return ctx.Err()
		case <-time.After(lookPause):
		}
		if now := n.look(); now == was && time.Since(at) < placePause {
			continue
		}
		was, at = n.look(), time.Now()
		if err := n.place(ctx); err != nil && !errors.Is(err, overlay.ErrUnavailable) {
			cancel()
			<-kept //nolint:errcheck // it ends because of this
			return err
		}
	}
}

// aliveValue is the value of alive/NAME.
func (n *node) aliveValue() ([]byte, error) {
	boot, err := n.locks().Epoch()
	if err != nil {
		return nil, err
	}
	return json.Marshal(overlay.Alive{Boot: boot})
}

// awaitOwn waits until there is no alive/NAME, or it is this boot's. One that stays is a
// clone's: another host with the files of this one.
func (n *node) awaitOwn(ctx context.Context) error {
	own, err := n.aliveValue()
	if err != nil {
		return err
	}
	for until := time.Now().Add(n.cloneTime); ; {
		e, err := n.store.Get(ctx, n.keys.Alive(n.conf().Node))
		if errors.Is(err, overlay.ErrNotFound) || err == nil && string(e.Value) == string(own) {
			return nil
		}
		if err != nil {
			return err
		}
		if time.Now().After(until) {
			return fmt.Errorf("another host is alive as node %q with the same ID: one is a clone of the other: there, `dnet cluster leave --force`, remove %s, and join again",
				n.conf().Node, n.state.Path("id"))
		}
		if !sleep(ctx, retryPause) {
			return ctx.Err()
		}
	}
}

// place writes node/NAME if its address or MTU is another than in the store.
func (n *node) place(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	if err := n.recovered(ctx); err != nil {
		return err
	}
	want := n.look()
	name := n.conf().Node
	e, err := n.store.Get(ctx, n.keys.Node(name))
	if errors.Is(err, overlay.ErrNotFound) {
		return errRemoved
	}
	if err != nil {
		return err
	}
	var have overlay.Node
	unread := json.Unmarshal(e.Value, &have)
	want.Drained = have.Drained // which `dnet service drain` says
	switch {
	case unread != nil: // this node alone writes it
	case have.ID != want.ID:
		return join.Conflict(fmt.Sprintf("another host is node %q by now: `dnet cluster leave --force`, and join again with another name", name))
	case have == want:
		return nil
	}
	value, err := json.Marshal(want)
	if err != nil {
		return err
	}
	_, _, err = n.store.Commit(ctx, overlay.Txn{
		If:   []overlay.Condition{{Key: e.Key, Modified: e.Modified}},
		Then: []overlay.Change{{Key: e.Key, Value: value}},
	})
	if err == nil {
		n.log.Info("the node's address or MTU is another", "address", want.Address, "mtu", want.MTU)
	}
	return err
}

// storeTime is how long the store may take for one question.
const storeTime = 5 * time.Second

// look finds the node's underlay as it is now. An address that has gone for the moment
// stays what it was. The node's certificate, and what listens, are for the address that
// it joined with: one that changes needs another certificate first, see renewInTime.
func (n *node) look() overlay.Node {
	c := n.conf()
	u, err := findUnderlay(c.Address.String())
	n.mu.Lock()
	defer n.mu.Unlock()
	if err == nil {
		n.mtu = u.mtu
	}
	return overlay.Node{ID: c.ID, Address: c.Address, MTU: n.mtu, Version: cni.Version}
}

// deathPause is how often some node looks which ones have died: each looks the more rarely
// the more there are. With a shorter time of grace that is more often.
const deathPause = time.Minute

// noteDeaths notes now and then which nodes have died, see [overlay.Cluster.NoteDeaths].
func (n *node) noteDeaths(ctx context.Context) {
	pause := max(time.Second, min(deathPause, n.options.grace/4))
	for nodes := 1; ; {
		one := pause * time.Duration(nodes)
		if !sleep(ctx, one/2+rand.N(one)) {
			return
		}
		limited, cancel := context.WithTimeout(ctx, 2*storeTime)
		count, err := n.cluster().NoteDeaths(limited, int64(n.options.grace/time.Second))
		cancel()
		if err == nil {
			nodes = max(1, count)
		} else if !errors.Is(err, overlay.ErrUnavailable) && ctx.Err() == nil {
			n.log.Warn("nodes that have died are not noted", "error", err)
		}
	}
}
