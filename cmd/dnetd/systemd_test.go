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

// A serviceRig plays systemd: it listens where dnetd serves, starts it, hears
// what it says, and keeps its sockets.
type serviceRig struct {
	*rig
	manager  *fakeStore
	listener *os.File
}

func newServiceRig(t *testing.T) *serviceRig {
	t.Helper()
	r := &serviceRig{rig: newRig(t)}
	r.manager, _ = newFakeStore(t)
	r.listen()
	return r
}

// listen makes the socket, in place of what is there.
func (r *serviceRig) listen() {
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

// startService starts a dnetd with what is stored and what a
// service may do, and waits until it says that
// it is ready.
func (r *serviceRig) startService(env ...string) *process {
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
	r.hears("READY=1")
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

// hears waits for a message, whichever come before it.
func (r *serviceRig) hears(want string) {
	r.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		r.manager.read()
		if i := slices.Index(r.manager.said, want); i >= 0 {
			r.manager.said = slices.Delete(r.manager.said, i, i+1)
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("heard %q, want %q", r.manager.said, want)
		}
	}
}

// stores waits until what is kept is that.
func (r *serviceRig) stores(want ...string) {
	r.t.Helper()
	slices.Sort(want)
	for deadline := time.Now().Add(5 * time.Second); ; {
		got := r.manager.names()
		if got == strings.Join(want, " ") {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("the store has %q, want %q", got, want)
		}
	}
}

func inStore(b *box) string { return fmt.Sprintf("%s:2", storeKey{b.cookie, names.IPv4}) }

// TestServiceRestarts: a restart loses no query, and a kill none but those that
// were read by then.
func TestServiceRestarts(t *testing.T) {
	r := newServiceRig(t)
	d := r.startService()
	boxes, ports := r.boxes(3)
	r.stores(inStore(boxes[0]), inStore(boxes[1]), inStore(boxes[2]))
	const batch = 64 // queries that are read at once: a dnetd that is killed may have some that it has not answered
	mayLose := map[os.Signal]int{syscall.SIGTERM: 0, syscall.SIGKILL: batch}
	for i, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGKILL, syscall.SIGTERM, syscall.SIGKILL} {
		load := boxes[0].load(ports[0], containerName(2))
		time.Sleep(200 * time.Millisecond)
		d.signal(signal)
		err := d.ends(2 * time.Second)
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
	r.stores(inStore(boxes[0]), inStore(boxes[1]), inStore(boxes[2]))
	d.signal(syscall.SIGTERM)
	r.hears("STOPPING=1")
	if err := d.ends(time.Second); err != nil {
		t.Error(err)
	}
	if strings.Contains(d.out.String(), "level=ERROR") {
		t.Error("something is not possible for a service")
	}
}

// TestServiceStore: the store has what is served and no more, also of containers
// that went while no dnetd was there.
func TestServiceStore(t *testing.T) {
	r := newServiceRig(t)
	d := r.startService()
	var boxes []*box
	var resolvers []*names.Resolver
	for i := range 3 {
		b := r.box()
		resolver := b.attach("web", containerName(i), containerAddress(i))
		r.serve(b, resolver)
		boxes, resolvers = append(boxes, b), append(resolvers, resolver)
	}
	r.forget(resolvers[0])
	r.stores(inStore(boxes[1]), inStore(boxes[2]))
	d.signal(syscall.SIGKILL)
	_ = d.ends(time.Second)
	if err := r.store.Delete(resolvers[1].Owner, plugin); err != nil {
		t.Fatal(err)
	}
	r.startService()
	r.stores(inStore(boxes[2]))
}

// TestServiceAdds: an ADD that was at work when dnetd was killed is served on the
// sockets that it had brought, as soon as its record is up.
func TestServiceAdds(t *testing.T) {
	r := newServiceRig(t)
	d := r.startService()
	b := r.box()
	resolver := b.attach("web", "one", "10.0.0.2")
	resolver.Port = r.serve(b, resolver)
	r.record(resolver, records.Adding)
	d.signal(syscall.SIGKILL)
	_ = d.ends(time.Second)
	r.startService()
	r.record(resolver, records.Up)
	b.eventually(resolver.Port, "one", "10.0.0.2")
	r.stores(inStore(b))
}

// TestServiceTakesPlace: systemd comes to listen where a dnetd that somebody
// started by hand does. Nobody reaches that one any more, and it is ended.
func TestServiceTakesPlace(t *testing.T) {
	r := newServiceRig(t)
	if err := os.Remove(r.socket()); err != nil {
		t.Fatal(err)
	}
	byHand := r.rig.start()
	boxes, ports := r.boxes(2)
	r.listen()
	r.startService()
	if err := byHand.ends(5 * time.Second); err != nil {
		t.Error(err)
	}
	boxes[0].eventually(ports[0], containerName(1), containerAddress(1))
	r.stores(inStore(boxes[0]), inStore(boxes[1]))
}

// TestServiceYields: a dnetd started by hand takes over from systemd's, and the
// one that systemd starts again takes over from it; the socket stays.
func TestServiceYields(t *testing.T) {
	r := newServiceRig(t)
	first := r.startService()
	boxes, ports := r.boxes(2)
	load := boxes[0].load(ports[0], containerName(1))
	byHand := r.rig.start()
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
	r.stores(inStore(boxes[0]), inStore(boxes[1]))
	if _, err := os.Lstat(r.socket()); err != nil {
		t.Error(err)
	}
}

// TestServiceTells: what is told in systemctl status, and that dnetd is well.
func TestServiceTells(t *testing.T) {
	r := newServiceRig(t)
	d := r.startService("WATCHDOG_USEC=300000")
	r.hears("STATUS=0 containers on 0 networks")
	r.boxes(2)
	r.hears("STATUS=2 containers on 1 networks")
	r.hears("WATCHDOG=1")
	r.hears("WATCHDOG=1")
	d.signal(syscall.SIGSTOP)
	time.Sleep(100 * time.Millisecond)
	r.manager.read()
	r.manager.said = nil
	time.Sleep(500 * time.Millisecond)
	if r.manager.read(); len(r.manager.said) > 0 {
		t.Errorf("a dnetd that is stopped says %q", r.manager.said)
	}
}

// TestServiceBusy: a systemd that hears nothing for a while holds nobody up, and
// is told later.
func TestServiceBusy(t *testing.T) {
	r := newServiceRig(t)
	r.startService("WATCHDOG_USEC=300000")
	const n = 40 // more than wait in its queue
	start := time.Now()
	boxes, ports := r.boxes(n)
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("%d containers took %v", n, took)
	}
	boxes[0].in(ports[0], containerName(n-1), containerAddress(n-1))
	var want []string
	for _, b := range boxes {
		want = append(want, inStore(b))
	}
	r.stores(want...)
}

// TestServiceElsewhere: systemd listens at another path than --socket says.
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
