package relay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// serveUDP has a container answer datagrams, and returns where it listens.
func serveUDP(t *testing.T, f func(string) string) netip.AddrPort {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = c.WriteTo([]byte(f(string(b[:n]))), from)
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// dialUDP returns a client that receives only from the address it sends to.
func dialUDP(t *testing.T, to netip.AddrPort) net.Conn {
	t.Helper()
	c, err := net.Dial("udp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func asked(c net.Conn, question string) (string, error) {
	if _, err := c.Write([]byte(question)); err != nil {
		return "", err
	}
	_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
	b := make([]byte, 1<<16)
	n, err := c.Read(b)
	return string(b[:n]), err
}

// Each client gets its own answers, whatever their size, from the address that
// it asked.
func TestDatagrams(t *testing.T) {
	r := start(t)
	for _, address := range []string{"::1", "::"} {
		relay := relayed(t, "udp", address, serveUDP(t, func(q string) string { return q + "!" }))
		r.set(t, "c1", relay)
		var clients []net.Conn
		for range 20 {
			clients = append(clients, dialUDP(t, at("::1", relay.Listen.Port())))
		}
		for range 3 {
			for i, c := range clients {
				question := fmt.Sprint(address, i)
				if got, err := asked(c, question); got != question+"!" || err != nil {
					t.Fatalf("%s: %q, %v", question, got, err)
				}
			}
		}
		for _, question := range []string{"", strings.Repeat("x", 60000)} {
			if got, err := asked(clients[0], question); got != question+"!" || err != nil {
				t.Errorf("%d bytes: %d bytes, %v", len(question), len(got), err)
			}
		}
		if s := r.Stats(); s.Sessions != 20 {
			t.Errorf("%+v", s)
		}
	}
	r.set(t, "c1")
	if s := r.Stats(); s.Sessions != 0 || len(r.busy) != 0 || len(r.watched) != 0 {
		t.Errorf("%+v %v %v", s, r.busy, r.watched)
	}
}

// A container that does not listen yet is reached as soon as it does.
func TestDatagramsToNobody(t *testing.T) {
	r := start(t)
	target := at("127.0.0.2", free(t))
	relay := relayed(t, "udp", "::1", target)
	r.set(t, "c1", relay)
	c := dialUDP(t, relay.Listen)
	for range 3 {
		_, _ = c.Write([]byte("?"))
	}
	_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	container, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(target))
	if err != nil {
		t.Fatal(err)
	}
	defer container.Close()
	go func() {
		_, from, _ := container.ReadFromUDPAddrPort(make([]byte, 10))
		_, _ = container.WriteToUDPAddrPort([]byte("here"), from)
	}()
	if got, err := asked(c, "?"); got != "here" {
		t.Error(got, err)
	}
}

// Silent clients are forgotten, others are not.
func TestSilence(t *testing.T) {
	r := start(t, func(r *Relay) { r.limits.silence, r.limits.sweep = 300*time.Millisecond, 20*time.Millisecond })
	relay := relayed(t, "udp", "::1", serveUDP(t, func(q string) string { return q }))
	r.set(t, "c1", relay)
	silent, busy := dialUDP(t, relay.Listen), dialUDP(t, relay.Listen)
	_, _ = asked(silent, "?")
	for range 15 {
		_, _ = asked(busy, "?")
		time.Sleep(40 * time.Millisecond)
	}
	if s := r.Stats(); s.Sessions != 1 || s.Accepted != 2 {
		t.Errorf("%+v", s)
	}
	if got, err := asked(silent, "again"); got != "again" {
		t.Error(err)
	}
	eventually(t, "all are forgotten", func() bool { return r.Stats().Sessions == 0 })
	if !r.asleep() {
		t.Error("the loop is woken without a cause")
	}
}

func (r *Relay) asleep() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tick.IsZero()
}

// A crowd of new clients takes the place of silent ones, and of no others.
func TestCrowd(t *testing.T) {
	r := start(t, func(r *Relay) { r.limits.portSessions, r.limits.sessions = 10, 15 })
	target := serveUDP(t, func(q string) string { return q })
	full, other := relayed(t, "udp", "::1", target), relayed(t, "udp", "::1", target)
	r.set(t, "c1", full, other)
	friend, busy := dialUDP(t, other.Listen), dialUDP(t, full.Listen)
	_, _ = asked(friend, "?")
	for range 100 {
		if _, err := asked(dialUDP(t, full.Listen), "?"); err != nil {
			t.Fatal(err)
		}
		if _, err := asked(busy, "?"); err != nil {
			t.Fatal(err)
		}
	}
	if s := r.Stats(); s.Sessions != 11 || s.Accepted != 102 {
		t.Errorf("%+v", s)
	}
	for range 20 {
		if _, err := asked(dialUDP(t, other.Listen), "?"); err != nil {
			t.Fatal(err)
		}
	}
	if s := r.Stats(); s.Sessions != 15 {
		t.Errorf("%+v", s)
	}
}
