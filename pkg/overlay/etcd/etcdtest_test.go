package etcd

import (
	"context"
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"dcni/pkg/overlay"
	"dcni/pkg/overlay/etcd/member"
)

// freeAddress returns an address of 127.0.0.1 that nothing listens at.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// startMember runs a member behind a wire and returns the wire.
func startMember(t *testing.T) *wire {
	t.Helper()
	w := newWire(t)
	peer := "http://" + freeAddress(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m, err := member.Start(ctx, member.Config{
		Name: "a", Dir: t.TempDir(), Client: "http://" + w.target, Peer: peer, AdvertiseURL: w.url(),
		Members: map[string]string{"a": peer}, Cluster: "test", State: member.New,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return w
}

// startLost runs two members, ends one, and returns the other's URL once it knows no leader.
func startLost(t *testing.T) string {
	t.Helper()
	peers := map[string]string{"a": "http://" + freeAddress(t), "b": "http://" + freeAddress(t)}
	urls := map[string]string{"a": "http://" + freeAddress(t), "b": "http://" + freeAddress(t)}
	members := map[string]*member.Member{}
	var mu sync.Mutex
	var starts sync.WaitGroup
	for name := range peers {
		dir := t.TempDir()
		starts.Go(func() {
			m, err := member.Start(t.Context(), member.Config{
				Name: name, Dir: dir, Client: urls[name], Peer: peers[name], Members: peers, Cluster: "two", State: member.New,
			})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			members[name] = m
		})
	}
	starts.Wait()
	if members["a"] != nil {
		t.Cleanup(members["a"].Close)
	}
	if t.Failed() {
		t.FailNow()
	}
	members["b"].Close()
	s, err := Open(Config{Endpoints: []string{urls["a"]}, Fixed: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for {
		status, err := s.client.Status(t.Context(), urls["a"])
		if err != nil {
			t.Fatal(err)
		}
		if status.Leader == 0 {
			return urls["a"]
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// startDebian runs the etcd that Debian has, as an external store.
func startDebian(t *testing.T) *wire {
	t.Helper()
	path, err := exec.LookPath("etcd")
	if err != nil {
		t.Skip("there is no etcd, which Debian's package etcd-server has")
	}
	w := newWire(t)
	peer := "http://" + freeAddress(t)
	cmd := exec.Command(path, "--name", "a", "--data-dir", t.TempDir(), "--log-outputs", "stderr", "--logger", "zap", "--log-level", "error",
		"--listen-client-urls", "http://"+w.target, "--advertise-client-urls", w.url(),
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "a="+peer)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return w
}

// open returns a client of what is behind a wire, once that answers.
func open(t *testing.T, w *wire) *Store {
	t.Helper()
	s, err := Open(Config{Endpoints: []string{w.url()}, Timeout: 3 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		_, err := s.List(t.Context(), "/none/", func(overlay.Entry) error { return nil })
		if err == nil {
			return s
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// A wire leads to a server. Cut, it carries nothing and says nothing, as a network does.
type wire struct {
	net.Listener
	target string

	mu  sync.Mutex
	cut chan struct{} // closed: all flows; else nothing does until it is
}

func newWire(t *testing.T) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	w := &wire{Listener: l, target: freeAddress(t), cut: make(chan struct{})}
	close(w.cut)
	go w.serve()
	return w
}

func (w *wire) url() string { return "http://" + w.Addr().String() }

func (w *wire) serve() {
	for {
		c, err := w.Accept()
		if err != nil {
			return
		}
		go w.carry(c)
	}
}

func (w *wire) carry(c net.Conn) {
	defer c.Close()
	<-w.flows()
	server, err := net.Dial("tcp", w.target)
	if err != nil {
		return
	}
	defer server.Close()
	go w.copy(server, c)
	w.copy(c, server)
}

func (w *wire) copy(to, from net.Conn) {
	defer to.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		<-w.flows()
		if _, e := to.Write(buffer[:n]); e != nil || err != nil {
			return
		}
	}
}

func (w *wire) flows() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cut
}

func (w *wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = make(chan struct{})
}

func (w *wire) Mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.cut)
}
