package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"dcni/pkg/cluster/start"
	"dcni/pkg/host"
	"dcni/pkg/host/agent"
	"dcni/pkg/overlay"
	"dcni/pkg/overlay/follow"
	"dcni/pkg/overlay/remote"
	"dcni/pkg/records"
	"dcni/pkg/service"
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
	s := start.Starter{Store: store, ConfDir: records.DefaultConfDir(), Answers: answers}
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

// A taskReporter tells the cluster's store what this node alone knows of its tasks of services:
// that an ADD has ended, and which checks have succeeded. Other nodes hear of it from there.
type taskReporter struct {
	store records.Store
	log   *slog.Logger
	open  func(ctx context.Context) (*follow.Store, error)
	wake  chan struct{} // has a value when something may have changed

	said string // the error that was logged last
}

func newTaskReporter(store records.Store, log *slog.Logger, open func(context.Context) (*follow.Store, error)) *taskReporter {
	return &taskReporter{store: store, log: log, open: open, wake: make(chan struct{}, 1)}
}

// wakeUp has the reporter look what is to be told. It waits for nothing.
func (t *taskReporter) wakeUp() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// serve tells the store until the context ends. What it can't tell is looked at again with
// the next change, or when services are looked at, which is every few seconds.
func (t *taskReporter) serve(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.wake:
		}
		text := ""
		if err := t.report(ctx); err != nil {
			text = err.Error()
		}
		if text != t.said && text != "" && ctx.Err() == nil {
			t.log.Warn("other nodes are not told of tasks of services", "error", text)
		}
		t.said = text
	}
}

// report tells the store what it does not have yet.
func (t *taskReporter) report(ctx context.Context) error {
	networks, err := t.store.ServiceNetworks()
	errs := []error{err}
	for _, name := range networks {
		if !t.store.KnowsServices(name) {
			continue // it is this host's alone
		}
		p, err := t.store.Served(name)
		if err == nil {
			err = t.reportNetwork(ctx, p)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (t *taskReporter) reportNetwork(ctx context.Context, p service.Picture) error {
	n, err := t.store.ServicesOf(p.Name)
	if err != nil {
		return err
	}
	list := p.Untold(n)
	if len(list) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	store, err := t.open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }() // each answer was awaited
	c := overlay.Cluster{Store: store.Store, Keys: store.Keys, Node: store.Node, Now: func() int64 { return time.Now().Unix() }}
	var errs []error
	for _, e := range list {
		err := c.ChangeTask(ctx, p.Name, overlay.Owner{Node: store.Node, Attachment: overlay.AttachmentKey(e.Owner)}, func(ep *overlay.Endpoint) bool {
			if ep.Ready && slices.Equal(ep.Healthy, e.Healthy) {
				return false
			}
			ep.Ready, ep.Healthy = true, e.Healthy
			return true
		})
		if !errors.Is(err, overlay.ErrNotFound) { // it has been deleted
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
