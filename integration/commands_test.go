package integration

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

type scriptCommand = func(ts *testscript.TestScript, neg bool, args []string)

// commands are the verbs of a script besides testscript's own. doc.go is their
// manual.
func commands() map[string]scriptCommand {
	return map[string]scriptCommand{
		"netns":      cmdNetNS,
		"cni":        cmdCNI,
		"plugin":     cmdPlugin,
		"in":         cmdIn,
		"ping":       cmdPing,
		"advertise":  cmdAdvertise,
		"redirect":   cmdRedirect,
		"frame":      cmdFrame,
		"listen":     cmdListen,
		"occupy":     cmdOccupy,
		"reach":      cmdReach,
		"ruleset":    cmdRuleset,
		"snapshot":   cmdSnapshot,
		"unchanged":  cmdUnchanged,
		"conf":       cmdConf,
		"containerd": cmdContainerd,
		"pod":        cmdPod,
		"podman":     cmdPodman,
		"nerdctl":    cmdNerdctl,
		"multus":     cmdMultus,
		"systemd":    cmdSystemd,
		"nodes":      cmdNodes,
		"on":         cmdOn,
		"cluster":    cmdCluster,
		"keys":       cmdKeys,
		"sums":       cmdSums,
		"cut":        cmdCut,
		"heal":       cmdHeal,
		"kill9":      cmdKill9,
		"await":      cmdAwait,
		"traffic":    cmdTraffic,
		"lost":       cmdLost,
		"encrypted":  cmdEncrypted,
		"inject":     cmdInject,
		"wiretap":    cmdWiretap,
		"clock":      cmdClock,
		"associate":  cmdAssociate,
		"aborted":    cmdAborted,
	}
}

// finish ends a command that may fail: on purpose after "!", which puts the
// error on stderr for the script to look at, and else not at all.
func finish(ts *testscript.TestScript, neg bool, err error) {
	switch {
	case err != nil && neg:
		_, _ = fmt.Fprintln(ts.Stderr(), describe(err))
	case err != nil:
		ts.Fatalf("%s", describe(err))
	case neg:
		ts.Fatalf("unexpected success")
	}
}

// cmdNetNS makes sandboxes, or with -d removes them.
func cmdNetNS(ts *testscript.TestScript, neg bool, args []string) {
	do := of(ts).NewNetNS
	if len(args) > 0 && args[0] == "-d" {
		do, args = of(ts).DelNetNS, args[1:]
	}
	for _, name := range args {
		finish(ts, neg, do(name))
	}
}

// cmdIn runs a command in a network namespace, with the host's files.
func cmdIn(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: in NS COMMAND [ARG...]")
	}
	finish(ts, neg, of(ts).In(args[0], func() error { return program(ts, args[1:]).Run() }))
}

// program is one that the script has in its PATH.
func program(ts *testscript.TestScript, args []string) *exec.Cmd {
	cmd := exec.Command(args[0], args[1:]...)
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if path := filepath.Join(dir, args[0]); cmd.Err != nil {
			if _, err := os.Stat(path); err == nil {
				cmd.Path, cmd.Err = path, nil
			}
		}
	}
	cmd.Dir, cmd.Env = ts.MkAbs("."), append(os.Environ(), "PATH="+ts.Getenv("PATH"))
	cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
	return cmd
}

// cmdPing sends echo requests until one is answered, or just one that should
// not be.
func cmdPing(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: ping NS ADDR")
	}
	wait := []string{"-i", "0.2", "-w", "10"}
	if neg {
		wait = []string{"-W", "1"}
	}
	cmdIn(ts, neg, slices.Concat([]string{args[0], "ping", "-n", "-q", "-c", "1"}, wait, args[1:]))
}

// cmdListen starts an answering server that ends with the script.
func cmdListen(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: listen NS ADDR:PORT[/PROTO] [TEXT]")
	}
	e, err := parseEndpoint(args[1])
	ts.Check(err)
	text := args[0]
	if len(args) > 2 {
		text = args[2]
	}
	finish(ts, neg, of(ts).In(args[0], func() error {
		server, err := listen(e, text)
		if err == nil {
			ts.Defer(func() { _ = server.Close() })
		}
		return err
	}))
}

