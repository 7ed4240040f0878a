package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"dcni/pkg/cluster"
	"dcni/pkg/overlay"
	"dcni/pkg/overlay/etcd"
)

// The store's members are kept by the dclusterd whose member is the leader. What it wants
// of a node is in the store itself:
//
//	member/NODE    peer URLs of all members by name: the node runs a member
//	member/        is written when a member is removed
//	members        how many members an administrator wants
//
// A node begins its member when it finds its key, and gives it up once the store says that
// it has none of that name.

// Times between two looks at the members. Of a thousand nodes few have a member, and the
// others are to cost the store nothing: they look when a key of a member changes, some
// times, and else now and then.
const (
	memberPause = 2 * time.Second
	clientPause = 5 * time.Minute
	busyTime    = time.Minute // after a change
)

func (n *node) countKey() string { return n.keys.Prefix + "members" }

// watchMembers does the node's part for the store's members.
func (n *node) watchMembers(ctx context.Context) {
	if n.conf().External != nil {
		return
	}
	changed := make(chan struct{}, 1)
	changed <- struct{}{} // to begin with
	n.tasks.Go(func() { n.followMembers(ctx, changed) })
	since := map[string]time.Time{}
	busy := time.Now()
	for n.nextLook(ctx, changed, &busy) {
		if err := n.tendMembers(ctx, since); err != nil && !errors.Is(err, overlay.ErrUnavailable) && ctx.Err() == nil {
			n.log.Warn("the store's members are not as they should be", "error", err)
		}
	}
}

// followMembers tells of changes of the members' keys.
func (n *node) followMembers(ctx context.Context, changed chan<- struct{}) {
	tell := func(int64, []overlay.Event) error {
		select {
		case changed <- struct{}{}:
		default:
		}
		return nil
	}
	for ctx.Err() == nil {
		revision, err := n.store.List(ctx, n.keys.Member(""), func(overlay.Entry) error { return nil })
		if err == nil {
			_ = tell(0, nil) // what changed while this node did not watch
			err = n.store.Watch(ctx, n.keys.Member(""), revision, tell)
		}
		if ctx.Err() == nil {
			n.log.Debug("the members' keys are not watched", "error", err)
			sleep(ctx, retryPause)
		}
	}
}

// nextLook waits until it is time for the next look at the members, and reports false if
// the context ended. busy is until when changes are expected.
func (n *node) nextLook(ctx context.Context, changed <-chan struct{}, busy *time.Time) bool {
	pause := clientPause/2 + rand.N(clientPause)
	if n.member() != nil || time.Now().Before(*busy) {
		pause = memberPause
	}
	select {
	case <-ctx.Done():
		return false
	case <-changed:
		*busy = time.Now().Add(busyTime)
		return sleep(ctx, readyPause)
	case <-time.After(pause):
		return true
	}
}

// tendMembers looks once. since says from when on a member has been unwell, by ID.
func (n *node) tendMembers(ctx context.Context, since map[string]time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, 2*storeTime)
	defer cancel()
	members, err := n.store.Members(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(n.rememberEndpoints(ctx, members), n.ownMember(ctx, members)); err != nil {
		return err
	}
	name := n.conf().Node
	leads := slices.ContainsFunc(members, func(m etcd.Member) bool { return m.Leader && m.Name == name })
	n.leads.Store(leads)
	noteUnwell(since, members)
	if leads {
		err = n.lead(ctx, members, since)
	} else {
		clear(since)
	}
	return errors.Join(err, n.needAuthority(ctx))
}

// noteUnwell notes since when members have been unwell.
func noteUnwell(since map[string]time.Time, members []etcd.Member) {
	here := map[string]bool{}
	for _, m := range members {
		if m.Error == "" && !m.Learner {
			continue
		}
		here[m.ID] = true
		if since[m.ID].IsZero() {
			since[m.ID] = time.Now()
		}
	}
	for id := range since {
		if !here[id] {
			delete(since, id)
		}
	}
}

// rememberEndpoints has the members asked that there are, and writes down where they are
// for the next start.
func (n *node) rememberEndpoints(ctx context.Context, members []etcd.Member) error {
	var urls []string
	for _, m := range members {
		if !m.Learner && len(m.Client) > 0 {
			urls = append(urls, m.Client[0])
		}
	}
	slices.Sort(urls)
	if len(urls) == 0 || slices.Equal(urls, n.conf().Endpoints) {
		return nil
	}
	return errors.Join(n.store.Refresh(ctx), n.reconfigure(func(c *config) { c.Endpoints = urls }))
}

// ownMember begins the node's member, or gives it up.
func (n *node) ownMember(ctx context.Context, members []etcd.Member) error {
	c := n.conf()
	listed := slices.ContainsFunc(members, func(m etcd.Member) bool {
		return m.Name == c.Node || len(m.Peer) > 0 && m.Peer[0] == c.peerURL()
	})
	switch {
	case c.Member == nil && listed:
		return n.beginMember(ctx)
	case c.Member != nil && !listed:
		return n.endMembership(c)
	}
	return nil
}

