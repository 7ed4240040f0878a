package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"dcni/pkg/host/agent"
	"dcni/pkg/host/dnssock"
	"dcni/pkg/names"
	"dcni/pkg/wire"
)

// files returns how many files the process has open.
func (p *process) files() int {
	p.t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	return len(list)
}

// steadyFiles returns how many files the process has open once that number stays.
func (p *process) steadyFiles() int {
	p.t.Helper()
	for files := p.files(); ; {
		time.Sleep(50 * time.Millisecond)
		now := p.files()
		if now == files {
			return now
		}
		files = now
	}
}

// wantFiles wants the process to come back to a number of open files.
func (p *process) wantFiles(files int) {
	p.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); p.files() != files; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Errorf("%d files are open, want %d", p.files(), files)
			return
		}
	}
}

// An error that passes by itself has the code that says so.
func TestReplyCodes(t *testing.T) {
	d := &dnetd{log: slog.New(slog.DiscardHandler)}
	for _, test := range []struct {
		err  error
		want wire.Code
	}{
		{nil, 0},
		{errors.New("other"), wire.CodeInternal},
		{wire.Errorf(wire.CodeConfig, "coded"), wire.CodeConfig},
		{fmt.Errorf("dup: %w", syscall.EMFILE), wire.CodeTryAgain},
		{malformed(fmt.Errorf("descriptors: %w", syscall.ENFILE)), wire.CodeTryAgain},
		{malformed(errors.New("no JSON")), wire.CodeDecode},
	} {
		if got := d.complete(agent.Reply{}, test.err); got.Code != test.want || (got.Err() != nil) != (test.err != nil) {
			t.Errorf("%v: code %d, error %v, want code %d", test.err, got.Code, got.Err(), test.want)
		}
	}
}

func TestBadRequests(t *testing.T) {
	r := newFixture(t)
	d := r.start()
	b, other := r.netNS(), r.netNS()
	four, six, foreign := b.sockets(false), b.sockets(true), other.sockets(false)
	defer four.Close()
	defer six.Close()
	defer foreign.Close()
	second := b.sockets(false)
	defer second.Close()
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	fd := int(null.Fd())
	files := d.steadyFiles()
	for _, test := range []struct {
		name   string
		change func(*names.Resolver)
		files  []int
		want   string
	}{
		{"no descriptors", nil, nil, "0 descriptors: must be 2"},
		{"one descriptor", nil, []int{four.UDP}, "1 descriptors: must be 2"},
		{"both families, not asked for", nil, []int{four.UDP, four.TCP, six.UDP, six.TCP}, "4 descriptors: must be 2"},
		{"one family of two", func(r *names.Resolver) { r.Port6 = 1 }, []int{four.UDP, four.TCP}, "2 descriptors: must be 4"},
		{"files", nil, []int{fd, fd}, "UDP socket: getsockopt: socket operation on non-socket"},
		{"the wrong order", nil, []int{four.TCP, four.UDP}, "UDP socket: type is 1: must be 2"},
		{"the wrong family", nil, []int{six.UDP, six.TCP}, "both must be at one port of 127.0.0.11"},
		{"two ports", nil, []int{four.UDP, second.TCP}, "both must be at one port of 127.0.0.11"},
		{"sockets of another sandbox", nil, []int{foreign.UDP, foreign.TCP}, "namespace has cookie"},
		{"many descriptors", nil, make([]int, 200), "200 descriptors: must be 2"},
		{"no container", func(r *names.Resolver) { r.Owner.Container = "" }, nil, `container "": must be 1 to 255 bytes`},
		{"a path for a network", func(r *names.Resolver) { r.Owner.Network = "../x" }, nil, `network "../x": must be`},
		{"a long interface", func(r *names.Resolver) { r.Owner.IfName = strings.Repeat("x", 256) }, nil, "ifName"},
		{"no path", func(r *names.Resolver) { r.NetNS = "run/netns/c1" }, nil, `netns "run/netns/c1": must be an absolute path`},
		{"no cookie", func(r *names.Resolver) { r.Cookie = 0 }, nil, "cookie 0"},
		{"the host's namespace", func(x *names.Resolver) { x.Cookie = r.host.cookie }, nil, "which is not the host's"},
		{"a bad name", func(r *names.Resolver) { r.Names = []string{"ok", "a..b"} }, nil, `names[1] "a..b"`},
		{"no address", func(r *names.Resolver) { r.Addresses = []netip.Addr{{}} }, nil, "addresses[0]"},
		{"any address", func(r *names.Resolver) { r.Addresses = []netip.Addr{netip.IPv6Unspecified()} }, nil, "addresses[0]"},
		{"no gateway", func(r *names.Resolver) { r.Gateways = []netip.Addr{{}} }, nil, "gateways[0]"},
		{"a bad host", func(r *names.Resolver) { r.Hosts = []names.HostEntry{{Name: "-\x00"}} }, nil, "hosts[0]"},
		{"a host's address", func(r *names.Resolver) { r.Hosts = []names.HostEntry{{Name: "x", Addresses: []netip.Addr{{}}}} }, nil, "hosts[0]"},
		{"no port", func(r *names.Resolver) { r.Servers = []netip.AddrPort{netip.AddrPortFrom(names.Address, 0)} }, nil, "servers[0]"},
		{"a long time", func(r *names.Resolver) { r.TTL = 1 << 31 }, nil, "ttl"},
	} {
		resolver := b.attach("web", "one", "10.0.0.2")
		if test.change != nil {
			test.change(resolver)
		}
		_, err := agent.Call(r.socket(), 20*time.Second, agent.Request{Op: agent.Serve, Resolver: resolver}, test.files...)
		var coded *wire.Error
		if err == nil || !strings.Contains(err.Error(), test.want) || !errors.As(err, &coded) || coded.Code == wire.CodeInternal {
			t.Errorf("%s: %v, want %s", test.name, err, test.want)
		}
	}
	for _, req := range []agent.Request{
		{}, {Op: "dance"}, {Op: agent.Serve}, {Op: agent.Forget}, {Op: agent.Know}, {Op: agent.Refresh},
		{Op: agent.Forget, Attachment: &wire.Attachment{}},
	} {
		if _, err := agent.Call(r.socket(), 20*time.Second, req, fd); err == nil || errors.Is(err, agent.ErrAbsent) {
			t.Errorf("%+v: %v", req, err)
		}
	}
	d.wantFiles(files)
}

