package relay

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
)

// Containers are at 127.0.0.2 here, and the host sends to them from 127.0.0.1.

// A fixture is a relay and what it logs.
type fixture struct {
	*Relay
	log *lines
}

type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func start(t *testing.T, change ...func(*Relay)) fixture {
	t.Helper()
	probe, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here: ", err)
	}
	_ = probe.Close()
	log := &lines{}
	r, err := New(Config{Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	for _, f := range change {
		f(r)
	}
	r.mu.Unlock()
	t.Cleanup(func() { _ = r.Close() })
	return fixture{r, log}
}

func (r fixture) set(t *testing.T, owner string, relays ...firewall.Relay) {
	t.Helper()
	if rivals, err := r.Set(owner, relays); err != nil || rivals != nil {
		t.Fatalf("Set %s: %v, rivals %v", owner, err, rivals)
	}
}

// relayed is a relay from a free port of an address to a target.
func relayed(t *testing.T, protocol, at string, target netip.AddrPort) firewall.Relay {
	t.Helper()
	return firewall.Relay{Protocol: protocol, Listen: netip.AddrPortFrom(netip.MustParseAddr(at), free(t)), Target: target}
}

// free returns a port that is not in use.
func free(t *testing.T) uint16 {
	t.Helper()
	for range 100 {
		tcp, err := net.Listen("tcp6", "[::]:0")
		if err != nil {
			t.Fatal(err)
		}
		at := tcp.Addr().(*net.TCPAddr).AddrPort()
		udp, err := net.ListenPacket("udp6", at.String())
		_ = tcp.Close()
		if err == nil {
			_ = udp.Close()
			return at.Port()
		}
	}
	t.Fatal("no free port")
	return 0
}

// serve has a container serve each connection, and returns where it listens.
func serve(t *testing.T, f func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f(c.(*net.TCPConn))
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// says is a container that sends a word and closes.
func says(word string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		_, _ = io.WriteString(c, word)
		_ = c.Close()
	}
}

// echo is a container that sends back what it receives.
func echo(c *net.TCPConn) {
	_, _ = io.Copy(c, c)
	_ = c.Close()
}

func connectTo(t *testing.T, at netip.AddrPort) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", at.String(), 3*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	return c.(*net.TCPConn)
}

// failure sends "?" to an address and port, and returns how the connection ended.
func failure(at netip.AddrPort) error {
	c, err := net.DialTimeout("tcp", at.String(), 3*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, "?"); err != nil {
		return err // it is reported only once
	}
	_, err = c.Read(make([]byte, 1))
	return err
}

// heard returns all that an address and port sends.
func heard(t *testing.T, at netip.AddrPort) string {
	t.Helper()
	all, err := io.ReadAll(connectTo(t, at))
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for range 300 {
		if f() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("never: ", what)
}

func at(address string, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(address), port)
}

// Everything comes through in both directions, and each end can send its end and
// still receive.
func TestStream(t *testing.T) {
	r := start(t)
	for _, address := range []string{"::1", "::"} {
		relay := relayed(t, "tcp", address, serve(t, func(c *net.TCPConn) {
			all, _ := io.ReadAll(c)
			_, _ = c.Write(bytes.ToUpper(all))
			_ = c.Close()
		}))
		r.set(t, "c1", relay)
		text := bytes.Repeat([]byte(rand.Text()), 1<<16)
		c := connectTo(t, at("::1", relay.Listen.Port()))
		go func() {
			_, _ = c.Write(text)
			_ = c.CloseWrite()
		}()
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, bytes.ToUpper(text)) {
			t.Errorf("on %s: %d of %d bytes, error %v", address, len(got), len(text), err)
		}
		_ = c.Close()
	}
	eventually(t, "no connection is left", func() bool { return r.Stats().Connections == 0 })
	if s := r.Stats(); s.Accepted != 2 || s.Refused != 0 || s.Bytes != 4*26<<16 {
		t.Errorf("%+v", s)
	}
}

