package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dcni/pkg/records"
)

func TestNames(t *testing.T) {
	r := newFixture(t)
	d := r.start()
	a, b, c := r.netNS(), r.netNS(), r.netNS()
	portA := r.serve(a, a.attach("web", "one", "10.0.0.2"))
	portB := r.serve(b, b.attach("web", "two", "10.0.0.3"))
	portC := r.serve(c, c.attach("lab", "three", "10.1.0.2"))
	a.in(portA, "two", "10.0.0.3")
	a.in(portA, "two.web", "10.0.0.3")
	a.in(portA, "host.docker.internal", "10.0.0.1")
	b.in(portB, "one", "10.0.0.2")
	if is := c.ask(portC, "one.lab"); strings.HasPrefix(is, "10.") {
		t.Errorf("another network's name: %s", is)
	}

	// A second network, on the same sockets.
	if port := r.serve(c, c.attach("web", "three", "10.0.0.4")); port != portC {
		t.Errorf("port %d for the second network, was %d", port, portC)
	}
	c.in(portC, "one", "10.0.0.2")
	a.in(portA, "three", "10.0.0.4")

	r.forget(b.attach("web", "two", "10.0.0.3"))
	if is := a.ask(portA, "two.web"); strings.HasPrefix(is, "10.") {
		t.Errorf("a name that was forgotten: %s", is)
	}

	d.signal(syscall.SIGTERM)
	if err := d.ends(10 * time.Second); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"dnetd.sock", "dnetd.pid"} {
		if _, err := os.Lstat(filepath.Join(r.store.Run, name)); err == nil {
			t.Errorf("%s stays", name)
		}
	}
}

func TestKilled(t *testing.T) {
	r := newFixture(t)
	d := r.start()
	const n = 20
	sandboxes, ports := r.netNSList(n)
	d.signal(syscall.SIGKILL)
	_ = d.ends(10 * time.Second)
	r.begin()
	for i, b := range sandboxes {
		b.eventually(ports[i], containerName((i+1)%n), containerAddress((i+1)%n))
	}
}

func TestRecordsDecide(t *testing.T) {
	r := newFixture(t)
	a, b, c := r.netNS(), r.netNS(), r.netNS()
	up, adding, gone := a.attach("web", "one", "10.0.0.2"), b.attach("web", "two", "10.0.0.3"), c.attach("web", "three", "10.0.0.4")
	s := a.sockets(false)
	up.Port, adding.Port, gone.Port = s.Port, 5353, 5353
	s.Close()
	gone.Cookie++ // another namespace is at that path
	r.record(up, records.Up)
	r.record(adding, records.Adding)
	r.record(gone, records.Up)
	r.start()
	a.in(up.Port, "one.web", "10.0.0.2")
	for _, name := range []string{"two.web", "three.web"} {
		if is := a.ask(up.Port, name); strings.HasPrefix(is, "10.") {
			t.Errorf("%s: %s", name, is)
		}
	}
}
