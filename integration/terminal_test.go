package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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

// TestWaitingForLocks: each command that changes something says what it waits for while another one
// holds a lock that it needs. In pairs of a command and what it says; those of one list run at once.
func TestWaitingForLocks(t *testing.T) {
	dnetFixture(t)
	const setup = `set -e; for n in lab aux old; do dnet create $n; done; dnet create --config-only plan; dnet service create --network lab web
		dnet run -d --name shop --network lab sleep 1000; dnet run -d --name peer --network aux sleep 1000; dnet connect lab peer
		for c in ended again gone; do dnet run --name $c --network lab true; done
		echo '{"name": "shop", "services": {}, "networks": {"front": {}}}' >/run/compose.json`
	log, err := os.Create(filepath.Join(t.TempDir(), "log")) // a file: containers keep it open
	if err != nil {
		t.Fatal(err)
	}
	prepare := exec.Command("sh", "-c", setup)
	prepare.Env = append(os.Environ(), "PATH="+binaries+":"+os.Getenv("PATH"), "CNI_PATH="+pluginDir)
	prepare.Stdout, prepare.Stderr = log, log
	if err := prepare.Run(); err != nil {
		text, _ := os.ReadFile(log.Name())
		t.Fatalf("%v: %s", err, text)
	}
	for _, list := range [][][2]string{
		{
			{"dnet create new", "creating network new"},
			{"dnet create --config-only planned", "creating configuration network planned"},
			{"dnet import -p shop /run/compose.json", "creating network shop_front"},
			{"dnet rm old", "removing old (1 of 1)"},
			{"dnet rm plan", "removing plan (1 of 1)"},
			{"dnet run --rm --network lab true", "starting container true"},
			{"dnet run -d --rm --name job --network lab true", "starting container job"},
			{"dnet start ended", "starting container ended"},
			{"dnet start -a again", "starting container again"},
			{"dnet restart -t 0 gone", "starting container gone"},
			{"dnet connect aux shop", "connecting container shop to network aux"},
			{"dnet disconnect lab peer", "disconnecting container peer from network lab"},
			{"dnet service create --network lab db", "creating service db on network lab"},
			{"dnet service rm web", "removing service web"},
		},
		{
			{"dnet restart -t 0 shop", "stopping container shop"},
			{"dnet stop -t 0 --rm peer", "stopping container peer"},
			{"dnet container rm again", "cleaning up container again"},
		},
		{
			{"dnet container prune -f", "cleaning up container gone"},
			{"dnet prune -f", "removing network "},
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		free := lockAll(t)
		shown := make([]strings.Builder, len(list))
		commands := make([]*exec.Cmd, len(list))
		for i, c := range list {
			// script has a terminal of its own for each.
			commands[i] = exec.CommandContext(ctx, "script", "-q", "-e", "-c", c[0], "/dev/null")
			commands[i].WaitDelay = time.Second // what runs in the background may have its output
			commands[i].Env = append(os.Environ(), "PATH="+binaries+":"+os.Getenv("PATH"), "CNI_PATH="+pluginDir)
			commands[i].Stdout = &shown[i]
			if err := commands[i].Start(); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(4 * time.Second) // the commands have begun by then, and a second more has passed
		free()
		for i, c := range list {
			err := commands[i].Wait()
			text := strings.ReplaceAll(shown[i].String(), "\r", "")
			_, after, is := strings.Cut(text, c[1])
			if _, after, erased := strings.Cut(after, " ...\x1b[K"); err != nil || !is || !erased || !strings.Contains(after, "\x1b[K") {
				t.Errorf("%s: %v, shown is %q, want %q", c[0], err, text, c[1]+" ...\x1b[K\x1b[K")
			}
		}
		cancel()
	}
}

// lockAll takes all locks of dcni's until free but for those that are held for long: of containers,
// by their dnet, and of dnetd.
func lockAll(t *testing.T) (free func()) {
	t.Helper()
	file, err := os.OpenFile("/run/dcni/lock", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	const shift = 59 // the kind is above it: package records, lock.go
	for _, kind := range []int64{1, 2, 3, 4, 6, 8, 10, 12, 14} {
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			err := unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: kind << shift, Len: 1 << shift})
			if err == nil {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("locks of kind %d: %v", kind, err)
			}
		}
	}
	return func() { _ = file.Close() } // which frees them
}
