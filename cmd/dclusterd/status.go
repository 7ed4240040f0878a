package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"dcni/pkg/cluster"
	"dcni/pkg/overlay"
	"dcni/pkg/overlay/etcd"
	"dcni/pkg/trust"
)

// askTime is how long members may take to say how they are.
const askTime = 2 * time.Second

// status tells how the host and its cluster are. It tells what it can where the store is
// away.
func (d *daemon) status(ctx context.Context, _ nothing) (cluster.StatusReply, error) {
	n, err := d.here()
	if err != nil {
		reply := cluster.StatusReply{Error: err.Error()}
		if c, read := d.state.read(); read == nil {
			reply.Node, reply.ID, reply.Cluster, reply.Address = c.Node, c.ID, c.Cluster, c.Address
		}
		return reply, nil
	}
	reply := n.local()
	reply.Warnings = append(reply.Warnings, n.ingress.warnings()...)
	members, err := n.askMembers(ctx)
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	slices.SortFunc(members, func(a, b etcd.Member) int { return strings.Compare(a.Name, b.Name) })
	for _, m := range members {
		reply.Members = append(reply.Members, storeMember(m))
	}
	if err == nil {
		err = n.count(ctx, &reply)
	}
	if err == nil && !reply.External {
		reply.Wanted, err = n.membersAsked(ctx)
	}
	if err == nil {
		reply.Snapshot, err = n.lastSnapshot(ctx)
	}
	if err != nil {
		reply.Error = err.Error()
	}
	if lost, failed := n.statusPaths(ctx); failed == nil {
		reply.Warnings = append(reply.Warnings, lost...)
	}
	if warning, err := n.store.Warning(ctx); err == nil && warning != "" {
		reply.Warnings = append(reply.Warnings, warning)
	}
	return reply, nil
}

// askMembers asks the store's members how they are. Where most are away, it returns the
// error, and besides what the others know. One that is stuck must not take the time of the
// rest.
func (n *node) askMembers(ctx context.Context) ([]etcd.Member, error) {
	asking, done := context.WithTimeout(ctx, askTime)
	members, err := n.store.Members(asking)
	done()
	if err != nil && n.conf().External == nil {
		asking, done = context.WithTimeout(ctx, askTime)
		defer done()
		members, _ = n.store.KnownMembers(asking) // why the store is away is known
	}
	return members, err
}

// storeMember tells of a member.
func storeMember(m etcd.Member) cluster.StoreMember {
	out := cluster.StoreMember{Name: m.Name, Leader: m.Leader, Learner: m.Learner, Version: m.Version, Bytes: m.Size, Error: m.Error}
	for _, url := range slices.Concat(m.Client, m.Peer) {
		out.URL = url
		break
	}
	return out
}

// local is what the node tells of itself.
func (n *node) local() cluster.StatusReply {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.config
	reply := cluster.StatusReply{
		Node: c.Node, ID: c.ID, Cluster: c.Cluster, Role: "client", Address: c.Address, MTU: n.mtu, External: c.External != nil,
		Queued: n.queued(),
	}
	if n.child != nil {
		reply.Role = "member"
		if pid, last := n.child.state(); pid == 0 && last != nil {
			reply.Warnings = append(reply.Warnings, fmt.Sprintf("the store's member on this host: %v", last))
		}
	}
	if i := n.identity.Load(); i != nil {
		reply.Cert = i.Cert.NotAfter
	}
	reply.Warnings = append(reply.Warnings, n.conflicts...)
	if reply.ComputeSums = n.wrongSums.Load(); reply.ComputeSums {
		reply.Warnings = append(reply.Warnings, sumsWarning)
	}
	if n.unplaced != nil {
		reply.Warnings = append(reply.Warnings, n.unplaced.Error())
	}
	return reply
}

// count counts nodes, networks and endpoints.
func (n *node) count(ctx context.Context, reply *cluster.StatusReply) error {
	for _, c := range []struct {
		prefix string
		count  *int
	}{
		{n.keys.Node(""), &reply.Nodes}, {n.keys.Alive(""), &reply.Alive}, {n.keys.Network(""), &reply.Networks}, {n.endpointsPrefix(), &reply.Endpoints},
	} {
		revision, err := n.store.List(ctx, c.prefix, func(e overlay.Entry) error {
			if n.keys.OfContainer(e.Key) {
				*c.count++
			}
			return nil
		})
		if err != nil {
			return err
		}
		reply.Revision = revision
	}
	return nil
}

// endpointsPrefix is what the keys of all networks' endpoints begin with.
func (n *node) endpointsPrefix() string { return n.keys.Prefix + "ep/" }

