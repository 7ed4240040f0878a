package integration

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pseudoTerminal returns both ends of a new terminal.
func pseudoTerminal(t *testing.T) (near, far *os.File) {
	t.Helper()
	near, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(near.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(near.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		far, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = near.Close() })
	return near, far
}

// typed runs a shell's command line at a terminal and types: each key when what
// is before it has been shown. It returns all that was shown.
func typed(t *testing.T, script string, keys ...string) string {
	t.Helper()
	near, far := pseudoTerminal(t)
	cmd := exec.Command("bash", "--norc", "-i", "-c", script)
	cmd.Env = append(os.Environ(), "PATH="+binaries+":"+os.Getenv("PATH"), "CNI_PATH="+pluginDir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = far, far, far
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = far.Close() // the shell's now
	deadline := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	defer deadline.Stop()
	var shown strings.Builder
	buf := make([]byte, 4096)
	for i := 0; ; {
		n, err := near.Read(buf)
		shown.Write(buf[:n])
		for i+1 < len(keys) && strings.Contains(shown.String(), keys[i]) {
			_, _ = near.WriteString(keys[i+1]) // after the last process left the terminal, nothing is shown
			i += 2
		}
		if err != nil {
			break // EIO: no process has the terminal any more
		}
	}
	_ = cmd.Wait() // the script shows what counts
	return strings.ReplaceAll(shown.String(), "\r", "")
}

// TestRunTerminal has the keys of a terminal do what they do without dnet: each
// signal comes once, and a stopped job goes on in the foreground.
func TestRunTerminal(t *testing.T) {
	dnetFixture(t)
	const run = "dnet run --rm "
	const counts = `sh -c 'trap "echo INT" INT; echo ready; sleep 0.5; sleep 0.3; echo end; exit 5'`
	for what, c := range map[string]struct {
		script string
		keys   []string
		want   []string
	}{
		"^C with a terminal":     {run + "-it " + counts + "; echo =$?", []string{"ready", "\x03"}, []string{"INT", "end", "=5"}},
		"^C without":             {run + counts + "; echo =$?", []string{"ready", "\x03"}, []string{"INT", "end", "=5"}},
		"^C ends":                {run + "-it sh -c 'echo ready; exec sleep 60'; echo =$?", []string{"ready", "\x03"}, []string{"=130"}},
		"input":                  {run + "-i sh -c 'echo ready; read x; echo got $x'; echo =$?", []string{"ready", "hello\n"}, []string{"got hello", "=0"}},
		"^Z, and on":             {run + "-it sh -c 'echo ready; read x; echo got $x'; echo stopped; fg; echo =$?", []string{"ready", "\x1a", "stopped", "hello\n"}, []string{"got hello", "=0"}},
		"and the shell after":    {run + "-it true; read -p ready x; echo got $x", []string{"ready", "hello\n"}, []string{"got hello"}},
		"without -i it has none": {run + "sh -c 'cat </dev/tty'; echo =$?", nil, []string{"=2"}},
	} {
		shown := typed(t, c.script, c.keys...)
		for _, word := range c.want {
			if n := strings.Count(shown, word); n != 1 {
				t.Errorf("%s: %q is there %d times, want once:\n%s", what, word, n, shown)
			}
		}
	}
}

// TestWaiting has dnet say on a terminal what takes longer than a second, and nothing of it is
// left there. What is no terminal gets nothing of it.
func TestWaiting(t *testing.T) {
	dnetFixture(t)
	const deaf = `dnet run -d --rm --name deaf sh -c 'trap : TERM; while :; do sleep 0.1; done' >/dev/null; sleep 0.5; `
	for what, c := range map[string]struct{ script, want string }{
		"slow":          {deaf + "dnet stop -t 2 deaf", "stopping container deaf ...\x1b[K\x1b[Kdeaf\n"},
		"quick":         {deaf + "dnet stop -t 0 deaf", "deaf\n"},
		"no terminal":   {deaf + "dnet stop -t 2 deaf 2>waits; cat waits; rm waits", "deaf\n"},
		"for a cluster": {"dnet cluster status; echo =$?", "=1\n"},
	} {
		if shown := typed(t, c.script); !strings.HasSuffix(shown, c.want) || what != "slow" && strings.Contains(shown, "\x1b[K") {
			t.Errorf("%s: shown is %q, want %q", what, shown, c.want)
		}
	}
}
