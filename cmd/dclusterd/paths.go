package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"dcni/pkg/cluster"
	"dcni/pkg/host/rawip"
	"dcni/pkg/overlay"
	"dcni/pkg/overlay/probe"
)

// Times between two rounds of probes: no two nodes keep step.
const (
	probePause  = 25 * time.Second
	probeJitter = 10 * time.Second
)

// newProber is the node's. Its cluster's ID is set when it runs.
func (n *node) newProber() *prober {
	c := n.config
	return &prober{log: n.log, node: c.Node, local: c.Address, mtu: func() int { return n.self().MTU }, sums: newSums(c.Address)}
}

// probe has the prober run: it answers other nodes, asks all of them now and then, and
// each at once that is new.
func (n *node) probe(ctx context.Context) {
	sockets := n.openPaths(ctx)
	if sockets == nil {
		return
	}
	n.paths.cluster = n.conf().Cluster
	n.paths.send = func(p probe.Path, to netip.Addr, packet []byte) error { return sockets[p].Send(to, packet) }
	n.paths.soon = func(peer string) { n.askFresh(ctx, 0, []string{peer}) }
	n.paths.look = func(ready func()) { n.lookAtSums(ctx, ready) }
	close(n.probing)
	n.tasks.Go(func() { n.testSums(ctx) })
	for p, s := range sockets {
		n.tasks.Go(func() { n.receiveProbes(ctx, p, s) })
	}
	n.tasks.Go(func() { n.followPeers(ctx) })
	for sleep(ctx, probePause+rand.N(probeJitter)) {
		n.paths.ask(ctx, all)
		n.keepSums()
	}
	for _, s := range sockets {
		_ = s.Close()
	}
}

func all(string) bool { return true }

// openPaths opens the sockets of probes; nil if the context ended before.
func (n *node) openPaths(ctx context.Context) map[probe.Path]*rawip.Socket {
	said := ""
	for {
		sockets, err := listenPaths(ctx, n.conf().Address)
		if err == nil {
			return sockets
		}
		if err.Error() != said {
			said = err.Error()
			n.log.Warn("VXLAN and ESP are not probed", "error", err)
		}
		if !sleep(ctx, lookPause) {
			return nil
		}
	}
}

func listenPaths(ctx context.Context, local netip.Addr) (map[probe.Path]*rawip.Socket, error) {
	sockets := map[probe.Path]*rawip.Socket{}
	for _, p := range []probe.Path{probe.VXLAN, probe.ESP} {
		s, err := rawip.Listen(ctx, p.Protocol(), local, pathWords(p)...)
		if err != nil {
			for _, s := range sockets {
				_ = s.Close()
			}
			return nil, err
		}
		sockets[p] = s
	}
	return sockets, nil
}

// receiveProbes reads until the socket is closed.
func (n *node) receiveProbes(ctx context.Context, p probe.Path, s *rawip.Socket) {
	for buffer := make([]byte, largest); ctx.Err() == nil; {
		packet, from, err := s.Receive(buffer)
		if err != nil {
			n.log.Debug("a probe was not read", "path", p, "error", err)
			sleep(ctx, readyPause)
			continue
		}
		n.paths.receive(p, from, packet)
	}
}

// followPeers keeps the prober's peers as the store has nodes.
func (n *node) followPeers(ctx context.Context) {
	prefix := n.keys.Node("")
	for ctx.Err() == nil {
		revision, fresh, err := n.listPeers(ctx)
		n.askFresh(ctx, 0, fresh)
		if err == nil {
			err = n.store.Watch(ctx, prefix, revision, func(_ int64, events []overlay.Event) error {
				n.askFresh(ctx, freshPause, n.paths.change(func(nodes map[string]overlay.Node) {
					for _, e := range events {
						if e.Deleted {
							delete(nodes, strings.TrimPrefix(e.Key, prefix))
						} else {
							addNode(nodes, e.Entry, prefix)
						}
					}
				}))
				return nil
			})
		}
		if ctx.Err() == nil {
			n.log.Debug("nodes are not watched", "error", err)
			sleep(ctx, retryPause)
		}
	}
}

// freshPause is how long a new node may take until it answers. It asks when it begins, and
// is asked then.
const freshPause = 5 * time.Second

