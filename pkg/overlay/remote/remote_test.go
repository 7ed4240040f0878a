package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dcni/pkg/overlay"
	"dcni/pkg/overlay/memory"
	"dcni/pkg/overlay/storetest"
	"dcni/pkg/wire"
)

var self = Self{
	Node: "n1", Cluster: "c", Prefix: "/dcni/1/c/", Members: []string{"https://10.0.0.1:2379"},
	Local: netip.MustParseAddr("fd00::1"), MTU: 1500,
}

// A fixture is a server that may end and begin again.
type fixture struct {
	testing.TB
	path   string
	server *Server
	end    func()
}

func newFixture(t testing.TB, store overlay.Store) *fixture {
	t.Helper()
	dir, err := os.MkdirTemp("", "r") // a socket's path has 107 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{TB: t, path: filepath.Join(dir, "s"), server: &Server{Store: store, Self: func() Self { return self }, Admin: admin}}
	f.begin()
	t.Cleanup(func() {
		f.end()
		os.RemoveAll(dir)
	})
	return f
}

// admin repeats args, or fails as they say.
func admin(_ context.Context, verb string, args json.RawMessage) (json.RawMessage, error) {
	switch verb {
	case "repeat":
		return args, nil
	case "nothing":
		return nil, nil
	case "long":
		return json.Marshal(strings.Repeat("x", maxFrame))
	case "code":
		return nil, wire.Errorf(wire.CodeConfig, "network %q: not in the cluster", "web")
	case "store":
		return nil, fmt.Errorf("web: %w", overlay.ErrNotFound)
	}
	return nil, errors.New("no such verb")
}

func (f *fixture) begin() {
	f.Helper()
	l, err := Listen(f.path)
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.server.Serve(ctx, l) }()
	f.end = func() {
		cancel()
		if err := <-done; err != nil {
			f.Error(err)
		}
	}
}

func (f *fixture) dial() *Client {
	f.Helper()
	c, err := Dial(f.path, 20*time.Second)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = c.Close() })
	return c
}

// tested is a client whose server has a store that can be cut off.
type tested struct {
	*Client
	memory *memory.Store
}

func (s tested) Compact(ctx context.Context, revision int64) error {
	return s.memory.Compact(ctx, revision)
}
func (s tested) Cut()  { s.memory.Cut() }
func (s tested) Mend() { s.memory.Mend() }

func TestContract(t *testing.T) {
	storetest.Contract(t, func(t *testing.T) overlay.Store {
		m := memory.New()
		return tested{newFixture(t, m).dial(), m}
	})
}

func TestAbsent(t *testing.T) {
	dir := t.TempDir()
	if c, err := Dial(filepath.Join(dir, "none"), time.Second); !errors.Is(err, overlay.ErrUnavailable) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no socket: %v, %v", c, err)
	}
	f := newFixture(t, memory.New())
	c := f.dial()
	f.end()
	f.end = func() {}
	if _, err := Dial(f.path, time.Second); !errors.Is(err, overlay.ErrUnavailable) || !strings.Contains(err.Error(), f.path+": connect: connection refused") {
		t.Errorf("a socket that refuses: %v", err)
	}
	if _, err := c.Get(t.Context(), "k"); !errors.Is(err, overlay.ErrUnavailable) {
		t.Errorf("Get after the server's end: %v", err)
	}
}

// TestServerEnds: what goes on ends with ErrUnavailable, the kept entry goes, and with the
// next server the client goes on.
func TestServerEnds(t *testing.T) {
	m := memory.New()
	f := newFixture(t, m)
	c := f.dial()
	watch, keep := make(chan error, 1), make(chan error, 1)
	go func() {
		watch <- c.Watch(t.Context(), "k", 0, func(int64, []overlay.Event) error { return nil })
	}()
	go func() { keep <- c.Keep(t.Context(), "k", []byte("v"), 5) }()
	until(t, "kept", func() bool { _, err := m.Get(t.Context(), "k"); return err == nil })
	f.end()
	for _, result := range []chan error{watch, keep} {
		if err := <-result; !errors.Is(err, overlay.ErrUnavailable) {
			t.Errorf("at the server's end: %v", err)
		}
	}
	if _, err := m.Get(t.Context(), "k"); !errors.Is(err, overlay.ErrNotFound) {
		t.Errorf("what was kept: %v", err)
	}
	f.begin()
	if s, err := c.Self(t.Context()); err != nil || !reflect.DeepEqual(s, self) {
		t.Errorf("Self of the next server: %+v, %v", s, err)
	}
}

