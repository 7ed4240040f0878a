package main

import (
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"dcni/pkg/host/agent"
	"dcni/pkg/host/systemd"
	"dcni/pkg/names"
	"dcni/pkg/records"
)

// A serviceFixture stands for systemd: it listens where dnetd serves, starts dnetd,
// reads its notifications, and keeps its sockets.
type serviceFixture struct {
	*fixture
	manager  *fakeStore
	listener *os.File
}

func newServiceFixture(t *testing.T) *serviceFixture {
	t.Helper()
	r := &serviceFixture{fixture: newFixture(t)}
	r.manager, _ = newFakeStore(t)
	r.listen()
	return r
}

// listen makes the socket, in place of what is there.
func (r *serviceFixture) listen() {
	r.t.Helper()
	l, err := agent.Listen(r.socket())
	if err != nil {
		r.t.Fatal(err)
	}
	defer l.Close()
	if r.listener, err = l.File(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = r.listener.Close() })
}

// startService starts a dnetd with the stored sockets and the capabilities of the
// service, and waits until it says that it is ready.
func (r *serviceFixture) startService(env ...string) *process {
	r.t.Helper()
	files, fdNames := []*os.File{r.listener}, []string{"dnetd.socket"}
	for _, d := range r.manager.hand() {
		files, fdNames = append(files, os.NewFile(uintptr(d.FD), d.Name)), append(fdNames, d.Name)
	}
	p := r.prepare()
	p.Env = append(p.Env, "NOTIFY_SOCKET="+r.manager.conn.LocalAddr().String(),
		fmt.Sprint("LISTEN_FDS=", len(files)), "LISTEN_FDNAMES="+strings.Join(fdNames, ":"))
	p.Env = append(p.Env, env...)
	// LISTEN_PID is the process's own, which a shell knows before it becomes it.
	p.Path, p.Args = "/bin/sh", append([]string{"sh", "-c", `LISTEN_PID=$$ exec setpriv --no-new-privs --bounding-set "$0" "$@"`, capabilities(r.t)}, p.Args...)
	p.ExtraFiles = files
	r.launch(p)
	for _, f := range files[1:] {
		_ = f.Close()
	}
	r.notified("READY=1")
	return p
}

