package cni

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"dcni/pkg/ipam"
	"dcni/pkg/network"
	"dcni/pkg/overlay"
	"dcni/pkg/overlay/remote"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// A ClusterNode is this host as a node of a cluster, with the cluster's store open.
type ClusterNode struct {
	overlay.Cluster
	overlay.Node              // as the cluster knows it
	Ports        remote.Ports // of its networks; zero: to be read
	Members      []string     // of the store, for errors
	ComputeSums  bool         // of its packets, see [remote.Self]
	Close        func()
}

// OpenCluster opens the cluster's store. The error is [overlay.ErrUnavailable] where the
// host is no node of a cluster, or dclusterd does not answer.
type OpenCluster func(ctx context.Context) (*ClusterNode, error)

// storeTimeout is how long a verb waits for the cluster's store, all in all.
const storeTimeout = 5 * time.Second

// clusterSource is the cluster as the source of an overlay network's addresses. Where its
// store is not available, ADD fails with code 11, and DEL succeeds: what it gives back
// waits on disk, for dclusterd to send it.
type clusterSource struct {
	open    OpenCluster
	store   records.Store
	queue   records.Cluster
	network network.Description
}

// do opens the store and calls f with the node. An error says that the store is not
// available, how long ADD waited for it, and which members were asked, with code 11.
func (c clusterSource) do(f func(ctx context.Context, n *ClusterNode) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	since := time.Now()
	n, err := c.open(ctx)
	var members []string
	if err == nil {
		defer n.Close()
		members = n.Members
		err = f(ctx, n)
	}
	if !errors.Is(err, overlay.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	waited := "network " + c.network.Name + ": waited " + time.Since(since).Round(time.Millisecond).String()
	if len(members) > 0 {
		waited += " for " + strings.Join(members, ", ")
	}
	return &wire.Error{Code: wire.CodeTryAgain, Msg: waited, Err: err}
}

// away reports whether the error is that the store is not available.
func away(err error) bool {
	return errors.Is(err, overlay.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
}

// Claim gets an address of each family. What an attachment of the same identity gave back
// while the store was away is no more to be given back: it is claimed again. The caller
// holds the attachment's lock, so dclusterd does not send it now.
func (c clusterSource) Claim(r *Request) (l *Lease, err error) {
	err = c.do(func(ctx context.Context, n *ClusterNode) (err error) {
		l, err = c.claim(ctx, n, r)
		return err
	})
	return l, err
}

func (c clusterSource) claim(ctx context.Context, n *ClusterNode, r *Request) (*Lease, error) {
	ranges, err := c.network.IPAM.Own.Ranges(r.Ranges)
	if err != nil {
		return nil, err
	}
	ready, err := c.ready(ctx, n, r)
	if err != nil {
		return nil, err
	}
	meta := n.readMeta(ctx)
	got, err := n.Claim(ctx, overlay.Claim{
		Attachment: r.Attachment, Generation: c.network.IPAM.Generation, Asked: r.Static, Ranges: ranges,
		MAC: r.MAC, Name: r.Name, Names: r.claimed, Ready: ready, Subnets: c.network.IPAM.Own.Subnets,
	})
	if away(err) { // it may have been done
		return nil, errors.Join(err, c.queue.QueueRelease(r.Attachment))
	}
	if err != nil {
		return nil, err
	}
	if err := c.queue.DropRelease(r.Attachment); err != nil {
		return nil, errors.Join(err, c.giveBack(ctx, n, r.Attachment))
	}
	l, err := c.lease(ctx, n, got, meta)
	if err == nil {
		err = c.fits(n, got.Existing, r.Conf)
	}
	if err != nil {
		return nil, errors.Join(err, c.giveBack(ctx, n, r.Attachment))
	}
	l.Reused = len(r.Static) > 0
	return l, nil
}

// lease returns what was claimed, with what the attachment's node must know of the
// network.
func (c clusterSource) lease(ctx context.Context, n *ClusterNode, got *overlay.Claimed, meta func() (overlay.Meta, error)) (*Lease, error) {
	o, err := n.settled(got.Existing, meta)
	if err == nil && got.NodeAddresses {
		o.NodeAddresses, err = n.ClaimNode(ctx, got.Existing)
	}
	if err != nil {
		return nil, err
	}
	return &Lease{
		Addresses: got.Addresses, Subnets: got.IPAM().Subnets, Routes: c.network.IPAM.Own.Routes, DNS: c.network.DNS,
		From: records.IPAM{Type: network.IPAMCluster}, Overlay: o,
	}, nil
}

// fits compares a network with the configuration, and with this node's underlay.
func (c clusterSource) fits(n *ClusterNode, e overlay.Existing, conf []byte) error {
	given, err := overlay.ParseGiven(conf)
	if err != nil {
		return err
	}
	given.MTU = c.network.MTU // it has a second name, Docker's
	given.Ungated = c.network.IPAM.Own.Ungated()
	return errors.Join(e.Check(given), e.CheckMTU(n.Node))
}

// readMeta returns what the whole cluster has, of which the ports are needed. Where
// dclusterd has not told them, it begins to read them, and they are waited for last: each
// question to the store takes a millisecond.
func (n *ClusterNode) readMeta(ctx context.Context) func() (overlay.Meta, error) {
	if n.Ports != (remote.Ports{}) {
		return func() (overlay.Meta, error) { return overlay.Meta{Port: n.Ports.VXLAN, PortESP: n.Ports.ESP}, nil }
	}
	var meta overlay.Meta
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		meta, err = n.Meta(ctx)
	}()
	return func() (overlay.Meta, error) {
		<-done
		return meta, err
	}
}

// settled returns what an attachment on this node must know of a network.
func (n *ClusterNode) settled(e overlay.Existing, read func() (overlay.Meta, error)) (*network.Overlay, error) {
	meta, err := read()
	if err != nil {
		return nil, err
	}
	o := &network.Overlay{
		Node: n.Cluster.Node, Local: n.Address, VNI: e.VNI, Port: cmp.Or(meta.Port, overlay.Port), MTU: e.MTU,
		RouterMAC: overlay.RouterMAC(n.Cluster.Node, e.Name), Generation: e.Generation,
		Internal: e.Internal, Encrypted: e.Encrypted, Flood: e.Flood, ComputeSums: n.ComputeSums,
	}
	if e.Encrypted {
		o.Port = cmp.Or(meta.PortESP, overlay.PortESP)
	}
	return o, nil
}

// Abandon gives back what Claim got.
func (c clusterSource) Abandon(r *Request, _ *Lease) error { return c.Release(r) }

// Release gives the addresses back, now or, where the store is away, once it is there
// again. The caller holds the attachment's lock.
func (c clusterSource) Release(r *Request) error {
	err := c.do(func(ctx context.Context, n *ClusterNode) error { return n.Release(ctx, r.Attachment) })
	return c.orLater(err, r.Attachment)
}

// giveBack is Release with the store open.
func (c clusterSource) giveBack(ctx context.Context, n *ClusterNode, a wire.Attachment) error {
	return c.orLater(n.Release(ctx, a), a)
}

// orLater notes what is to be given back, if it could not be.
func (c clusterSource) orLater(err error, a wire.Attachment) error {
	if away(err) {
		return c.queue.QueueRelease(a)
	}
	if err != nil {
		return err
	}
	return c.queue.DropRelease(a)
}

// Check tells whether the cluster knows that the attachment has its addresses. While the
// store is away it can't: what runs goes on.
func (c clusterSource) Check(r *Request, have []ipam.Assigned) error {
	err := c.do(func(ctx context.Context, n *ClusterNode) error {
		ep, err := n.EndpointOf(ctx, r.Attachment)
		if errors.Is(err, overlay.ErrNotFound) {
			return fmt.Errorf("the cluster does not know that the attachment has %s", have[0].Address.Addr())
		}
		for _, a := range have {
			if err == nil && !slices.Contains(ep.Addresses, a.Address.Addr()) {
				err = fmt.Errorf("the cluster does not know that the attachment has %s", a.Address.Addr())
			}
		}
		return errors.Join(err, n.checkNode(ctx, r.Network))
	})
	if away(err) {
		return nil
	}
	return err
}

// checkNode tells whether the node has addresses of its own where the network wants that.
func (n *ClusterNode) checkNode(ctx context.Context, network string) error {
	e, err := n.Network(ctx, network)
	if err != nil || !e.NodeAddresses {
		return err
	}
	return n.CheckNode(ctx, e)
}

// Collect gives back what this node's attachments have that are not valid.
func (c clusterSource) Collect(r *Request, valid func(wire.Attachment) bool) error {
	return c.do(func(ctx context.Context, n *ClusterNode) error { return n.ReleaseExcept(ctx, r.Network, valid) })
}

// Status tells whether the store answers, knows the network, and has an address left: if it
// has none, by an [ipam.ExhaustedError].
func (c clusterSource) Status(r *Request) error {
	err := c.do(func(ctx context.Context, n *ClusterNode) error {
		e, err := n.Network(ctx, r.Network)
		if err == nil {
			err = c.fits(n, e, r.Conf)
		}
		if err == nil {
			err = n.full(ctx, e)
		}
		return err
	})
	if err == nil || ipam.IsExhausted(err) {
		return err
	}
	return &wire.Error{Code: wire.CodeUnavailable, Msg: "network " + r.Network + " can't be served", Err: err}
}

// full tells of a family of which no address is left.
func (n *ClusterNode) full(ctx context.Context, e overlay.Existing) error {
	prefix := n.Keys.Addr(e.Name, netip.Addr{})
	used := map[netip.Addr]bool{}
	_, err := n.Store.List(ctx, prefix, func(entry overlay.Entry) error {
		a, err := netip.ParseAddr(strings.TrimPrefix(entry.Key, prefix))
		used[a] = true
		return err
	})
	if err != nil {
		return err
	}
	plan, err := e.IPAM().Plan(ipam.Request{Owner: wire.Attachment{Network: e.Name}})
	if err != nil {
		return err
	}
	for _, set := range plan.Sets {
		if !slices.ContainsFunc(set, func(s ipam.Span) bool { return hasRoom(s, used, plan.Reserved) }) {
			return ipam.Exhausted(set.Family(), e.Name)
		}
	}
	return nil
}

// hasRoom reports whether a span has an address that is neither used nor reserved.
func hasRoom(s ipam.Span, used map[netip.Addr]bool, reserved map[netip.Addr]string) bool {
	for a := s.From; a.IsValid() && s.Contains(a); a = a.Next() {
		if !used[a] && reserved[a] == "" {
			return true
		}
	}
	return false
}

// openCluster returns how the cluster's store is opened on the real machine: dclusterd has
// it, which start starts where it is not there.
func openCluster(store records.Store, start func() error) OpenCluster {
	home := store.Cluster()
	return func(ctx context.Context) (*ClusterNode, error) {
		client, err := remote.Dial(home.Socket(), storeTimeout)
		if errors.Is(err, overlay.ErrUnavailable) {
			if !home.Joined() {
				return nil, fmt.Errorf("%w: this host is no node of a cluster: dnet cluster init or join makes it one", err)
			}
			if failed := start(); failed != nil {
				return nil, errors.Join(err, failed)
			}
			client, err = remote.Dial(home.Socket(), storeTimeout)
		}
		if err != nil {
			return nil, err
		}
		self, err := client.Self(ctx)
		if err != nil {
			return nil, errors.Join(err, client.Close())
		}
		if self.Refused != "" {
			return nil, errors.Join(fmt.Errorf("%w: %s", overlay.ErrUnavailable, self.Refused), client.Close())
		}
		return &ClusterNode{
			Cluster: overlay.Cluster{Store: client, Keys: overlay.Keys{Prefix: self.Prefix}, Node: self.Node, Now: unixNow},
			Node:    overlay.Node{Address: self.Local, MTU: self.MTU},
			Ports:   self.Ports,
			Members: self.Members, ComputeSums: self.ComputeSums,
			Close: func() { _ = client.Close() }, // nothing is under way
		}, nil
	}
}

// unixNow is the time as a cluster's store has it: seconds since 1970.
func unixNow() int64 { return time.Now().Unix() }