// cmdOccupy has another program hold a port of the host. What this process held would be held by an ancestor of the plugins.
func cmdOccupy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: occupy ADDR:PORT[/udp]")
	}
	e, err := parseEndpoint(args[0])
	ts.Check(err)
	f, err := bound(e)
	ts.Check(err)
	defer f.Close()
	end, err := keep(f)
	ts.Check(err)
	ts.Defer(end)
}

// keep has another process have a file, until end is called.
func keep(f *os.File) (end func(), err error) {
	holder := exec.Command("sleep", "1000")
	holder.ExtraFiles = []*os.File{f}
	err = holder.Start()
	return func() { _ = holder.Process.Kill(); _ = holder.Wait() }, err
}

// bound returns a socket that has an address of TCP, and listens, or of UDP.
func bound(e endpoint) (*os.File, error) {
	if e.proto == "udp" {
		conn, err := net.ListenUDP(e.network(), net.UDPAddrFromAddrPort(e.addr))
		if err != nil {
			return nil, err
		}
		defer conn.Close() // the file is another copy
		return conn.File()
	}
	l, err := net.ListenTCP(e.network(), net.TCPAddrFromAddrPort(e.addr))
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return l.File()
}

// How long to wait for an answer that should come, and for one that should
// not: the second is paid in full by each refused packet.
var (
	patience = slowness * 10 * time.Second
	enough   = slowness * 400 * time.Millisecond
)

// slowness is how much longer all takes in the virtual machine.
var slowness = map[bool]time.Duration{false: 1, true: 5}[os.Getenv(inVM) != ""]

// cmdReach connects and compares the answer.
func cmdReach(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: reach NS ADDR:PORT[/PROTO] [REGEXP]")
	}
	e, err := parseEndpoint(args[1])
	ts.Check(err)
	wait := patience
	if neg {
		wait = enough
	}
	finish(ts, neg, of(ts).In(args[0], func() error {
		line, err := ask(e, wait)
		if err != nil {
			return fmt.Errorf("reach %s: %w", args[1], err)
		}
		_, _ = fmt.Fprint(ts.Stdout(), line)
		if len(args) > 2 && !regexp.MustCompile(args[2]).MatchString(strings.TrimSpace(line)) {
			return fmt.Errorf("reach %s: answer %q, want %s", args[1], line, args[2])
		}
		return nil
	}))
}

// cmdRuleset prints the host's rules without their counters.
func cmdRuleset(ts *testscript.TestScript, neg bool, args []string) {
	cmdIn(ts, neg, append([]string{"host", "nft", "-s", "list", "ruleset"}, args...))
}

// cmdConf writes a configuration with the suite's fragments in their places
// where a program other than this one reads it.
func cmdConf(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: conf FILE DESTINATION")
	}
	finish(ts, neg, os.WriteFile(ts.MkAbs(args[1]), []byte(expand(ts, ts.ReadFile(args[0]))), 0o600))
}

// cmdSnapshot remembers what the host looks like.
func cmdSnapshot(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 || neg {
		ts.Fatalf("usage: snapshot NAME")
	}
	of(ts).snapshots[args[0]] = takePicture()
}

// cmdUnchanged compares the host with a snapshot.
func cmdUnchanged(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 || len(args) > 2 {
		ts.Fatalf("usage: unchanged NAME [IGNORED-REGEXP]")
	}
	before, ok := of(ts).snapshots[args[0]]
	if !ok {
		ts.Fatalf("no snapshot %s", args[0])
	}
	ignored := regexp.MustCompile(strings.Join(append(args[1:], `^$`), "|"))
	wait := patience
	if neg {
		wait = 0
	}
	diff := before.settle(wait, ignored)
	var err error
	if len(diff) > 0 {
		err = fmt.Errorf("the host has changed since %s:\n%s", args[0], strings.Join(diff, "\n"))
	}
	finish(ts, neg, err)
}
