package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"dcni/pkg/cluster"
	"dcni/pkg/overlay"
	"dcni/pkg/overlay/etcd"
	"dcni/pkg/trust"
	"dcni/pkg/trust/join"
)

// TestExpired names the file and the day of a certificate that has expired, and lets the
// host leave.
func TestExpired(t *testing.T) {
	t.Parallel()
	a := newHost(t)
	a.initCluster("a")
	ca, err := a.state.ca()
	a.must(err)
	key, err := a.state.key(fileKey)
	a.must(err)
	old, err := join.Certify(ca, &key.PublicKey, "a", a.statusNow().Address, time.Date(2001, 2, 3, 0, 0, 0, 0, time.UTC))
	a.must(err)
	a.stop()
	a.must(a.state.Write(fileCert, old))
	a.restart()
	want := "certificate " + a.state.Path(fileCert) + ": has expired on 2002-02-03"
	if s := a.statusNow(); !strings.HasPrefix(s.Error, want) || s.Node != "a" {
		t.Errorf("%+v, want %s", s, want)
	}
	_, err = a.Get(t.Context(), "x")
	if a.refuses(err, want); !errors.Is(err, overlay.ErrUnavailable) {
		t.Errorf("%v is no outage to plugins", err)
	}
	a.refuses(a.ask(cluster.Leave, cluster.LeaveArgs{}, nil), want)
	a.must(a.ask(cluster.Leave, cluster.LeaveArgs{Force: true}, nil))
	a.initCluster("a")
}

// TestClockFarOff starts a node before its clock is set: it is one as soon as that is right.
// Here the certificate is of a later day, until it is not.
func TestClockFarOff(t *testing.T) {
	t.Parallel()
	a := newHost(t)
	a.initCluster("a")
	ca, err := a.state.ca()
	a.must(err)
	key, err := a.state.key(fileKey)
	a.must(err)
	good, err := a.state.Read(fileCert)
	a.must(err)
	later, err := join.Certify(ca, &key.PublicKey, "a", a.statusNow().Address, time.Now().AddDate(1, 0, 0))
	a.must(err)
	a.stop()
	a.must(a.state.Write(fileCert, later))
	a.restart()
	if s := a.statusNow(); !strings.Contains(s.Error, "holds from ") || !strings.Contains(s.Error, "this host's clock says") || strings.Contains(s.Error, "leave") {
		t.Errorf("%+v", s)
	}
	a.must(a.state.Write(fileCert, good))
	a.await("the node", func() bool { return a.statusNow().Error == "" })
}

// TestClone has a host with all the files of another: it does not take that one's place.
func TestClone(t *testing.T) {
	t.Parallel()
	a, b, c := newHost(t), newHost(t), newHost(t)
	a.initCluster("a")
	b.must(b.joinAs("b", a, a.token(trust.Client)))
	c.stop()
	c.must(os.CopyFS(c.daemon.store.Lib+"/cluster", os.DirFS(b.daemon.store.Lib+"/cluster")))
	c.restart()
	c.await("the clone's warning", func() bool {
		return strings.Contains(strings.Join(c.statusNow().Warnings, "\n"), `another host is alive as node "b" with the same ID: one is a clone of the other`)
	})
	if s := b.statusNow(); len(s.Warnings) != 0 || s.Alive != 2 {
		t.Errorf("the other one's status is %+v", s)
	}
}

// TestRemoved has a node removed while it is away: it says so, and makes no node again.
func TestRemoved(t *testing.T) {
	t.Parallel()
	a, b := newHost(t), newHost(t)
	a.initCluster("a")
	b.must(b.joinAs("b", a, a.token(trust.Client)))
	b.stop()
	n, err := a.here()
	a.must(err)
	_, _, err = n.store.Commit(t.Context(), overlay.Txn{Then: []overlay.Change{{Key: n.keys.Alive("b"), Delete: true}}}) // as after 15 seconds
	a.must(err)
	a.must(a.ask(cluster.RemoveNode, cluster.NodeArgs{Name: "b"}, nil))
	b.restart()
	b.await("a word of it", func() bool { return strings.Contains(strings.Join(b.statusNow().Warnings, "\n"), errRemoved.Error()) })
	if refused := b.self().Refused; refused != errRemoved.Error() {
		t.Errorf("plugins are told %q", refused)
	}
	if refused := a.self().Refused; refused != "" {
		t.Errorf("plugins of a node that is well are told %q", refused)
	}
	if s := a.statusNow(); s.Nodes != 1 || s.Alive != 1 {
		t.Errorf("%+v", s)
	}
	b.must(b.ask(cluster.Leave, cluster.LeaveArgs{Force: true}, nil))
	b.must(b.joinAs("b", a, a.token(trust.Client)))
}

