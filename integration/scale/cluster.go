package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"dcni/pkg/overlay"
)

// A simulation is a cluster that is being measured.
type simulation struct {
	options
	shape  shape
	member *memberProcess
	nodes  []*node
	counts counts
	result result
}

// measure makes a cluster and measures it.
func (o options) measure(ctx context.Context, s shape) (result, error) {
	note("%s", s)
	m, err := newMember()
	if err != nil {
		return result{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	c := &simulation{options: o, shape: s, member: m, result: result{shape: s}}
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"nodes and networks", c.make}, {"claims", c.claim}, {"all list at once", c.herd}, {"all begin to follow", c.converge}, {"changes", c.churn}, {"keys of encrypted networks", c.encrypt}, {"member restarted", c.restart},
	} {
		began := time.Now()
		if err = step.do(ctx); err != nil {
			err = fmt.Errorf("%s: %w", step.name, err)
			break
		}
		note("  %s: %.1f s", step.name, time.Since(began).Seconds())
	}
	cancel()
	for _, n := range c.nodes {
		_ = n.client.Close()
	}
	return c.result, errors.Join(err, m.remove())
}

// make enters nodes and networks.
func (c *simulation) make(ctx context.Context) error {
	for i := range c.shape.nodes {
		n, err := newNode(ctx, c.member.client, i, c.shape.on(i), &c.counts)
		if err != nil {
			return err
		}
		c.nodes = append(c.nodes, n)
	}
	meta := put(keys.Meta(), overlay.Meta{
		Schema: 1, Cluster: "scale", Pools: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Mask: 16, Port: 4789, PortESP: 4787,
	})
	first := c.nodes[0]
	if _, _, err := first.Store.Commit(ctx, overlay.Txn{Then: []overlay.Change{meta}}); err != nil {
		return err
	}
	for i := range c.shape.networks {
		if _, err := first.CreateNetwork(ctx, overlay.Wanted{Name: networkName(i)}); err != nil {
			return err
		}
	}
	return nil
}

// all runs a function for all nodes at once.
func (c *simulation) all(do func(*node) error) error { return all(c.nodes, len(c.nodes), do) }

// followers are the nodes that make pictures of what they hear, spread evenly.
func (c *simulation) followers() []*node {
	var list []*node
	for i, n := range c.nodes {
		if i%c.shape.every == 0 {
			list = append(list, n)
		}
	}
	return list
}