// beginMember starts a member beside those that are there.
func (n *node) beginMember(ctx context.Context) error {
	e, err := n.store.Get(ctx, n.keys.Member(n.conf().Node))
	if errors.Is(err, overlay.ErrNotFound) {
		return nil // the leader is about to write it
	}
	if err != nil {
		return err
	}
	m := memberConfig{Dir: n.memberDir(n.conf().DataDir), Existing: true}
	if err := json.Unmarshal(e.Value, &m.Members); err != nil {
		return err
	}
	if err := errors.Join(n.state.RemoveDir(m.Dir), n.reconfigure(func(c *config) { c.Member = &m })); err != nil {
		return err
	}
	n.log.Info("this node has a member of the store")
	n.startMember()
	return nil
}

// endMembership gives up the member: others have the store.
func (n *node) endMembership(c config) error {
	n.mu.Lock()
	child := n.child
	n.child = nil
	n.mu.Unlock()
	if child != nil {
		child.end()
	}
	n.log.Info("this node has no member of the store any more")
	return errors.Join(n.reconfigure(func(c *config) { c.Member = nil }), n.state.RemoveDir(c.Member.Dir))
}

// lead takes the next step towards the members that there are to be.
func (n *node) lead(ctx context.Context, members []etcd.Member, since map[string]time.Time) error {
	v := memberView{members: members, leader: n.conf().Node, unwell: map[string]time.Duration{}}
	for id, t := range since {
		v.unwell[id] = time.Since(t)
	}
	nodes, err := n.cluster().Nodes(ctx)
	unread, is := errors.AsType[*overlay.UnreadableError](err)
	switch {
	case is: // such a node counts, but gets no member
		v.all = len(unread.Names)
	case err != nil:
		return err
	}
	v.all += len(nodes)
	_, err = n.store.List(ctx, n.keys.Alive(""), func(e overlay.Entry) error {
		name := strings.TrimPrefix(e.Key, n.keys.Alive(""))
		if _, known := nodes[name]; known {
			v.nodes = append(v.nodes, name)
		}
		return nil
	})
	if err == nil {
		v.asked, err = n.membersAsked(ctx)
	}
	if err != nil {
		return err
	}
	return n.step(ctx, v.next(), nodes)
}

// step carries out what is next.
func (n *node) step(ctx context.Context, s memberStep, nodes map[string]overlay.Node) error {
	switch {
	case s.promote != "":
		err := n.store.Promote(ctx, s.promote)
		if errors.Is(err, etcd.ErrNotReady) {
			return nil
		}
		return err
	case s.remove != "":
		n.log.Info("a member of the store is removed", "id", s.remove)
		return errors.Join(n.store.Remove(ctx, s.remove), n.noteRemoval(ctx))
	case s.add != "":
		// What an earlier membership left there would begin this one with the members of then.
		if err := n.change(ctx, overlay.Change{Key: n.keys.Member(s.add), Delete: true}); err != nil {
			return err
		}
		members, err := n.store.AddLearner(ctx, s.add, config{Address: nodes[s.add].Address}.peerURL())
		if err != nil {
			return err
		}
		value, err := json.Marshal(members)
		if err != nil {
			return err
		}
		n.log.Info("the store is to have another member", "node", s.add)
		return n.change(ctx, overlay.Change{Key: n.keys.Member(s.add), Value: value})
	}
	return nil
}

// noteRemoval has all nodes look at the members.
func (n *node) noteRemoval(ctx context.Context) error {
	return n.change(ctx, overlay.Change{Key: n.keys.Member(""), Value: []byte("removed")})
}

// change makes one change of the store.
func (n *node) change(ctx context.Context, c overlay.Change) error {
	_, _, err := n.store.Commit(ctx, overlay.Txn{Then: []overlay.Change{c}})
	return err
}

// membersAsked is how many members an administrator wants; 0: as the nodes want it.
func (n *node) membersAsked(ctx context.Context) (int, error) {
	e, err := n.store.Get(ctx, n.countKey())
	if errors.Is(err, overlay.ErrNotFound) {
		return 0, nil
	}
	var count int
	if err == nil {
		err = json.Unmarshal(e.Value, &count)
	}
	return count, err
}

// setMembers says how many members the store is to have.
func (n *node) setMembers(ctx context.Context, args cluster.MembersArgs) (nothing, error) {
	switch {
	case n.conf().External != nil:
		return nothing{}, errors.New("the cluster is in an etcd that is not its own: its members are not dcni's")
	case !slices.Contains([]int{0, 1, 3, 5}, args.Count):
		return nothing{}, fmt.Errorf("members %d: must be 1, 3 or 5, or auto: three from three nodes on", args.Count)
	}
	change := overlay.Change{Key: n.countKey(), Delete: args.Count == 0}
	if args.Count != 0 {
		value, err := json.Marshal(args.Count)
		if err != nil {
			return nothing{}, err
		}
		change.Value = value
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	return nothing{}, n.change(ctx, change)
}
