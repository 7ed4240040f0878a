package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"dcni/pkg/mode"
	"dcni/pkg/network/catalog"
	"dcni/pkg/overlay"
	"dcni/pkg/records"
	"dcni/pkg/trust"
	"dcni/pkg/wire"
)

// A store that was lost, or that is an older one, is filled again by the nodes: what they
// run is the truth. The store that was made so has a key with an ID of its own:
//
//	recover    which recovery that was
//
// A node that finds another ID there than in its configuration puts its node's key, its
// files' networks and its containers' endpoints into the store, before it looks at
// anything else there: a store without networks would have it remove their files.

// recovered does the node's part of a recovery, unless it has been done.
func (n *node) recovered(ctx context.Context) error {
	e, err := n.store.Get(ctx, n.keys.Recovery())
	if errors.Is(err, overlay.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	n.recovering.Lock()
	defer n.recovering.Unlock()
	id := string(e.Value)
	if n.conf().Recovered == id {
		return nil
	}
	n.log.Info("the store was made anew: this node puts into it what it has")
	if _, err := n.store.Get(ctx, n.keys.Node(n.conf().Node)); errors.Is(err, overlay.ErrNotFound) {
		err = n.enroll(ctx)
		if err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	if err := n.recoverNetworks(ctx); err != nil {
		return err
	}
	return n.reconfigure(func(c *config) { c.Recovered = id })
}

// markRecovery has every node put into the store what it has.
func (n *node) markRecovery(ctx context.Context) error {
	_, _, err := n.store.Commit(ctx, overlay.Txn{Then: []overlay.Change{n.recovery()}})
	return err
}

// recovery is the change that begins one.
func (n *node) recovery() overlay.Change {
	return overlay.Change{Key: n.keys.Recovery(), Value: []byte(trust.NewID())}
}

// recoverNetworks makes the networks of this node's files, where the store has them not.
func (n *node) recoverNetworks(ctx context.Context) error {
	files, err := n.daemon.conf.List()
	if err != nil {
		return err
	}
	for _, f := range files {
		name := n.files.ours(f)
		if name == "" {
			continue
		}
		want, err := networkOf(f.Data)
		if err == nil {
			_, err = n.cluster().RecoverNetwork(ctx, name, want)
		}
		if err == nil {
			err = n.recoverServices(ctx, name)
		}
		if errors.Is(err, overlay.ErrUnavailable) {
			return err
		}
		if err != nil { // the others are to be there all the same
			n.log.Error("a network of this node is not as in the store", "network", name, "error", err)
		}
	}
	return nil
}

// recoverServices makes the services of a network again that this node knows of: it has
// containers on the network.
func (n *node) recoverServices(ctx context.Context, network string) error {
	p, err := n.locks().Served(network)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, v := range p.Services {
		errs = append(errs, n.cluster().RecoverService(ctx, v))
	}
	return errors.Join(errs...)
}

// networkOf returns the network that a file describes.
func networkOf(data []byte) (overlay.Network, error) {
	var n overlay.Network
	c, err := catalog.ParseConflist(data, mode.All)
	if err != nil {
		return n, err
	}
	g, err := overlay.ParseGiven(c.Plugins[0])
	if err != nil {
		return n, err
	}
	var options struct {
		Options map[string]string `json:"options"`
	}
	if err := json.Unmarshal(c.Plugins[0], &options); err != nil {
		return n, err
	}
	is := func(b *bool) bool { return b != nil && *b }
	n = overlay.Network{
		VNI: g.VNI, MTU: g.MTU, Internal: is(g.Internal), Encrypted: is(g.Encrypted), Flood: is(g.Flood), NodeAddresses: is(g.NodeAddresses),
		Attachable: c.Attachable, Options: options.Options,
	}
	if len(c.Labels) > 0 {
		n.Labels = c.Labels
	}
	for _, s := range g.Subnets {
		own := overlay.Subnet{Prefix: s.Prefix, Gateway: s.Gateway, Aux: s.Aux}
		if s.Range != s.Prefix {
			own.Range = s.Range
		}
		n.Subnets = append(n.Subnets, own)
	}
	return n, nil
}

// claimAgain claims what this node's containers have, where the store has it not: after a
// recovery, and after the node was away so long that its addresses were given to others.
// It notes which are another's.
func (n *node) claimAgain(ctx context.Context) error {
	list, err := n.locks().List("")
	if err != nil {
		n.log.Warn("not all records can be read", "error", err)
	}
	var conflicts []string
	for _, r := range list {
		if r.Plugin != overlay.PluginType || r.State != records.Up {
			continue
		}
		found, err := n.claimOne(ctx, r.Attachment)
		if errors.Is(err, overlay.ErrUnavailable) || ctx.Err() != nil {
			return err
		}
		if err != nil {
			found = append(found, fmt.Sprintf("%s: %v", r.Attachment, err))
		}
		conflicts = append(conflicts, found...)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Equal(n.conflicts, conflicts) && len(conflicts) > 0 {
		n.log.Error("containers of this node have what the store says is others'", "conflicts", strings.Join(conflicts, "; "))
	}
	n.conflicts = conflicts
	return nil
}

// claimOne claims what one attachment has, unless a plugin is at it.
func (n *node) claimOne(ctx context.Context, a wire.Attachment) ([]string, error) {
	lock, free, err := n.locks().TryLockAttachment(a)
	if err != nil || !free {
		return nil, err
	}
	defer lock.Unlock()
	r, err := n.locks().Get(a, overlay.PluginType)
	if err != nil || r.State != records.Up {
		return nil, nil // it has gone since
	}
	ep := overlay.Endpoint{MAC: r.MAC, Container: a.Container, IfName: a.IfName, Name: r.Name, Names: r.Names, Ready: true}
	for _, assigned := range r.Addresses {
		ep.Addresses = append(ep.Addresses, assigned.Address.Addr())
	}
	if p, err := n.locks().Served(a.Network); err == nil { // where it is claimed already, the store knows better
		ep.Drained = p.DrainedAlone(a)
	}
	conflicts, err := n.cluster().Recover(ctx, a.Network, []overlay.Endpoint{ep})
	if err == nil && r.Overlay != nil && len(r.Overlay.NodeAddresses) > 0 {
		var own []overlay.Conflict
		own, err = n.cluster().RecoverNode(ctx, a.Network, r.Overlay.NodeAddresses)
		conflicts = append(conflicts, own...)
	}
	var out []string
	for _, c := range conflicts {
		out = append(out, c.String())
	}
	return out, err
}
