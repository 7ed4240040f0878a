package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"dcni/pkg/firewall"
	"dcni/pkg/ipam"
	"dcni/pkg/names"
	"dcni/pkg/records"
	"dcni/pkg/service"
	"dcni/pkg/wire"
)

// TestServices wants the rules to be made when something has changed, and not otherwise, and
// tasks to be ready as their checks say.
func TestServices(t *testing.T) {
	store := records.Store{Run: t.TempDir(), Lib: t.TempDir()}
	shown, made := map[string]int{}, 0
	well := map[netip.Addr]bool{}
	s := newServices(store, slog.New(slog.NewTextHandler(io.Discard, nil)), func(_ string, hosts []names.HostEntry) {
		clear(shown)
		for _, h := range hosts {
			shown[h.Name] = len(h.Addresses)
		}
	})
	var refused *firewall.RefusedError
	s.sync = func(network string, _ bool) (service.Network, *firewall.RefusedError, error) {
		made++
		n, err := store.ServicesOf(network)
		return n, refused, err
	}
	held := map[wire.Attachment]int{}
	s.hold = func(service wire.Attachment, relays []firewall.Relay) {
		if held[service] = len(relays); len(relays) == 0 {
			delete(held, service)
		}
	}
	s.check = func(_ context.Context, h service.Health, a netip.Addr) error {
		if h.Port != 80 || !well[a] {
			return errors.New("it is not well")
		}
		return nil
	}
	put := func(id string, n byte) {
		t.Helper()
		err := store.Put(&records.Record{
			Attachment: wire.Attachment{Network: "net", Container: id, IfName: "eth0"}, Plugin: "dbridge", State: records.Up, NetNS: "/run/netns/" + id,
			Names: []string{id, "web"}, IPAM: records.IPAM{Type: "dipam"}, Addresses: []ipam.Assigned{{Address: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, 0, n}), 24)}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	step := func(name string, do func(), wantMade int, want string) {
		t.Helper()
		made = 0
		if do != nil {
			do()
		}
		s.look()
		s.checkAll(t.Context())
		s.makeNoticed()
		if got := fmt.Sprint(shown); made != wantMade || got != want {
			t.Errorf("%s: made %d times, names %s; want %d, %s", name, made, got, wantMade, want)
		}
	}
	step("nothing", nil, 0, "map[]")
	v := &records.Service{Service: service.Service{Name: "web", Network: "net", Mode: service.DNSRR, Affinity: service.NoAffinity, Health: "tcp:80"}}
	step("a service", func() {
		if err := store.PutService(v); err != nil {
			t.Fatal(err)
		}
	}, 1, "map[tasks.web:0 web:0]")
	step("again", nil, 0, "map[tasks.web:0 web:0]")
	step("two tasks", func() { put("c1", 2); put("c2", 3) }, 1, "map[tasks.web:2 web:0]")
	step("one is well", func() { well[netip.MustParseAddr("10.9.0.2")] = true }, 1, "map[tasks.web:2 web:1]")
	step("again", nil, 0, "map[tasks.web:2 web:1]")
	step("the other is", func() { clear(well); well[netip.MustParseAddr("10.9.0.3")] = true }, 1, "map[tasks.web:2 web:1]")
	step("none is", func() { clear(well) }, 1, "map[tasks.web:2 web:0]")
	if !s.busy() {
		t.Error("there are clients, and dnetd is not busy")
	}
	step("the service goes", func() {
		if err := store.RemoveService("net", "web"); err != nil {
			t.Fatal(err)
		}
	}, 1, "map[]")
	step("again", nil, 0, "map[]")
	if s.busy() {
		t.Error("there are no services, and dnetd is busy")
	}
	v.Mode, v.Health, v.Ports = service.VIP, "", []service.Port{{Published: 8080, Target: 80, Protocol: "tcp"}}
	v.VIPs = []netip.Addr{netip.MustParseAddr("10.9.0.100")}
	step("one with a port", func() {
		if err := store.PutService(v); err != nil {
			t.Fatal(err)
		}
	}, 1, "map[tasks.web:2 web:1]")
	owner, vip := firewall.OfService("net", "web"), netip.MustParseAddrPort("10.9.0.100:80")
	if held[owner] != 2 { // IPv6 is relayed
		t.Errorf("held are %v", held)
	}
	if one, two := s.turns.turn(vip), s.turns.turn(vip); one == two || one.Addr() == vip.Addr() {
		t.Errorf("turns %s, %s", one, two)
	}
	if far := netip.MustParseAddrPort("10.9.0.100:81"); s.turns.turn(far) != far {
		t.Error("what is no service's does not go where it is for")
	}
	refused = &firewall.RefusedError{Claims: v.Claims(), Errs: []error{errors.New("taken")}}
	step("it can't be had", func() { v.Affinity = service.ClientAffinity; _ = store.PutService(v) }, 1, "map[tasks.web:2 web:1]")
	if len(held) > 0 {
		t.Errorf("what can't be had is held: %v", held)
	}
	step("again", nil, 1, "map[tasks.web:2 web:1]")
	refused = nil
	step("it can be had", nil, 1, "map[tasks.web:2 web:1]")
	step("again", nil, 0, "map[tasks.web:2 web:1]")
	if held[owner] != 2 {
		t.Errorf("held are %v", held)
	}
	step("it goes", func() { _ = store.RemoveService("net", "web") }, 1, "map[]")
	if len(held) > 0 || s.turns.turn(vip) != vip {
		t.Errorf("held are %v", held)
	}
	if err := s.make("../net"); err == nil {
		t.Error("a network elsewhere")
	}
}

// TestCheckTask wants the answer's status to count, and no other page to be looked at.
func TestCheckTask(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/bad", http.StatusFound)
		case "/bad":
			http.Error(w, "bad", http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	at := netip.MustParseAddrPort(server.Listener.Addr().String())
	for health, well := range map[string]bool{"tcp:%d": true, "http:%d/ok": true, "http:%d/moved": true, "http:%d/bad": false} {
		h, err := service.ParseHealth(fmt.Sprintf(health, at.Port()))
		if err != nil {
			t.Fatal(err)
		}
		if err := checkTask(t.Context(), h, at.Addr()); (err == nil) != well {
			t.Errorf("%s: %v", health, err)
		}
	}
	server.Close()
	if err := checkTask(t.Context(), service.Health{Port: at.Port()}, at.Addr()); err == nil {
		t.Error("nothing listens, and it is well")
	}
}
