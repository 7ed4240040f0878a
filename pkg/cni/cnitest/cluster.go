package cnitest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"dcni/pkg/cni"
	"dcni/pkg/overlay"
	"dcni/pkg/overlay/memory"
	"dcni/pkg/wire"
)

var clusterNetworks = []string{"web", "beta", encryptedNetwork, ownNetwork}

// encryptedNetwork is the one that is encrypted, and ownNetwork that with node addresses.
const encryptedNetwork, ownNetwork = "sec", "own"

var keys = overlay.Keys{Prefix: "/dcni/1/test/"}

// newCluster returns the store of a cluster with the networks that the matrix has.
func newCluster(t testing.TB) *memory.Store {
	store := memory.New()
	put := func(key string, value any) {
		data, err := json.Marshal(value)
		if err == nil {
			_, _, err = store.Commit(context.Background(), overlay.Txn{Then: []overlay.Change{{Key: key, Value: data}}})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	put(keys.Meta(), overlay.Meta{Schema: 1, Cluster: "test", Port: overlay.Port, PortESP: overlay.PortESP})
	for i, name := range clusterNetworks {
		encrypted := name == encryptedNetwork
		mtu := overlay.Tunnel{Underlay: 1500, Encrypted: encrypted}.MTU()
		put(keys.Network(name), overlay.Network{VNI: overlay.MinVNI + i, MTU: mtu, Encrypted: encrypted, NodeAddresses: name == ownNetwork, Subnets: []overlay.Subnet{
			{Prefix: netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/24", i+1)), Gateway: netip.MustParseAddr(fmt.Sprintf("10.%d.0.1", i+1))},
			{Prefix: netip.MustParsePrefix(fmt.Sprintf("fd00:%d::/64", i+1)), Gateway: netip.MustParseAddr(fmt.Sprintf("fd00:%d::1", i+1))},
		}})
	}
	return store
}

// openCluster opens the cluster's store, as a node.
func (w *World) openCluster(context.Context) (*cni.ClusterNode, error) {
	return &cni.ClusterNode{
		Cluster: overlay.Cluster{Store: w.Cluster, Keys: keys, Node: "n1"},
		Node:    overlay.Node{ID: "1", Address: netip.MustParseAddr("192.0.2.1"), MTU: 1500},
		Members: []string{"https://192.0.2.1:2379"},
		Close:   func() {},
	}, nil
}

// claims is what attachments have of the cluster, a line a claim, and what is to be given
// back. What the node has of its own is the node's, whatever becomes of attachments.
func (w *World) claims(t testing.TB) (lines []string) {
	for _, name := range clusterNetworks {
		owners := map[string]string{}
		for _, container := range []string{"c0", "c1", "c2", "b1"} {
			a := wire.Attachment{Network: name, Container: container, IfName: "eth0"}
			owners["n1/"+overlay.AttachmentKey(a)] = a.String()
		}
		for prefix, line := range map[string]func(rest, value string) string{
			keys.Addr(name, netip.Addr{}): func(rest, value string) string { return "address " + rest + " of " + owners[value] + " " + value },
			keys.Endpoint(name, "", ""):   func(rest, value string) string { return "endpoint " + owners[rest] + " " + value },
		} {
			_, err := w.Cluster.Another().List(context.Background(), prefix, func(e overlay.Entry) error {
				if owner := overlay.ParseOwner(e.Value); !keys.OfNode(e.Key) && !keys.OfNode(keys.Endpoint(name, "n1", owner.Attachment)) {
					lines = append(lines, line(strings.TrimPrefix(e.Key, prefix), string(e.Value)))
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	queued, err := w.Store.Cluster().Releases()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range queued {
		lines = append(lines, fmt.Sprintf("queued: release of %s", a))
	}
	return lines
}

// Forget has the cluster forget an attachment, as one that was given to another node.
func (w *World) Forget(t testing.TB, a wire.Attachment) {
	n, err := w.openCluster(context.Background())
	if err == nil {
		err = n.Release(context.Background(), a)
	}
	if err != nil {
		t.Fatal(err)
	}
}
