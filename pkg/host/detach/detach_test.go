package detach

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestStart has a shell print what it got of this process.
func TestStart(t *testing.T) {
	var inherited [2]int // as a runtime leaves them: open across exec
	if err := unix.Pipe2(inherited[:], 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(inherited[0])
	defer unix.Close(inherited[1])
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	const script = `
echo session $(cut -d" " -f6 /proc/self/stat)
echo input $(readlink /proc/$$/fd/0) errors $(readlink /proc/$$/fd/2)
ls /proc/$$/fd
echo in $(pwd) with $(env | grep -c ^HOME=) $WORD
`
	p, err := Command{
		Path: "/bin/sh", Args: []string{"name", "-c", script}, Dir: dir, Env: []string{"WORD=set", "PATH=" + os.Getenv("PATH")},
		Files: []*os.File{nil, w, nil, w},
	}.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r) // ends with the process: nothing else has the other end
	if state, waitErr := p.Wait(); err != nil || waitErr != nil || !state.Success() {
		t.Fatalf("%v, %v, %v", err, waitErr, state)
	}
	want := fmt.Sprintf("session %d\ninput /dev/null errors /dev/null\n0\n1\n2\n3\nin %s with 0 set\n", p.Pid, dir)
	if got := string(out); got != want {
		t.Errorf("the process says\n%s, want\n%s", got, want)
	}
}

// TestStartEnvironment wants this process's environment and directory where
// none is given, and the error of a program that is not there.
func TestStartEnvironment(t *testing.T) {
	t.Setenv("DETACH_WORD", "inherited")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Command{Path: "/bin/sh", Args: []string{"sh", "-c", `echo $DETACH_WORD; pwd`}, Files: []*os.File{nil, w, nil}}.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	out, _ := io.ReadAll(r)
	_, _ = p.Wait()
	dir, _ := os.Getwd()
	if got, want := strings.TrimSpace(string(out)), "inherited\n"+dir; got != want {
		t.Errorf("the process says %q, want %q", got, want)
	}
	if _, err := (Command{Path: "/no/such/program", Args: []string{"x"}, Files: make([]*os.File, 3)}).Start(); !os.IsNotExist(err) {
		t.Errorf("a program that is not there: %v", err)
	}
}

// TestFind looks in the folders of installations when PATH has nothing, in their order, and takes no folder for a program.
func TestFind(t *testing.T) {
	t.Setenv("PATH", "")
	first, second := t.TempDir(), t.TempDir()
	before := installed
	defer func() { installed = before }()
	installed = []string{first, second}
	if path, err := Find("tool"); err == nil {
		t.Errorf("found %s", path)
	}
	if err := os.Mkdir(filepath.Join(first, "tool"), 0o755); err != nil {
		t.Fatal(err)
	}
	want := filepath.Join(second, "tool")
	if err := os.WriteFile(want, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if path, err := Find("tool"); path != want {
		t.Errorf("found %q, %v, want %s", path, err, want)
	}
	if before[0] != "/usr/local/bin" || before[1] != "/usr/bin" {
		t.Errorf("installations are looked for in %v", before)
	}
}
