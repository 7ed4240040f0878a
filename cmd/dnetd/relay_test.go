package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dcni/pkg/firewall"
	"dcni/pkg/records"
	"dcni/pkg/relay"
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
	record(t, store, a, state, firewall.Port{HostIP: netip.IPv6Loopback(), HostPort: port, Protocol: "tcp", ContainerPort: 80})
	return a
}

// publishAt records c1 with a port of an address of the host; "" is any. A holder is a
// runtime that binds the port itself.
func publishAt(t *testing.T, store records.Store, holder, hostIP string, port uint16) wire.Attachment {
	t.Helper()
	a := wire.Attachment{Network: "web", Container: "c1", IfName: "eth0"}
	at, _ := netip.ParseAddr(hostIP) // "": the zero address
	record(t, store, a, records.Up, firewall.Port{HostIP: at, HostPort: port, Protocol: "tcp", ContainerPort: 80})
	r, err := store.Get(a, publisher)
	if err != nil {
		t.Fatal(err)
	}
	r.Holder = holder
	if err := store.Put(r); err != nil {
		t.Fatal(err)
	}
	return a
}

// spoil makes the record of an attachment one that can't be read.
func spoil(t *testing.T, store records.Store, a wire.Attachment) {
	t.Helper()
	path := filepath.Join(store.Run, "attachments", a.Network, a.Container, a.IfName, publisher+".json")
	if err := os.Truncate(path, 9); err != nil {
		t.Fatal(err)
	}
}

func record(t *testing.T, store records.Store, a wire.Attachment, state records.State, port firewall.Port) {
	t.Helper()
	err := store.Put(&records.Record{
		Attachment: a, Plugin: publisher, State: state, Moment: records.Moment{Since: time.Now()},
		Endpoint: &firewall.Endpoint{
			Owner: a, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2")}, Ports: []firewall.Port{port},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
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

// Of a container with an unreadable record, dnetd serves what it read before, and goes
// on to do what the other records say.
func TestPortsOfLostRecord(t *testing.T) {
	r := newFixture(t)
	web, lab, later := freePort(t), freePort(t), freePort(t)
	onWeb := publish(t, r.store, "web", "c1", records.Up, web)
	onLab := publish(t, r.store, "lab", "c1", records.Up, lab)
	p, log := openPorts(t, r.store)
	p.restore()
	spoil(t, r.store, onLab)
	want := func(step string, ports ...bool) {
		t.Helper()
		if got := []bool{listens(web), listens(lab), listens(later)}; fmt.Sprint(got) != fmt.Sprint(ports) {
			t.Errorf("%s: %v, want %v\n%s", step, got, ports, log)
		}
	}
	publish(t, r.store, "new", "c1", records.Up, later)
	if err := p.refresh("c1"); err != nil {
		t.Error(err)
	}
	want("another network", true, true, true)
	if err := r.store.Delete(onWeb, publisher); err != nil {
		t.Fatal(err)
	}
	p.reconcile(context.Background())
	want("one network less", false, true, true)
	if err := r.store.Delete(onLab, publisher); err != nil {
		t.Fatal(err)
	}
	p.reconcile(context.Background())
	want("the lost one is gone", false, false, true)
}

// A predecessor's socket stays open while the record that it may be of can't be read,
// and goes to the next successor. It is closed when that record is gone.
func TestAdoptedPortOfLostRecord(t *testing.T) {
	r := newFixture(t)
	port := freePort(t)
	a := publish(t, r.store, "web", "c1", records.Up, port)
	old, _ := openPorts(t, r.store)
	old.restore()
	spoil(t, r.store, a)
	p, _ := openPorts(t, r.store)
	handOver := func(from *ports, to func([]relay.Socket, []int)) {
		t.Helper()
		err := from.relay.HandOver(9, func(list []relay.Socket, fds []int) error {
			to(list, fds)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	handOver(old, func(list []relay.Socket, fds []int) {
		fd, err := syscall.Dup(fds[0])
		if err != nil {
			t.Fatal(err)
		}
		p.relay.Adopt(list, []int{fd})
	})
	p.restore()
	if err := old.relay.Close(); err != nil || !listens(port) {
		t.Error("the port is not held: ", err)
	}
	var next int
	if handOver(p, func(list []relay.Socket, _ []int) { next += len(list) }); next != 1 {
		t.Errorf("%d sockets are handed to the next successor, want 1", next)
	}
	if err := r.store.Delete(a, publisher); err != nil {
		t.Fatal(err)
	}
	if p.reconcile(context.Background()); listens(port) {
		t.Error("the port is still held")
	}
}

// Metrics at the address that no user chose yield to a port that is published there, and
// may come back when that is gone.
func TestMetricsYield(t *testing.T) {
	for _, c := range []struct {
		hostIP string
		yields bool
	}{{"", true}, {"0.0.0.0", true}, {"127.0.0.1", true}, {"127.0.0.2", false}, {"::1", false}, {"::", false}} {
		for _, holder := range []string{"", "podman"} {
			t.Run(holder+"/"+c.hostIP, func(t *testing.T) { testYield(t, holder, c.hostIP, c.yields) })
		}
	}
}

func testYield(t *testing.T, holder, hostIP string, yields bool) {
	r := newFixture(t)
	p, _ := openPorts(t, r.store)
	l, err := p.listenBehind(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	address := l.Addr().(*net.TCPAddr).AddrPort()
	a := publishAt(t, r.store, holder, hostIP, address.Port())
	if err := p.refresh(a.Container); err != nil {
		t.Error(err)
	}
	if err := l.(*net.TCPListener).SetDeadline(time.Now()); errors.Is(err, net.ErrClosed) != yields {
		t.Errorf("%v, yields %v", err, yields)
	}
	if !yields {
		return
	}
	if _, err := p.listenBehind(t.Context(), address.String()); !errors.Is(err, errYields) {
		t.Errorf("comes back too early: %v", err)
	}
	if err := r.store.Delete(a, publisher); err != nil {
		t.Fatal(err)
	}
	if err := p.refresh(a.Container); err != nil {
		t.Error(err)
	}
	again, err := p.listenBehind(t.Context(), address.String())
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Close()
}
