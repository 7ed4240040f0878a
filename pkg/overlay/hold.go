package overlay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"dcni/pkg/wire"
)

// A Conflict is an address that a node has in use and that is another's in the store.
type Conflict struct {
	Attachment wire.Attachment `json:"attachment"` // which has it in use
	Address    netip.Addr      `json:"address"`
	Owner      string          `json:"owner"` // in the store, for people: "c1/eth0 on node b"
}

func (c Conflict) String() string {
	if c.Attachment == nodeAttachment(c.Attachment.Network) {
		return fmt.Sprintf("network %s: this node's own address %s is claimed by %s", c.Attachment.Network, c.Address, c.Owner)
	}
	return fmt.Sprintf("%s: address %s is claimed by %s", c.Attachment, c.Address, c.Owner)
}

// txn is the transaction that makes an endpoint with its addresses its owner's, whose
// entries are as they were read, or were not there.
func (c Cluster) txn(n Existing, o Owner, ep Endpoint, before Entry, addrs []Entry) Txn {
	t := Txn{
		If:   []Condition{{Key: c.Keys.Network(n.Name), Created: n.Generation}, unchanged(before)},
		Then: []Change{put(before.Key, ep), {Key: c.Keys.Use(n.Name), Value: []byte(c.Node)}},
	}
	for _, e := range addrs {
		t.If = append(t.If, unchanged(e))
		t.Then = append(t.Then, Change{Key: e.Key, Value: []byte(o.String())})
	}
	return t
}

// hold claims the addresses that an endpoint of this node has in any case, where they are
// free or its own. It returns those that are another's; then nothing was claimed.
func (c Cluster) hold(ctx context.Context, n Existing, ep Endpoint, own Entry) (conflicts []Conflict, done bool, err error) {
	a := ep.attachment(n.Name)
	o := Owner{c.Node, AttachmentKey(a)}
	addrs := make([]Entry, len(ep.Addresses))
	for i, ip := range ep.Addresses {
		if addrs[i], err = c.get(ctx, c.Keys.Addr(n.Name, ip)); err != nil {
			return nil, false, err
		}
		if other := ParseOwner(addrs[i].Value); addrs[i].Modified != 0 && other != o {
			conflicts = append(conflicts, Conflict{a, ip, c.describe(ctx, n.Name, other)})
		}
	}
	if len(conflicts) > 0 {
		return conflicts, false, nil
	}
	done, _, err = c.Store.Commit(ctx, c.txn(n, o, ep, own, addrs))
	return nil, done, err
}

// RecoverNetwork makes a network as a node has it that runs it, in a store that has lost
// it. One that is there is left as it is; it is an error if it has another VNI or other
// subnets, or if another network has its. The network has a new generation.
func (c Cluster) RecoverNetwork(ctx context.Context, name string, n Network) (Existing, error) {
	_, created := c.CreateNetwork(ctx, Wanted{Name: name, Network: n, NoIPv4: true, runs: true})
	there, err := c.Network(ctx, name)
	if errors.Is(err, ErrNotFound) {
		return there, created
	}
	if err != nil {
		return there, err
	}
	same := there.VNI == n.VNI && there.Encrypted == n.Encrypted &&
		slices.EqualFunc(there.Subnets, n.Subnets, func(a, b Subnet) bool { return a.Prefix == b.Prefix && a.Gateway == b.Gateway })
	if !same {
		return there, wire.Errorf(wire.CodeConfig, "network %q: it is another one in the cluster, with VNI %d and subnets %s, and here VNI %d and subnets %s",
			name, there.VNI, prefixes(there.Subnets), n.VNI, prefixes(n.Subnets))
	}
	return there, nil
}

func prefixes(subnets []Subnet) []netip.Prefix {
	list := make([]netip.Prefix, len(subnets))
	for i, s := range subnets {
		list[i] = s.Prefix
	}
	return list
}

// Recover claims again what this node runs on a network: after the store was lost, and
// after the node was away so long that its addresses were given to others. Endpoints of
// which an address is another's by now are not published, and returned. What is claimed
// already stays.
func (c Cluster) Recover(ctx context.Context, network string, running []Endpoint) ([]Conflict, error) {
	n, err := c.Network(ctx, network)
	if err != nil {
		return nil, err
	}
	var all []Conflict
	for _, ep := range running {
		err := again(ep.attachment(network).String(), func() (bool, error) {
			conflicts, done, err := c.recover(ctx, n, ep)
			all = append(all, conflicts...)
			return done || len(conflicts) > 0, err
		})
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

func (c Cluster) recover(ctx context.Context, n Existing, ep Endpoint) (conflicts []Conflict, done bool, err error) {
	a := ep.attachment(n.Name)
	key := c.Keys.Endpoint(n.Name, c.Node, AttachmentKey(a))
	own, err := c.get(ctx, key)
	if err != nil {
		return nil, false, err
	}
	if own.Modified == 0 {
		ep.Since = c.now()
		return c.hold(ctx, n, ep, own)
	}
	was, unread := read[Endpoint](own)
	if unread == nil { // what is said of it as a task stays
		ep.Drained, ep.Healthy, ep.Since = was.Drained, was.Healthy, was.Since
	}
	switch {
	case string(own.Value) == string(put(key, ep).Value):
		return nil, true, nil
	case unread == nil && slices.Equal(was.Addresses, ep.Addresses):
		return c.hold(ctx, n, ep, own)
	}
	return nil, false, c.Release(ctx, a) // what it has no more must not stay its own
}
