package overlay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"dcni/pkg/wire"
)

// Release gives back what an attachment of this node has, and nothing of another's. It
// is no error if it has nothing.
func (c Cluster) Release(ctx context.Context, a wire.Attachment) error {
	return c.release(ctx, a.Network, Owner{c.Node, AttachmentKey(a)})
}

func (c Cluster) release(ctx context.Context, network string, o Owner) error {
	return again(o.String(), func() (bool, error) { return c.tryRelease(ctx, network, o) })
}

// tryRelease tries once, and only where further conditions hold.
func (c Cluster) tryRelease(ctx context.Context, network string, o Owner, also ...Condition) (done bool, err error) {
	e, err := c.get(ctx, c.Keys.Endpoint(network, o.Node, o.Attachment))
	if err != nil || e.Modified == 0 {
		return err == nil, err
	}
	ep, err := read[Endpoint](e)
	if err != nil { // its addresses have no endpoint then, and go with such
		done, _, err = c.Store.Commit(ctx, Txn{If: append([]Condition{unchanged(e)}, also...), Then: []Change{remove(e.Key)}})
		return done, err
	}
	// What was claimed together was made at one revision: an address is its own by that.
	t := Txn{If: append([]Condition{unchanged(e)}, also...), Then: []Change{remove(e.Key)}}
	for _, a := range ep.Addresses {
		key := c.Keys.Addr(network, a)
		t.If, t.Then = append(t.If, Condition{Key: key, Created: e.Created}), append(t.Then, remove(key))
	}
	if done, _, err = c.Store.Commit(ctx, t); done || err != nil {
		return done, err
	}
	// Some were not. Those that are its own all the same are.
	t = Txn{If: append([]Condition{unchanged(e)}, also...), Then: []Change{remove(e.Key)}}
	for _, a := range ep.Addresses {
		address, err := c.get(ctx, c.Keys.Addr(network, a))
		if err != nil {
			return false, err
		}
		t.If = append(t.If, unchanged(address))
		if address.Modified != 0 && ParseOwner(address.Value) == o {
			t.Then = append(t.Then, remove(address.Key))
		}
	}
	done, _, err = c.Store.Commit(ctx, t)
	return done, err
}

// ReleaseExcept gives back what this node's attachments to a network have, but for those
// that are valid. It goes on past errors.
func (c Cluster) ReleaseExcept(ctx context.Context, network string, valid func(wire.Attachment) bool) error {
	// Addresses before endpoints: of one that is claimed in between, the endpoint is seen.
	addrs, err := c.list(ctx, c.Keys.Addr(network, netip.Addr{}))
	if err != nil {
		return err
	}
	eps, err := c.endpoints(ctx, network, c.Keys.Endpoint(network, c.Node, ""))
	if err != nil {
		return err
	}
	var errs []error
	have := map[Owner]bool{}
	for _, e := range eps {
		have[e.Owner] = true
		if !e.OfNode() && !valid(e.attachment(network)) {
			errs = append(errs, c.release(ctx, network, e.Owner))
		}
	}
	addrs = slices.DeleteFunc(addrs, func(e Entry) bool {
		o := ParseOwner(e.Value)
		return o.Node != c.Node || have[o]
	})
	return errors.Join(append(errs, c.removeUnchanged(ctx, addrs))...)
}

// removeUnchanged removes entries that no endpoint has, each unless it was changed.
func (c Cluster) removeUnchanged(ctx context.Context, entries []Entry) error {
	var errs []error
	for _, e := range entries {
		_, _, err := c.Store.Commit(ctx, Txn{If: []Condition{unchanged(e)}, Then: []Change{remove(e.Key)}})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// RemoveNode removes a node that is gone, and gives back all that it had. Of a node that
// is alive it refuses to, unless it is this one, which leaves. It goes on past errors,
// and may be called again.
func (c Cluster) RemoveNode(ctx context.Context, node string) error {
	if node != c.Node {
		alive, err := c.get(ctx, c.Keys.Alive(node))
		if err != nil {
			return err
		}
		if alive.Modified != 0 {
			return wire.Invalid("node", node, "is alive: let it leave by `dnet cluster leave`, or stop it first")
		}
	}
	eps, err := c.list(ctx, c.Keys.Prefix+"ep/")
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range eps {
		network, owner, _ := strings.Cut(strings.TrimPrefix(e.Key, c.Keys.Prefix+"ep/"), "/")
		if o := ParseOwner([]byte(owner)); o.Node == node {
			errs = append(errs, c.release(ctx, network, o))
		}
	}
	addrs, err := c.list(ctx, c.Keys.Prefix+"addr/")
	errs = append(errs, err)
	addrs = slices.DeleteFunc(addrs, func(e Entry) bool { return ParseOwner(e.Value).Node != node })
	errs = append(errs, c.removeUnchanged(ctx, addrs))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("node %s: %w", node, err)
	}
	var t Txn
	for _, key := range append(c.Keys.KeyRecords(node), c.Keys.Node(node), c.Keys.Member(node), c.Keys.Dead(node)) {
		t.Then = append(t.Then, remove(key))
	}
	_, _, err = c.Store.Commit(ctx, t)
	return err
}
