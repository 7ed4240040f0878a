package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"dcni/pkg/firewall"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// publisher is a plugin that publishes ports.
const publisher = "dbridge"

// openPorts returns the ports of a store in a temporary directory, and what is
// logged of them.
func openPorts(t *testing.T, store records.Store) (*ports, *output) {
	t.Helper()
	log := &output{}
	p, err := newPorts(records.NewCachedStore(store), slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.relay.Close() })
	return p, log
}

// publish records an attachment with a port, published on ::1 of the host.
func publish(t *testing.T, store records.Store, network, container string, state records.State, port uint16) wire.Attachment {
	t.Helper()
	a := wire.Attachment{Network: network, Container: container, IfName: "eth0"}
	err := store.Put(&records.Record{
		Attachment: a, Plugin: publisher, State: state, Since: time.Now(),
		Endpoint: &firewall.Endpoint{
			Owner: a, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2")},
			Ports: []firewall.Port{{HostIP: netip.IPv6Loopback(), HostPort: port, Protocol: "tcp", ContainerPort: 80}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// freePort returns a port of ::1 that is free.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here: ", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

// listens reports whether a process listens on a port of ::1.
func listens(port uint16) bool {
	c, err := net.DialTimeout("tcp6", fmt.Sprintf("[::1]:%d", port), time.Second)
	if err == nil {
		_ = c.Close()
	}
	return err == nil || !strings.Contains(err.Error(), "refused") // a relay resets: no container is there
}

func TestPortsFollowRecords(t *testing.T) {
	r := newFixture(t)
	up, adding, later := freePort(t), freePort(t), freePort(t)
	a := publish(t, r.store, "web", "c1", records.Up, up)
	publish(t, r.store, "web", "c2", records.Adding, adding)
	p, log := openPorts(t, r.store)
	p.restore()
	want := func(step string, ports ...bool) {
		t.Helper()
		if got := []bool{listens(up), listens(adding), listens(later)}; fmt.Sprint(got) != fmt.Sprint(ports) {
			t.Errorf("%s: %v, want %v\n%s", step, got, ports, log)
		}
	}
	want("restored", true, false, false)

	publish(t, r.store, "web", "c3", records.Up, later)
	want("not refreshed", true, false, false)
	if err := p.refresh("c3"); err != nil {
		t.Error(err)
	}
	want("refreshed", true, false, true)

	if err := r.store.Delete(a, publisher); err != nil {
		t.Fatal(err)
	}
	publish(t, r.store, "web", "c2", records.Up, adding)
	publish(t, r.store, "web", "c3", records.Deleting, later)
	p.reconcile(context.Background())
	want("reconciled", false, true, false)
	if err := p.refresh("c9"); err != nil {
		t.Error("a container that is not there: ", err)
	}
}

// A port goes to the next container although dnetd was not told that the first one
// has gone.
func TestPortOfTheDead(t *testing.T) {
	r := newFixture(t)
	port := freePort(t)
	a := publish(t, r.store, "web", "c1", records.Up, port)
	p, _ := openPorts(t, r.store)
	p.restore()
	if err := r.store.Delete(a, publisher); err != nil {
		t.Fatal(err)
	}
	publish(t, r.store, "web", "c2", records.Up, port)
	if err := p.refresh("c2"); err != nil || fmt.Sprint(p.relay.Owners()) != "[c2]" {
		t.Errorf("error %v, owners %v", err, p.relay.Owners())
	}
	publish(t, r.store, "web", "c3", records.Up, port)
	if err := p.refresh("c3"); err == nil || err.Error() != "ports are relayed to [c2] already" {
		t.Errorf("a port that another container has: %v", err)
	}
}

// A port that another program has is an error of the request.
func TestPortOfAnotherProgram(t *testing.T) {
	r := newFixture(t)
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here: ", err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).AddrPort().Port()
	p, _ := openPorts(t, r.store)
	publish(t, r.store, "web", "c1", records.Up, port)
	want := fmt.Sprintf("listen on [::1]:%d/tcp: address already in use", port)
	if err := p.refresh("c1"); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
