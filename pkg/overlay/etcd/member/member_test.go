package member_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dcni/pkg/overlay"
	"dcni/pkg/overlay/etcd"
	"dcni/pkg/overlay/etcd/member"
)

// freeURL returns a URL of 127.0.0.1 that nothing listens at.
func freeURL(t *testing.T, scheme string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return scheme + "://" + l.Addr().String()
}

func config(t *testing.T, name, scheme string) member.Config {
	t.Helper()
	peer := freeURL(t, scheme)
	return member.Config{
		Name: name, Dir: filepath.Join(t.TempDir(), "data"), Client: freeURL(t, scheme), Peer: peer,
		Members: map[string]string{name: peer}, Cluster: "test", State: member.New,
	}
}

func start(t *testing.T, c member.Config) *member.Member {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m, err := member.Start(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func client(t *testing.T, c etcd.Config) *etcd.Store {
	t.Helper()
	s, err := etcd.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// put writes a key.
func put(t *testing.T, s overlay.Store, key, value string) error {
	t.Helper()
	_, _, err := s.Commit(t.Context(), overlay.Txn{Then: []overlay.Change{{Key: key, Value: []byte(value)}}})
	return err
}

// eventually waits until a call has no error.
func eventually(t *testing.T, what string, call func() error) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		err := call()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

func want(t *testing.T, s overlay.Store, key, value string) {
	t.Helper()
	eventually(t, key, func() error { _, err := s.Get(t.Context(), key); return err })
	if e, err := s.Get(t.Context(), key); err != nil || string(e.Value) != value {
		t.Errorf("%s = %q, %v, want %q", key, e.Value, err, value)
	}
}

// TestRestart: what was written is there after a restart, at another state and address.
func TestRestart(t *testing.T) {
	c := config(t, "a", "http")
	m := start(t, c)
	s := client(t, etcd.Config{Endpoints: []string{c.Client}})
	eventually(t, "put", func() error { return put(t, s, "k", "v") })
	id := m.ID()
	if info, err := os.Stat(c.Dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the data: %v, %v", info.Mode(), err)
	}
	m.Close()
	if err := m.Wait(t.Context()); err == nil {
		t.Error("Wait of a member that was closed returns no error")
	}

	c.State = member.Existing
	m = start(t, c)
	defer m.Close()
	want(t, s, "k", "v")
	if m.ID() != id {
		t.Errorf("ID %s, was %s", m.ID(), id)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Wait(ended); err != nil {
		t.Errorf("Wait of a member that is well, with an ended context: %v", err)
	}
}

// TestLearner: a cluster of one becomes one of two, whose second dies. The first has no
// quorum then, and is rescued with the data that it has.
func TestLearner(t *testing.T) {
	a := config(t, "a", "http")
	one := start(t, a)
	s := client(t, etcd.Config{Endpoints: []string{a.Client}, Timeout: 2 * time.Second})
	eventually(t, "put", func() error { return put(t, s, "k", "1") })

	b := config(t, "b", "http")
	b.State = member.Existing
	var err error
	if b.Members, err = s.AddLearner(t.Context(), "b", b.Peer); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(b.Members, map[string]string{"a": a.Peer, "b": b.Peer}) {
		t.Errorf("members are %v", b.Members)
	}
	two := start(t, b)
	eventually(t, "promotion", func() error { return s.Promote(t.Context(), two.ID()) })
	members(t, s, map[string]string{"a": one.ID(), "b": two.ID()})
	if err := put(t, s, "k", "2"); err != nil {
		t.Fatal(err)
	}
	var snapshot bytes.Buffer
	if err := s.Snapshot(t.Context(), &snapshot); err != nil || snapshot.Len() < 10000 {
		t.Errorf("a snapshot of %d bytes: %v", snapshot.Len(), err)
	}

	watch := make(chan error, 1)
	go func() { watch <- s.Watch(t.Context(), "k", 0, func(int64, []overlay.Event) error { return nil }) }()
	two.Close()
	err = put(t, s, "k", "3")
	if !errors.Is(err, overlay.ErrUnavailable) {
		t.Errorf("a write without a quorum: %v", err)
	}
	known, err := s.KnownMembers(t.Context())
	if err != nil || len(known) != 2 || known[0].Error == "" || known[1].Error == "" {
		t.Errorf("members without a quorum: %+v, %v, want both, unwell", known, err)
	}
	select { // the member itself goes on, and answers
	case err := <-watch:
		if !errors.Is(err, overlay.ErrUnavailable) || !strings.Contains(err.Error(), "no leader") {
			t.Errorf("a watch without a quorum: %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("a watch without a quorum goes on")
	}
	one.Close()
	a.ForceNew = true
	one = start(t, a)
	defer one.Close()
	eventually(t, "rescued", func() error { return put(t, s, "k2", "4") })
	members(t, s, map[string]string{"a": one.ID()})
}

// members fails unless etcd has these members, by name and ID, all well and of one
// leader.
func members(t *testing.T, s *etcd.Store, want map[string]string) {
	t.Helper()
	list, err := s.Members(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, leaders := map[string]string{}, 0
	for _, m := range list {
		got[m.Name] = m.ID
		if m.Leader {
			leaders++
		}
		if m.Error != "" || m.Learner || m.Version != "3.7.3" || m.Size == 0 || m.Revision == 0 {
			t.Errorf("member %+v", m)
		}
	}
	if !maps.Equal(got, want) || leaders != 1 {
		t.Errorf("members %v, %d of them leaders, want %v", got, leaders, want)
	}
}

func TestRemove(t *testing.T) {
	a := config(t, "a", "http")
	defer start(t, a).Close()
	s := client(t, etcd.Config{Endpoints: []string{a.Client}})
	b := config(t, "b", "http")
	eventually(t, "learner", func() (err error) { _, err = s.AddLearner(t.Context(), "b", b.Peer); return err })
	list, err := s.Members(t.Context())
	if err != nil || len(list) != 2 {
		t.Fatalf("%d members, %v", len(list), err)
	}
	learner := list[0]
	if !learner.Learner {
		learner = list[1]
	}
	if learner.Error == "" || learner.Name != "" {
		t.Errorf("a learner that was never started: %+v", learner)
	}
	if err := s.Promote(t.Context(), learner.ID); !errors.Is(err, etcd.ErrNotReady) {
		t.Errorf("promotion of a learner that was never started: %v", err)
	}
	if err := s.Remove(t.Context(), learner.ID); err != nil {
		t.Error(err)
	}
	if err := s.Remove(t.Context(), learner.ID); !errors.Is(err, overlay.ErrNotFound) {
		t.Errorf("removed again: %v", err)
	}
	if err := s.Remove(t.Context(), "node-b"); err == nil || !strings.Contains(err.Error(), `"node-b": must be its ID`) {
		t.Errorf("removed by name: %v", err)
	}
	members(t, s, map[string]string{"a": onlyID(t, s)})
}

func onlyID(t *testing.T, s *etcd.Store) string {
	t.Helper()
	list, err := s.Members(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	return list[0].ID
}

func TestConfig(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*member.Config)
		want   string
	}{
		"https without TLS": {func(c *member.Config) { c.Client = "https://127.0.0.1:1" }, "must be http://ADDRESS:PORT"},
		"http with TLS":     {func(c *member.Config) { c.TLS.CA = "ca.pem" }, "must be https://ADDRESS:PORT"},
		"no port":           {func(c *member.Config) { c.Client = "http://127.0.0.1" }, "client URL"},
		"path":              {func(c *member.Config) { c.AdvertiseURL = "http://127.0.0.1:1/a" }, "advertised URL"},
		"not a member":      {func(c *member.Config) { c.Members = map[string]string{"b": c.Peer} }, "members' URLs"},
		"state":             {func(c *member.Config) { c.State = "" }, "must be new or existing"},
		"port is taken":     {func(c *member.Config) { c.Client = c.Peer }, "address already in use"},
	} {
		conf := config(t, "a", "http")
		c.change(&conf)
		m, err := member.Start(t.Context(), conf)
		if err == nil {
			m.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// A ca signs certificates.
type ca struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newCA(t *testing.T) *ca {
	t.Helper()
	c := &ca{t: t, dir: t.TempDir()}
	c.cert, c.key = c.sign("ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return c
}

// tls returns the files of a certificate for 127.0.0.1.
func (c *ca) tls(name string, days int) (cert, key string) {
	c.t.Helper()
	c.sign(name, &x509.Certificate{
		NotAfter: time.Now().AddDate(0, 0, days), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return c.file(name + ".pem"), c.file(name + ".key")
}

func (c *ca) file(name string) string { return filepath.Join(c.dir, name) }

func (c *ca) sign(name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	c.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	template.SerialNumber, template.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
	template.NotBefore = time.Now().AddDate(0, 0, -2)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().AddDate(1, 0, 0)
	}
	parent, signer := c.cert, c.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		c.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		c.t.Fatal(err)
	}
	c.write(name+".pem", "CERTIFICATE", der)
	c.write(name+".key", "PRIVATE KEY", private)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		c.t.Fatal(err)
	}
	return cert, key
}

func (c *ca) write(name, kind string, der []byte) {
	c.t.Helper()
	if err := os.WriteFile(c.file(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// TestTLS: client and member know each other by certificates of one CA; others are not
// served, and not believed.
func TestTLS(t *testing.T) {
	ours, others := newCA(t), newCA(t)
	c := config(t, "a", "https")
	c.TLS.CA = ours.file("ca.pem")
	c.TLS.Cert, c.TLS.Key = ours.tls("member", 10)
	defer start(t, c).Close()

	access := func(trusted, signed *ca, name string, days int) etcd.Config {
		e := etcd.Config{Endpoints: []string{c.Client}, TLS: etcd.TLS{CA: trusted.file("ca.pem")}, Timeout: 2 * time.Second}
		if name != "" {
			e.TLS.Cert, e.TLS.Key = signed.tls(name, days)
		}
		return e
	}
	s := client(t, access(ours, ours, "client", 10))
	eventually(t, "put", func() error { return put(t, s, "k", "v") })
	for name, c := range map[string]struct {
		config etcd.Config
		want   string // "": etcd says why, but often closes the connection before that is read
	}{
		"no certificate":         {access(ours, nil, "", 0), ""},
		"one of another CA":      {access(ours, others, "client", 10), ""},
		"one that has expired":   {access(ours, ours, "expired", -1), "expired.pem\": it has expired on " + time.Now().AddDate(0, 0, -1).UTC().Format(time.DateOnly)},
		"a member of another CA": {access(others, ours, "client2", 10), "signed by unknown authority"},
	} {
		_, err := client(t, c.config).Get(t.Context(), "k")
		if !errors.Is(err, overlay.ErrUnavailable) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want ErrUnavailable and %q", name, err, c.want)
		}
	}

	renewed := access(ours, ours, "renewed", -1)
	s = client(t, renewed)
	if _, err := s.Get(t.Context(), "k"); err == nil {
		t.Error("an expired certificate is accepted")
	}
	ours.tls("renewed", 10) // in place
	want(t, s, "k", "v")
}

// TestRestoreRefuses says of a file that it is no snapshot, in words of ours.
func TestRestoreRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(file, bytes.Repeat([]byte("127.0.0.1 localhost\n"), 100), 0o600); err != nil {
		t.Fatal(err)
	}
	err := member.Restore(file, member.Config{
		Name: "n1", Dir: filepath.Join(t.TempDir(), "data"), Peer: "http://127.0.0.1:2380", Members: map[string]string{"n1": "http://127.0.0.1:2380"}, Cluster: "c",
	})
	if err == nil || !strings.Contains(err.Error(), "hosts: is none, as `dnet cluster snapshot` writes it, or was not copied whole") {
		t.Errorf("%v", err)
	}
}
