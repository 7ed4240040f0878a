package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"dcni/pkg/cluster/start"
	"dcni/pkg/host"
	"dcni/pkg/host/agent"
	"dcni/pkg/overlay"
	"dcni/pkg/overlay/follow"
	"dcni/pkg/overlay/remote"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// storeTimeout is how long dclusterd may take to answer: longer than its own store lets it.
const storeTimeout = 25 * time.Second

// clusterStart is how long dclusterd may take to begin: plugins wait for it.
const clusterStart = agent.AnswerTimeout - 200*time.Millisecond

// clusterStarter returns what starts dclusterd where none answers, one at a time. Where
// the host is no node of a cluster that is an error.
func clusterStarter(store records.Store) func() error {
	home := store.Cluster()
	answers := func() bool {
		client, err := remote.Dial(home.Socket(), clusterStart)
		if err != nil {
			return false
		}
		_ = client.Close() // it was asked nothing
		return true
	}
	s := start.Starter{Store: store, ConfDir: records.DefaultConfDir, Answers: answers}
	var one sync.Mutex
	return func() error {
		one.Lock()
		defer one.Unlock()
		switch {
		case answers():
			return nil
		case !home.Joined():
			return wire.Errorf(wire.CodeTryAgain, "this host is no node of a cluster")
		}
		return s.Start(clusterStart)
	}
}

// openCluster returns what opens the cluster's store, which dclusterd serves, and starts
// that where it is not there.
func openCluster(store records.Store, startCluster func() error) func(ctx context.Context) (*follow.Store, error) {
	return func(ctx context.Context) (*follow.Store, error) {
		client, err := remote.Dial(store.Cluster().Socket(), storeTimeout)
		if errors.Is(err, overlay.ErrUnavailable) && store.Cluster().Joined() {
			if failed := startCluster(); failed != nil {
				return nil, errors.Join(err, failed)
			}
			client, err = remote.Dial(store.Cluster().Socket(), storeTimeout)
		}
		if err != nil {
			return nil, err
		}
		self, err := client.Self(ctx)
		if err != nil {
			_ = client.Close() // it has said nothing
			return nil, err
		}
		return &follow.Store{Store: client, Keys: overlay.Keys{Prefix: self.Prefix}, Node: self.Node, Close: client.Close}, nil
	}
}

// openHost returns what opens the host that entries are on.
func openHost(store records.Store) func() (follow.Host, func(), error) {
	return func() (follow.Host, func(), error) {
		h, err := host.New(store)
		if err != nil {
			return nil, nil, err
		}
		h.NeverStartDnetd = true
		return h, h.Close, nil
	}
}