// TestClientDies: watches and kept entries of a client whose process was killed go.
func TestClientDies(t *testing.T) {
	m := memory.New()
	store := &counted{Store: m}
	f := newFixture(t, store)
	var conns []*conn
	for _, q := range []request{{Op: opWatch, Key: "k"}, {Op: opKeep, Key: "k", TTL: 3600}} {
		c, err := f.dial().dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		frame, err := packRequest(q)
		if err == nil {
			_, err = c.Write(frame)
		}
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	until(t, "watched", func() bool { return store.watches.Load() == 1 })
	until(t, "kept", func() bool { _, err := m.Get(t.Context(), "k"); return err == nil })
	for _, c := range conns {
		c.Close() // as the kernel does
	}
	until(t, "the watch has ended", func() bool { return store.watches.Load() == 0 })
	until(t, "the entry has gone", func() bool {
		_, err := m.Get(t.Context(), "k")
		return errors.Is(err, overlay.ErrNotFound)
	})
}

// slow deletes what was kept after a while.
type slow struct {
	overlay.Store
	deleted atomic.Bool
}

func (s *slow) Keep(ctx context.Context, _ string, _ []byte, _ int) error {
	<-ctx.Done()
	time.Sleep(100 * time.Millisecond)
	s.deleted.Store(true)
	return ctx.Err()
}

// TestKeepWaits: Keep returns when the entry was deleted, not before.
func TestKeepWaits(t *testing.T) {
	store := &slow{}
	c := newFixture(t, store).dial()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Keep(ctx, "k", nil, 5); !errors.Is(err, context.DeadlineExceeded) || !store.deleted.Load() {
		t.Errorf("Keep: %v, deleted: %v", err, store.deleted.Load())
	}
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

func TestAdmin(t *testing.T) {
	c := newFixture(t, memory.New()).dial()
	var got map[string]int
	if err := c.Admin(t.Context(), "repeat", map[string]int{"a": 1}, &got); err != nil || got["a"] != 1 {
		t.Errorf("repeat: %v, %v", got, err)
	}
	for _, verb := range []string{"repeat", "nothing"} {
		if err := c.Admin(t.Context(), verb, nil, nil); err != nil {
			t.Errorf("%s: %v", verb, err)
		}
	}
	var coded *wire.Error
	err := c.Admin(t.Context(), "code", nil, nil)
	if want := `network "web": not in the cluster`; !errors.As(err, &coded) || coded.Code != wire.CodeConfig || coded.Msg != want || err.Error() != want {
		t.Errorf("code: %v, as a wire.Error %+v", err, coded)
	}
	if err := c.Admin(t.Context(), "store", nil, nil); !errors.Is(err, overlay.ErrNotFound) || err.Error() != "web: not found" {
		t.Errorf("store: %v", err)
	}
	if err := c.Admin(t.Context(), "other", nil, nil); err == nil || errors.Is(err, overlay.ErrUnavailable) || err.Error() != "no such verb" {
		t.Errorf("other: %v", err)
	}
	if err := c.Admin(t.Context(), "long", nil, nil); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("long: %v", err)
	}
	if err := c.Admin(t.Context(), "repeat", strings.Repeat("x", maxFrame), nil); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("long request: %v", err)
	}
	if n := len(c.idle); n != 1 {
		t.Errorf("%d connections wait, want the one that all calls had", n)
	}
}

// TestSilent: of a server that takes requests and does not answer, the client says so.
func TestSilent(t *testing.T) {
	path := filepath.Join(newFixture(t, memory.New()).path + "2")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := Dial(path, 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Get(t.Context(), "k")
	if !errors.Is(err, overlay.ErrUnavailable) || !strings.Contains(err.Error(), "no answer within 50ms") {
		t.Errorf("Get: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Keep(ctx, "k", nil, 5); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Keep: %v", err)
	}
}

func TestListenMode(t *testing.T) {
	f := newFixture(t, memory.New())
	info, err := os.Stat(f.path)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("the socket: %v, %v", info.Mode(), err)
	}
	if list, err := os.ReadDir(filepath.Dir(f.path)); err != nil || len(list) != 1 {
		t.Errorf("beside the socket: %v, %v", list, err)
	}
	f.begin() // in place of the other, which goes on for those that it has
	c := f.dial()
	if _, err := c.Self(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestManyAtOnce: calls don't wait for one another.
func TestManyAtOnce(t *testing.T) {
	c := newFixture(t, memory.New()).dial()
	errs := make(chan error)
	for i := range 50 {
		go func() {
			_, _, err := c.Commit(t.Context(), overlay.Txn{Then: []overlay.Change{{Key: fmt.Sprint(i), Value: []byte("v")}}})
			if err == nil {
				_, err = c.Get(t.Context(), fmt.Sprint(i))
			}
			errs <- err
		}()
	}
	for range 50 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	m := memory.New()
	if _, _, err := m.Commit(b.Context(), overlay.Txn{Then: []overlay.Change{{Key: "k", Value: make([]byte, 300)}}}); err != nil {
		b.Fatal(err)
	}
	f := newFixture(b, m)
	c := f.dial()
	b.Run("connected", func(b *testing.B) {
		for b.Loop() {
			if _, err := c.Get(b.Context(), "k"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("with dial", func(b *testing.B) {
		for b.Loop() {
			c, err := Dial(f.path, time.Second)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := c.Get(b.Context(), "k"); err != nil {
				b.Fatal(err)
			}
			c.Close()
		}
	})
}