// The target sends its end first, and still receives.
func TestTargetEndsFirst(t *testing.T) {
	r := start(t)
	got := make(chan string, 1)
	relay := relayed(t, "tcp", "::1", serve(t, func(c *net.TCPConn) {
		_, _ = io.WriteString(c, "hello")
		_ = c.CloseWrite()
		all, _ := io.ReadAll(c)
		got <- string(all)
	}))
	r.set(t, "c1", relay)
	c := connectTo(t, relay.Listen)
	if all, err := io.ReadAll(c); err != nil || string(all) != "hello" {
		t.Fatalf("%q, %v", all, err)
	}
	_, _ = io.WriteString(c, "bye")
	_ = c.Close()
	if all := <-got; all != "bye" {
		t.Errorf("the container heard %q", all)
	}
}

func isReset(err error) bool { return errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) }

// If a container refuses or resets, the client's connection is reset.
func TestResets(t *testing.T) {
	r := start(t)
	noListener := relayed(t, "tcp", "::1", at("127.0.0.2", free(t)))
	resetting := relayed(t, "tcp", "::1", serve(t, func(c *net.TCPConn) {
		_, _ = io.ReadFull(c, make([]byte, 1))
		_ = c.SetLinger(0)
		_ = c.Close()
	}))
	r.set(t, "c1", noListener, resetting)
	for _, relay := range []firewall.Relay{noListener, resetting} {
		begin := time.Now()
		if err := failure(relay.Listen); !isReset(err) || time.Since(begin) > time.Second {
			t.Errorf("%v: %v after %v", relay, err, time.Since(begin))
		}
	}
	eventually(t, "the refusal counts", func() bool { return r.Stats().Refused == 1 && r.Stats().Connections == 0 })
}

// If a client resets its connection the container's is reset, also after the client
// has sent its end.
func TestClientResets(t *testing.T) {
	for _, halfClosed := range []bool{false, true} {
		r := start(t)
		there, got := make(chan bool, 1), make(chan error, 1)
		relay := relayed(t, "tcp", "::1", serve(t, func(c *net.TCPConn) {
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			_, _ = c.Read(make([]byte, 1))
			there <- true
			_, err := c.Read(make([]byte, 1))
			if halfClosed && errors.Is(err, io.EOF) {
				err = nil
				for err == nil {
					time.Sleep(10 * time.Millisecond)
					raw, _ := c.SyscallConn()
					_ = raw.Control(func(fd uintptr) {
						if code, _ := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); code != 0 {
							err = unix.Errno(code)
						}
					})
				}
			}
			got <- err
		}))
		r.set(t, "c1", relay)
		c := connectTo(t, relay.Listen)
		_, _ = io.WriteString(c, "?")
		<-there
		if halfClosed {
			_ = c.CloseWrite()
			time.Sleep(50 * time.Millisecond)
		}
		_ = c.SetLinger(0)
		_ = c.Close()
		select {
		case err := <-got:
			if !isReset(err) {
				t.Errorf("half-closed %v: the container saw %v", halfClosed, err)
			}
		case <-time.After(3 * time.Second):
			t.Errorf("half-closed %v: the container was never told", halfClosed)
		}
		eventually(t, "no connection is left", func() bool { return r.Stats().Connections == 0 })
	}
}

// An address of the host itself is no target: the relay could be its own.
func TestNoLoop(t *testing.T) {
	r := start(t)
	relay := relayed(t, "tcp", "::1", netip.AddrPort{})
	relay.Target = relay.Listen
	udp := relay
	udp.Protocol = "udp"
	r.set(t, "c1", relay, udp)
	if err := failure(relay.Listen); !isReset(err) {
		t.Error(err)
	}
	_, _ = io.WriteString(dialUDP(t, relay.Listen), "?")
	eventually(t, "both are refused", func() bool {
		s := r.Stats()
		return s.Accepted == 2 && s.Refused == 2 && s.Connections == 0 && s.Sessions == 0
	})
}

func TestAllowed(t *testing.T) {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, func(r *Relay) { r.Allowed = func(link int) bool { return link != lo.Index } })
	relay := relayed(t, "tcp", "::", serve(t, says("c1")))
	udp := relay
	udp.Protocol = "udp"
	r.set(t, "c1", relay, udp)
	local := at("::1", relay.Listen.Port())
	if err := failure(local); !isReset(err) {
		t.Error(err)
	}
	_, _ = io.WriteString(dialUDP(t, local), "?")
	eventually(t, "both are refused", func() bool { return r.Stats().Refused == 2 && r.Stats().Sessions == 0 })
}

