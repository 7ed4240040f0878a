package main

import (
	"context"
	"sync"
	"time"

	"dcni/pkg/overlay"
)

// listen has a node hear of all that its followers would, and make nothing of it. It
// returns once the node has asked for changes.
func (n *node) listen(ctx context.Context) error {
	for _, i := range n.on {
		for _, prefix := range prefixes(i) {
			revision, err := n.Store.List(ctx, prefix, func(overlay.Entry) error { return nil })
			if err != nil {
				return err
			}
			go n.hear(ctx, prefix, revision)
		}
	}
	return nil
}

// prefixes are those of the keys that a network's followers list and watch.
func prefixes(network int) []string {
	return []string{keys.Node(""), keys.Endpoint(networkName(network), "", ""), keys.Alive("")}
}

// hear counts changes until the context ends, from where it was after each interruption.
func (n *node) hear(ctx context.Context, prefix string, after int64) {
	store := counting{n.Store, n.host.counts}
	for ctx.Err() == nil {
		_ = store.Watch(ctx, prefix, after, func(revision int64, _ []overlay.Event) error {
			after = revision
			return nil
		})
		time.Sleep(100 * time.Millisecond)
	}
}

// all runs a function for nodes, so many at the same time, and returns the first error.
func all(nodes []*node, together int, do func(*node) error) error {
	var first error
	var once sync.Once
	var tasks sync.WaitGroup
	turns := make(chan struct{}, together)
	for _, n := range nodes {
		turns <- struct{}{}
		tasks.Go(func() {
			if err := do(n); err != nil {
				once.Do(func() { first = err })
			}
			<-turns
		})
	}
	tasks.Wait()
	return first
}
