package dns

import (
	"context"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

// TestServeOwners has a query answered, and counted, as one of the endpoint whose address it came from.
func TestServeOwners(t *testing.T) {
	release := make(chan struct{})
	f := upstreamServer(t, func(w mdns.ResponseWriter, q *mdns.Msg) { <-release; records(example)(w, q) })
	s := NewServer(Config{})
	s.SetUpstream(upstreamOf(f))
	own := serve(t, s, View{Names: table().View("web")})
	var owner atomic.Pointer[Endpoint]
	udp, tcp := listen(t)
	shared := &fixture{t: t, server: s, address: tcp.Addr().String()}
	e, err := s.ServeOwners(detach(t, udp), detach(t, tcp), func(a netip.Addr) *Endpoint {
		if a != netip.MustParseAddr("127.0.0.1") {
			t.Errorf("a query from %s", a)
		}
		return owner.Load()
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, network := range []string{"udp", "tcp"} {
		owner.Store(nil)
		for _, question := range []string{"one A", "nothing A", "one MX"} {
			if got := shared.exchange(network, question); !strings.HasPrefix(got, "REFUSED") {
				t.Errorf("%s, %s, from a stranger: %s", network, question, got)
			}
		}
		owner.Store(own.endpoint)
		for _, question := range []string{"one A", "one MX"} {
			if got, want := shared.exchange(network, question), own.exchange(network, question); got != want || !strings.HasPrefix(got, "NOERROR") {
				t.Errorf("%s, %s: %s, want %s", network, question, got, want)
			}
		}
	}
	// What waits for an upstream is the owner's, and is answered though the shared sockets drain.
	answered := make(chan string, 1)
	go func() { answered <- shared.exchange("udp", "example.com A") }()
	await(t, "the query waits", func() bool { return own.endpoint.waiting.Load() == 1 })
	if n := e.waiting.Load(); n != 0 {
		t.Errorf("%d queries wait at the shared sockets", n)
	}
	drained := make(chan error, 1)
	go func() { drained <- e.Drain(context.Background()) }()
	select {
	case err := <-drained:
		t.Errorf("drained while a query waits: %v", err)
		drained <- err
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	if got := <-answered; !strings.HasSuffix(got, "192.0.2.80") {
		t.Errorf("an upstream's answer: %s", got)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
}
