package main

import (
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"dcni/pkg/cluster"
	"dcni/pkg/overlay"
	"dcni/pkg/overlay/remote"
	"dcni/pkg/records"
	"dcni/pkg/trust"
	"dcni/pkg/trust/join"
	"dcni/pkg/wire"
)

// TestTwoNodes makes a cluster of two nodes, and takes it apart.
func TestTwoNodes(t *testing.T) {
	t.Parallel()
	a, b := newHost(t), newHost(t)
	a.refuses(a.ask(cluster.Token, cluster.TokenArgs{Kind: trust.Client, TTL: time.Hour}, nil), "this host is in no cluster")
	a.initCluster("a")
	a.refuses(a.ask(cluster.Init, cluster.InitArgs{}, nil), `this host is node "a" of cluster `)
	token := a.token(trust.Client)
	b.refuses(b.joinAs("a", a, token), `node "a" is alive, and another host`)
	b.must(b.joinAs("b", a, token))
	b.await("two nodes that are alive", func() bool { s := b.statusNow(); return s.Nodes == 2 && s.Alive == 2 && s.Error == "" })
	s := b.statusNow()
	if s.Node != "b" || s.Role != "client" || len(s.Members) != 1 || s.Members[0].Name != "a" || !s.Members[0].Leader || s.Members[0].Error != "" || s.Revision == 0 || s.Address.String() != b.address {
		t.Errorf("%+v", s)
	}
	if role := a.statusNow().Role; role != "member" {
		t.Error(role)
	}
	c := newHost(t)
	c.refuses(c.joinAs("c", a, token), trust.ErrTokenUnknown.Error())
	wrong, _ := trust.ParseToken(a.token(trust.Client))
	wrong.CA = strings.Repeat("0", 64)
	c.refuses(c.joinAs("c", a, wrong.String()), trust.ErrOtherCA.Error())
	if c.state.Joined() {
		t.Error("a host that was refused has files")
	}
	a.files(b)
	a.sees(b)
	a.nodes(b)
}

// sees has packets pass between two nodes, which root alone can tell.
func (h *host) sees(other *host) {
	want := cluster.Passes
	if os.Geteuid() != 0 { // raw sockets are root's
		want = ""
	}
	for _, at := range []*host{h, other} {
		var list []cluster.NodeInfo
		at.must(at.ask(cluster.Nodes, cluster.NodesArgs{}, &list))
		for _, n := range list {
			if want := map[bool]string{false: want}[n.Self]; n.VXLAN.State != want || n.ESP.State != want || n.VXLAN.Bytes != 0 {
				h.t.Errorf("the paths to %s are %+v and %+v, want %q", n.Name, n.VXLAN, n.ESP, want)
			}
		}
	}
}

// files has networks on both nodes.
func (h *host) files(other *host) {
	n, err := h.here()
	h.must(err)
	made, err := n.cluster().CreateNetwork(h.t.Context(), overlay.Wanted{Name: "web"})
	h.must(err)
	want, err := made.Conflist()
	h.must(err)
	start := time.Now()
	for _, at := range []*host{h, other} {
		path := at.conf.Path("web")
		at.await("the network's file", func() bool { data, _ := os.ReadFile(path); return string(data) == string(want) })
	}
	if took := time.Since(start); took > time.Second {
		h.t.Errorf("the network's file is there after %v", took)
	}
	h.must(n.cluster().RemoveNetwork(h.t.Context(), "web"))
	h.must(other.ask(cluster.Sync, nothing{}, nil))
	if _, err := os.Stat(other.conf.Path("web")); !os.IsNotExist(err) {
		h.t.Errorf("the file of a network that is gone: %v", err)
	}
	h.await("no file", func() bool { _, err := os.Stat(h.conf.Path("web")); return os.IsNotExist(err) })
}