// TestAllowedSCTP has a client of which the kernel does not tell the link.
func TestAllowedSCTP(t *testing.T) {
	client, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	if err != nil {
		t.Skip("the kernel has no SCTP: ", err)
	}
	t.Cleanup(func() { _ = unix.Close(client) })
	var asked netip.Addr
	r := start(t, func(r *Relay) {
		r.LinkTo = func(client netip.Addr) int { asked = client; return 7 }
		r.Allowed = func(link int) bool { return link != 7 }
	})
	relay := relayed(t, "sctp", "::", at("127.0.0.2", 1))
	r.set(t, "c1", relay)
	if err := unix.Connect(client, sockaddr(at("::1", relay.Listen.Port()))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is refused", func() bool { return r.Stats().Refused == 1 && r.Stats().Connections == 0 })
	if asked != netip.IPv6Loopback() {
		t.Errorf("asked for the way to %v, want ::1", asked)
	}
}

// What stays goes on, what goes is closed with its connections, and the port is
// free at once.
func TestSet(t *testing.T) {
	r := start(t)
	container := serve(t, echo)
	stays, goes := relayed(t, "tcp", "::1", container), relayed(t, "tcp", "::", container)
	r.set(t, "c1", stays, goes)
	say := func(c net.Conn) error {
		_, err := io.WriteString(c, "?")
		if err == nil {
			_, err = io.ReadFull(c, make([]byte, 1))
		}
		return err
	}
	a, b := connectTo(t, stays.Listen), connectTo(t, at("::1", goes.Listen.Port()))
	if err := errors.Join(say(a), say(b)); err != nil {
		t.Fatal(err)
	}
	r.set(t, "c1", stays)
	if l, err := net.Listen("tcp6", goes.Listen.String()); err != nil {
		t.Error("the port is not free: ", err)
	} else {
		_ = l.Close()
	}
	if err := say(a); err != nil {
		t.Error("the port that stays: ", err)
	}
	// What is under way may still get through.
	ended := func(c net.Conn) (err error) {
		for deadline := time.Now().Add(5 * time.Second); err == nil && time.Now().Before(deadline); {
			err = say(c)
		}
		return err
	}
	if err := ended(b); !isReset(err) {
		t.Error("the port that goes: ", err)
	}
	if got := fmt.Sprint(r.Owners(), r.Stats().Ports, len(r.ports)); got != "[c1] 1 1" {
		t.Error(got)
	}
	r.set(t, "c1")
	if err := ended(a); !isReset(err) || len(r.Owners()) != 0 || len(r.ports) != 0 || len(r.watched) != 0 {
		t.Error("after the last: ", err, r.Owners(), r.ports, r.watched)
	}
}

// A port goes from one container to the next, every time.
func TestPassedOn(t *testing.T) {
	r := start(t)
	relay := relayed(t, "tcp", "::", netip.AddrPort{})
	for i := range 100 {
		owner := fmt.Sprint("c", i)
		relay.Target = serve(t, says(owner))
		r.set(t, owner, relay)
		if got := heard(t, at("::1", relay.Listen.Port())); got != owner {
			t.Fatalf("%s: heard %q", owner, got)
		}
		r.set(t, owner)
	}
}

// The first owner keeps a port until it gives it up.
func TestRivals(t *testing.T) {
	r := start(t)
	first := relayed(t, "tcp", "::1", serve(t, says("c1")))
	second := first
	second.Target = serve(t, says("c2"))
	r.set(t, "c1", first)
	if rivals, err := r.Set("c2", []firewall.Relay{second}); err != nil || !slices.Equal(rivals, []string{"c1"}) {
		t.Error(rivals, err)
	}
	if got := heard(t, first.Listen); got != "c1" {
		t.Error(got)
	}
	r.set(t, "c1")
	if got := heard(t, first.Listen); got != "c2" {
		t.Error(got)
	}
}

// A socket of any address serves ::1 as well, whichever is claimed first.
func TestOverlap(t *testing.T) {
	for _, protocol := range []string{"tcp", "udp"} {
		r := start(t)
		any := relayed(t, protocol, "::", answering(t, protocol, "any"))
		one := any
		one.Listen, one.Target = at("::1", any.Listen.Port()), answering(t, protocol, "one")
		steps := []struct{ owner, want string }{{"any", "any"}, {"one", "one"}, {"-any", "one"}, {"any", "one"}, {"-one", "any"}}
		for _, step := range steps {
			owner, gone := strings.CutPrefix(step.owner, "-")
			relays := map[string][]firewall.Relay{"any": {any}, "one": {one}}[owner]
			if gone {
				relays = nil
			}
			r.set(t, owner, relays...)
			var got string
			if protocol == "tcp" {
				got = heard(t, one.Listen)
			} else {
				got, _ = asked(dialUDP(t, one.Listen), "?")
			}
			if got != step.want {
				t.Errorf("%s, after %s: heard %q, want %q", protocol, step.owner, got, step.want)
			}
		}
	}
}

func answering(t *testing.T, protocol, word string) netip.AddrPort {
	if protocol == "tcp" {
		return serve(t, says(word))
	}
	return serveUDP(t, func(string) string { return word })
}

// A port that another program has is logged once, tried again, and served as soon
// as it is free.
func TestTaken(t *testing.T) {
	r := start(t, func(r *Relay) { r.limits.retry = 30 * time.Millisecond })
	relay := relayed(t, "tcp", "::", serve(t, says("c1")))
	other, err := net.Listen("tcp6", relay.Listen.String())
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Set("c1", []firewall.Relay{relay})
	if want := fmt.Sprintf("listen on %s/tcp: address already in use", relay.Listen); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	time.Sleep(200 * time.Millisecond)
	if n := strings.Count(r.log.String(), "ports can't be served"); n != 1 || r.Stats().Waiting != 1 {
		t.Errorf("said %d times: %s", n, r.log)
	}
	_ = other.Close()
	eventually(t, "the port is had", func() bool { return r.Stats().Waiting == 0 })
	if got := heard(t, at("::1", relay.Listen.Port())); got != "c1" || !strings.Contains(r.log.String(), "ports can be served again") {
		t.Error(got, r.log)
	}
	// A port that was given up is not tried again.
	other, _ = net.Listen("tcp6", "[::]:0")
	relay.Listen = other.Addr().(*net.TCPAddr).AddrPort()
	if _, err := r.Set("c1", []firewall.Relay{relay}); err == nil {
		t.Error("had a port that another program has")
	}
	r.set(t, "c1")
	if s := r.Stats(); s.Waiting != 0 || strings.Count(r.log.String(), "again") != 3 {
		t.Errorf("%+v %s", s, r.log)
	}
	_ = other.Close()
}

// A relay leaves some descriptors to the rest of the process, and logs in one line
// what it can't serve.
func TestTooManyPorts(t *testing.T) {
	r := start(t)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	low := limit
	low.Cur = 200
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) }()
	var relays []firewall.Relay
	for i := range 300 {
		relays = append(relays, firewall.Relay{Protocol: "tcp", Listen: at("::1", uint16(10000+i)), Target: at("127.0.0.2", 80)})
	}
	_, err := r.Set("c1", relays)
	if err == nil || !errors.Is(err, unix.EMFILE) && !errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), " more") {
		t.Error(err)
	}
	if n := strings.Count(r.log.String(), "\n"); n != 1 || r.Stats().Waiting < 100 || r.Stats().Ports != 300 {
		t.Errorf("%+v %s", r.Stats(), r.log)
	}
	if f, err := os.Open(os.DevNull); err != nil {
		t.Error("no descriptor is left: ", err)
	} else {
		_ = f.Close()
	}
	_, _ = r.Set("c1", relays[:10])
	r.mu.Lock()
	r.limits.retry = 10 * time.Millisecond
	r.wakeIn(r.limits.retry)
	r.mu.Unlock()
	eventually(t, "there are descriptors again", func() bool { return r.Stats().Waiting == 0 && r.Stats().Ports == 10 })
}

func TestTooManyConnections(t *testing.T) {
	r := start(t, func(r *Relay) { r.limits.portConnections = 3 })
	relay := relayed(t, "tcp", "::1", serve(t, echo))
	r.set(t, "c1", relay)
	var open []*net.TCPConn
	for range 3 {
		open = append(open, connectTo(t, relay.Listen))
	}
	eventually(t, "3 connections", func() bool { return r.Stats().Connections == 3 })
	if err := failure(relay.Listen); !isReset(err) {
		t.Error(err)
	}
	_ = open[0].Close()
	eventually(t, "2 connections", func() bool { return r.Stats().Connections == 2 })
	c := connectTo(t, relay.Listen)
	_, _ = io.WriteString(c, "?")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Error(err)
	}
}
