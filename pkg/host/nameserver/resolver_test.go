package nameserver

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"dcni/pkg/host/agent"
	"dcni/pkg/host/hosttest"
	"dcni/pkg/host/nstable"
	"dcni/pkg/host/spaces"
	"dcni/pkg/names"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// TestLastGoesAsAnotherComes has an attachment come to the sandbox while the last
// one goes, just after dnetd has said that it is the last: it must find no rules of
// the other's that are about to go.
func TestLastGoesAsAnotherComes(t *testing.T) {
	hosttest.InSandbox(t, func(path string, cookie uint64) {
		store := records.Store{Run: t.TempDir(), Lib: t.TempDir()}
		of := func(network string) *names.Resolver {
			return &names.Resolver{Owner: wire.Attachment{Network: network, Container: "c1", IfName: "eth0"}, NetNS: path, Cookie: cookie, Port: 40001}
		}
		going, coming := newResolvers(t, store), newResolvers(t, store)
		if err := going.Lead(of("web")); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		serveOnce(t, filepath.Join(store.Run, "dnetd.sock"), func() agent.Reply {
			go func() { done <- coming.Lead(of("db")) }()
			select {
			case err := <-done: // too early
				done <- err
			case <-time.After(100 * time.Millisecond):
			}
			return agent.Reply{Last: cookie}
		})
		if err := (resolver{going, of("web")}).Remove(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := coming.eachTable(of("db"), nstable.Table.Check); err != nil {
			t.Error(err)
		}
	})
}

// serveOnce plays a dnetd that answers one request.
func serveOnce(t *testing.T, socket string, answer func() agent.Reply) {
	t.Helper()
	unixSocket, err := agent.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	l, err := agent.NewListener(unixSocket)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() {
		served <- func() error {
			conn, err := l.Accept()
			if err != nil {
				return err
			}
			defer conn.Close()
			var r agent.Request
			if _, err := conn.Receive(&r); err != nil {
				return err
			}
			return conn.Send(answer())
		}()
	}()
	t.Cleanup(func() {
		if err := errors.Join(<-served, l.Close()); err != nil {
			t.Error(err)
		}
	})
}

func newResolvers(t *testing.T, store records.Store) Resolvers {
	t.Helper()
	open, err := spaces.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(open.Close)
	return Resolvers{Set: open, Records: store, Dnetd: agent.Client{Store: store}}
}