// nodes has the other node leave, and the first one last.
func (h *host) nodes(other *host) {
	h.refuses(h.ask(cluster.Leave, cluster.LeaveArgs{}, nil), "this host has the only member of the store, and other nodes need it (1)")
	h.refuses(h.ask(cluster.RemoveNode, cluster.NodeArgs{Name: "b"}, nil), "is alive")
	h.refuses(h.ask(cluster.RemoveNode, cluster.NodeArgs{Name: "x"}, nil), "no such node: x")
	h.must(other.ask(cluster.Leave, cluster.LeaveArgs{}, nil))
	var list []cluster.NodeInfo
	h.must(h.ask(cluster.Nodes, nothing{}, &list))
	if len(list) != 1 || list[0].Name != "a" || !list[0].Alive || !list[0].Member || !list[0].Self {
		h.t.Errorf("nodes are %+v", list)
	}
	if other.state.Joined() || other.statusNow().Node != "" {
		h.t.Error("a node that left has its files")
	}
	h.must(h.ask(cluster.Leave, cluster.LeaveArgs{}, nil))
	if h.state.Joined() {
		h.t.Error("the last node has its files")
	}
	h.initCluster("again")
}

// TestMemberKilled kills the member: the client lives, and has its store again.
func TestMemberKilled(t *testing.T) {
	t.Parallel()
	a := newHost(t)
	a.initCluster("a")
	n, err := a.here()
	a.must(err)
	pid, _ := n.member().state()
	before := a.statusNow().Revision
	a.must(syscall.Kill(pid, syscall.SIGKILL))
	a.await("another member", func() bool { now, _ := n.member().state(); return now != pid && now != 0 })
	a.await("the store", func() bool { s := a.statusNow(); return s.Error == "" && s.Revision >= before && s.Alive == 1 })
}

// TestRestart has another dclusterd: the node is what it was.
func TestRestart(t *testing.T) {
	t.Parallel()
	a := newHost(t)
	a.initCluster("a")
	cert, err := a.state.Read(fileCert)
	a.must(err)
	a.must(a.ask(cluster.Renew, nothing{}, nil))
	if other, err := a.state.Read(fileCert); err != nil || string(other) == string(cert) {
		t.Errorf("the certificate is the same: %v", err)
	}
	a.restart()
	a.await("the store", func() bool {
		s := a.statusNow()
		return s.Node == "a" && s.Error == "" && s.Alive == 1 && len(s.Warnings) == 0
	})
	path := t.TempDir() + "/snapshot"
	a.must(a.ask(cluster.Snapshot, cluster.FileArgs{Path: path}, nil))
	if info, err := os.Stat(path); err != nil || info.Size() < 10_000 || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	a.refuses(a.ask(cluster.Snapshot, cluster.FileArgs{Path: path}, nil), "must not be there yet")
}

// TestSnapshots: the leader writes one a day, keeps as many as told, and status tells of the
// last. The last one restores the store.
func TestSnapshots(t *testing.T) {
	t.Parallel()
	a := newHost(t)
	a.stop()
	a.startWith(a.daemon.store, &strings.Builder{}, func(d *daemon) { d.options.snapshots, d.snapshotEvery = 2, 1100*time.Millisecond })
	a.must(os.MkdirAll(a.state.Path(dirSnapshots), 0o700))
	other := "0123-20260101T000000Z" + snapshotSuffix
	a.must(os.WriteFile(a.state.Path(dirSnapshots)+"/"+other, nil, 0o600))
	a.initCluster("a")
	seen := map[string]bool{}
	a.await("four snapshots", func() bool {
		if s := a.statusNow().Snapshot; s != nil {
			seen[s.Path] = true
		}
		return len(seen) >= 4
	})
	a.await("two kept", func() bool {
		names, err := a.state.Names(dirSnapshots)
		a.must(err)
		return len(names) == 3 && slices.Contains(names, other)
	})
	last := a.statusNow().Snapshot
	if last.Node != "a" || last.Bytes < 10_000 || time.Since(last.Time) > time.Hour {
		t.Errorf("%+v", last)
	}
	a.restart()
	a.await("the store", func() bool { return a.statusNow().Error == "" })
	names, err := a.state.Names(dirSnapshots)
	a.must(err)
	names = slices.DeleteFunc(names, func(name string) bool { return name == other })
	a.must(a.ask(cluster.Restore, cluster.FileArgs{Path: a.state.Path(dirSnapshots) + "/" + names[len(names)-1], Force: true}, nil))
}

