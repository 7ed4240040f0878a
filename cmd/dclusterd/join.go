package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"dcni/pkg/cluster"
	"dcni/pkg/overlay"
	"dcni/pkg/overlay/etcd"
	"dcni/pkg/trust"
	"dcni/pkg/trust/join"
)

// join makes the host a node of a cluster that is there, and tells what does not pass to
// the other nodes.
func (d *daemon) join(ctx context.Context, args cluster.JoinArgs) (cluster.Made, error) {
	made, err := d.joinCluster(ctx, args)
	if err == nil {
		made.Warnings = d.checkPaths(ctx)
	}
	return made, err
}

func (d *daemon) joinCluster(ctx context.Context, args cluster.JoinArgs) (cluster.Made, error) {
	d.change.Lock()
	defer d.change.Unlock()
	if err := d.mayBegin(); err != nil {
		return cluster.Made{}, err
	}
	if args.External != nil {
		c, err := d.newConfig(args.Self, args.DataDir, netip.Addr{})
		if err != nil {
			return cluster.Made{}, err
		}
		return d.enter(ctx, c, *args.External, false)
	}
	token, err := trust.ParseToken(args.Token)
	if err != nil {
		return cluster.Made{}, err
	}
	address, err := join.Address(args.Address)
	if err != nil {
		return cluster.Made{}, err
	}
	c, kind, err := d.admitted(ctx, args, address, token)
	if err != nil {
		return cluster.Made{}, errors.Join(err, d.state.forget(c))
	}
	return d.become(ctx, c, kind, func(ctx context.Context, n *node) error {
		_, err := n.meta(ctx)
		return err
	})
}

// admitted has the host admitted at a join door, and writes what it is given.
func (d *daemon) admitted(ctx context.Context, args cluster.JoinArgs, address string, token trust.Token) (config, trust.Kind, error) {
	var c config
	key, err := trust.NewKey()
	if err != nil {
		return c, "", err
	}
	w, ca, err := join.Join(ctx, address, token, time.Now, storeTime, func(local netip.Addr) (join.Request, error) {
		if c, err = d.newConfig(args.Self, args.DataDir, local); err != nil {
			return join.Request{}, err
		}
		n := node{daemon: d, config: c}
		request, err := trust.NewRequest(c.Node, key)
		return join.Request{Name: c.Node, Node: n.look(), Request: request}, err
	})
	if err != nil {
		return c, "", err
	}
	c.Cluster, c.Prefix, c.Endpoints, c.Door = w.Cluster, w.Prefix, w.Endpoints, address
	err = errors.Join(d.state.Write(fileCA, trust.EncodeCert(ca)), d.state.Write(fileCert, w.Cert), d.state.writeKey(fileKey, key))
	if len(w.CAKey) > 0 {
		err = errors.Join(err, d.state.Write(fileCAKey, w.CAKey))
	}
	return c, w.Kind, err
}

// enter makes the host a node of a cluster in a store that is not its own. The store
// decides who may write to it: there is no CA, and no token.
func (d *daemon) enter(ctx context.Context, c config, external cluster.External, first bool) (cluster.Made, error) {
	if external.Prefix == "" {
		external.Prefix = defaultPrefix
	}
	if !strings.HasPrefix(external.Prefix, "/") || !strings.HasSuffix(external.Prefix, "/") || len(external.Prefix) < 3 {
		return cluster.Made{}, fmt.Errorf("--etcd-prefix %q: must begin and end with a slash, as in %s", external.Prefix, defaultPrefix)
	}
	c.Prefix, c.Endpoints, c.External = external.Prefix, external.Endpoints, &external
	made, err := d.become(ctx, c, trust.Client, func(ctx context.Context, n *node) error {
		if _, err := n.store.Warning(ctx); err != nil {
			return err
		}
		if first {
			if err := n.makeMeta(ctx); err != nil {
				return err
			}
		}
		m, err := n.meta(ctx)
		switch {
		case errors.Is(err, overlay.ErrNotFound):
			return fmt.Errorf("there is no cluster below %s of that etcd: `dnet cluster init` with the same --etcd flags makes one", external.Prefix)
		case err != nil:
			return err
		case first && m.Cluster != c.Cluster:
			return fmt.Errorf("there is a cluster below %s of that etcd: `dnet cluster join` with the same --etcd flags, or another --etcd-prefix", external.Prefix)
		}
		if err := n.reconfigure(func(c *config) { c.Cluster = m.Cluster }); err != nil {
			return err
		}
		return n.enroll(ctx)
	})
	if errors.Is(err, etcd.ErrDenied) {
		err = fmt.Errorf("--etcd-prefix %q: %w", external.Prefix, err)
	}
	if err == nil {
		if n, here := d.here(); here == nil {
			made.Cluster = n.conf().Cluster
		}
	}
	return made, err
}
