package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dcni/pkg/host/agent"
	"dcni/pkg/host/dnssock"
	"dcni/pkg/names"
	"dcni/pkg/netns"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// storeVariable makes the test binary a dnetd with its records in a directory.
const storeVariable = "DNETD_TEST_STORE"

// askVariable makes it request the status at a socket, and print the reply.
const askVariable = "DNETD_TEST_ASK"

func TestMain(m *testing.M) {
	if path := os.Getenv(askVariable); path != "" {
		fmt.Println(agent.Call(path, 20*time.Second, agent.Request{Op: agent.Status}))
		os.Exit(0)
	}
	if dir := os.Getenv(storeVariable); dir != "" {
		os.Exit(child(dir, os.Args[1:]))
	}
	os.Exit(m.Run())
}

// testReconcile is how often a dnetd of tests compares its registry with the
// records.
const testReconcile = 200 * time.Millisecond

// testClaim is its claimTime.
const testClaim = 500 * time.Millisecond

// child is a dnetd as a process of its own. The host's resolv.conf is in the
// directory, too. It ends with its parent.
func child(dir string, args []string) int {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	o, err := parse(append([]string{"serve"}, args...), os.Stdout)
	var d *dnetd
	if err == nil {
		d, err = newDnetd(o, records.Store{Run: dir, Lib: dir}, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: o.level})))
	}
	if err == nil {
		d.resolvConf, d.reconcileEvery, d.claimTime = filepath.Join(dir, "resolv.conf"), testReconcile, testClaim
		err = d.join(os.Getenv, os.Getpid())
	}
	if err == nil {
		err = d.run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// plugin is a plugin that has resolvers.
const plugin = "ddns"

// A fixture is a host: a network namespace, a directory of records with a unix
// socket and a resolv.conf, and dnetds that use them.
type fixture struct {
	t     testing.TB
	store records.Store
	host  *testNetNS
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
	dir := t.TempDir()
	r := &fixture{t: t, store: records.Store{Run: dir, Lib: dir}}
	r.host = r.netNS()
	return r
}

func (r *fixture) socket() string { return filepath.Join(r.store.Run, "dnetd.sock") }

// A process is a dnetd that runs.
type process struct {
	*exec.Cmd
	t    testing.TB
	out  *output
	done chan error // gets how it ended
}

// output is what a process wrote.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// start starts a dnetd and waits until it answers.
func (r *fixture) start(flags ...string) *process {
	r.t.Helper()
	p := r.begin(flags...)
	p.await()
	return p
}

// begin starts a dnetd.
func (r *fixture) begin(flags ...string) *process {
	r.t.Helper()
	p := r.prepare(flags...)
	r.launch(p)
	return p
}

// prepare returns a dnetd that is not started yet.
func (r *fixture) prepare(flags ...string) *process {
	r.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		r.t.Fatal(err)
	}
	p := &process{Cmd: exec.Command(exe, append([]string{"--socket", r.socket(), "--metrics", ""}, flags...)...), t: r.t, out: &output{}, done: make(chan error, 1)}
	p.Env = append(os.Environ(), storeVariable+"="+r.store.Run, "GORACE=atexit_sleep_ms=0")
	p.Stdout, p.Stderr = p.out, p.out
	return p
}

// launch starts it.
func (r *fixture) launch(p *process) {
	r.t.Helper()
	if _, err := p.StdinPipe(); err != nil { // open as long as we live
		r.t.Fatal(err)
	}
	if err := r.host.ns.Do(p.Start); err != nil {
		r.t.Fatal(err)
	}
	go func() { p.done <- p.Wait() }()
	r.t.Cleanup(func() {
		_ = p.Process.Kill()
		if r.t.Failed() {
			r.t.Logf("dnetd %d:\n%s", p.Process.Pid, p.out)
		}
	})
}

// await waits until the process answers at the socket.
func (p *process) await() {
	p.t.Helper()
	socket := p.Args[2]
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		reply, err := agent.Call(socket, 20*time.Second, agent.Request{Op: agent.Status})
		if err == nil && reply.PID == p.Process.Pid {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("dnetd %d does not answer: %v, %v\n%s", p.Process.Pid, reply, err, p.out)
		}
	}
}

// ends waits until the process has ended.
func (p *process) ends(within time.Duration) error {
	p.t.Helper()
	select {
	case err := <-p.done:
		p.done <- err
		return err
	case <-time.After(within):
		p.t.Fatalf("dnetd %d still runs after %v\n%s", p.Process.Pid, within, p.out)
		return nil
	}
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// A testNetNS is a sandbox: a network namespace with lo.
type testNetNS struct {
	t      testing.TB
	ns     *netns.NS
	path   string
	cookie uint64
}

// netNS makes a sandbox that lives as long as the test.
func (r *fixture) netNS() *testNetNS {
	r.t.Helper()
	made := make(chan *netns.NS)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is scrapped
		err := syscall.Unshare(syscall.CLONE_NEWNET)
		var out []byte
		if err == nil {
			out, err = exec.Command("ip", "link", "set", "lo", "up").CombinedOutput()
		}
		var ns *netns.NS
		if err == nil {
			ns, err = netns.Open("/proc/thread-self/ns/net")
		}
		if err != nil {
			r.t.Errorf("sandbox: %v: %s", err, out)
		}
		made <- ns
	}()
	b := &testNetNS{t: r.t, ns: <-made}
	if b.ns == nil {
		r.t.FailNow()
	}
	b.path = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), b.ns.Fd())
	var err error
	if b.cookie, err = b.ns.Cookie(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(b.ns.Close)
	return b
}