func TestSpareSnapshots(t *testing.T) {
	day := func(n int) string { return snapshotName("c1", time.Date(2026, 1, n, 3, 4, 5, 0, time.UTC)) }
	all := []string{day(3), "c2-20250101T000000Z.snapshot", day(10), "c1-notes", day(9)}
	for keep, want := range map[int][]string{0: {day(3), day(9), day(10)}, 1: {day(3), day(9)}, 2: {day(3)}, 3: {}, 4: {}} {
		if got := spareSnapshots(all, "c1", keep); !slices.Equal(got, want) {
			t.Errorf("keep %d: %q, want %q", keep, got, want)
		}
	}
}

// healthy counts the members that are, and vote.
func healthy(s cluster.StatusReply) (n int) {
	for _, m := range s.Members {
		if m.Error == "" && !m.Learner {
			n++
		}
	}
	return n
}

// TestMembers has three nodes: three members, of which one may die. Then one member.
func TestMembers(t *testing.T) {
	t.Parallel()
	a, b, c := newHost(t), newHost(t), newHost(t)
	a.initCluster("a")
	b.must(b.joinAs("b", a, a.token(trust.Client)))
	c.must(c.joinAs("c", a, a.token(trust.Client)))
	c.await("three members", func() bool { return healthy(c.statusNow()) == 3 })
	n, err := a.here()
	a.must(err)
	pid, _ := n.member().state()
	a.must(syscall.Kill(pid, syscall.SIGSTOP)) // longer than an election takes
	b.await("another leader", func() bool {
		s := b.statusNow()
		return s.Error == "" && healthy(s) == 2 && len(s.Members) == 3 && s.Alive == 3
	})
	a.must(syscall.Kill(pid, syscall.SIGCONT))
	a.await("three members again", func() bool { return healthy(a.statusNow()) == 3 })
	a.refuses(a.ask(cluster.Members, cluster.MembersArgs{Count: 2}, nil), "members 2: must be 1, 3 or 5")
	a.must(a.ask(cluster.Members, cluster.MembersArgs{Count: 1}, nil))
	a.await("one member", func() bool { s := a.statusNow(); return s.Error == "" && len(s.Members) == 1 && s.Alive == 3 })
	members := 0
	for _, h := range []*host{a, b, c} {
		h.await("its own member given up", func() bool {
			s := h.statusNow()
			return (s.Role == "member") == (s.Members != nil && s.Members[0].Name == s.Node)
		})
		if h.statusNow().Role == "member" {
			members++
		}
	}
	if members != 1 {
		t.Errorf("%d nodes run a member", members)
	}
}

// TestAuthority has the first of three nodes end: hosts join at the others, which got the CA's
// key with their members, and a client's certificate is renewed there.
func TestAuthority(t *testing.T) {
	t.Parallel()
	a, b, c, d := newHost(t), newHost(t), newHost(t), newHost(t)
	a.initCluster("a")
	b.must(b.joinAs("b", a, a.token(trust.Client)))
	c.must(c.joinAs("c", a, a.token(trust.Client)))
	for _, h := range []*host{b, c} {
		h.await("the CA's key", func() bool { ca, err := h.state.ca(); return ca != nil && err == nil })
	}
	c.await("three members", func() bool { return healthy(c.statusNow()) == 3 })
	d.must(d.joinAs("d", a, a.token(trust.Client)))
	a.stop()
	d.await("the store", func() bool { return d.statusNow().Error == "" })
	var r cluster.TokenReply
	d.must(d.ask(cluster.Token, cluster.TokenArgs{Kind: trust.Client, TTL: time.Hour}, &r))
	if !strings.HasPrefix(r.Door, b.address) && !strings.HasPrefix(r.Door, c.address) {
		t.Errorf("the door is %s, where nothing listens", r.Door)
	}
	d.must(d.ask(cluster.Renew, nothing{}, nil))
	e := newHost(t)
	e.must(e.ask(cluster.Join, cluster.JoinArgs{Self: cluster.Self{Name: "e", Advertise: e.address}, Address: r.Door, Token: r.Token}, nil))
	n, err := d.here()
	d.must(err)
	if err := n.askDoors(func(caller join.Caller) error {
		_, err := caller.Authority(t.Context(), join.AuthorityRequest{ID: n.conf().ID})
		return err
	}); err == nil || !strings.Contains(err.Error(), `node "d" has no member of the store`) {
		t.Errorf("a client was given the CA's key, or not: %v", err)
	}
}

