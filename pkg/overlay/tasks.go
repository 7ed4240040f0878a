package overlay

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"dcni/pkg/firewall"
	"dcni/pkg/service"
	"dcni/pkg/wire"
)

// applyService takes a change of a service. One that can't be read stays as it was.
func (p *Picture) applyService(name string, e Event) error {
	before := p.published()
	defer func() {
		if before == p.published() {
			return
		}
		for _, o := range p.order { // each is reached in another way now
			p.changed[o], p.changed[Owner{Node: o.Node}] = true, true
		}
	}()
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

// published reports whether a service of the network has ports of hosts. Then the host of a node that a
// connection comes to sends it to the host of the task's node: that one knows the way back.
func (p *Picture) published() bool {
	for _, v := range p.services {
		if len(v.Ports) > 0 && !p.Flood {
			return true
		}
	}
	return false
}

// wayPriority is the priority of rules of policy routing, before those of the host.
const wayPriority = 4789

// waysBack returns what leads answers of tasks here to another node, through which their clients came:
// the mark of what that node's host sends, and a route for each family, by an address on the bridge
// that stands for the node. The node's number is the last two bytes of its link-local address.
func (p *Picture) waysBack(router string, linkLocal netip.Addr) []wire.Object {
	four := linkLocal.As4()
	mark := markOf(linkLocal)
	six := netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 12: four[0], 13: four[1], 14: four[2], 15: four[3]})
	sum := sha256.Sum256([]byte(p.Bridge))
	table := 1<<30 | int(binary.BigEndian.Uint16(sum[:])>>2)<<16 | int(mark>>16)
	objects := []wire.Object{
		&wire.Neigh{Dev: p.Bridge, IP: six, MAC: router},
		p.sender(router, linkLocal),
	}
	for _, via := range []netip.Addr{linkLocal, six} {
		family, all := 4, netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if via.Is6() {
			family, all = 6, netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		objects = append(objects,
			&wire.Route{Dev: p.Bridge, Dst: all, Via: via, Table: table, OnLink: true},
			&wire.Rule{Family: family, Priority: wayPriority, IIF: p.Bridge, Mark: mark, Mask: firewall.MarkMask, Table: table},
		)
	}
	return objects
}

// sender is a MAC of another node, by which that sends to tasks here.
func (p *Picture) sender(mac string, linkLocal netip.Addr) *firewall.Sender {
	return &firewall.Sender{Network: p.Network, Bridge: p.Bridge, MAC: mac, Mark: markOf(linkLocal)}
}

// markOf returns the mark of connections that came through a node, by its link-local address.
func markOf(linkLocal netip.Addr) uint32 {
	a := linkLocal.As4()
	return uint32(a[2])<<24 | uint32(a[3])<<16
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
