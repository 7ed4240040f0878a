package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// noMemory runs a plugin whose n-th request to the kernel is refused, and reports whether there
// were so many.
func noMemory(t *testing.T, verb string, n int) (a outcome, refused bool) {
	t.Helper()
	trace := filepath.Join(t.TempDir(), "trace")
	call := pluginCall(verb, "dbridge", killConf(killRequest))
	call.Args = []string{"strace", "-f", "--seccomp-bpf", "-qq", "-o", trace, "-e", "trace=sendto",
		"-e", fmt.Sprintf("inject=sendto:error=ENOMEM:when=%d", n), call.Path}
	call.Path = "/usr/bin/strace"
	a = outcomeOf(call)
	calls, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	return a, strings.Contains(string(calls), "INJECTED")
}

// TestNoMemory refuses ADD and DEL each of their requests to the kernel in turn, whole batches of
// nf_tables among them. ADD is one error that says so and leaves nothing, or does without what it
// asked for; DEL says what it could not do. Either works once there is memory.
func TestNoMemory(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace is not installed")
	}
	r := killFixture(t)
	before := takePicture()
	failures := 0
	for n, refused := 1, true; refused; n++ {
		what := fmt.Sprintf("ADD, request %d", n)
		var a outcome
		if a, refused = noMemory(t, "ADD", n); a.err == nil {
			r.checked(what, "c1", string(a.out))
			r.ok(r.plugin("DEL", "dbridge", killConf(killRequest)))
		} else if failures++; a.failed == nil || !strings.Contains(a.failed.Msg, unix.ENOMEM.Error()) {
			t.Errorf("%s: not one error that says so: %s%s", what, a.out, a.stderr)
		}
		r.same(what, before, leftBehind)
		r.empty(what, "c1")
		again := r.ok(r.plugin("ADD", "dbridge", killConf(killRequest)))
		r.checked(what, "c1", string(again.out))

		what = fmt.Sprintf("DEL, request %d", n)
		a, more := noMemory(t, "DEL", n)
		refused = refused || more
		if a.err != nil && (a.failed == nil || !strings.Contains(a.failed.Msg, unix.ENOMEM.Error())) {
			t.Errorf("%s: not one error that says so: %s%s", what, a.out, a.stderr)
		}
		r.ok(r.plugin("DEL", "dbridge", killConf(killRequest)))
		r.same(what, before, leftBehind)
		r.empty(what, "c1")
	}
	if failures == 0 {
		t.Error("no ADD failed")
	}
}