// TestRecover loses the store of two nodes, which put into a new one what they have; and
// has a snapshot restored that lacks what was made since.
func TestRecover(t *testing.T) {
	t.Parallel()
	a, b := newHost(t), newHost(t)
	a.initCluster("a")
	b.must(b.joinAs("b", a, a.token(trust.Client)))
	n, err := a.here()
	a.must(err)
	a.await("ports of networks", func() bool { return n.self().Ports == remote.Ports{VXLAN: 4789, ESP: 4787} })
	snapshot := t.TempDir() + "/snapshot"
	a.must(a.ask(cluster.Snapshot, cluster.FileArgs{Path: snapshot}, nil))
	made, err := n.cluster().CreateNetwork(t.Context(), overlay.Wanted{Name: "web", Network: overlay.Network{
		Labels: map[string]string{"tier": "front"}, MTU: 1300, Internal: true, Attachable: true,
	}, IPv6: true})
	a.must(err)
	b.must(b.ask(cluster.Sync, nothing{}, nil))
	at := wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}
	bn, err := b.here()
	b.must(err)
	got, err := bn.cluster().Claim(t.Context(), overlay.Claim{Attachment: at, Name: "shop", Names: []string{"shop"}, Ready: true})
	b.must(err)
	record := &records.Record{
		Attachment: at, Plugin: overlay.PluginType, State: records.Up, MAC: got.MAC, Name: "shop", Names: []string{"shop"}, Addresses: got.Addresses,
	}
	b.must(bn.locks().Put(record))
	same := func(what string) {
		t.Helper()
		n, err := a.here()
		a.must(err)
		a.await(what, func() bool { eps, err := n.cluster().Endpoints(t.Context(), "web"); return err == nil && len(eps) == 1 })
		now, err := n.cluster().Network(t.Context(), "web")
		a.must(err)
		now.Made, now.ID, now.Generation = made.Made, made.ID, made.Generation
		if !reflect.DeepEqual(now, made) {
			t.Errorf("%s: web is %+v, was %+v", what, now, made)
		}
		eps, err := n.cluster().Endpoints(t.Context(), "web")
		a.must(err)
		if eps[0].Node != "b" || eps[0].Name != "shop" || !slices.Equal(eps[0].Addresses, []netip.Addr{got.Addresses[0].Address.Addr(), got.Addresses[1].Address.Addr()}) || eps[0].MAC != got.MAC {
			t.Errorf("%s: the endpoint is %+v", what, eps[0])
		}
		for _, h := range []*host{a, b} {
			h.await(what+": two nodes", func() bool { s := h.statusNow(); return s.Error == "" && s.Alive == 2 && len(s.Warnings) == 0 })
			if data, err := os.ReadFile(h.conf.Path("web")); err != nil || !strings.Contains(string(data), "doverlay") {
				t.Errorf("%s: the file is %s, %v", what, data, err)
			}
		}
	}
	same("before")
	a.refuses(a.ask(cluster.Init, cluster.InitArgs{Recover: true}, nil), "the store answers: `dnet cluster init --recover` is for one that is lost")
	b.refuses(b.ask(cluster.Init, cluster.InitArgs{Recover: true}, nil), "this host has neither a member of the store nor the CA's key")
	a.must(a.ask(cluster.Init, cluster.InitArgs{Recover: true, Force: true}, nil))
	same("recovered")
	a.refuses(a.ask(cluster.Restore, cluster.FileArgs{Path: snapshot + "x", Force: true}, nil), "no such file")
	strange := newHost(t)
	strange.initCluster("s")
	strange.must(strange.ask(cluster.Snapshot, cluster.FileArgs{Path: snapshot + "s"}, nil))
	a.refuses(a.ask(cluster.Restore, cluster.FileArgs{Path: snapshot + "s", Force: true}, nil), "is not of cluster ")
	same("not restored")
	a.must(a.ask(cluster.Restore, cluster.FileArgs{Path: snapshot, Force: true}, nil))
	same("restored")
	a.must(a.ask(cluster.Reset, cluster.ForceArgs{Force: true}, nil))
	same("reset")
}