// nodes lists the nodes of the cluster. Unless it is to be quick, it asks them first what
// passes.
func (n *node) nodes(ctx context.Context, args cluster.NodesArgs) ([]cluster.NodeInfo, error) {
	if !args.Quick && n.probed(ctx) {
		n.paths.ask(ctx, all)
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	endpoints, members, own := map[string]int{}, map[string]bool{}, map[string]map[string][]netip.Addr{}
	alive, err := n.alive(ctx)
	if err != nil {
		return nil, err
	}
	_, err = n.store.List(ctx, n.endpointsPrefix(), func(e overlay.Entry) error {
		parts := strings.Split(strings.TrimPrefix(e.Key, n.endpointsPrefix()), "/")
		switch {
		case len(parts) != 3:
		case n.keys.OfNode(e.Key):
			addNodeAddresses(own, parts[0], parts[1], e.Value)
		case n.keys.OfContainer(e.Key):
			endpoints[parts[1]]++
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if n.conf().External == nil {
		list, err := n.store.MemberNames(ctx)
		if err != nil {
			return nil, err
		}
		for _, name := range list {
			members[name] = true
		}
	}
	deaths, err := n.cluster().Deaths(ctx)
	if err != nil {
		return nil, err
	}
	out := []cluster.NodeInfo{}
	_, err = n.store.List(ctx, n.keys.Node(""), func(e overlay.Entry) error {
		var node overlay.Node
		name, unread := strings.TrimPrefix(e.Key, n.keys.Node("")), ""
		if err := json.Unmarshal(e.Value, &node); err != nil {
			unread = fmt.Sprintf("node %q can't be read (%s): %v: `dnet cluster node rm %s` removes it", name, e.Key, err, name)
		}
		info := cluster.NodeInfo{
			Name: name, Unread: unread, ID: node.ID, Address: node.Address, MTU: node.MTU, Version: node.Version,
			Alive: alive[name], Member: members[name], Self: name == n.conf().Node, Endpoints: endpoints[name],
			Addresses: own[name],
		}
		if d := deaths[name]; !info.Alive && d.Until != 0 {
			info.KeptUntil = time.Unix(d.Until, 0)
		}
		info.VXLAN, info.ESP = n.paths.paths(name)
		out = append(out, info)
		return nil
	})
	return out, err
}

// addNodeAddresses adds the addresses of a node's own endpoint on a network.
func addNodeAddresses(own map[string]map[string][]netip.Addr, network, node string, value []byte) {
	var ep overlay.Endpoint
	if json.Unmarshal(value, &ep) != nil {
		return
	}
	if own[node] == nil {
		own[node] = map[string][]netip.Addr{}
	}
	own[node][network] = ep.Addresses
}

// removeNode removes a node that is gone, with all that it has.
func (n *node) removeNode(ctx context.Context, args cluster.NodeArgs) (nothing, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*storeTime)
	defer cancel()
	if args.Name == n.conf().Node {
		return nothing{}, fmt.Errorf("node %q is this host: `dnet cluster leave`", args.Name)
	}
	_, err := n.store.Get(ctx, n.keys.Node(args.Name))
	there := err == nil
	if there {
		err = n.cluster().RemoveNode(ctx, args.Name)
	}
	if err != nil && !errors.Is(err, overlay.ErrNotFound) {
		return nothing{}, err
	}
	dropped, err := n.dropMember(ctx, args.Name) // also where a removal before could not
	if err == nil && !there && !dropped {
		err = fmt.Errorf("no such node: %s", args.Name)
	}
	return nothing{}, err
}

// dropMember takes the member of a node out of the store, if it is not the only one. It
// reports whether there was one. The leader's node may be doing so as well, as there are
// fewer nodes now.
func (n *node) dropMember(ctx context.Context, name string) (bool, error) {
	if n.conf().External != nil {
		return false, nil
	}
	members, err := n.store.Members(ctx)
	if err != nil {
		return false, err
	}
	for _, m := range members {
		if m.Name == name && len(members) > 1 {
			err := n.store.Remove(ctx, m.ID)
			if errors.Is(err, overlay.ErrNotFound) {
				err = nil
			}
			return true, err
		}
	}
	return false, nil
}

// token makes a token, and writes its grant.
func (n *node) token(ctx context.Context, args cluster.TokenArgs) (cluster.TokenReply, error) {
	if n.conf().External != nil {
		return cluster.TokenReply{}, errors.New("the cluster is in an etcd that is not its own, which decides who may write to it: `dnet cluster join --etcd ...` needs no token")
	}
	const least, most = time.Minute, 365 * 24 * time.Hour
	if args.TTL < least || args.TTL > most {
		return cluster.TokenReply{}, fmt.Errorf("--ttl %s: must be %s to %s", args.TTL, least, most)
	}
	if args.Kind == trust.Member && n.authority() == nil {
		return cluster.TokenReply{}, fmt.Errorf("--member: a member is given the CA's key, which this host does not have: make the token where hosts join")
	}
	token, expires := trust.NewToken(n.current().CA), time.Now().Add(args.TTL)
	value, err := json.Marshal(token.Grant(args.Kind, expires))
	if err != nil {
		return cluster.TokenReply{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	_, _, err = n.store.Commit(ctx, overlay.Txn{Then: []overlay.Change{
		{Key: n.keys.Token(token.ID), Value: value, TTL: int(args.TTL/time.Second) + trust.GrantKept},
	}})
	return cluster.TokenReply{Token: token.String(), Expires: expires, Door: n.openDoor(ctx)}, err
}

// rotate has all nodes draw new keys for encrypted networks: they look for a change of the
// key, and not at its value.
func (n *node) rotate(ctx context.Context, _ nothing) (nothing, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	_, _, err := n.store.Commit(ctx, overlay.Txn{Then: []overlay.Change{
		{Key: n.keys.Rotate(), Value: []byte(time.Now().UTC().Format(time.RFC3339))},
	}})
	return nothing{}, err
}

// renewNow renews the node's certificate at once.
func (n *node) renewNow(ctx context.Context, _ nothing) (nothing, error) {
	if n.conf().External != nil {
		return nothing{}, errors.New("the cluster is in an etcd that is not its own: its certificates are not dcni's")
	}
	return nothing{}, n.renew(ctx)
}

// snapshot writes the store's data to a file.
func (n *node) snapshot(ctx context.Context, args cluster.FileArgs) (cluster.SnapshotReply, error) {
	size, err := n.state.WriteNew(args.Path, func(w io.Writer) error { return n.store.Snapshot(ctx, w) })
	return cluster.SnapshotReply{Bytes: size}, err
}