// capabilities returns those of the unit, as setpriv(1) wants them.
func capabilities(t testing.TB) string {
	t.Helper()
	unit, err := os.ReadFile("../../scripts/systemd/dnetd.service")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^CapabilityBoundingSet=(.*)$`).FindSubmatch(unit)
	if line == nil {
		t.Fatal("the unit has no CapabilityBoundingSet")
	}
	return "-all,+" + strings.ReplaceAll(strings.ToLower(strings.ReplaceAll(string(line[1]), "CAP_", "")), " ", ",+")
}

// notified waits for a message; others may come before it.
func (r *serviceFixture) notified(want string) {
	r.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		r.manager.read()
		if i := slices.Index(r.manager.other, want); i >= 0 {
			r.manager.other = slices.Delete(r.manager.other, i, i+1)
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("got %q, want %q", r.manager.other, want)
		}
	}
}

// stores waits until exactly these sockets are kept.
func (r *serviceFixture) stores(want ...string) {
	r.t.Helper()
	slices.Sort(want)
	for deadline := time.Now().Add(20 * time.Second); ; {
		got := r.manager.names()
		if got == strings.Join(want, " ") {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("the store has %q, want %q", got, want)
		}
	}
}

func inStore(b *testNetNS) string { return fmt.Sprintf("%s:2", storeKey{b.cookie, names.IPv4}) }

// A restart loses no query. A kill loses none but those that had been read.
func TestServiceRestarts(t *testing.T) {
	r := newServiceFixture(t)
	d := r.startService()
	sandboxes, ports := r.netNSList(3)
	r.stores(inStore(sandboxes[0]), inStore(sandboxes[1]), inStore(sandboxes[2]))
	const batch = 64 // queries that are read at once: a dnetd that is killed may have some that it has not answered
	mayLose := map[os.Signal]int{syscall.SIGTERM: 0, syscall.SIGKILL: batch}
	for i, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGKILL, syscall.SIGTERM, syscall.SIGKILL} {
		load := sandboxes[0].load(ports[0], containerName(2))
		time.Sleep(200 * time.Millisecond)
		d.signal(signal)
		err := d.ends(20 * time.Second)
		if ended := signal == syscall.SIGTERM; ended != (err == nil) {
			t.Errorf("%d, %v: %v", i, signal, err)
		}
		if _, err := os.Lstat(r.socket()); err != nil {
			t.Fatalf("%d, %v: the socket is gone: %v", i, signal, err)
		}
		d = r.startService()
		if lost := load.lost(); lost > mayLose[signal] {
			t.Errorf("%d, %v: %d of %d lost", i, signal, lost, load.sent.Load())
		}
	}
	r.stores(inStore(sandboxes[0]), inStore(sandboxes[1]), inStore(sandboxes[2]))
	d.signal(syscall.SIGTERM)
	r.notified("STOPPING=1")
	if err := d.ends(10 * time.Second); err != nil {
		t.Error(err)
	}
	if strings.Contains(d.out.String(), "level=ERROR") {
		t.Error("something is not possible for a service")
	}
}

// The store has the sockets that are served and no others, also after containers
// went while no dnetd ran.
func TestServiceStore(t *testing.T) {
	r := newServiceFixture(t)
	d := r.startService()
	var sandboxes []*testNetNS
	var resolvers []*names.Resolver
	for i := range 3 {
		b := r.netNS()
		resolver := b.attach("web", containerName(i), containerAddress(i))
		r.serve(b, resolver)
		sandboxes, resolvers = append(sandboxes, b), append(resolvers, resolver)
	}
	r.forget(resolvers[0])
	r.stores(inStore(sandboxes[1]), inStore(sandboxes[2]))
	d.signal(syscall.SIGKILL)
	_ = d.ends(10 * time.Second)
	if err := r.store.Delete(resolvers[1].Owner, plugin); err != nil {
		t.Fatal(err)
	}
	r.startService()
	r.stores(inStore(sandboxes[2]))
}

// An ADD that was at work when dnetd was killed is served on the sockets that it had
// sent, as soon as its record is up.
func TestServiceAdds(t *testing.T) {
	r := newServiceFixture(t)
	d := r.startService()
	b := r.netNS()
	resolver := b.attach("web", "one", "10.0.0.2")
	resolver.Port = r.serve(b, resolver)
	r.record(resolver, records.Adding)
	d.signal(syscall.SIGKILL)
	_ = d.ends(10 * time.Second)
	r.startService()
	r.record(resolver, records.Up)
	b.eventually(resolver.Port, "one", "10.0.0.2")
	r.stores(inStore(b))
}

// When systemd begins to listen where a dnetd does that was started by hand, plugins
// don't reach that one any more, and systemd's dnetd ends it.
func TestServiceTakesPlace(t *testing.T) {
	r := newServiceFixture(t)
	if err := os.Remove(r.socket()); err != nil {
		t.Fatal(err)
	}
	byHand := r.fixture.start()
	sandboxes, ports := r.netNSList(2)
	r.listen()
	r.startService()
	if err := byHand.ends(20 * time.Second); err != nil {
		t.Error(err)
	}
	sandboxes[0].eventually(ports[0], containerName(1), containerAddress(1))
	r.stores(inStore(sandboxes[0]), inStore(sandboxes[1]))
}

// A dnetd started by hand takes over from systemd's, and the one that systemd starts
// again takes over from it. The socket stays.
func TestServiceHandsOver(t *testing.T) {
	r := newServiceFixture(t)
	first := r.startService()
	sandboxes, ports := r.netNSList(2)
	load := sandboxes[0].load(ports[0], containerName(1))
	byHand := r.fixture.start()
	if err := first.ends(10 * time.Second); err != nil {
		t.Error(err)
	}
	r.startService()
	if err := byHand.ends(10 * time.Second); err != nil {
		t.Error(err)
	}
	if lost := load.lost(); lost > 0 {
		t.Errorf("%d of %d lost", lost, load.sent.Load())
	}
	r.stores(inStore(sandboxes[0]), inStore(sandboxes[1]))
	if _, err := os.Lstat(r.socket()); err != nil {
		t.Error(err)
	}
}

// dnetd notifies systemd of its status, and that it is well.
func TestServiceNotifies(t *testing.T) {
	r := newServiceFixture(t)
	d := r.startService("WATCHDOG_USEC=300000")
	r.notified("STATUS=0 containers on 0 networks")
	r.netNSList(2)
	r.notified("STATUS=2 containers on 1 networks")
	r.notified("WATCHDOG=1")
	r.notified("WATCHDOG=1")
	d.signal(syscall.SIGSTOP)
	time.Sleep(100 * time.Millisecond)
	r.manager.read()
	r.manager.other = nil
	time.Sleep(500 * time.Millisecond)
	if r.manager.read(); len(r.manager.other) > 0 {
		t.Errorf("a dnetd that is stopped notifies: %q", r.manager.other)
	}
}

// A systemd that reads nothing for a while delays no ADD, and is notified later.
func TestServiceBusy(t *testing.T) {
	r := newServiceFixture(t)
	r.startService("WATCHDOG_USEC=300000")
	const n = 40 // more than wait in its queue
	start := time.Now()
	sandboxes, ports := r.netNSList(n)
	if took := time.Since(start); took > 20*time.Second { // without a queue, ADD would wait for each
		t.Errorf("%d containers took %v", n, took)
	}
	sandboxes[0].in(ports[0], containerName(n-1), containerAddress(n-1))
	var want []string
	for _, b := range sandboxes {
		want = append(want, inStore(b))
	}
	r.stores(want...)
}

// A systemd that listens at another path than --socket is an error.
func TestServiceElsewhere(t *testing.T) {
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: t.TempDir() + "/other.sock", Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	own, err := syscall.Dup(int(file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	_, err = listenerOf(systemd.Descriptor{Name: "dnetd.socket", FD: own}, "/run/dcni/dnetd.sock")
	want := fmt.Sprintf("systemd listens at unixpacket %s: must be --socket, unixpacket /run/dcni/dnetd.sock", l.Addr())
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
