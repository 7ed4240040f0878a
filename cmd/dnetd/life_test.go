package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dcni/pkg/host/agent"
	"dcni/pkg/names"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

func TestOnDemand(t *testing.T) {
	t.Parallel()
	r := newFixture(t)
	d := r.start("--on-demand")
	b := r.netNS()
	resolver := b.attach("web", "one", "10.0.0.2")
	port := r.serve(b, resolver)
	time.Sleep(2 * idleTime)
	b.in(port, "one", "10.0.0.2")

	// Another that is started so has nothing to do.
	if err := r.begin("--on-demand").ends(10 * time.Second); err != nil {
		t.Error(err)
	}
	r.forget(resolver)
	begin := time.Now()
	if err := d.ends(20 * time.Second); err != nil {
		t.Error(err)
	}
	if after := time.Since(begin); after < idleTime/2 {
		t.Errorf("ends after %v", after)
	}
	if _, err := os.Lstat(r.socket()); err == nil {
		t.Error("the socket stays")
	}
}

// A request that comes while a dnetd ends for want of containers is either served
// for good, or finds no dnetd.
func TestEndAndRequest(t *testing.T) {
	t.Parallel()
	r := newFixture(t)
	b := r.netNS()
	resolver := b.attach("web", "one", "10.0.0.2")
	for i := range 8 {
		begun := []*process{r.start("--on-demand")}
		r.serve(b, resolver)
		r.forget(resolver)
		time.Sleep(idleTime + time.Duration(i)*20*time.Millisecond)
		s := b.sockets(false)
		for {
			reply, err := agent.Call(r.socket(), 20*time.Second, agent.Request{Op: agent.Serve, Resolver: resolver}, s.UDP, s.TCP)
			if err == nil { // on these sockets, or on some that it has opened itself as the record says
				b.in(reply.Port, "one", "10.0.0.2")
				break
			}
			if !strings.Contains(err.Error(), agent.ErrAbsent.Error()) {
				t.Fatal(err)
			}
			begun = append(begun, r.begin("--on-demand"))
			time.Sleep(10 * time.Millisecond)
		}
		s.Close()
		for _, d := range begun { // any of them may serve
			_ = d.Process.Kill()
			_ = d.ends(10 * time.Second)
		}
	}
}

func TestReconcile(t *testing.T) {
	t.Parallel()
	r := newFixture(t)
	r.start()
	a, b, c := r.netNS(), r.netNS(), r.netNS()
	gone, kept, busy := a.attach("web", "one", "10.0.0.2"), b.attach("web", "two", "10.0.0.3"), c.attach("web", "three", "10.0.0.4")
	r.serve(a, gone)
	port := r.serve(b, kept)
	r.serve(c, busy)
	lock, err := r.store.LockAttachment(busy.Owner)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	for _, owner := range []wire.Attachment{gone.Owner, busy.Owner} {
		if err := r.store.Delete(owner, plugin); err != nil {
			t.Fatal(err)
		}
	}
	e := r.netNS()
	found := e.attach("web", "four", "10.0.0.5")
	s := e.sockets(false)
	found.Port = s.Port
	s.Close()
	r.record(found, records.Up)

	time.Sleep(3 * testReconcile)
	b.in(port, "one", "rcode 2")
	b.in(port, "three", "10.0.0.4")
	b.in(port, "four", "10.0.0.5")
	e.in(found.Port, "two", "10.0.0.3")
}

// A resolver is served whatever plugin has it on record, also beside another
// plugin's record, which may come and go.
func TestResolverOfAnyPlugin(t *testing.T) {
	t.Parallel()
	r := newFixture(t)
	a, b := r.netNS(), r.netNS()
	one, two := a.attach("web", "one", "10.0.0.2"), b.attach("web", "two", "10.0.0.3")
	s := a.sockets(false)
	one.Port = s.Port
	s.Close()
	r.recordOf("dbridge", one.Owner, one, records.Up)
	r.start()
	a.in(one.Port, "one", "10.0.0.2")

	r.recordOf("dbridge", two.Owner, nil, records.Up)
	r.record(two, records.Up)
	a.eventually(one.Port, "two", "10.0.0.3")
	time.Sleep(2*testReconcile + settleTime)
	a.in(one.Port, "two", "10.0.0.3")
	if err := r.store.Delete(two.Owner, plugin); err != nil {
		t.Fatal(err)
	}
	a.eventually(one.Port, "two", "rcode 2")
	r.recordOf("dbridge", two.Owner, two, records.Up)
	a.eventually(one.Port, "two", "10.0.0.3")
}

// An attachment without names is not locked: GC would leave it alone.
func TestReconcileLeavesLocks(t *testing.T) {
	r := newFixture(t)
	a := wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}
	r.recordOf("dbridge", a, nil, records.Up)
	lock, err := r.store.LockAttachment(a)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	if hasResolver, err := r.newHere().compare(a); hasResolver || err != nil {
		t.Errorf("resolver %t, %v: want no request for the lock", hasResolver, err)
	}
}