// attach returns the resolver of an attachment of the sandbox to a network; the
// container has one name and one address.
func (b *testNetNS) attach(network, name, address string) *names.Resolver {
	return &names.Resolver{
		Owner: wire.Attachment{Network: network, Container: name + "-id", IfName: "eth0"},
		NetNS: b.path, Cookie: b.cookie, TTL: 600,
		Names: []string{name}, Addresses: []netip.Addr{netip.MustParseAddr(address)},
		Gateways: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
	}
}

// sockets opens sockets in the sandbox, as a plugin does.
func (b *testNetNS) sockets(six bool) dnssock.NameServer {
	b.t.Helper()
	s, err := dnssock.Open(b.path, b.cookie, 0, six)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// serve has the dnetd serve an attachment, writes the record, and returns the
// port. As a plugin does, it holds the attachment's lock.
func (r *fixture) serve(b *testNetNS, resolver *names.Resolver) uint16 {
	r.t.Helper()
	lock, err := r.store.LockAttachment(resolver.Owner)
	if err != nil {
		r.t.Fatal(err)
	}
	defer lock.Unlock()
	s := b.sockets(false)
	defer s.Close()
	reply, err := agent.Call(r.socket(), 20*time.Second, agent.Request{Op: agent.Serve, Resolver: resolver}, s.UDP, s.TCP)
	if err != nil {
		r.t.Fatal(err)
	}
	resolver.Port = reply.Port
	r.record(resolver, records.Up)
	return reply.Port
}

// forget is a DEL: the record says so, dnetd forgets, and the record goes.
func (r *fixture) forget(resolver *names.Resolver) {
	r.t.Helper()
	lock, err := r.store.LockAttachment(resolver.Owner)
	if err != nil {
		r.t.Fatal(err)
	}
	defer lock.Unlock()
	r.record(resolver, records.Deleting)
	if _, err := agent.Call(r.socket(), 20*time.Second, agent.Request{Op: agent.Forget, Attachment: &resolver.Owner}); err != nil {
		r.t.Fatal(err)
	}
	if err := r.store.Delete(resolver.Owner, plugin); err != nil {
		r.t.Fatal(err)
	}
}

func (r *fixture) record(resolver *names.Resolver, state records.State) {
	r.t.Helper()
	r.recordOf(plugin, resolver.Owner, resolver, state)
}

// recordOf writes a record of a plugin, with a resolver or nil.
func (r *fixture) recordOf(plugin string, a wire.Attachment, resolver *names.Resolver, state records.State) {
	r.t.Helper()
	record := &records.Record{Attachment: a, Plugin: plugin, State: state, Resolver: resolver}
	if resolver != nil {
		record.NetNS, record.Cookie = resolver.NetNS, resolver.Cookie
	}
	if err := r.store.Put(record); err != nil {
		r.t.Fatal(err)
	}
}

// dial opens a socket in the sandbox, to its name server.
func (b *testNetNS) dial(network string, port uint16) net.Conn {
	b.t.Helper()
	var c net.Conn
	err := b.ns.Do(func() (err error) {
		c, err = net.Dial(network, netip.AddrPortFrom(names.Address, port).String())
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

// query is a question for the A records of a name, as it goes over UDP.
func query(id uint16, name string) []byte {
	q := binary.BigEndian.AppendUint16(nil, id)
	q = append(q, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0) // recursion is desired, one question
	for label := range strings.SplitSeq(name, ".") {
		q = append(append(q, byte(len(label))), label...)
	}
	return append(q, 0, 0, 1, 0, 1) // A IN
}

// ask returns what the sandbox is answered: an address, "nothing", or the
// response code of an error; "silence" if nothing comes.
func (b *testNetNS) ask(port uint16, name string) string {
	b.t.Helper()
	c := b.dial("udp", port)
	defer c.Close()
	q := query(7, name)
	if _, err := c.Write(q); err != nil {
		return err.Error()
	}
	if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		b.t.Fatal(err)
	}
	answer := make([]byte, 512)
	n, err := c.Read(answer)
	if err != nil {
		return "silence"
	}
	return read(answer[:n], len(q))
}

// read reads the first address of an answer to a question of that length.
func read(answer []byte, question int) string {
	const fixed = 12 // bytes of a record before its address, with a compressed name
	if code := answer[3] & 15; code != 0 {
		return fmt.Sprintf("rcode %d", code)
	}
	if binary.BigEndian.Uint16(answer[6:]) == 0 || len(answer) < question+fixed+4 {
		return "nothing"
	}
	return netip.AddrFrom4([4]byte(answer[question+fixed:])).String()
}

// in wants an answer to the sandbox, at once.
func (b *testNetNS) in(port uint16, name, want string) {
	b.t.Helper()
	if is := b.ask(port, name); is != want {
		b.t.Errorf("%s: %s, want %s", name, is, want)
	}
}

// eventually wants an answer to the sandbox within two seconds.
func (b *testNetNS) eventually(port uint16, name, want string) {
	b.t.Helper()
	var is string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if is = b.ask(port, name); is == want {
			return
		}
	}
	b.t.Errorf("%s: %s, want %s", name, is, want)
}

// containerName and containerAddress are those of the container of a number.
func containerName(i int) string { return fmt.Sprint("c", i) }

func containerAddress(i int) string {
	return netip.AddrFrom4([4]byte{10, 0, byte(1 + i/250), byte(1 + i%250)}).String()
}
