package host

import (
	"testing"
	"time"

	"dcni/pkg/host/agent"
	"dcni/pkg/names"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// TestLastGoesAsAnotherComes has an attachment come to the sandbox while the last
// one goes, just after dnetd has said that it is the last: it must find no rules of
// the other's that are about to go.
func TestLastGoesAsAnotherComes(t *testing.T) {
	inSandbox(t, func(path string, cookie uint64) {
		store := records.Store{Run: t.TempDir(), Lib: t.TempDir()}
		of := func(network string) *names.Resolver {
			return &names.Resolver{Owner: wire.Attachment{Network: network, Container: "c1", IfName: "eth0"}, NetNS: path, Cookie: cookie, Port: 40001}
		}
		going, coming := newHost(t, store), newHost(t, store)
		if err := going.LeadToNameServer(of("web")); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		going.Ask = func(agent.Request, ...int) (agent.Reply, error) {
			go func() { done <- coming.LeadToNameServer(of("db")) }()
			select {
			case err := <-done: // too early
				done <- err
			case <-time.After(100 * time.Millisecond):
			}
			return agent.Reply{Last: cookie}, nil
		}
		if err := (resolver{going, of("web")}).remove(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if have, _, err := nsTableHere(t, false).look(); err != nil || have.port != 40001 {
			t.Errorf("rules %q, %v", have, err)
		}
	})
}

func newHost(t *testing.T, store records.Store) *Host {
	h, err := New(store)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}