// claim has all nodes claim their endpoints at the same time.
func (c *simulation) claim(ctx context.Context) error {
	began := time.Now()
	err := c.all(func(n *node) error {
		for range c.shape.endpoints {
			if _, _, err := n.claim(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	c.result.claims = float64(c.shape.nodes*c.shape.endpoints) / time.Since(began).Seconds()
	return err
}

// expected returns how many endpoints on other nodes a node is to know.
func (c *simulation) expected() map[*node]int64 {
	total, own := map[string]int64{}, map[*node]map[string]int64{}
	for _, n := range c.nodes {
		own[n] = map[string]int64{}
		n.mu.Lock()
		for _, a := range n.held {
			total[a.Network]++
			own[n][a.Network]++
		}
		n.mu.Unlock()
	}
	want := map[*node]int64{}
	for _, n := range c.nodes {
		for _, i := range n.on {
			want[n] += total[networkName(i)] - own[n][networkName(i)]
		}
	}
	return want
}

// settled waits until each follower has entered what it is to know.
func (c *simulation) settled(limit time.Duration) error {
	want := c.expected()
	return all(c.followers(), len(c.nodes), func(n *node) error { return n.settled(want[n], limit) })
}

// settled waits until the node has entries of so many endpoints on other nodes.
func (n *node) settled(want int64, limit time.Duration) error {
	for end := time.Now().Add(limit); n.host.peers.Load() != want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("%s has entries of %d endpoints after %v, want %d", n.Node, n.host.peers.Load(), limit, want)
		}
	}
	return nil
}

// herd has all nodes list their networks at the same time, as after a power cut, and do
// nothing with what they get: all share this machine's processors.
func (c *simulation) herd(ctx context.Context) error {
	if err := c.member.forgetPeak(); err != nil {
		return err
	}
	began := time.Now()
	err := c.all(func(n *node) error {
		for _, i := range n.on {
			for _, prefix := range prefixes(i) {
				if _, err := n.Store.List(ctx, prefix, func(overlay.Entry) error { return nil }); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	c.result.listed = time.Since(began)
	c.result.listing, err = c.member.peak()
	return err
}

// converge has all nodes begin to follow their networks, some at the same time: more than
// there are processors, so that these are never idle.
func (c *simulation) converge(ctx context.Context) error {
	const together = 4
	want := c.expected()
	before, err := ownCPU()
	if err != nil {
		return err
	}
	if err := all(c.followers(), together, func(n *node) error {
		n.begin()
		return n.settled(want[n], patience)
	}); err != nil {
		return err
	}
	after, err := ownCPU()
	if err != nil {
		return err
	}
	c.result.beginning = (after - before).Seconds() / float64(len(c.followers()))
	return all(c.nodes, together, func(n *node) error {
		if n.follows {
			return nil
		}
		return n.listen(ctx)
	})
}

// A claimed endpoint is one that others are to see.
type claimed struct {
	by      *node
	network int
	place   place
	began   time.Time
}

// churn has endpoints come and go, on nodes of chance.
func (c *simulation) churn(ctx context.Context) error {
	for _, n := range c.nodes {
		n.host.note()
	}
	if err := c.member.forgetPeak(); err != nil {
		return err
	}
	before, err := c.usage()
	if err != nil {
		return err
	}
	done, err := c.change(ctx)
	if err != nil {
		return err
	}
	after, err := c.usage()
	if err != nil {
		return err
	}
	c.result.rates(before, after)
	if err := c.settled(patience); err != nil {
		return err
	}
	if c.result.seen, err = c.latencies(done); err != nil {
		return err
	}
	c.result.peak, err = c.member.peak()
	return err
}

// change claims and releases in turns, and returns what was claimed.
func (c *simulation) change(ctx context.Context) (done []claimed, err error) {
	var mu sync.Mutex
	var tasks sync.WaitGroup
	tick := time.NewTicker(time.Second / time.Duration(c.rate))
	defer tick.Stop()
	var turn atomic.Int64
	one := func() {
		n := c.nodes[rand.N(len(c.nodes))]
		var e error
		if turn.Add(1)%2 == 0 {
			e = n.release(ctx)
		} else {
			began := time.Now()
			network, a, failed := n.claim(ctx)
			mu.Lock()
			done = append(done, claimed{n, network, place{"vx-" + networkName(network), a}, began})
			mu.Unlock()
			e = failed
		}
		mu.Lock()
		defer mu.Unlock()
		err = errors.Join(err, e)
	}
	for range int(c.time.Seconds() * float64(c.rate)) {
		<-tick.C
		tasks.Go(one)
	}
	tasks.Wait()
	return done, err
}

// latencies returns how long after the beginning of each claim each other node of the
// network had the endpoint's entries. It is an error if one never had.
func (c *simulation) latencies(done []claimed) (samples, error) {
	var all samples
	for _, d := range done {
		for _, n := range c.followers() {
			if n == d.by || !c.shape.has(n.on, d.network) {
				continue
			}
			n.host.mu.Lock()
			at := n.host.seen[d.place]
			n.host.mu.Unlock()
			if at.Before(d.began) { // of a container that had the address before, or gone before it was seen
				continue
			}
			all = append(all, at.Sub(d.began))
		}
	}
	if len(all) == 0 {
		return nil, errors.New("no claim was seen on another node")
	}
	return all, nil
}

func (shape) has(on []int, network int) bool {
	for _, i := range on {
		if i == network {
			return true
		}
	}
	return false
}

// restart kills the member and starts it again. All nodes list at once then. Endpoints
// that are claimed afterwards say when each node is up to date again.
func (c *simulation) restart(ctx context.Context) error {
	c.member.kill()
	if err := c.member.start(); err != nil {
		return err
	}
	began := time.Now()
	for {
		if _, _, err := c.nodes[0].claim(ctx); err == nil {
			break
		} else if time.Since(began) > patience {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, i := range c.shape.onAll() {
		for _, n := range c.nodes {
			if c.shape.has(n.on, i) {
				if _, _, err := n.claim(ctx); err != nil {
					return err
				}
				break
			}
		}
	}
	if err := c.settled(patience); err != nil {
		return err
	}
	c.result.again = time.Since(began)
	var err error
	c.result.herd, err = c.member.peak()
	return err
}

// onAll returns all networks.
func (s shape) onAll() []int {
	list := make([]int, s.networks)
	for i := range list {
		list[i] = i
	}
	return list
}
