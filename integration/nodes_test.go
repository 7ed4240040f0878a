package integration

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"dcni/integration/testhost"
)

// A script goes from host to host, with its one thread.
type script struct {
	home    *session // the host that each script has
	now     *session // where it is
	nodes   map[string]*session
	streams map[string]*stream // of traffic, by name
}

func newScript(s suite, host *testhost.Host) *script {
	all := &script{nodes: map[string]*session{}, streams: map[string]*stream{}}
	all.home = all.session(s, host, "")
	all.now = all.home
	return all
}

// session is that of a host as it was made.
func (all *script) session(s suite, host *testhost.Host, name string) *session {
	return &session{Host: host, suite: s, script: all, name: name, snapshots: map[string]picture{}, calls: map[string]*call{}}
}

// close ends what runs in nodes, and dclusterd, which ends with no container, and lets go
// of all hosts.
func (all *script) close() {
	all.move(all.home)
	for _, s := range all.streams {
		_, _, _ = s.end()
	}
	for _, n := range all.nodes {
		_, _ = n.Kill(regexp.MustCompile(""))
		_ = n.Close()
	}
	_, _ = all.home.Kill(regexp.MustCompile("^dclusterd "))
	_ = all.home.Close()
}

// move goes to a host, to stay.
func (all *script) move(to *session) {
	if to != all.now {
		to.Enter()
		all.now = to
	}
}

// visit calls f in a host, and comes back.
func (all *script) visit(at *session, f func() error) error {
	from := all.now
	defer all.move(from) // also when f ends the script
	all.move(at)
	return f()
}

// later calls f when the script ends, in the host where it is now.
func (s *session) later(ts *testscript.TestScript, f func()) {
	ts.Defer(func() { _ = s.script.visit(s, func() error { f(); return nil }) })
}

// find takes the node's name off a name of the form NODE/NAME. "outside" is beyond all.
func (all *script) find(from *session, name string) (*session, string) {
	if node, rest, found := strings.Cut(name, "/"); found && all.nodes[node] != nil {
		return all.nodes[node], rest
	}
	if name == "outside" {
		return all.home, name
	}
	return from, name
}

// node returns a node, or ends the script.
func node(ts *testscript.TestScript, name string) *session {
	n := of(ts).script.nodes[name]
	if n == nil {
		ts.Fatalf("no node %q: `nodes %s` makes it", name, name)
	}
	return n
}

// cmdNodes makes nodes. The host that was there is the wire between them.
func cmdNodes(ts *testscript.TestScript, neg bool, args []string) {
	mtu := 1500
	if len(args) > 1 && args[0] == "-mtu" {
		var err error
		mtu, err = strconv.Atoi(args[1])
		ts.Check(err)
		args = args[2:]
	}
	all := of(ts).script
	if neg || len(args) == 0 || len(all.nodes) > 0 {
		ts.Fatalf("usage: nodes [-mtu BYTES] NAME..., once")
	}
	hosts, err := all.home.NewNodes(binaries, mtu, args...)
	for i, host := range hosts {
		all.nodes[args[i]] = all.session(all.home.suite, host, args[i])
	}
	ts.Check(err)
}

// cmdOn goes to a node, or has one command there. "wire" is the host between them.
func cmdOn(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 || len(args) == 1 && neg {
		ts.Fatalf("usage: on NODE [COMMAND [ARG...]]")
	}
	all := of(ts).script
	at := all.home
	if args[0] != "wire" {
		at = node(ts, args[0])
	}
	if len(args) == 1 {
		all.move(at)
		return
	}
	_ = all.visit(at, func() error { oneCommand(ts, neg, args[1], args[2:]); return nil })
}

// oneCommand carries out a command of a script: one of these tests' own, or exec.
func oneCommand(ts *testscript.TestScript, neg bool, name string, args []string) {
	if do := commands()[name]; do != nil {
		do(ts, neg, args)
		return
	}
	if name != "exec" || len(args) == 0 {
		ts.Fatalf("on NODE %s: want exec PROGRAM, or a command of integration/doc.go; others after `on NODE` alone", name)
	}
	err := ts.Exec(args[0], args[1:]...)
	if (err == nil) == neg {
		ts.Fatalf("%s: %v", args[0], err)
	}
}

// cmdCut drops the packets of two nodes to one another.
func cmdCut(ts *testscript.TestScript, neg bool, args []string) {
	oneWay := len(args) == 3 && args[2] == "one-way"
	if neg || len(args) != 2 && !oneWay {
		ts.Fatalf("usage: cut NODE NODE [one-way]")
	}
	node(ts, args[1]).drop(ts, args[0])
	if !oneWay {
		node(ts, args[0]).drop(ts, args[1])
	}
}

// drop drops what comes from a node, before anything else sees it.
func (s *session) drop(ts *testscript.TestScript, from string) {
	if !slices.Contains(s.cut, from) {
		s.cut = append(s.cut, from)
	}
	s.writeCut(ts)
}

// cmdHeal undoes cut: of two nodes, or all of it.
func cmdHeal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 && len(args) != 2 {
		ts.Fatalf("usage: heal [NODE NODE]")
	}
	for name, s := range of(ts).script.nodes {
		was := len(s.cut)
		s.cut = slices.DeleteFunc(s.cut, func(from string) bool {
			return len(args) == 0 || slices.Contains(args, from) && slices.Contains(args, name)
		})
		if len(s.cut) != was {
			s.writeCut(ts)
		}
	}
}

