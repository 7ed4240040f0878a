package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dcni/pkg/dns"
	"dcni/pkg/host/agent"
	"dcni/pkg/host/dnssock"
	"dcni/pkg/host/systemd"
	"dcni/pkg/names"
	"dcni/pkg/wire"
)

// A fakeStore is systemd's store: what dnetd has it keep, by name.
type fakeStore struct {
	t     *testing.T
	conn  *net.UnixConn
	kept  map[string][]int
	other []string // messages of another kind
}

func newFakeStore(t *testing.T) (*fakeStore, *systemd.Service) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	s := &fakeStore{t: t, conn: conn, kept: map[string][]int{}}
	t.Cleanup(func() {
		_ = conn.Close()
		for _, fds := range s.kept {
			agent.CloseAll(fds)
		}
	})
	service, _, err := systemd.Join(func(name string) string {
		return map[string]string{"NOTIFY_SOCKET": path}[name]
	}, os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	return s, service
}

// read takes in all messages that have come.
func (s *fakeStore) read() {
	s.t.Helper()
	for s.readOne() {
		continue
	}
}

// readOne takes in one message, if there is one.
func (s *fakeStore) readOne() bool {
	data, rights := make([]byte, 4096), make([]byte, 4096)
	_ = s.conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	n, oob, _, _, err := s.conn.ReadMsgUnix(data, rights)
	if err != nil {
		return false
	}
	var fds []int
	messages, _ := syscall.ParseSocketControlMessage(rights[:oob])
	for i := range messages {
		list, _ := syscall.ParseUnixRights(&messages[i])
		fds = append(fds, list...)
	}
	head, name, _ := strings.Cut(string(data[:n]), "\nFDNAME=")
	switch head {
	case "FDSTORE=1\nFDPOLL=0":
		s.kept[name] = append(s.kept[name], fds...)
	case "FDSTOREREMOVE=1":
		agent.CloseAll(s.kept[name])
		delete(s.kept, name)
	default:
		s.other = append(s.other, head)
	}
	return true
}

// fill leaves no room for a message.
func (s *fakeStore) fill() {
	s.t.Helper()
	for {
		c, err := net.DialUnix("unixgram", nil, s.conn.LocalAddr().(*net.UnixAddr))
		if err == nil {
			err = errors.Join(c.SetWriteDeadline(time.Now().Add(10*time.Millisecond)), c.SetWriteBuffer(1<<20))
		}
		if err != nil {
			s.t.Fatal(err)
		}
		_, err = c.Write([]byte("STATUS=busy"))
		_ = c.Close()
		if err != nil {
			return
		}
	}
}

// names returns what is kept, with the number of descriptors.
func (s *fakeStore) names() string {
	s.read()
	var list []string
	for name, fds := range s.kept {
		list = append(list, fmt.Sprintf("%s:%d", name, len(fds)))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// hand does what systemd does for the next process: it hands over descriptors of
// its own, in any order.
func (s *fakeStore) hand() (list []systemd.Descriptor) {
	s.read()
	for name, fds := range s.kept {
		for _, fd := range slices.Backward(fds) {
			own, err := syscall.Dup(fd)
			if err != nil {
				s.t.Fatal(err)
			}
			list = append(list, systemd.Descriptor{Name: name, FD: own})
		}
	}
	return list
}

// sockets opens a UDP and a TCP socket.
func sockets(t *testing.T) pair {
	t.Helper()
	var p pair
	for kind, fd := range map[int]*int{syscall.SOCK_DGRAM: &p.udp, syscall.SOCK_STREAM: &p.tcp} {
		var err error
		if *fd, err = syscall.Socket(syscall.AF_INET, kind, 0); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Close(*fd) })
	}
	return p
}

// inode names a socket, whichever descriptor leads to it.
func inode(t *testing.T, fd int) string {
	t.Helper()
	link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		t.Error(err)
	}
	return link
}

func newStore(s *systemd.Service, handed ...systemd.Descriptor) *fdStore {
	return newFDStore(s, slog.New(slog.DiscardHandler), handed)
}

// The next dnetd claims the pairs that one has put into the store, and knows which
// socket is which. They stay in the store as long as they are served.
func TestStore(t *testing.T) {
	fake, service := newFakeStore(t)
	first := newStore(service)
	four, six, other := sockets(t), sockets(t), sockets(t)
	first.put(4097, names.IPv4, four.udp, four.tcp)
	first.put(4097, names.IPv6, six.udp, six.tcp)
	first.put(1<<63+5, names.IPv4, other.udp, other.tcp)
	if got := fake.names(); got != "4097-ipv4:2 4097-ipv6:2 9223372036854775813-ipv4:2" {
		t.Fatalf("kept %s", got)
	}

	second := newStore(service, fake.hand()...)
	udp, tcp, ok := second.claim(4097, names.IPv6)
	if !ok || inode(t, udp) != inode(t, six.udp) || inode(t, tcp) != inode(t, six.tcp) {
		t.Errorf("claimed %d, %d, %v: not what was put", udp, tcp, ok)
	}
	if _, _, again := second.claim(4097, names.IPv6); again {
		t.Error("claimed twice")
	}
	if _, _, ok := second.claim(7, names.IPv4); ok {
		t.Error("claimed what was never put")
	}
	second.put(4097, names.IPv6, udp, tcp)
	if got := fake.names(); got != "4097-ipv4:2 4097-ipv6:2 9223372036854775813-ipv4:2" {
		t.Errorf("kept %s after what was claimed was put again", got)
	}
	agent.CloseAll([]int{udp, tcp})

	second.drop(1<<63 + 5) // never claimed
	second.dropUnclaimed()
	if got := fake.names(); got != "4097-ipv6:2" {
		t.Errorf("kept %s after what was not claimed was dropped", got)
	}
	second.drop(4097)
	second.drop(4097)
	if got := fake.names(); got != "" {
		t.Errorf("kept %s at the end", got)
	}
}

