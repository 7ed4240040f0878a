package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"dcni/pkg/cluster"
	"dcni/pkg/cni"
	"dcni/pkg/overlay"
	"dcni/pkg/overlay/remote"
	"dcni/pkg/trust"
	"dcni/pkg/trust/join"
)

// Defaults of a cluster.
const (
	schema        = 1
	defaultPrefix = "/dcni/1/default/"
	poolMask      = 24
	portVXLAN     = 4789
	portESP       = 4787
)

// beginTime is how long the store may take until it answers for the first time.
const beginTime = 30 * time.Second

// readyPause is the time between two questions whether the store answers.
const readyPause = 50 * time.Millisecond

// mayBegin returns why the host can't become a node: it is one.
func (d *daemon) mayBegin() error {
	if !d.state.Joined() {
		return nil
	}
	c, err := d.state.read()
	if err != nil {
		return fmt.Errorf("this host is a node of a cluster, which it can't tell more of: `dnet cluster leave --force` first: %w", err)
	}
	return fmt.Errorf("this host is node %q of cluster %s: `dnet cluster leave` first", c.Node, c.Cluster)
}

// newConfig returns what is the same for all ways to become a node.
func (d *daemon) newConfig(self cluster.Self, dataDir string, fallback netip.Addr) (config, error) {
	name, err := nodeName(self.Name)
	if err != nil {
		return config{}, err
	}
	id, err := d.state.ID(trust.NewID)
	if err != nil {
		return config{}, err
	}
	if self.Advertise == "" && fallback.IsValid() {
		self.Advertise = fallback.String()
	}
	u, err := findUnderlay(self.Advertise)
	if err != nil {
		return config{}, err
	}
	return config{Node: name, ID: id, Address: u.address, DataDir: dataDir}, nil
}

// init makes a cluster whose first node is this host.
func (d *daemon) init(ctx context.Context, args cluster.InitArgs) (cluster.Made, error) {
	d.change.Lock()
	defer d.change.Unlock()
	if args.Recover {
		return d.recover(ctx, args)
	}
	if err := d.mayBegin(); err != nil {
		return cluster.Made{}, err
	}
	c, err := d.newConfig(args.Self, args.DataDir, netip.Addr{})
	if err != nil {
		return cluster.Made{}, err
	}
	if c.Cluster = trust.NewID(); args.External != nil {
		return d.enter(ctx, c, *args.External, true)
	}
	c.Prefix, c.Endpoints = defaultPrefix, []string{c.clientURL()}
	c.Member = &memberConfig{Dir: d.memberDir(args.DataDir), Members: map[string]string{c.Node: c.peerURL()}}
	if err := d.makeCA(c); err != nil {
		return cluster.Made{}, err
	}
	return d.become(ctx, c, trust.Member, func(ctx context.Context, n *node) error {
		if err := n.makeMeta(ctx); err != nil {
			return err
		}
		return n.enroll(ctx)
	})
}

// memberDir is where the member has its data: a folder of its own, which goes with it.
func (d *daemon) memberDir(told string) string {
	if told == "" {
		return d.state.Path(dirMember)
	}
	return filepath.Join(told, "dcni-member")
}

// makeCA makes the CA, and this node's certificate.
func (d *daemon) makeCA(c config) error {
	ca, err := trust.NewCA(c.Cluster, time.Now())
	if err != nil {
		return err
	}
	key, err := trust.NewKey()
	if err != nil {
		return err
	}
	cert, err := join.Certify(ca, &key.PublicKey, c.Node, c.Address, time.Now())
	if err != nil {
		return err
	}
	return errors.Join(
		d.state.Write(fileCA, trust.EncodeCert(ca.Cert)), d.state.writeKey(fileCAKey, ca.Key),
		d.state.Write(fileCert, cert), d.state.writeKey(fileKey, key))
}

// become writes the node's configuration, starts its tasks, and has the first thing done
// with its store. If that fails, the host is as it was before.
func (d *daemon) become(ctx context.Context, c config, kind trust.Kind, first func(context.Context, *node) error) (cluster.Made, error) {
	made := cluster.Made{Node: c.Node, Cluster: c.Cluster, Address: c.Address, Kind: kind}
	err := d.state.write(c)
	if err == nil {
		err = d.begun(ctx, c, first)
	}
	if err != nil {
		d.stop()
		return made, errors.Join(err, d.state.forget(c))
	}
	return made, nil
}

