package main

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"dcni/pkg/cluster"
	"dcni/pkg/overlay/etcd/member"
	"dcni/pkg/trust"
)

// externalEtcd starts an etcd that is not a cluster's own, and returns its URL.
func externalEtcd(t *testing.T) string {
	address := fmt.Sprintf("127.%d.%d.%d", 1+rand.N(250), rand.N(250), 1+rand.N(250))
	peer := "http://" + address + ":2380"
	m, err := member.Start(t.Context(), member.Config{
		Name: "x", Dir: t.TempDir(), Client: "http://" + address + ":2379", Peer: peer, Members: map[string]string{"x": peer}, State: member.New,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return "http://" + address + ":2379"
}

// TestExternal has two nodes in an etcd that is not their own: no CA, no token, no member.
func TestExternal(t *testing.T) {
	t.Parallel()
	url := externalEtcd(t)
	a, b := newHost(t), newHost(t)
	external := &cluster.External{Endpoints: []string{url}, Prefix: "/dcni/1/lab/"}
	self := func(h *host, name string) cluster.Self { return cluster.Self{Name: name, Advertise: h.address} }
	b.refuses(b.ask(cluster.Join, cluster.JoinArgs{Self: self(b, "b"), External: external}, nil), "there is no cluster below /dcni/1/lab/ of that etcd")
	var first, second cluster.Made
	a.must(a.ask(cluster.Init, cluster.InitArgs{Self: self(a, "a"), External: external}, &first))
	b.refuses(b.ask(cluster.Init, cluster.InitArgs{Self: self(b, "b"), External: external}, nil), "there is a cluster below /dcni/1/lab/ of that etcd")
	b.refuses(b.ask(cluster.Join, cluster.JoinArgs{Self: self(b, "a"), External: external}, nil), `node "a" is alive, and another host`)
	b.must(b.ask(cluster.Join, cluster.JoinArgs{Self: self(b, "b"), External: external}, &second))
	if first.Cluster == "" || first.Cluster != second.Cluster {
		t.Errorf("clusters are %q and %q", first.Cluster, second.Cluster)
	}
	s := b.statusNow()
	if s.Error != "" || s.Nodes != 2 || s.Alive != 2 || s.Role != "client" || !s.External || len(s.Members) != 1 || !s.Cert.IsZero() {
		t.Errorf("%+v", s)
	}
	b.refuses(b.ask(cluster.Token, cluster.TokenArgs{Kind: trust.Client, TTL: time.Hour}, nil), "an etcd that is not its own")
	b.refuses(b.ask(cluster.Members, cluster.MembersArgs{Count: 3}, nil), "an etcd that is not its own")
	a.files(b)
	a.must(a.ask(cluster.Leave, cluster.LeaveArgs{}, nil))
	if s := b.statusNow(); s.Nodes != 1 || s.Alive != 1 {
		t.Errorf("%+v", s)
	}
	for prefix, want := range map[string]string{"dcni/": "must begin and end with a slash", "/dcni": "must begin and end with a slash"} {
		a.refuses(a.ask(cluster.Init, cluster.InitArgs{External: &cluster.External{Endpoints: []string{url}, Prefix: prefix}}, nil), want)
	}
	a.refuses(a.ask(cluster.Init, cluster.InitArgs{Self: self(a, "a"), External: &cluster.External{Endpoints: []string{"10.0.0.1"}}}, nil), `etcd endpoint "10.0.0.1"`)
}