// listPeers lists the nodes for the prober, and returns those that are new to it.
func (n *node) listPeers(ctx context.Context) (revision int64, fresh []string, err error) {
	nodes := map[string]overlay.Node{}
	revision, err = n.store.List(ctx, n.keys.Node(""), func(e overlay.Entry) error {
		addNode(nodes, e, n.keys.Node(""))
		return nil
	})
	if err == nil {
		fresh = n.paths.change(func(now map[string]overlay.Node) {
			clear(now)
			maps.Copy(now, nodes)
		})
	}
	return revision, fresh, err
}

// addNode reads a node's entry. One that can't be read is no peer.
func addNode(nodes map[string]overlay.Node, e overlay.Entry, prefix string) {
	var node overlay.Node
	if err := json.Unmarshal(e.Value, &node); err == nil && node.Address.IsValid() {
		nodes[strings.TrimPrefix(e.Key, prefix)] = node
	}
}

// askFresh asks peers after a time, while the caller, a task of the node, goes on.
func (n *node) askFresh(ctx context.Context, after time.Duration, peers []string) {
	if len(peers) == 0 {
		return
	}
	n.tasks.Go(func() {
		if sleep(ctx, after) {
			n.paths.ask(ctx, func(name string) bool { return slices.Contains(peers, name) })
			n.paths.sums.wake()
		}
	})
}

// probed reports whether there is a prober that runs, for which it waits a moment.
func (n *node) probed(ctx context.Context) bool {
	select {
	case <-n.probing:
		return true
	case <-ctx.Done():
	case <-time.After(probeStart):
	}
	return false
}

// probeStart is how long the prober of a node that has just begun may take.
const probeStart = 200 * time.Millisecond

// checkPaths asks the nodes that are alive, and returns what does not pass.
func (d *daemon) checkPaths(ctx context.Context) []string {
	n, err := d.here()
	if err != nil || !n.probed(ctx) {
		return nil
	}
	if _, _, err := n.listPeers(ctx); err != nil {
		return nil
	}
	alive, err := n.alive(ctx)
	if err != nil {
		return nil
	}
	n.paths.ask(ctx, func(name string) bool { return alive[name] })
	return n.lostPaths(alive, true)
}

// statusPaths returns what did not pass when it was asked last. ESP is of interest where
// networks are encrypted.
func (n *node) statusPaths(ctx context.Context) ([]string, error) {
	alive, err := n.alive(ctx)
	if err != nil {
		return nil, err
	}
	networks, err := n.networks(ctx)
	if err != nil {
		return nil, err
	}
	return n.lostPaths(alive, slices.ContainsFunc(networks, func(e overlay.Existing) bool { return e.Encrypted })), nil
}

// alive lists the nodes that are alive.
func (n *node) alive(ctx context.Context) (map[string]bool, error) {
	alive, prefix := map[string]bool{}, n.keys.Alive("")
	_, err := n.store.List(ctx, prefix, func(e overlay.Entry) error {
		alive[strings.TrimPrefix(e.Key, prefix)] = true
		return nil
	})
	return alive, err
}

// lostPaths says in sentences what does not pass to which living nodes. A dead node's
// dclusterd answers no probe, whatever passes.
func (n *node) lostPaths(alive map[string]bool, esp bool) (list []string) {
	lost := map[string][]string{} // nodes, by sentence
	for name := range alive {
		v, e := n.paths.paths(name)
		switch {
		case v.State == cluster.Lost && v.Bytes > 0:
			s := fmt.Sprintf("VXLAN packets of %d bytes do not pass to %%s and back, shorter ones do: what is between has a smaller MTU, or drops long packets", v.Bytes)
			lost[s] = append(lost[s], name)
		case v.State == cluster.Lost:
			lost[lostVXLAN] = append(lost[lostVXLAN], name)
		}
		if esp && e.State == cluster.Lost {
			lost[lostESP] = append(lost[lostESP], name)
		}
	}
	for sentence, names := range lost {
		list = append(list, fmt.Sprintf(sentence, enumerate(names)))
	}
	slices.Sort(list)
	return list
}

const (
	lostVXLAN = "VXLAN (UDP port 4789) does not pass to %s and back: containers do not reach those there; let it through all firewalls between, both ways"
	lostESP   = "ESP (IP protocol 50) does not pass to %s and back: encrypted networks have no traffic there; let it through all firewalls between, both ways"
)

// enumerate writes names, not too many of them.
func enumerate(names []string) string {
	const most = 5
	slices.Sort(names)
	more := ""
	if len(names) > most {
		more = fmt.Sprintf(" and %d more nodes", len(names)-most)
		names = names[:most]
	}
	return strings.Join(names, ", ") + more
}
