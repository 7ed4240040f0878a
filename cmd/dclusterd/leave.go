package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"dcni/pkg/cluster"
	"dcni/pkg/overlay"
)

// leave takes the host out of its cluster, and removes what made it a node. By force it
// does so also where containers are on the cluster's networks, or the store is away: what
// the node has there stays until `dnet cluster node rm`.
func (d *daemon) leave(ctx context.Context, args cluster.LeaveArgs) (nothing, error) {
	d.change.Lock()
	defer d.change.Unlock()
	if !d.state.Joined() {
		return nothing{}, errors.New("this host is in no cluster")
	}
	n, err := d.here()
	var c config
	if err == nil {
		c = n.conf()
		err = n.giveUp(ctx, args.Force)
		n.leaving.Store(err == nil)
	} else {
		c, _ = d.state.read() // what can't be read is removed
	}
	if err != nil && !args.Force {
		return nothing{}, err
	}
	if err != nil {
		d.log.Warn("the node leaves without the store knowing", "error", err)
	}
	d.stop()
	if left := d.leaveIngress(); left != nil {
		d.log.Warn("the host is left on networks of the cluster", "error", left)
	}
	files := conflists{dir: d.conf, locks: d.store, log: d.log}
	err = errors.Join(files.clear(), d.state.forget(c))
	d.mu.Lock()
	d.why = nil
	d.mu.Unlock()
	d.signal()
	return nothing{}, err
}

// giveUp takes the node out of the store.
func (n *node) giveUp(ctx context.Context, force bool) error {
	ctx, cancel := context.WithTimeout(ctx, 4*storeTime)
	defer cancel()
	if !force {
		if err := n.idle(ctx); err != nil {
			return err
		}
	}
	last, err := n.leaveMembers(ctx, force)
	if err != nil || last {
		return err
	}
	return n.cluster().RemoveNode(ctx, n.conf().Node)
}

// idle returns an error that names the networks on which the node has endpoints.
func (n *node) idle(ctx context.Context) error {
	networks, err := n.networks(ctx)
	if err != nil {
		return err
	}
	var busy []string
	for _, network := range networks {
		count := 0
		_, err := n.store.List(ctx, n.keys.Endpoint(network.Name, n.conf().Node, ""), func(e overlay.Entry) error {
			if n.keys.OfContainer(e.Key) {
				count++
			}
			return nil
		})
		if err != nil {
			return err
		}
		if count > 0 {
			busy = append(busy, fmt.Sprintf("%s (%d)", network.Name, count))
		}
	}
	if len(busy) > 0 {
		return fmt.Errorf("containers of this host are on networks of the cluster: %s: stop them, or --force", strings.Join(busy, ", "))
	}
	return nil
}

// leaveMembers takes the node's member out of the store. last says that it was the only
// one of a cluster that has no other node: the store goes with the node.
func (n *node) leaveMembers(ctx context.Context, force bool) (last bool, err error) {
	if n.member() == nil {
		return false, nil
	}
	members, err := n.store.Members(ctx)
	if err != nil {
		return false, err
	}
	if len(members) > 1 {
		_, err = n.dropMember(ctx, n.conf().Node)
		return false, err
	}
	nodes := 0
	_, err = n.store.List(ctx, n.keys.Node(""), func(overlay.Entry) error { nodes++; return nil })
	if err != nil || nodes == 1 || force {
		return err == nil, err
	}
	return false, fmt.Errorf("this host has the only member of the store, and other nodes need it (%d): `dnet cluster members 3` first, or --force, which ends the cluster", nodes-1)
}
