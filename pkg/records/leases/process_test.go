package leases

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"dcni/pkg/ipam"
	"dcni/pkg/records"
)

// The tests of several processes, and of processes that die, run this binary
// again: RECORDS_CHILD says what it then does with the store in RECORDS_DIR.
func TestMain(m *testing.M) {
	do, ok := children[os.Getenv("RECORDS_CHILD")]
	if !ok {
		os.Exit(m.Run())
	}
	dir := os.Getenv("RECORDS_DIR")
	if err := do(records.Store{Run: dir + "/run", Lib: dir + "/lib"}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

var children = map[string]func(records.Store) error{
	"churn": churn,
	"epoch": func(s records.Store) error {
		word, err := s.Epoch()
		fmt.Print(word)
		return err
	},
	"claim":   func(s records.Store) error { return one(s, "c2", true) },
	"reclaim": func(s records.Store) error { return one(s, "c1", true) },
	"release": func(s records.Store) error { return one(s, "c1", false) },
}

// child returns a command that runs one of the children.
func child(s records.Store, what string, before ...string) *exec.Cmd {
	args := append(before, os.Args[0], "-test.run=^$")
	c := exec.Command(args[0], args[1:]...)
	c.Env = append(os.Environ(), "RECORDS_CHILD="+what, "RECORDS_DIR="+filepath.Dir(s.Run), "GOMAXPROCS=1", "GOGC=off")
	return c
}

// churnConfig has fewer addresses than there are processes that want three, in
// IPv4, so some claims always fail.
func churnConfig() ipam.Config {
	c, err := ipam.Raw{Subnets: []ipam.RawSubnet{{Subnet: "10.1.0.0/28"}, {Subnet: "fd00:1::/64"}}}.Config()
	if err != nil {
		panic(err)
	}
	return c
}

// churn claims and releases. A file with O_EXCL for each address proves that
// no other process believes that it has the address.
func churn(s records.Store) error {
	cfg, held := churnConfig(), filepath.Join(filepath.Dir(s.Run), "held")
	var have [3][]string
	for i := range 120 {
		slot := i % len(have)
		name := fmt.Sprintf("p%d-%d", os.Getpid(), slot)
		for _, path := range have[slot] {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
		have[slot] = nil
		if err := Of(s, "", "web").Release(owner(name)); err != nil {
			return err
		}
		got, err := Of(s, "", "web").Claim(request(name), cfg)
		if code(err) == 11 {
			continue
		}
		if err != nil {
			return err
		}
		for _, a := range got {
			path := filepath.Join(held, a.Address.Addr().String())
			f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return fmt.Errorf("%s was given to two: %w", a.Address, err)
			}
			f.Close()
			have[slot] = append(have[slot], path)
		}
	}
	return nil
}

func TestManyProcesses(t *testing.T) {
	s := testStore(t)
	if err := os.MkdirAll(filepath.Join(filepath.Dir(s.Run), "held"), 0o700); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	const processes = 8
	for range processes {
		go func() {
			out, err := child(s, "churn").CombinedOutput()
			if err != nil {
				err = fmt.Errorf("%w: %s", err, out)
			}
			done <- err
		}()
	}
	for range processes {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	verify(t, Of(s, "", "web"))
}

func TestEpochOfManyProcesses(t *testing.T) {
	s := testStore(t)
	words := make(chan string)
	for range 8 {
		go func() {
			out, err := child(s, "epoch").Output()
			words <- fmt.Sprint(string(out), err)
		}()
	}
	first := <-words
	const digits = 12
	if len(first) != digits+len("<nil>") {
		t.Fatal(first)
	}
	for range 7 {
		want(t, <-words, first)
	}
	reboot(t, s.Run)
	if again, err := s.Epoch(); err != nil || again+"<nil>" == first {
		t.Fatalf("after a boot: %s, %v", again, err)
	}
}

// one is a single claim or release. It stays on one thread: strace counts
// system calls by thread.
func one(s records.Store, container string, claim bool) error {
	runtime.LockOSThread()
	cfg := churnConfig()
	cfg.Sticky = os.Getenv("RECORDS_STICKY") != ""
	l := Of(s, "", "web")
	if !claim {
		return l.Release(owner(container))
	}
	_, err := l.Claim(request(container), cfg)
	return err
}

// The calls that change something, and one that does not in each phase.
var killAt = []string{
	"openat", "pread64", "pwrite64", "write", "symlinkat", "readlinkat", "unlinkat,rmdir", "mkdirat",
	"renameat,renameat2", "linkat", "utimensat", "fcntl", "stat,newfstatat", "close",
}

// TestKillAnywhere kills a claim, a claim that replaces one, and a release at
// every system call of theirs, and looks that no address is lost, none is two's,
// and a release frees all.
func TestKillAnywhere(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is missing: nothing else kills at a given system call")
	}
	if testing.Short() {
		t.Skip("takes a minute: hundreds of processes under strace")
	}
	for _, what := range []string{"claim", "reclaim", "release"} {
		for _, k := range []kill{{what: what}, {what: what, sticky: true}, {what: what, coarse: true}} {
			t.Run(fmt.Sprintf("%+v", k), func(t *testing.T) {
				kills := 0
				for _, calls := range killAt {
					kills += k.series(t, strace, calls)
				}
				t.Logf("killed %d times", kills)
			})
		}
	}
}

// A kill is what is killed and how.
type kill struct {
	what   string
	sticky bool
	coarse bool // file times are so coarse that the directory seems unchanged
}

// series kills at the first of some calls, the second, ... until one is left
// alive. It returns how many died.
func (k kill) series(t *testing.T, strace, calls string) int {
	for n := 1; ; n++ {
		s := testStore(t)
		l, cfg := Of(s, "", "web"), churnConfig()
		cfg.Sticky = k.sticky
		if k.what != "claim" {
			l.Claim(request("c1"), cfg)
		}
		l.Claim(request("c3"), cfg)
		if n%2 == 0 && !k.coarse { // the first one of a network, and of a boot
			reboot(t, s.Run)
			if k.what == "claim" {
				os.RemoveAll(s.Lib)
			}
		}
		before, _ := os.Stat(l.dir)
		died := k.run(t, s, strace, calls, n)
		if k.coarse {
			os.Chtimes(l.dir, before.ModTime(), before.ModTime())
		}
		afterKill(t, s, cfg)
		if t.Failed() {
			t.Fatalf("%+v at %s %d", k, calls, n)
		}
		if !died {
			return n - 1
		}
	}
}

// run runs the child and reports whether it died at the n-th of some calls.
func (k kill) run(t *testing.T, s records.Store, strace, calls string, n int) bool {
	c := child(s, k.what, strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace="+calls,
		"-e", "inject="+calls+":signal=SIGKILL:when="+strconv.Itoa(n))
	if k.sticky {
		c.Env = append(c.Env, "RECORDS_STICKY=1")
	}
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() > 0 && exit.ExitCode() != 137) {
		t.Fatalf("%+v at %s %d: %v: %s", k, calls, n, err, out)
	}
	return err != nil
}

// afterKill finds everything in order, then releases and claims all there is.
func afterKill(t *testing.T, s records.Store, cfg ipam.Config) {
	l := Of(s, "", "web")
	for _, line := range verify(t, l) {
		if !strings.HasSuffix(line, " c1") && !strings.HasSuffix(line, " c2") && !strings.HasSuffix(line, " c3") {
			t.Errorf("lease of an unknown owner: %s", line)
		}
	}
	for _, c := range []string{"c1", "c2", "c3"} {
		if err := l.Release(owner(c)); err != nil {
			t.Error(err)
		}
	}
	if left := verify(t, l); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	for i := range 13 {
		if _, err := l.Claim(request(fmt.Sprint("n", i)), cfg); err != nil {
			t.Errorf("an address is lost: %v", err)
		}
	}
	if got := len(verify(t, l)); got != 26 {
		t.Errorf("%d addresses for 13", got)
	}
}