func TestGarbage(t *testing.T) {
	r := newFixture(t)
	d := r.start()
	files := d.steadyFiles()
	for _, text := range []string{"", "{", "null", "[]", "\x00", `{"op":"serve","resolver":{"addresses":["x"]}}`, strings.Repeat("{", 100<<10), strings.Repeat("x", 150<<10)} {
		c, err := net.Dial("unixpacket", r.socket())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
		if _, err := c.Read(make([]byte, 1<<10)); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%.10q: no answer", text)
		}
		_ = c.Close()
	}
	d.wantFiles(files)
}

// Half as many silent clients as dnetd serves at a time delay no request. More than
// that delay one until their time is over.
func TestSilentClients(t *testing.T) {
	t.Parallel()
	for clients, within := range map[int]time.Duration{maxRequests / 2: firstMessageTimeout / 2, 2 * maxRequests: 4 * firstMessageTimeout} {
		r := newFixture(t)
		r.start()
		for range clients {
			c, err := agent.Dial(r.socket(), 20*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
		if _, err := agent.Call(r.socket(), within, agent.Request{Op: agent.Status}); err != nil {
			t.Errorf("beside %d: %v", clients, err)
		}
	}
}

func TestKnow(t *testing.T) {
	r := newFixture(t)
	r.start()
	b := r.netNS()
	resolver := b.attach("web", "one", "10.0.0.2")
	know := func() (agent.Reply, error) {
		return agent.Call(r.socket(), 20*time.Second, agent.Request{Op: agent.Know, Resolver: resolver})
	}
	if _, err := know(); err == nil || !strings.Contains(err.Error(), "web one-id/eth0 is not served") {
		t.Error(err)
	}
	port := r.serve(b, resolver)
	resolver.Port++ // as it was before dnetd took another
	if reply, err := know(); err != nil || reply.Port != port {
		t.Errorf("port %d, want %d: %v", reply.Port, port, err)
	}
	resolver.Names, resolver.TTL = []string{"uno"}, 5
	if _, err := know(); err == nil || !strings.Contains(err.Error(), "names is [one]: want [uno]") || !strings.Contains(err.Error(), "ttl is 600: want 5") {
		t.Error(err)
	}
}

// The reply to the last attachment of a sandbox that goes says so, and no other.
func TestLast(t *testing.T) {
	t.Parallel()
	r := newFixture(t)
	r.start()
	b := r.netNS()
	one, two := b.attach("web", "one", "10.0.0.2"), b.attach("db", "one", "10.1.0.2")
	port := r.serve(b, one)
	r.serve(b, two)
	for _, c := range []struct {
		of   *names.Resolver
		want agent.Reply
	}{
		{one, agent.Reply{Port: port}},
		{one, agent.Reply{}}, // is not known any more
		{two, agent.Reply{Last: b.cookie}},
		{two, agent.Reply{}},
	} {
		got, err := agent.Call(r.socket(), 20*time.Second, agent.Request{Op: agent.Forget, Attachment: &c.of.Owner})
		got.PID, got.Version = 0, ""
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v %v; want %+v", c.of.Owner, got, err, c.want)
		}
	}
}

func TestBothFamilies(t *testing.T) {
	r := newFixture(t)
	r.start()
	b := r.netNS()
	one, two := b.attach("web", "one", "10.0.0.2"), b.attach("lab", "two", "10.1.0.2")
	port := r.serve(b, one)
	four, six := b.sockets(false), b.sockets(true)
	defer four.Close()
	defer six.Close()
	two.Port6 = six.Port
	reply, err := agent.Call(r.socket(), 20*time.Second, agent.Request{Op: agent.Serve, Resolver: two}, four.UDP, four.TCP, six.UDP, six.TCP)
	if err != nil || reply.Port != port || reply.Port6 != six.Port {
		t.Errorf("%+v, %v: want ports %d and %d", reply, err, port, six.Port)
	}
}

// A user other than root is refused, even on a socket that lets all users connect.
func TestOthers(t *testing.T) {
	r := newFixture(t)
	d := r.start()
	path := r.socket()
	for dir := r.store.Run; dir != os.TempDir() && dir != "/"; dir = dir[:strings.LastIndexByte(dir, '/')] {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	request := func() string {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), askVariable+"="+path)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	if got := request(); !strings.Contains(got, "permission denied") {
		t.Error(got)
	}
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	if got := request(); !strings.Contains(got, agent.ErrAbsent.Error()) {
		t.Error(got)
	}
	for end := time.Now().Add(20 * time.Second); !strings.Contains(d.out.String(), "only root may ask"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing is logged")
		}
	}
}

