package relay

import (
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
)

// of says what is heard at 127.0.0.1 and at ::1.
func (r fixture) of(t *testing.T, protocol string, port uint16) string {
	t.Helper()
	said := ""
	for _, address := range []string{"127.0.0.1", "::1"} {
		word := "nothing"
		if protocol == "udp" {
			if got, err := asked(dialUDP(t, at(address, port)), "?"); err == nil {
				word = got
			}
		} else if failure(at(address, port)) == nil {
			word = heard(t, at(address, port))
		}
		said += word + " "
	}
	return said
}

// A port of any address has one socket for both families, which knows them apart,
// until one family goes or comes alone.
func TestBothFamilies(t *testing.T) {
	for _, protocol := range []string{"tcp", "udp"} {
		r := start(t)
		four := relayed(t, protocol, "0.0.0.0", answering(t, protocol, "four"))
		six := firewall.Relay{Protocol: protocol, Listen: at("::", four.Listen.Port()), Target: answering(t, protocol, "six")}
		port := four.Listen.Port()
		want := func(step string, sockets int, words string) {
			t.Helper()
			r.mu.Lock()
			got := len(r.watched)
			r.mu.Unlock()
			if said := r.of(t, protocol, port); said != words || protocol == "tcp" && got != sockets {
				t.Errorf("%s %s: %q of %d sockets, want %q of %d", protocol, step, said, got, words, sockets)
			}
		}
		r.set(t, "c1", four, six)
		want("both", 1, "four six ")
		r.set(t, "c1", six)
		want("IPv6", 1, "nothing six ")
		r.set(t, "c2", four)
		want("IPv4 comes", 2, "four six ")
		r.set(t, "c1")
		want("IPv6 goes", 1, "four nothing ")
		r.set(t, "c2", four, six)
		r.set(t, "c1")
		want("IPv6 comes", 2, "four six ")
		r.set(t, "c2")
		want("none", 0, "nothing nothing ")
	}
}

// Another program may have the port of one family. For IPv4 that is no error: it may be
// the runtime, for the same container.
func TestOneFamilyTaken(t *testing.T) {
	for network, serious := range map[string]bool{"tcp4": false, "tcp6": true} {
		r := start(t, func(r *Relay) { r.limits.retry = 30 * time.Millisecond })
		four := relayed(t, "tcp", "0.0.0.0", serve(t, says("four")))
		six := firewall.Relay{Protocol: "tcp", Listen: at("::", four.Listen.Port()), Target: serve(t, says("six"))}
		where := map[string]firewall.Relay{"tcp4": four, "tcp6": six}[network]
		other, err := net.Listen(network, where.Listen.String())
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.Set("c1", []firewall.Relay{four, six})
		if serious != errors.Is(err, unix.EADDRINUSE) || !serious && err != nil || r.Stats().Waiting != 1 {
			t.Errorf("%s: %v, %+v", network, err, r.Stats())
		}
		served := at("::1", four.Listen.Port())
		if serious {
			served = at("127.0.0.1", four.Listen.Port())
		}
		if got := heard(t, served); got != map[bool]string{true: "four", false: "six"}[serious] {
			t.Errorf("%s: heard %q of the other family", network, got)
		}
		_ = other.Close()
		eventually(t, "the port is had", func() bool { return r.Stats().Waiting == 0 })
		if got := r.of(t, "tcp", four.Listen.Port()); got != "four six " {
			t.Error(network, got)
		}
	}
}

// No other program can bind a port that is held, not even with SO_REUSEADDR, which package net
// sets.
func TestHeld(t *testing.T) {
	r := start(t)
	for _, c := range []struct{ protocol, at string }{
		{"tcp", "127.0.0.1"}, {"udp", "127.0.0.1"}, {"tcp", "::1"}, {"udp", "::1"}, {"tcp", "0.0.0.0"}, {"udp", "0.0.0.0"},
	} {
		relay := relayed(t, c.protocol, c.at, at("127.0.0.2", 80))
		r.set(t, c.protocol+c.at, relay)
		var err error
		if c.protocol == "tcp" {
			_, err = net.Listen("tcp", relay.Listen.String())
		} else {
			_, err = net.ListenPacket("udp", relay.Listen.String())
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("%s %s: %v", c.protocol, c.at, err)
		}
	}
}

// A container with IPv6 may publish a port beside one with IPv4 only, which is relayed;
// it has the port's IPv6 while it is there.
func TestIPv6First(t *testing.T) {
	r := start(t)
	four := relayed(t, "tcp", "::", serve(t, says("four")))
	r.set(t, "four", four)
	r.set(t, "six", firewall.Relay{Protocol: "tcp", Listen: four.Listen, Target: at("::2", 80)})
	r.mu.Lock()
	first := r.ports[keyOf("tcp", four.Listen.Port())].claimAt(at("::1", 0).Addr())
	r.mu.Unlock()
	if first.owner != "six" {
		t.Error(first)
	}
	r.set(t, "six")
	if got := heard(t, at("::1", four.Listen.Port())); got != "four" {
		t.Error(got)
	}
}
