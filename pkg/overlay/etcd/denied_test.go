package etcd

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"dcni/pkg/overlay"
	"dcni/pkg/overlay/etcd/member"
	"dcni/pkg/trust"
)

// A secured is an etcd that knows its clients by their certificates.
type secured struct {
	t   *testing.T
	dir string
	ca  *trust.CA
	url string
}

// newSecured starts one.
func newSecured(t *testing.T) *secured {
	ca, err := trust.NewCA("test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s := &secured{t: t, dir: t.TempDir(), ca: ca, url: "https://" + freeAddress(t)}
	peer := "https://" + freeAddress(t)
	tls := s.files("server")
	m, err := member.Start(t.Context(), member.Config{
		Name: "a", Dir: t.TempDir(), Client: s.url, Peer: peer, TLS: member.TLS{CA: tls.CA, Cert: tls.Cert, Key: tls.Key},
		Members: map[string]string{"a": peer}, Cluster: "test", State: member.New,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return s
}

// files writes a certificate of a name, and what goes with it.
func (s *secured) files(name string) TLS {
	s.t.Helper()
	key, err := trust.NewKey()
	if err != nil {
		s.t.Fatal(err)
	}
	cert, err := s.ca.Sign(&key.PublicKey, name, []netip.Addr{}, time.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	data, err := trust.EncodeKey(key)
	if err != nil {
		s.t.Fatal(err)
	}
	path := func(kind string, data []byte) string {
		p := filepath.Join(s.dir, name+"."+kind)
		if err := os.WriteFile(p, data, 0o600); err != nil {
			s.t.Fatal(err)
		}
		return p
	}
	return TLS{CA: path("ca", trust.EncodeCert(s.ca.Cert)), Cert: path("crt", trust.EncodeCert(cert)), Key: path("key", data)}
}

// open returns the client of a name.
func (s *secured) open(name string) *Store {
	s.t.Helper()
	store, err := Open(Config{Endpoints: []string{s.url}, TLS: s.files(name)})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = store.Close() })
	return store
}

// TestDenied: what etcd does not permit is an error of its own, and no outage.
func TestDenied(t *testing.T) {
	s := newSecured(t)
	root := s.open("root").client
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	unguarded := &clientv3.UserAddOptions{NoPassword: true}
	must(root.RoleAdd(t.Context(), "dcni"))
	must(root.RoleGrantPermission(t.Context(), "dcni", "/dcni/1/own/", clientv3.GetPrefixRangeEnd("/dcni/1/own/"), clientv3.PermissionType(clientv3.PermReadWrite)))
	must(root.UserAddWithOptions(t.Context(), "node", "", unguarded))
	must(root.UserGrantRole(t.Context(), "node", "dcni"))
	must(root.UserAddWithOptions(t.Context(), "root", "", unguarded))
	must(root.UserGrantRole(t.Context(), "root", "root"))
	must(root.AuthEnable(t.Context()))
	node := s.open("node")
	put := func(key string) error {
		_, _, err := node.Commit(t.Context(), overlay.Txn{Then: []overlay.Change{{Key: key, Value: []byte("x")}}})
		return err
	}
	if err := put("/dcni/1/own/x"); err != nil {
		t.Error(err)
	}
	nothing := func(overlay.Entry) error { return nil }
	_, getErr := node.Get(t.Context(), "/dcni/1/other/x")
	_, listErr := node.List(t.Context(), "/dcni/1/other/", nothing)
	for what, err := range map[string]error{
		"Commit": put("/dcni/1/other/x"), "Get": getErr, "List": listErr,
		"Keep":  node.Keep(t.Context(), "/dcni/1/other/x", nil, 5),
		"Watch": node.Watch(t.Context(), "/dcni/1/other/", 0, func(int64, []overlay.Event) error { return nil }),
	} {
		if !errors.Is(err, ErrDenied) || errors.Is(err, overlay.ErrUnavailable) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// What dclusterd asks besides, it may.
	if members, err := node.Members(t.Context()); err != nil || len(members) != 1 || members[0].Error != "" {
		t.Errorf("members: %+v, %v", members, err)
	}
	if _, err := node.Version(t.Context()); err != nil {
		t.Errorf("version: %v", err)
	}
}
