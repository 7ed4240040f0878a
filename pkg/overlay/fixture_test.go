package overlay_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"dcni/pkg/overlay"
	"dcni/pkg/overlay/memory"
	"dcni/pkg/wire"
)

var keys = overlay.Keys{Prefix: "/dcni/1/test/"}

// newCluster returns a cluster as its nodes have it: named a, b and so on, on 192.0.2.1
// and so on, with an underlay of 1500 bytes.
func newCluster(t testing.TB, nodes int) []overlay.Cluster {
	t.Helper()
	store := memory.New()
	list := make([]overlay.Cluster, nodes)
	write(t, store, keys.Meta(), overlay.Meta{Schema: 1, Cluster: "test", Pools: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Mask: 24, Port: 4789})
	for i := range list {
		name := string(rune('a' + i))
		list[i] = overlay.Cluster{Store: store.Another(), Keys: keys, Node: name}
		write(t, store, keys.Node(name), overlay.Node{ID: name, Address: netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), MTU: 1500})
	}
	return list
}

func write(t testing.TB, s overlay.Store, key string, value any) {
	t.Helper()
	data, err := json.Marshal(value)
	must(t, err)
	_, _, err = s.Commit(t.Context(), overlay.Txn{Then: []overlay.Change{{Key: key, Value: data}}})
	must(t, err)
}

// put writes a value that is plain words.
func put(t testing.TB, s overlay.Store, key, value string) error {
	t.Helper()
	_, _, err := s.Commit(t.Context(), overlay.Txn{Then: []overlay.Change{{Key: key, Value: []byte(value)}}})
	return err
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantError wants an error of a code, 0 for none, with a text in it.
func wantError(t testing.TB, err error, code wire.Code, text string) {
	t.Helper()
	var coded *wire.Error
	got := wire.Code(0)
	if errors.As(err, &coded) {
		got = coded.Code
	}
	if err == nil || !strings.Contains(err.Error(), text) || got != code {
		t.Errorf("error %v of code %d, want %q of code %d", err, got, text, code)
	}
}

func subnet(text string) overlay.Subnet { return overlay.Subnet{Prefix: netip.MustParsePrefix(text)} }

// create makes a network of a subnet.
func create(t testing.TB, c overlay.Cluster, name, prefix string) overlay.Existing {
	t.Helper()
	n, err := c.CreateNetwork(t.Context(), overlay.Wanted{Name: name, Network: overlay.Network{Subnets: []overlay.Subnet{subnet(prefix)}}})
	must(t, err)
	return n
}

func attachment(network, container string) wire.Attachment {
	return wire.Attachment{Network: network, Container: container, IfName: "eth0"}
}

func claim(t testing.TB, c overlay.Cluster, network, container string, asked ...string) *overlay.Claimed {
	t.Helper()
	got, err := c.Claim(t.Context(), asking(network, container, asked...))
	must(t, err)
	return got
}

func asking(network, container string, asked ...string) overlay.Claim {
	w := overlay.Claim{Attachment: attachment(network, container), Name: container, Names: []string{container}}
	for _, a := range asked {
		w.Asked = append(w.Asked, netip.MustParseAddr(a))
	}
	return w
}

// entries returns what is in the store below a prefix, a line an entry.
func entries(t testing.TB, s overlay.Store, prefix string) map[string]string {
	t.Helper()
	out := map[string]string{}
	_, err := s.List(t.Context(), prefix, func(e overlay.Entry) error {
		out[e.Key] = string(e.Value)
		return nil
	})
	must(t, err)
	return out
}

// consistent wants each endpoint's addresses to be its own, and no other address claimed.
func consistent(t testing.TB, s overlay.Store, network string) {
	t.Helper()
	addrs := entries(t, s, keys.Addr(network, netip.Addr{}))
	prefix := keys.Endpoint(network, "", "")
	for key, value := range entries(t, s, prefix) {
		var e overlay.Endpoint
		must(t, json.Unmarshal([]byte(value), &e))
		for _, a := range e.Addresses {
			if owner := addrs[keys.Addr(network, a)]; owner != strings.TrimPrefix(key, prefix) {
				t.Errorf("%s has %s, which is %q's", key, a, owner)
			}
			delete(addrs, keys.Addr(network, a))
		}
	}
	for key, owner := range addrs {
		t.Errorf("%s is claimed by %s, which is no endpoint", key, owner)
	}
}

func address(c *overlay.Claimed) string { return fmt.Sprint(c.Addresses[0].Address) }
