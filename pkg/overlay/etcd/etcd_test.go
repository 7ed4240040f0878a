package etcd

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"dcni/pkg/overlay"
	"dcni/pkg/overlay/storetest"
)

// tested is a client that can be cut off, and a store that can be told to forget.
type tested struct {
	*Store
	*wire
}

func (s tested) Compact(ctx context.Context, revision int64) error {
	_, err := s.client.Compact(ctx, revision)
	return err
}

func TestContract(t *testing.T) {
	for name, start := range map[string]func(*testing.T) *wire{"member": startMember, "Debian's": startDebian} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t)
			s := tested{open(t, w), w}
			storetest.Contract(t, func(*testing.T) overlay.Store { return s })
		})
	}
}

// TestAbsent: where nothing listens, all say so soon, with the endpoints asked and why.
func TestAbsent(t *testing.T) {
	endpoints := []string{"http://" + freeAddress(t), "http://" + freeAddress(t)}
	slices.Sort(endpoints)
	connect := func() *Store {
		s, err := Open(Config{Endpoints: endpoints, Timeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	for name, call := range map[string]func(*Store) error{
		"Get":   func(s *Store) error { _, err := s.Get(t.Context(), "k"); return err },
		"Watch": func(s *Store) error { return s.Watch(t.Context(), "k", 0, nil) },
		"Keep":  func(s *Store) error { return s.Keep(t.Context(), "k", nil, 5) },
		"Commit": func(s *Store) error {
			_, _, err := s.Commit(t.Context(), overlay.Txn{Then: []overlay.Change{{Key: "k", TTL: 5}}})
			return err
		},
		"Version": func(s *Store) error { _, err := s.Version(t.Context()); return err },
		"Members": func(s *Store) error { _, err := s.Members(t.Context()); return err },
	} {
		err := call(connect())
		if !errors.Is(err, overlay.ErrUnavailable) || !strings.Contains(err.Error(), strings.Join(endpoints, ", ")) ||
			!strings.Contains(err.Error(), "connection refused") {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := connect()
	late, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Get(late, "k"); !errors.Is(err, overlay.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) ||
		!strings.Contains(err.Error(), "connection refused") {
		t.Errorf("Get with a deadline: %v", err)
	}
}

// TestNoLeader: a member that knows no leader keeps no request from one that does.
func TestNoLeader(t *testing.T) {
	well, lost := startMember(t).url(), startLost(t)
	s, err := Open(Config{Endpoints: []string{well, lost}, Fixed: true, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	lease, err := s.grant(t.Context(), 600)
	if err != nil {
		t.Fatal(err)
	}
	defer s.revoke(lease)
	if _, err := s.client.Put(clientv3.WithRequireLeader(t.Context()), "kept", "", clientv3.WithLease(lease)); err != nil {
		t.Fatal(err)
	}
	k := keeper{store: s, key: "kept", lease: lease, ttl: 10 * time.Minute, renewed: time.Now()}
	for _, tt := range []struct {
		name string
		call func() error
	}{
		{"renewal", func() error { return k.once(t.Context()) }},
		{"Commit", func() error {
			_, _, err := s.Commit(t.Context(), overlay.Txn{Then: []overlay.Change{{Key: "k", Value: []byte("v"), TTL: 60}}})
			return err
		}},
		{"Get", func() error { _, err := s.Get(t.Context(), "k"); return err }},
		{"List", func() error { _, err := s.List(t.Context(), "k", func(overlay.Entry) error { return nil }); return err }},
		{"MemberNames", func() error { _, err := s.MemberNames(t.Context()); return err }},
	} {
		for range 6 {
			if err := tt.call(); err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
		}
	}
	alone, err := Open(Config{Endpoints: []string{lost}, Fixed: true, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer alone.Close()
	if _, err := alone.Get(t.Context(), "k"); !errors.Is(err, overlay.ErrUnavailable) {
		t.Errorf("Get where no member knows a leader: %v", err)
	}
	if list, err := alone.KnownMembers(t.Context()); err != nil || len(list) != 2 {
		t.Errorf("members that are known: %+v, %v", list, err)
	}
}

// TestTooLong: what etcd refuses of one request does not mean that it is away.
func TestTooLong(t *testing.T) {
	s := open(t, startMember(t))
	_, _, err := s.Commit(t.Context(), overlay.Txn{Then: []overlay.Change{{Key: "k", Value: make([]byte, 1800<<10)}}})
	if err == nil || errors.Is(err, overlay.ErrUnavailable) || !strings.Contains(err.Error(), "too large") {
		t.Errorf("Commit of 1.8 MB: %v", err)
	}
}

func TestConfig(t *testing.T) {
	for name, c := range map[string]struct {
		config Config
		want   string // of the error
	}{
		"none":         {Config{}, "no endpoint"},
		"no scheme":    {Config{Endpoints: []string{"10.0.0.1:2379"}}, `"10.0.0.1:2379": must be https://HOST:PORT`},
		"no port":      {Config{Endpoints: []string{"https://10.0.0.1"}}, "must be https://HOST:PORT"},
		"path":         {Config{Endpoints: []string{"https://10.0.0.1:2379/x"}}, "must be https://HOST:PORT"},
		"unix":         {Config{Endpoints: []string{"unix:///run/etcd"}}, "must be https://HOST:PORT"},
		"two schemes":  {Config{Endpoints: []string{"https://10.0.0.1:2379", "http://10.0.0.2:2379"}}, "must be https, as the first one is"},
		"http and CA":  {Config{Endpoints: []string{"http://10.0.0.1:2379"}, TLS: TLS{CA: "ca.pem"}}, "must be https where"},
		"no CA file":   {Config{Endpoints: []string{"https://10.0.0.1:2379"}, TLS: TLS{CA: "/none/ca.pem"}}, "/none/ca.pem"},
		"no PEM":       {Config{Endpoints: []string{"https://10.0.0.1:2379"}, TLS: TLS{CA: "etcd_test.go"}}, "has no certificate"},
		"cert alone":   {Config{Endpoints: []string{"https://10.0.0.1:2379"}, TLS: TLS{Cert: "etcd_test.go"}}, "certificate for etcd"},
		"no cert file": {Config{Endpoints: []string{"https://10.0.0.1:2379"}, TLS: TLS{Cert: "/none/c.pem", Key: "/none/k.pem"}}, "/none/c.pem"},
	} {
		s, err := Open(c.config)
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	for _, e := range []string{"https://10.0.0.1:2379", "https://[fd00::1]:2379/", "http://etcd.example:80"} {
		s, err := Open(Config{Endpoints: []string{e}})
		if err != nil {
			t.Errorf("%s: %v", e, err)
			continue
		}
		s.Close()
	}
}

// TestVersion: Debian's is the oldest that can be had.
func TestVersion(t *testing.T) {
	if v, err := open(t, startMember(t)).Version(t.Context()); err != nil || v != "3.7.3" {
		t.Errorf("version %q, %v", v, err)
	}
}
