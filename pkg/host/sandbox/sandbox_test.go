package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dcni/pkg/records"
)

// TestMain is also the program that the tests start: a child, or a detached one.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) == 3 && os.Args[1] == MainArg:
		os.Exit(Main(os.Args[2]))
	case IsDetached():
		os.Exit(detachedMain(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// detachedMain fails, or says a word and writes what it sees to a file.
func detachedMain(args []string) int {
	if len(args) != 2 {
		fmt.Fprintln(os.Stderr, "failed")
		return 7
	}
	dir, _ := os.Getwd()
	if err := Ready(args[0]); err != nil {
		return 1
	}
	after, _ := os.Getwd()
	stderr, _ := os.Readlink("/proc/self/fd/2")
	_, ready := os.Readlink("/proc/self/fd/3")
	text := fmt.Sprintf("%s %s %s %t", dir, after, stderr, errors.Is(ready, os.ErrNotExist))
	if os.WriteFile(args[1]+".tmp", []byte(text), 0o600) != nil || os.Rename(args[1]+".tmp", args[1]) != nil {
		return 1
	}
	return 0
}

// read waits for a file.
func read(t *testing.T, path string) string {
	t.Helper()
	for {
		data, err := os.ReadFile(path)
		if err == nil {
			return string(data)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestDetach returns the word of a program that goes on in the background, or the
// status of one that failed.
func TestDetach(t *testing.T) {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "seen")
	word, status, err := Detach([]string{"well", file}, os.Stderr)
	if word != "well" || status != 0 || err != nil {
		t.Errorf("%q, %d, %v", word, status, err)
	}
	if got, want := read(t, file), dir+" / /dev/null true"; got != want {
		t.Errorf("it sees %q, want %q", got, want)
	}
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	word, status, err = Detach(nil, stderr)
	if text, _ := os.ReadFile(stderr.Name()); word != "" || status != 7 || err != nil || string(text) != "failed\n" {
		t.Errorf("%q, %d, %v, stderr %q", word, status, err, text)
	}
}

// TestSpawn starts a command in the background. Without a sandbox to join it runs
// here.
func TestSpawn(t *testing.T) {
	dir := t.TempDir()
	const script = `echo "$0 $WORD $(pwd) $(readlink /proc/self/fd/0)" >seen.tmp; mv seen.tmp seen`
	err := Spawn(Command{Args: []string{"sh", "-c", script, "\xff"}, Env: []string{"WORD=set", "PATH=" + os.Getenv("PATH")}, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := read(t, dir+"/seen"), "\xff set "+dir+" /dev/null\n"; got != want {
		t.Errorf("the command sees %q, want %q", got, want)
	}
	for args, want := range map[string]ExecError{
		"nosuch": {127, `exec: "nosuch": executable file not found in $PATH`},
		dir:      {126, `exec: "` + dir + `": is a directory`},
	} {
		err := Spawn(Command{Args: []string{args}, Dir: "/"})
		if failed := (&ExecError{}); !errors.As(err, &failed) || *failed != want {
			t.Errorf("%s: %v, want %v", args, err, want)
		}
	}
	failed := &ExecError{}
	if err := Spawn(Command{Args: []string{"/bin/true"}, Dir: "/nosuch"}); !errors.As(err, &failed) || failed.Status != 127 || !strings.Contains(failed.Message, `chdir to cwd ("/nosuch")`) {
		t.Errorf("a directory that is not there: %v", err)
	}
	gone := records.Process{PID: os.Getpid(), Start: 1}
	if err := Spawn(Command{Args: []string{"/bin/true"}, Dir: "/", Join: &gone}); !errors.As(err, &failed) || failed.Status != 125 || failed.Message != ErrGone.Error() {
		t.Errorf("a sandbox that is gone: %v", err)
	}
}

// TestCommandPipe sends a command as a child receives it, whatever bytes it has.
func TestCommandPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	want := Command{
		Args: []string{"a", "", "\xff\xfe"}, Env: []string{"X=\x80"}, Dir: "/\xff", Hostname: "h",
		Files: map[string]string{"/etc/hosts": "/run/hosts"}, Join: &records.Process{PID: 5, Start: 6, NetNS: 7},
	}
	if err := sendCommand(w, want); err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 4096)
	n, err := r.Read(data)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := parseCommand(data[:n]); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
}

// child starts a shell script as a child. The script begins once the child has been
// identified by what /proc says of it.
func child(t *testing.T, script string) *Child {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := &Child{}
	c.PID, err = syscall.ForkExec("/bin/sh", []string{"sh", "-c", "read -r go; " + script}, &syscall.ProcAttr{
		Files: []uintptr{r.Fd(), 1, 2}, Sys: &syscall.SysProcAttr{PidFD: &c.pidfd, Setsid: true},
	})
	if err == nil {
		err = c.identify(true)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Kill() })
	return c
}

// TestChildStatus waits for children and returns a shell's statuses.
func TestChildStatus(t *testing.T) {
	for script, want := range map[string]int{"exit 0": 0, "exit 3": 3, "kill -TERM $$": 143, "kill -KILL $$": 137} {
		c := child(t, script)
		ws, err := c.Wait()
		if got := Status(ws); err != nil || got != want || !c.Ended() {
			t.Errorf("%s: %d, %v, ended %t, want %d", script, got, err, c.Ended(), want)
		}
		if err := errors.Join(c.Kill(), c.Signal(unix.SIGTERM)); err != nil {
			t.Errorf("%s: kill after the end: %v", script, err)
		}
	}
}

// TestChildSignals signals a child that runs, by its descriptor and by its record.
func TestChildSignals(t *testing.T) {
	c := child(t, "sleep 60")
	if c.Ended() {
		t.Error("a child that runs has ended")
	}
	// The number alone is not enough: another process may have it by now.
	other := c.Process
	other.Start++
	if err := Signal(other, unix.SIGKILL); !errors.Is(err, ErrGone) || c.Ended() {
		t.Errorf("another process of that number: %v, ended %t", err, c.Ended())
	}
	if err := Signal(c.Process, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if ws, err := c.Wait(); err != nil || Status(ws) != 143 {
		t.Errorf("status %d, %v", Status(ws), err)
	}
	if err := Signal(c.Process, unix.SIGTERM); !errors.Is(err, ErrGone) {
		t.Errorf("a signal after the end: %v", err)
	}
	c = child(t, "trap '' TERM; sleep 60")
	if err := c.Kill(); err != nil || !c.Ended() {
		t.Errorf("kill: %v, ended %t", err, c.Ended())
	}
}

// TestSandbox runs a command in a sandbox of its own, another one that joins it, and
// kills what the first one leaves.
func TestSandbox(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("namespaces need root")
	}
	dir := t.TempDir()
	own := filepath.Join(dir, "own-hostname")
	if err := os.WriteFile(own, []byte("inside\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := Adopt(); err != nil {
		t.Fatal(err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	c, err := Start(Options{Stdin: null, Stdout: out, Stderr: out, Network: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Kill() }()
	const script = `cat /etc/hostname; uname -n; cat /sys/class/net/lo/flags; ls /sys/class/net; sleep 600 & read word; exit 5`
	env := []string{"PATH=" + os.Getenv("PATH")}
	files := map[string]string{"/etc/hostname": own, own: own, "/no/such/place": own}
	if err := c.Run(Command{Args: []string{"sh", "-c", script}, Env: env, Dir: "/", Hostname: "sandbox", Files: files}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(out.Name()); string(text) != "inside\nsandbox\n0x9\nlo\n" {
		t.Errorf("the command sees %q", text)
	}
	if left := slices.Compact(members(c.Process, own, nil)); len(left) != 1 {
		t.Errorf("left are processes %v", left)
	}
	if err := Sweep(c.Process, own); err != nil {
		t.Error(err)
	}
	if left := members(c.Process, own, nil); len(left) != 0 {
		t.Errorf("left after Sweep are processes %v", left)
	}
	if name, _ := exec.Command("uname", "-n").Output(); strings.TrimSpace(string(name)) == "sandbox" {
		t.Error("the host has the sandbox's name")
	}
}
