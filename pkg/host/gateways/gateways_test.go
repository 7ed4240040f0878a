package gateways

import (
	"log/slog"
	"net/netip"
	"testing"

	"dcni/pkg/dns"
	"dcni/pkg/names"
	"dcni/pkg/wire"
)

type guest struct{ own *dns.Endpoint }

func (g *guest) Endpoint() *dns.Endpoint { return g.own }

// TestGuests: a query is answered as one of the attachment that has its source address, of two that have had
// it the later one, whichever of them goes first.
func TestGuests(t *testing.T) {
	const bridge = "br-not-there" // so that no sockets are opened
	at, gateway := netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.1.0.1")
	resolver := func(container string) *names.Resolver {
		return &names.Resolver{
			Owner:  wire.Attachment{Network: "web", Container: container, IfName: "eth0"},
			Bridge: bridge, Listen: []netip.Addr{gateway}, Addresses: []netip.Addr{at},
		}
	}
	first, second := &guest{&dns.Endpoint{}}, &guest{&dns.Endpoint{}}
	g := New(nil, slog.New(slog.DiscardHandler))
	asked := func(want *dns.Endpoint) {
		t.Helper()
		var got *dns.Endpoint
		if place := g.places[Place{bridge, gateway}]; place != nil {
			got = place.owner(at)
		}
		if got != want {
			t.Errorf("answered as %p, want %p", got, want)
		}
	}
	g.Put(first, resolver("c1"))
	asked(first.own)
	g.Put(second, resolver("c2"))
	asked(second.own)
	g.Drop(resolver("c1").Owner)
	asked(second.own)
	if err := g.Check(resolver("c2")); err == nil {
		t.Error("sockets on a bridge that is not there")
	}
	g.Drop(resolver("c2").Owner)
	asked(nil)
	if len(g.places) != 0 {
		t.Errorf("places %v are left", g.places)
	}
}
