package main

import (
	"context"
	"errors"
	"fmt"
	"net"

	"dcni/pkg/cluster"
	"dcni/pkg/overlay"
	"dcni/pkg/overlay/etcd/member"
	"dcni/pkg/trust"
)

// rebuild has this node's member be the whole store, with what prepare leaves in its
// folder. first is done when it answers.
func (d *daemon) rebuild(ctx context.Context, what string, force bool, prepare func(*config) error, first func(context.Context, *node) error) error {
	c, err := d.state.read()
	if err != nil {
		return err
	}
	ca, err := d.state.ca()
	switch {
	case err != nil:
		return err
	case c.External != nil:
		return errors.New("the cluster is in an etcd that is not its own: see to that etcd")
	case c.Member == nil && ca == nil:
		return fmt.Errorf("this host has neither a member of the store nor the CA's key: %s where one of them is", what)
	}
	if n, err := d.here(); err == nil && !force {
		limited, cancel := context.WithTimeout(ctx, storeTime)
		_, err := n.store.Get(limited, n.keys.Meta())
		cancel()
		if err == nil || errors.Is(err, overlay.ErrNotFound) {
			return fmt.Errorf("the store answers: %s is for one that is lost, and what others have written since goes with it: --force does it all the same", what)
		}
	}
	d.stop()
	if c.Member == nil {
		c.Member = &memberConfig{Dir: d.memberDir(c.DataDir)}
	}
	c.Endpoints, c.Member.Existing, c.Member.Began = []string{c.clientURL()}, false, false
	c.Member.Members = map[string]string{c.Node: c.peerURL()}
	if err := prepare(&c); err != nil {
		d.begin() // as it was
		return err
	}
	if err := d.state.write(c); err != nil {
		return err
	}
	return d.begun(ctx, c, func(ctx context.Context, n *node) error {
		if err := first(ctx, n); err != nil {
			return err
		}
		return n.reconfigure(func(c *config) { c.Member.Alone = false })
	})
}

// reset makes this node's member the whole store: the others are lost.
func (d *daemon) reset(ctx context.Context, args cluster.ForceArgs) (nothing, error) {
	d.change.Lock()
	defer d.change.Unlock()
	return nothing{}, d.rebuild(ctx, "`dnet cluster reset`", args.Force, func(c *config) error {
		if !d.state.Exists(c.Member.Dir) {
			return errors.New("this host has no member of the store: reset where one is, or `dnet cluster init --recover`")
		}
		c.Member.Alone = true
		return nil
	}, func(ctx context.Context, n *node) error {
		_, err := n.meta(ctx)
		return err
	})
}

// recover makes a new store, in which there is only what the nodes put there.
func (d *daemon) recover(ctx context.Context, args cluster.InitArgs) (cluster.Made, error) {
	if !d.state.Joined() {
		return cluster.Made{}, errors.New("--recover: this host is in no cluster: its files in /var/lib/dcni/cluster say which cluster is to be recovered")
	}
	err := d.rebuild(ctx, "`dnet cluster init --recover`", args.Force, func(c *config) error {
		return d.state.RemoveDir(c.Member.Dir)
	}, func(ctx context.Context, n *node) error {
		return errors.Join(n.makeMeta(ctx, n.recovery()), n.recovered(ctx))
	})
	return d.made(err)
}

// restore makes the store what a snapshot has, and what the nodes put there.
func (d *daemon) restore(ctx context.Context, args cluster.FileArgs) (nothing, error) {
	d.change.Lock()
	defer d.change.Unlock()
	if !d.state.Exists(args.Path) { // before the store that there may be is stopped
		return nothing{}, fmt.Errorf("snapshot %s: there is no such file on this host", args.Path)
	}
	return nothing{}, d.rebuild(ctx, "`dnet cluster restore`", args.Force, func(c *config) error {
		fresh := c.Member.Dir + ".new"
		err := d.state.RemoveDir(fresh)
		if err == nil {
			err = member.Restore(args.Path, member.Config{Name: c.Node, Dir: fresh, Peer: c.peerURL(), Members: c.Member.Members, Cluster: c.Cluster})
		}
		if err == nil {
			err = d.ready(ctx, *c, fresh, args.Path)
		}
		if err != nil {
			return errors.Join(err, d.state.RemoveDir(fresh))
		}
		return d.state.ReplaceDir(fresh, c.Member.Dir)
	}, func(ctx context.Context, n *node) error { return n.recovered(ctx) })
}

// ready makes a restored store ready for the nodes: it is this cluster's, and has the key
// of a recovery. Until then no other node may look at it: its networks are those of the
// snapshot, and a node removes the files of others.
func (d *daemon) ready(ctx context.Context, c config, dir, snapshot string) error {
	url, err := privateURL()
	if err != nil {
		return err
	}
	m := *c.Member
	m.Dir, m.private = dir, url
	c.Member, c.Endpoints = &m, []string{url}
	n, err := newNode(d, c)
	if err != nil {
		return err
	}
	n.startMember()
	defer n.member().end()
	defer n.closeStore()
	return n.whenReady(ctx, func(ctx context.Context, n *node) error {
		meta, err := n.meta(ctx)
		if errors.Is(err, overlay.ErrNotFound) || err == nil && meta.Cluster != c.Cluster {
			return fmt.Errorf("%s: is not of cluster %s", snapshot, c.Cluster)
		}
		if err != nil {
			return err
		}
		return n.markRecovery(ctx)
	})
}

// privateURL is one of this host alone that nothing listens at.
func privateURL() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return "https://" + l.Addr().String(), l.Close()
}

// made tells which node the host is.
func (d *daemon) made(err error) (cluster.Made, error) {
	if err != nil {
		return cluster.Made{}, err
	}
	n, err := d.here()
	if err != nil {
		return cluster.Made{}, err
	}
	c := n.conf()
	return cluster.Made{Node: c.Node, Cluster: c.Cluster, Address: c.Address, Kind: trust.Member}, nil
}