// writeCut has a table of the node's own firewall say what is dropped.
func (s *session) writeCut(ts *testscript.TestScript) {
	rules := "table inet lab\ndelete table inet lab\n"
	if len(s.cut) > 0 {
		rules += "table inet lab { chain cut { type filter hook prerouting priority -500;\n"
		for _, from := range s.cut {
			v4, v6 := s.script.addresses(ts, from)
			rules += fmt.Sprintf("ip saddr %s drop\nip6 saddr %s drop\n", v4, v6)
		}
		rules += "}\n}\n"
	}
	ts.Check(s.script.visit(s, func() error {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(rules)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("nft: %w: %s", err, out)
		}
		return nil
	}))
}

// addresses are those of a node, or of the outside.
func (all *script) addresses(ts *testscript.TestScript, name string) (v4, v6 netip.Addr) {
	if name == "outside" {
		return netip.MustParseAddr(testhost.OutsideIPv4), netip.MustParseAddr(testhost.OutsideIPv6)
	}
	n := node(ts, name)
	return n.IPv4, n.IPv6
}

// cmdKill9 kills processes of a node, or all of them.
func cmdKill9(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 || len(args) > 2 {
		ts.Fatalf("usage: kill9 NODE [REGEXP]")
	}
	n, err := node(ts, args[0]).Kill(regexp.MustCompile(strings.Join(args[1:], "")))
	if err == nil && n == 0 {
		err = errors.New("no such process")
	}
	finish(ts, neg, err)
}

// cmdAwait runs a program again and again until it succeeds, or fails after "!", and
// not longer than that.
func cmdAwait(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: await DURATION NS COMMAND [ARG...]")
	}
	wait, err := time.ParseDuration(args[0])
	ts.Check(err)
	began := time.Now()
	for {
		var said strings.Builder
		asked := time.Now()
		err := of(ts).In(args[1], func() error {
			cmd := program(ts, args[2:])
			cmd.Stdout, cmd.Stderr = &said, &said
			return cmd.Run()
		})
		took := time.Since(began)
		if (err != nil) == neg {
			_, _ = fmt.Fprint(ts.Stdout(), said.String())
			ts.Logf("[after %s]", took.Round(time.Millisecond))
			return
		}
		if took > slowness*wait {
			ts.Fatalf("after %s still: %v: %s", took.Round(time.Millisecond), err, said.String())
		}
		// Where the command takes long, as on a busy machine, it is asked less often: else to wait is work.
		time.Sleep(min(max(20*time.Millisecond, 3*time.Since(asked)), 500*time.Millisecond))
	}
}

// A stream is datagrams to a server that answers each, 100 a second.
type stream struct {
	conn net.Conn
	stop chan struct{}
	done chan struct{}

	asked, answered int // the goroutine's until done
}

// cmdTraffic starts a stream, once the server has answered: nodes tell each other of a
// container after its ADD.
func cmdTraffic(ts *testscript.TestScript, neg bool, args []string) {
	all := of(ts).script
	if len(args) != 3 || all.streams[args[0]] != nil {
		ts.Fatalf("usage: traffic NAME NS ADDR:PORT/udp, a name once")
	}
	e, err := parseEndpoint(args[2])
	ts.Check(err)
	finish(ts, neg, of(ts).In(args[1], func() error {
		conn, err := dial(e, patience)
		if err != nil {
			return err
		}
		for began := time.Now(); ; {
			_, err = conn.Write([]byte("?"))
			_ = conn.SetReadDeadline(time.Now().Add(time.Second))
			if err == nil {
				_, err = conn.Read(make([]byte, 256))
			}
			if err == nil {
				all.streams[args[0]] = startStream(conn)
				return nil
			}
			if time.Since(began) > patience {
				return errors.Join(err, conn.Close())
			}
			time.Sleep(10 * time.Millisecond) // a refusal comes at once
		}
	}))
}

func startStream(conn net.Conn) *stream {
	s := &stream{conn: conn, stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		for tick := time.NewTicker(10 * time.Millisecond); ; {
			select {
			case <-s.stop:
				return
			case <-tick.C:
			}
			s.asked++
			_, sent := s.conn.Write([]byte("?"))
			_ = s.conn.SetReadDeadline(time.Now().Add(time.Second))
			_, read := s.conn.Read(make([]byte, 256))
			if errors.Is(read, os.ErrDeadlineExceeded) { // by now the answer may be there: this process had no time
				_ = s.conn.SetReadDeadline(time.Now().Add(time.Second))
				_, read = s.conn.Read(make([]byte, 256))
			}
			if errors.Join(sent, read) == nil {
				s.answered++
			}
		}
	}()
	return s
}

// end returns how many were asked and answered.
func (s *stream) end() (asked, answered int, err error) {
	close(s.stop)
	<-s.done
	return s.asked, s.answered, s.conn.Close()
}

// cmdLost ends a stream.
func cmdLost(ts *testscript.TestScript, neg bool, args []string) {
	all := of(ts).script
	if len(args) == 0 || len(args) > 2 || all.streams[args[0]] == nil {
		ts.Fatalf("usage: lost NAME [AT-MOST], after traffic NAME")
	}
	most := 0
	if len(args) == 2 {
		var err error
		most, err = strconv.Atoi(args[1])
		ts.Check(err)
	}
	asked, answered, err := all.streams[args[0]].end()
	delete(all.streams, args[0])
	_, _ = fmt.Fprintf(ts.Stdout(), "%d of %d lost\n", asked-answered, asked)
	if err == nil && (asked-answered > most || asked == 0) {
		err = fmt.Errorf("%d of %d lost, want at most %d", asked-answered, asked, most)
	}
	finish(ts, neg, err)
}