// ADDs and DELs don't wait for a slow systemd. In the end it keeps what is served
// and no more.
func TestStoreBusy(t *testing.T) {
	const n, pace = 40, 20 * time.Millisecond
	fake, service := newFakeStore(t)
	store := newStore(service)
	reg := newRegistry(dns.NewServer(dns.Config{}), store, slog.New(slog.DiscardHandler))
	fake.fill()
	ctx, cancel := context.WithCancel(t.Context())
	var background sync.WaitGroup
	background.Go(func() { store.retryLoop(ctx, reg.eachEndpoint) })
	defer background.Wait()
	defer cancel()

	slow, done := context.WithCancel(ctx)
	var reader sync.WaitGroup
	reader.Go(func() {
		for ; slow.Err() == nil; time.Sleep(pace) {
			fake.readOne()
		}
	})
	begin := time.Now()
	var owners []wire.Attachment
	for i := range n {
		a := wire.Attachment{Network: "web", Container: containerName(i), IfName: "eth0"}
		owners = append(owners, a)
		if err := reg.add(registration{&names.Resolver{Owner: a, Cookie: uint64(i)}, listening(t)}); err != nil {
			t.Fatal(err)
		}
	}
	reg.remove(owners[n/2:]...)
	if took := time.Since(begin); took > n*pace/2 {
		t.Errorf("%d ADDs and %d DELs took %v: they wait for systemd", n, n/2, took)
	}
	done()
	reader.Wait()
	kept := 0
	for deadline := time.Now().Add(20 * time.Second); kept != n/2 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		fake.read()
		kept = len(fake.kept)
	}
	for i := range n {
		if fds := len(fake.kept[storeKey{uint64(i), names.IPv4}.String()]); fds != 2 && i < n/2 || fds != 0 && i >= n/2 {
			t.Errorf("of sandbox %d %d descriptors are kept", i, fds)
		}
	}
	reg.remove(owners...)
}

// listening returns a name server's sockets.
func listening(t *testing.T) (s [families]dnssock.NameServer) {
	t.Helper()
	p := sockets(t) // the test closes these
	at := &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if err := errors.Join(syscall.Bind(p.udp, at), syscall.Bind(p.tcp, at), syscall.Listen(p.tcp, 1)); err != nil {
		t.Fatal(err)
	}
	udp, failed := syscall.Dup(p.udp)
	tcp, err := syscall.Dup(p.tcp)
	if err = errors.Join(failed, err); err != nil {
		t.Fatal(err)
	}
	s[names.IPv4] = dnssock.NameServer{UDP: udp, TCP: tcp, Port: 1}
	return s
}

// Other sockets replace those of an earlier dnetd, claimed or not.
func TestStoreReplaces(t *testing.T) {
	fake, service := newFakeStore(t)
	dead, live := sockets(t), sockets(t)
	newStore(service).put(9, names.IPv4, dead.udp, dead.tcp)
	for _, claim := range []bool{true, false} {
		next := newStore(service, fake.hand()...)
		if claim {
			udp, tcp, _ := next.claim(9, names.IPv4)
			agent.CloseAll([]int{udp, tcp})
		}
		next.put(9, names.IPv4, live.udp, live.tcp)
		if got := fake.names(); got != "9-ipv4:2" || inode(t, fake.kept["9-ipv4"][0]) != inode(t, live.udp) {
			t.Errorf("claimed before: %v: kept %s, not the new ones", claim, got)
		}
	}
}

// Descriptors that are no pair of a name server are closed and dropped.
func TestStoreOfOthers(t *testing.T) {
	fake, service := newFakeStore(t)
	p := sockets(t)
	for name, fds := range map[string][]int{
		"4097-ipv4":  {p.udp},
		"4098-ipv4":  {p.udp, p.udp},
		"4099-ipv4":  {p.udp, p.tcp, p.tcp},
		"4100-ipv5":  {p.udp, p.tcp},
		"04101-ipv4": {p.udp, p.tcp},
		"x":          {p.udp, p.tcp},
	} {
		if err := service.Keep(name, fds...); err != nil {
			t.Fatal(err)
		}
	}
	handed := fake.hand()
	store := newStore(service, handed...)
	if got := fake.names(); got != "" || len(store.stored) > 0 {
		t.Errorf("kept %s, know %v", got, store.stored)
	}
	for _, d := range handed {
		if _, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", d.FD)); err == nil {
			t.Errorf("%s: descriptor %d is open", d.Name, d.FD)
		}
	}
}

// badStore has one pair for every sandbox, which is of no use.
type badStore struct {
	noStore
	pair
}

func (s badStore) claim(uint64, names.Family) (udp, tcp int, ok bool) { return s.udp, s.tcp, true }

// A stored pair that is not the sandbox's is closed, and other sockets are opened.
func TestStoredPairOfNoUse(t *testing.T) {
	r := newFixture(t)
	b, p := r.netNS(), sockets(t)
	var stored pair
	for from, to := range map[int]*int{p.udp: &stored.udp, p.tcp: &stored.tcp} {
		var err error
		if *to, err = syscall.Dup(from); err != nil {
			t.Fatal(err)
		}
	}
	d := r.newHere()
	d.socketStore = badStore{pair: stored}
	s, err := d.open([]*names.Resolver{b.attach("web", "one", "10.0.0.2")}, names.IPv4, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, fd := range []int{p.udp, p.tcp} {
		if n := copies(t, fd); n != 1 {
			t.Errorf("%d descriptors lead to a socket of the pair, want the test's", n)
		}
	}
}
