package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dcni/pkg/cluster"
	"dcni/pkg/overlay"
	"dcni/pkg/records"
	"dcni/pkg/trust"
)

// TestMain makes this program a member of the store where a test's node starts one.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == memberArg {
		os.Exit(runMember(context.Background(), os.Stdin, os.Stderr))
	}
	os.Exit(m.Run())
}

// A host is one of a test, with its own files, and a loopback address of its own for the
// cluster's ports.
type host struct {
	*daemon
	t       *testing.T
	address string
	end     context.CancelFunc
	ended   chan error
}

// newHost starts dclusterd on a host.
func newHost(t *testing.T) *host {
	dir := t.TempDir()
	h := &host{t: t, address: fmt.Sprintf("127.%d.%d.%d", 1+rand.N(250), rand.N(250), 1+rand.N(250))}
	var log strings.Builder
	h.start(records.Store{Run: dir + "/run", Lib: dir + "/lib"}, &log)
	t.Cleanup(func() {
		h.stop()
		if t.Failed() {
			t.Logf("dclusterd at %s:\n%s", h.address, log.String())
		}
	})
	return h
}

func (h *host) start(store records.Store, log *strings.Builder) {
	h.startWith(store, log, func(*daemon) {})
}

// startWith starts it with other settings.
func (h *host) startWith(store records.Store, log *strings.Builder, set func(*daemon)) {
	h.daemon = newDaemon(options{confDir: filepath.Dir(store.Run) + "/net.d", grace: overlay.Grace * time.Second}, store, slog.New(slog.NewTextHandler(log, nil)))
	h.cloneTime = time.Second
	set(h.daemon)
	var ctx context.Context
	ctx, h.end = context.WithCancel(context.Background())
	h.ended = make(chan error, 1)
	d := h.daemon
	go func() { h.ended <- d.run(ctx) }()
	h.await("dclusterd", func() bool { return d.serving.Load() })
}

// stop ends dclusterd.
func (h *host) stop() {
	if h.end == nil {
		return
	}
	h.end()
	h.end = nil
	if err := <-h.ended; err != nil {
		h.t.Error(err)
	}
}

// restart has another dclusterd in place of the one that runs.
func (h *host) restart() {
	h.stop()
	h.start(h.daemon.store, &strings.Builder{})
}

func (h *host) await(what string, is func() bool) {
	h.t.Helper()
	for until := time.Now().Add(20 * time.Second); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(until) {
			h.t.Fatalf("%s: not within 20 s", what)
		}
	}
}

// ask asks for a verb.
func (h *host) ask(verb string, args, into any) error {
	h.t.Helper()
	q, err := json.Marshal(args)
	if err != nil {
		h.t.Fatal(err)
	}
	a, err := h.admin(h.t.Context(), verb, q)
	if err == nil && into != nil {
		err = json.Unmarshal(a, into)
	}
	return err
}

func (h *host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// refuses expects an error of one line with some words.
func (h *host) refuses(err error, words string) {
	h.t.Helper()
	if err == nil || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), "\n") {
		h.t.Errorf("%v, want one sentence with %q", err, words)
	}
}

// init makes a cluster.
func (h *host) initCluster(name string) {
	h.t.Helper()
	h.must(h.ask(cluster.Init, cluster.InitArgs{Self: cluster.Self{Name: name, Advertise: h.address}}, nil))
}

func (h *host) token(kind trust.Kind) string {
	h.t.Helper()
	var r cluster.TokenReply
	h.must(h.ask(cluster.Token, cluster.TokenArgs{Kind: kind, TTL: time.Hour}, &r))
	return r.Token
}

// joinAs joins the cluster of another host.
func (h *host) joinAs(name string, at *host, token string) error {
	return h.ask(cluster.Join, cluster.JoinArgs{Self: cluster.Self{Name: name, Advertise: h.address}, Address: at.address, Token: token}, nil)
}

func (h *host) statusNow() cluster.StatusReply {
	h.t.Helper()
	var s cluster.StatusReply
	h.must(h.ask(cluster.Status, nothing{}, &s))
	return s
}