// Sandboxes that come and go leave no descriptor and no port.
func TestLeavesNothing(t *testing.T) {
	r := newFixture(t)
	d := r.start()
	b := r.netNS()
	resolver := b.attach("web", "one", "10.0.0.2")
	r.serve(b, resolver) // the first starts what stays
	r.forget(resolver)
	files := d.steadyFiles()
	for range 10 {
		port := r.serve(b, resolver)
		b.in(port, "one", "10.0.0.2")
		r.forget(resolver)
	}
	d.wantFiles(files)
	s, err := dnssock.Open(b.path, b.cookie, resolver.Port, false)
	if err != nil || s.Port != resolver.Port {
		t.Errorf("port %d is still taken: %+v, %v", resolver.Port, s, err)
	}
	s.Close()
}

// stop stops the process until SIGCONT.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
	if _, err := syscall.Wait4(p.Process.Pid, nil, syscall.WUNTRACED, nil); err != nil {
		p.t.Fatal(err)
	}
}

// A request whose plugin has stopped waiting is not served: after a Forget, the
// attachment's next Serve may be on its way.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	r := newFixture(t)
	d, b := r.start(), r.netNS()
	resolver := b.attach("web", "one", "10.0.0.2")
	port := r.serve(b, resolver)
	for range 20 {
		d.stop()
		if _, err := agent.Call(r.socket(), 10*time.Millisecond, agent.Request{Op: agent.Forget, Attachment: &resolver.Owner}); err == nil {
			t.Fatal("answered")
		}
		d.signal(syscall.SIGCONT)
		if _, err := agent.Call(r.socket(), 20*time.Second, agent.Request{Op: agent.Know, Resolver: resolver}); err != nil {
			t.Error(err)
		}
	}
	b.in(port, "one", "10.0.0.2")
}

// A dnetd that is stopped between accepting a connection and reading the request,
// for longer than the request may take, serves it all the same.
func TestStoppedBeforeReading(t *testing.T) {
	t.Parallel()
	r := newFixture(t)
	d := r.start()
	c, err := agent.Dial(r.socket(), 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	time.Sleep(firstMessageTimeout / 5) // it is accepted
	d.stop()
	if err := c.Send(agent.Request{Op: agent.Status}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(firstMessageTimeout)
	d.signal(syscall.SIGCONT)
	var reply agent.Reply
	if _, err := c.Receive(&reply); err != nil || reply.Err() != nil {
		t.Error(err, reply.Err())
	}
}
