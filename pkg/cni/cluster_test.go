package cni

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"testing"

	"dcni/pkg/overlay"
	"dcni/pkg/overlay/memory"
	"dcni/pkg/overlay/remote"
	"dcni/pkg/records"
)

// TestOpenCluster opens the store that a dclusterd serves, as the node that it is.
func TestOpenCluster(t *testing.T) {
	dir, err := os.MkdirTemp("", "cni") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	store := records.Store{Run: dir, Lib: dir}
	started := 0
	open := openCluster(store, func() error { started++; return errors.New("no program dclusterd") })
	if _, err := open(context.Background()); !errors.Is(err, overlay.ErrUnavailable) || started != 0 {
		t.Fatalf("in no cluster: %v, and started %d times", err, started)
	}
	if err := store.Cluster().Write("cluster.json", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if _, err := open(context.Background()); !errors.Is(err, overlay.ErrUnavailable) || started != 1 {
		t.Fatalf("with no dclusterd: %v, and started %d times", err, started)
	}
	l, err := remote.Listen(store.Cluster().Socket())
	if err != nil {
		t.Fatal(err)
	}
	self := remote.Self{Node: "n1", Prefix: "/dcni/1/x/", Members: []string{"https://192.0.2.1:2379"}, Local: netip.MustParseAddr("192.0.2.1"), MTU: 1400, Ports: remote.Ports{VXLAN: 4000, ESP: 4001}}
	server := &remote.Server{Store: memory.New(), Self: func() remote.Self { return self }}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, l) }()
	n, err := open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if n.Cluster.Node != "n1" || n.Keys.Prefix != self.Prefix || n.Address != self.Local || n.MTU != 1400 || !slices.Equal(n.Members, self.Members) {
		t.Errorf("%+v", n)
	}
	if _, err := n.Network(context.Background(), "web"); !errors.Is(err, overlay.ErrNotFound) {
		t.Errorf("its store: %v", err)
	}
	// The store has no ports, nor needs it any.
	for encrypted, port := range map[bool]int{false: 4000, true: 4001} {
		o, err := n.settled(overlay.Existing{Network: overlay.Network{Encrypted: encrypted}}, n.readMeta(context.Background()))
		if err != nil || o.Port != port {
			t.Errorf("encrypted %v: %+v, %v", encrypted, o, err)
		}
	}
	n.Ports = remote.Ports{}
	if _, err := n.readMeta(context.Background())(); !errors.Is(err, overlay.ErrNotFound) {
		t.Errorf("ports that dclusterd does not tell are not read: %v", err)
	}
	n.Close()
	cancel()
	<-served
}