// TestPortTaken has another program at a port of the store: init says so, and leaves
// nothing behind.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	a, b := newHost(t), newHost(t)
	a.initCluster("a")
	b.address = a.address
	err := b.ask(cluster.Init, cluster.InitArgs{Self: cluster.Self{Name: "b", Advertise: b.address}}, nil)
	if err == nil || !strings.Contains(err.Error(), "address already in use") || b.state.Joined() {
		t.Errorf("%v, joined %v", err, b.state.Joined())
	}
}

// TestUnread has values in the store that can't be read: they are named and passed over, a
// node writes its own again, and one that is no node any more can be removed.
func TestUnread(t *testing.T) {
	t.Parallel()
	a, b := newHost(t), newHost(t)
	a.initCluster("a")
	b.must(b.joinAs("b", a, a.token(trust.Client)))
	n, err := a.here()
	a.must(err)
	put := func(key string) {
		t.Helper()
		a.must(n.change(t.Context(), overlay.Change{Key: key, Value: []byte("{")}))
	}
	put(n.keys.Node("ghost"))
	put(n.keys.Network("odd"))
	put(n.keys.Node("b"))
	bn, err := b.here()
	b.must(err)
	b.must(bn.place(t.Context()))
	_, err = n.cluster().CreateNetwork(t.Context(), overlay.Wanted{Name: "web"})
	a.must(err)
	b.await("the file of a network that can be read", func() bool { _, err := os.Stat(b.conf.Path("web")); return err == nil })
	var list []cluster.NodeInfo
	a.must(a.ask(cluster.Nodes, cluster.NodesArgs{Quick: true}, &list))
	unread := map[string]string{}
	for _, node := range list {
		unread[node.Name] = node.Unread
	}
	if !strings.Contains(unread["ghost"], `node "ghost" can't be read (`+n.keys.Node("ghost")+")") || len(list) != 3 || unread["a"]+unread["b"] != "" {
		t.Errorf("nodes are %+v", list)
	}
	b.must(b.ask(cluster.RemoveNode, cluster.NodeArgs{Name: "ghost"}, nil))
	if s := a.statusNow(); s.Nodes != 2 {
		t.Errorf("%+v", s)
	}
}

// An oldEtcd is one of a version that can't be the store.
type oldEtcd struct{ backend }

func (oldEtcd) Warning(context.Context) (string, error) { return etcd.CheckVersion("3.3.27", true) }

// TestOldEtcd refuses an etcd that is too old, and leaves nothing behind.
func TestOldEtcd(t *testing.T) {
	t.Parallel()
	a := newHost(t)
	a.open = func(c config, s state) (backend, error) {
		b, err := openEtcd(c, s)
		return oldEtcd{b}, err
	}
	external := &cluster.External{Endpoints: []string{externalEtcd(t)}}
	a.refuses(a.ask(cluster.Init, cluster.InitArgs{Self: cluster.Self{Name: "a", Advertise: a.address}, External: external}, nil),
		"etcd's version 3.3.27: must be 3.4 or later, by which a client can ask whether a watch is alive")
	if a.state.Joined() {
		t.Error("the host is a node of it")
	}
}

// goneMembers are two members of the store, of which another node has just removed one.
type goneMembers struct{ backend }

func (goneMembers) Members(context.Context) ([]etcd.Member, error) {
	return []etcd.Member{{ID: "1", Name: "a"}, {ID: "2", Name: "b"}}, nil
}

func (goneMembers) Remove(_ context.Context, id string) error {
	return fmt.Errorf("etcd member %s: %w", id, overlay.ErrNotFound)
}

// TestMemberGone: a member that the leader's node has removed first is removed.
func TestMemberGone(t *testing.T) {
	n := &node{store: goneMembers{}}
	if dropped, err := n.dropMember(t.Context(), "b"); !dropped || err != nil {
		t.Errorf("%v, %v", dropped, err)
	}
}