// begun starts the node, and waits until the store has its keys.
func (d *daemon) begun(ctx context.Context, c config, first func(context.Context, *node) error) error {
	n, err := d.start(c)
	if err != nil {
		return err
	}
	if err := n.whenReady(ctx, first); err != nil {
		return err
	}
	if c.Member != nil {
		if err := n.reconfigure(func(c *config) { m := *c.Member; m.Began = true; c.Member = &m }); err != nil {
			return err
		}
	}
	close(n.enrolled)
	return n.whenReady(ctx, func(ctx context.Context, n *node) error {
		_, err := n.store.Get(ctx, n.keys.Alive(c.Node))
		if errors.Is(err, overlay.ErrNotFound) {
			return fmt.Errorf("%w: it has not taken the node's keys yet", overlay.ErrUnavailable)
		}
		return err
	})
}

// whenReady calls first until the store answers.
func (n *node) whenReady(ctx context.Context, first func(context.Context, *node) error) error {
	ctx, cancel := context.WithTimeout(ctx, beginTime)
	defer cancel()
	for {
		once, done := context.WithTimeout(ctx, storeTime)
		err := first(once, n)
		done()
		if err == nil || !errors.Is(err, overlay.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		if pid, last := n.memberState(); last != nil && pid == 0 {
			return fmt.Errorf("the store's member on this host: %w", last)
		}
		if !sleep(ctx, readyPause) {
			return err
		}
	}
}

// memberState tells of the member's process; 0 and nil where the node has none.
func (n *node) memberState() (int, error) {
	child := n.member()
	if child == nil {
		return 0, nil
	}
	return child.state()
}

// makeMeta writes what the whole cluster has, unless it is there, and more with it.
func (n *node) makeMeta(ctx context.Context, more ...overlay.Change) error {
	c := n.conf()
	meta := overlay.Meta{
		Schema: schema, Cluster: c.Cluster, Pools: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Mask: poolMask,
		Port: portVXLAN, PortESP: portESP,
	}
	if c.External == nil {
		meta.CA = trust.Fingerprint(n.current().CA)
	}
	value, err := json.Marshal(meta)
	if err != nil {
		return err
	}
	_, _, err = n.store.Commit(ctx, overlay.Txn{
		If:   []overlay.Condition{{Key: n.keys.Meta()}},
		Then: append([]overlay.Change{{Key: n.keys.Meta(), Value: value}}, more...),
	})
	return err
}

// meta reads what the whole cluster has.
func (n *node) meta(ctx context.Context) (overlay.Meta, error) {
	var m overlay.Meta
	e, err := n.store.Get(ctx, n.keys.Meta())
	if err == nil {
		err = json.Unmarshal(e.Value, &m)
	}
	if err == nil && m.Schema != schema {
		err = fmt.Errorf("the cluster's keys are of schema %d, and this dclusterd (%s) knows %d: install the version that the other nodes have", m.Schema, cni.Version, schema)
	}
	return m, err
}

// learnPorts reads the ports of the cluster's networks, once: plugins need them for each
// ADD.
func (n *node) learnPorts(ctx context.Context) error {
	n.mu.Lock()
	known := n.ports != (remote.Ports{})
	n.mu.Unlock()
	if known {
		return nil
	}
	m, err := n.meta(ctx)
	if err == nil {
		n.mu.Lock()
		n.ports = remote.Ports{VXLAN: m.Port, ESP: m.PortESP}
		n.mu.Unlock()
	}
	return err
}

// enroll makes node/NAME.
func (n *node) enroll(ctx context.Context) error {
	c := n.conf()
	done, err := join.Place(ctx, n.store, n.keys, c.Node, n.look(), overlay.Txn{})
	if err == nil && !done {
		err = join.Conflict(fmt.Sprintf("node %q has changed: try again", c.Node))
	}
	return err
}
