package main

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"dcni/pkg/overlay"
	"dcni/pkg/wire"
)

// TestReleases queues a release while the store is away, and has it sent when it is back.
func TestReleases(t *testing.T) {
	t.Parallel()
	a := newHost(t)
	a.initCluster("a")
	n, err := a.here()
	a.must(err)
	_, err = n.cluster().CreateNetwork(t.Context(), overlay.Wanted{Name: "web"})
	a.must(err)
	at := wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}
	_, err = n.cluster().Claim(t.Context(), overlay.Claim{Attachment: at})
	a.must(err)
	pid, _ := n.member().state()
	a.must(syscall.Kill(pid, syscall.SIGSTOP))
	a.must(a.state.QueueRelease(at))
	if queued := a.statusNow().Queued; queued != 1 {
		t.Errorf("%d releases wait", queued)
	}
	a.must(syscall.Kill(pid, syscall.SIGCONT))
	a.await("the release", func() bool { return n.queued() == 0 })
	if eps, err := n.cluster().Endpoints(t.Context(), "web"); err != nil || len(eps) != 0 {
		t.Errorf("endpoints are %v, %v", eps, err)
	}
}

// TestReleaseEarlier has a host boot: what its attachments had before is given back.
func TestReleaseEarlier(t *testing.T) {
	t.Parallel()
	a := newHost(t)
	a.initCluster("a")
	n, err := a.here()
	a.must(err)
	_, err = n.cluster().CreateNetwork(t.Context(), overlay.Wanted{Name: "web"})
	a.must(err)
	a.await("this boot known", func() bool { _, err := a.state.Read(fileBoot); return err == nil })
	_, err = n.cluster().Claim(t.Context(), overlay.Claim{Attachment: wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}})
	a.must(err)
	endpoints := func() int {
		n, err := a.here()
		a.must(err)
		eps, err := n.cluster().Endpoints(t.Context(), "web")
		if err != nil {
			return -1 // the store has yet to answer
		}
		return len(eps)
	}
	a.restart()
	a.await("the endpoint of this boot", func() bool { return endpoints() == 1 })
	a.stop()
	a.must(os.RemoveAll(a.daemon.store.Run))
	a.start(a.daemon.store, &strings.Builder{})
	a.await("no endpoint of the boot before", func() bool { return endpoints() == 0 })
}
