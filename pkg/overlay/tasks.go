package overlay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"dcni/pkg/service"
)

// applyService takes a change of a service. One that can't be read stays as it was.
func (p *Picture) applyService(name string, e Event) error {
	if e.Deleted {
		delete(p.services, name)
		return nil
	}
	v, err := p.Keys.service(p.Network, e.Entry)
	if err != nil {
		return err
	}
	p.services[name] = v
	return nil
}

// Services returns what package service has to know of the network: its services, and the
// endpoints that are tasks of them. Those on other nodes are dead unless these are named, see
// [Living.Named]. Of the names of an endpoint it has those that are services'.
func (p *Picture) Services(named func(node string) bool) service.Picture {
	out := service.Picture{Node: p.Self, Drained: p.nodes[p.Self].Drained, Network: service.Network{Name: p.Network}}
	if len(p.services) == 0 {
		return out
	}
	for _, name := range slices.Sorted(maps.Keys(p.services)) {
		out.Services = append(out.Services, p.services[name].Service)
	}
	node, alive := "", false
	for e := range p.current() {
		if e.Node != node {
			node, alive = e.Node, e.Node == p.Self || named(e.Node)
		}
		if e.OfNode() {
			continue
		}
		if names, is := p.served(e); is {
			out.Endpoints = append(out.Endpoints, service.Endpoint{
				Owner: e.attachment(p.Network), Node: e.Node, Name: e.Name, Names: names, Addresses: e.Addresses,
				Starting: !e.Ready, Dead: !alive, Drained: e.Drained || p.nodes[e.Node].Drained, Healthy: e.Healthy, Since: e.Since,
			})
		}
	}
	return out
}

// served returns which of an endpoint's names are services', and whether it bears one at all.
func (p *Picture) served(e *Placed) (names []string, is bool) {
	of := func(name string) bool { _, found := p.services[strings.ToLower(name)]; return found }
	for _, name := range e.Names {
		if of(name) {
			names = append(names, name)
		}
	}
	return names, len(names) > 0 || of(e.Name)
}

// Serving returns the services of a network with their tasks on all nodes, as the store is now. Values that can't be read are passed over.
func (c Cluster) Serving(ctx context.Context, network string) (service.Picture, error) {
	p := Picture{Keys: c.Keys, Self: c.Node, Network: network}
	for _, prefix := range p.Prefixes() {
		entries, err := c.list(ctx, prefix)
		if err != nil {
			return service.Picture{}, err
		}
		if err := p.Reset(prefix, entries); err != nil && c.Warn != nil {
			c.Warn(err)
		}
	}
	entries, err := c.list(ctx, c.Keys.Alive(""))
	alive := Living{Keys: c.Keys}
	alive.Reset(entries, 0)
	named, _ := alive.Named(0)
	return p.Services(named), err
}

// ChangeTask changes what is said of an endpoint of any node as a task. Where change reports
// that it is so already, nothing is written. The error is [ErrNotFound] where there is no such
// endpoint.
func (c Cluster) ChangeTask(ctx context.Context, network string, o Owner, change func(*Endpoint) (changed bool)) error {
	return again(o.String(), func() (bool, error) {
		e, err := c.Store.Get(ctx, c.Keys.Endpoint(network, o.Node, o.Attachment))
		if err != nil {
			return false, err
		}
		ep, err := read[Endpoint](e)
		if err != nil || !change(&ep) {
			return err == nil, err
		}
		ep.Since = c.now()
		done, _, err := c.Store.Commit(ctx, Txn{If: []Condition{unchanged(e)}, Then: []Change{put(e.Key, ep)}})
		return done, err
	})
}

// DrainNode notes that no task of a node is to get more connections, also of those that come
// later, or that they are to get some again. The error is [ErrNotFound] where there is no such
// node.
func (c Cluster) DrainNode(ctx context.Context, node string, drained bool) error {
	return again("node "+node, func() (bool, error) {
		e, err := c.Store.Get(ctx, c.Keys.Node(node))
		if errors.Is(err, ErrNotFound) {
			return false, fmt.Errorf("%w: no node of the cluster is called %s", ErrNotFound, node)
		}
		if err != nil {
			return false, err
		}
		n, err := read[Node](e)
		if err != nil || n.Drained == drained {
			return err == nil, err
		}
		n.Drained = drained
		done, _, err := c.Store.Commit(ctx, Txn{If: []Condition{unchanged(e)}, Then: []Change{put(e.Key, n)}})
		return done, err
	})
}