// A record that was not written again is not read again. The clock may be set back between
// two records of a chain, so that the one that is written later has the older time.
func TestReconcileReadsWhatChanged(t *testing.T) {
	r := newFixture(t)
	b := r.netNS()
	resolver := b.attach("web", "one", "10.0.0.2")
	path := filepath.Join(r.store.Run, "attachments/web/one-id/eth0/dbridge.json")
	d, soon := r.newHere(), time.Now().Add(time.Hour)
	defer func() { d.registry.remove(resolver.Owner) }()
	r.recordOf("dmeta", resolver.Owner, nil, records.Up)
	if err := os.Chtimes(filepath.Join(filepath.Dir(path), "dmeta.json"), soon, soon); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		resolver *names.Resolver
		written  time.Time
		want     int // sandboxes
	}{
		{nil, time.Unix(1000, 0), 0},
		{resolver, time.Unix(1000, 0), 0},
		{resolver, time.Unix(1001, 0), 1},
		{nil, time.Unix(1001, 0), 1},
		{nil, soon, 0},
		{resolver, soon, 0}, // its time is to come: written again, it has another
		{resolver, time.Unix(1002, 0), 1},
	} {
		r.recordOf("dbridge", resolver.Owner, c.resolver, records.Up)
		if err := os.Chtimes(path, c.written, c.written); err != nil {
			t.Fatal(err)
		}
		d.reconcile(t.Context())
		if is := d.registry.count(); is != c.want {
			t.Errorf("resolver %t, written at %s: %d sandboxes, want %d", c.resolver != nil, c.written, is, c.want)
		}
	}
}

// A record that is so young that it may have been written again at the same time is read
// again; one of a time to come is not, as after the clock was set back.
func TestSettled(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		ages []time.Duration
		want bool
	}{
		{nil, true},
		{[]time.Duration{time.Second}, true},
		{[]time.Duration{-time.Hour}, true},
		{[]time.Duration{settleTime / 2}, false},
		{[]time.Duration{-settleTime / 2}, false},
		{[]time.Duration{time.Hour, settleTime / 2, time.Second}, false},
	} {
		r := onRecord{}
		for i, age := range c.ages {
			r[fmt.Sprint("plugin", i)] = now.Add(-age)
		}
		if is := r.settled(now); is != c.want {
			t.Errorf("written %v ago: settled is %t", c.ages, is)
		}
	}
}

// When dnetd begins and another socket has the port on record, it takes another one
// and redirects port 53 to that, for both attachments.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	r := newFixture(t)
	b := r.netNS()
	one, two := b.attach("web", "one", "10.0.0.2"), b.attach("lab", "two", "10.1.0.2")
	taken := b.sockets(false)
	defer taken.Close()
	for _, resolver := range []*names.Resolver{one, two} {
		resolver.Port = taken.Port
		r.record(resolver, records.Up)
	}
	r.start()
	b.eventually(names.DNSPort, "two", "10.1.0.2")
	for _, resolver := range []*names.Resolver{one, two} {
		port := taken.Port
		for deadline := time.Now().Add(time.Second); port == taken.Port && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			is, err := r.store.Get(resolver.Owner, plugin)
			if err != nil {
				t.Fatal(err)
			}
			port = is.Resolver.Port
		}
		if port == taken.Port {
			t.Errorf("%s: the record still has port %d", resolver.Owner, port)
		}
	}
	b.in(names.DNSPort, "one", "10.0.0.2")
}

// A namespace that only dnetd's sockets keep alive is left.
func TestDeserted(t *testing.T) {
	t.Parallel()
	r := newFixture(t)
	d := r.start()
	a, b := r.netNS(), r.netNS()
	path := filepath.Join(r.store.Run, "netns")
	if err := os.Symlink(a.path, path); err != nil {
		t.Fatal(err)
	}
	gone := a.attach("web", "one", "10.0.0.2")
	gone.NetNS = path
	r.serve(a, gone)
	files := d.steadyFiles()
	port := r.serve(b, b.attach("web", "two", "10.0.0.3"))
	time.Sleep(3 * testReconcile)
	b.in(port, "one", "10.0.0.2")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * testReconcile)
	b.in(port, "one", "10.0.0.2") // this process has it open, and may still enter it
	a.ns.Close()
	b.eventually(port, "one", "rcode 2")
	d.wantFiles(files)
}

func TestTwoBegin(t *testing.T) {
	t.Parallel()
	r := newFixture(t)
	list := []*process{r.begin(), r.begin(), r.begin()}
	time.Sleep(time.Second)
	alive := 0
	for _, p := range list {
		select {
		case err := <-p.done:
			if err != nil {
				t.Errorf("%v: %s", err, p.out)
			}
		default:
			alive++
			p.await()
		}
	}
	if alive != 1 {
		t.Errorf("%d run", alive)
	}
}

// When the unix socket's file was removed, another dnetd can't find the first one,
// which ends when it sees the other's socket.
func TestSocketGone(t *testing.T) {
	t.Parallel()
	r := newFixture(t)
	d := r.start()
	b := r.netNS()
	resolver := b.attach("web", "one", "10.0.0.2")
	r.serve(b, resolver)
	if err := os.Remove(r.socket()); err != nil {
		t.Fatal(err)
	}
	r.start()
	if err := d.ends(20 * time.Second); err != nil {
		t.Error(err)
	}
	b.eventually(names.DNSPort, "one", "10.0.0.2")
	if _, err := os.Lstat(r.socket()); err != nil {
		t.Error(err)
	}
}
