package integration

import (
	"bufio"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// inVM marks the process that runs in the virtual machine.
const inVM = "DCNI_IN_VM"

// TestInVM runs the scripts about what the machine's own kernel may lack. They
// run in a virtual machine, which boots once for all of them: there this
// program runs the same test, and here its output is taken apart again.
func TestInVM(t *testing.T) {
	if os.Getenv(inVM) != "" {
		run(t)
		return
	}
	t.Parallel()
	if missing := dcni.missing(); missing != "" {
		t.Skipf("bin/%s is not built", missing)
	}
	if why := vmMissing(); why != "" {
		t.Skip(why)
	}
	guest := &guest{left: vmScripts(t)}
	guest.boot(t)
	for _, name := range slices.Clone(guest.left) {
		t.Run(name, func(t *testing.T) { guest.script(t) })
	}
	guest.end(t)
}

// vmMissing says why there is no virtual machine, or "". What scripts/setup
// could not do is in a file.
func vmMissing() string {
	if _, err := os.Stat(binaries + "/test/vm/boot"); err == nil {
		return ""
	}
	why, _ := os.ReadFile(binaries + "/test/vm.log") // without it, set-up has not run
	lines := strings.Split(strings.TrimSpace(string(why)), "\n")
	return "no virtual machine: " + cmp.Or(lines[len(lines)-1], "scripts/setup has not run")
}

// vmScripts returns the names of the scripts that -test.run selects.
func vmScripts(t *testing.T) (names []string) {
	pattern := flag.Lookup("test.run").Value.String()
	for _, file := range groupOf(t).scripts() {
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		if selected(t.Name()+"/"+name, pattern) {
			names = append(names, name)
		}
	}
	return names
}

// A guest is this program in the virtual machine.
type guest struct {
	left   []string // names of the scripts without a verdict
	boots  int
	cmd    *exec.Cmd
	out    *bufio.Reader
	stderr strings.Builder // whole when cmd has ended
}

// vmTime is enough for all scripts, on a busy machine: a process starts forty
// times slower there. scripts/vm/run ends the virtual machine then.
const vmTime = 30 * time.Minute

// boot boots the virtual machine, for the scripts that are left.
func (g *guest) boot(t *testing.T) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	test, _, _ := strings.Cut(t.Name(), "/")
	g.boots++
	g.stderr.Reset()
	g.cmd = exec.Command("../scripts/vm/run", "env", inVM+"=1", program, "-test.v=test2json",
		"-test.run=^"+test+"$/^("+strings.Join(g.left, "|")+")$")
	g.cmd.Env = append(os.Environ(), fmt.Sprintf("TIMEOUT=%.0f", vmTime.Seconds()))
	g.cmd.Stderr = &g.stderr
	out, err := g.cmd.StdoutPipe()
	if err == nil {
		err = g.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	g.out = bufio.NewReader(out)
}

// ended is the line that package testing prints when a script has ended, with
// the mark that -test.v=test2json puts before its own lines.
var ended = regexp.MustCompile(`^\x16 *--- (PASS|FAIL|SKIP): (\S+) `)

// script follows the guest until the calling test's script has ended there. The virtual
// machine boots once more if it ended by itself: other scripts have said nothing yet.
func (g *guest) script(t *testing.T) {
	starts(t)
	verdict, printed, err := g.verdict(t.Name())
	if err != nil && g.boots == 1 && g.cmd.ProcessState.ExitCode() == noMachine {
		for line := range strings.Lines(err.Error()) {
			fmt.Println("note: " + strings.TrimSpace(line))
		}
		fmt.Println("note: the virtual machine boots once more")
		g.boot(t)
		verdict, printed, err = g.verdict(t.Name())
	}
	g.left = g.left[1:]
	switch {
	case err != nil:
		t.Fatal(err)
	case verdict == "FAIL":
		t.Fatal(unframed(printed))
	case verdict == "SKIP":
		t.Skip(unframed(printed))
	}
}

// verdict reads until a script has ended, and returns PASS, FAIL or SKIP, and what was
// printed before. The error is of a virtual machine that ended, with all that is known.
func (g *guest) verdict(script string) (verdict, printed string, err error) {
	if g.cmd.ProcessState != nil {
		return "", "", errors.New("the virtual machine has ended")
	}
	var before strings.Builder
	for {
		line, err := g.out.ReadString('\n')
		if err != nil {
			_ = g.cmd.Wait() // what it says is in the state
			return "", "", fmt.Errorf("the virtual machine ended: %w; scripts/vm/run: %v\n%s%s%s", err, g.cmd.ProcessState, &before, line, &g.stderr)
		}
		if m := ended.FindStringSubmatch(line); m != nil && m[2] == script {
			return m[1], before.String(), nil
		}
		before.WriteString(line)
	}
}

// noMachine is how scripts/vm/run exits if the virtual machine ended before its command.
const noMachine = 125

// announced is a line for progress.
var announced = regexp.MustCompile(`^(scenario|starts): `)

// unframed returns what a script printed without the lines of package testing.
func unframed(printed string) string {
	var lines []string
	for line := range strings.Lines(printed) {
		if line[0] != 0x16 && !announced.MatchString(line) {
			lines = append(lines, line)
		}
	}
	return "\n" + strings.Join(lines, "")
}

// end waits for the virtual machine. A test that failed there has failed here.
func (g *guest) end(t *testing.T) {
	if g.cmd.ProcessState != nil {
		return // a script has said so
	}
	rest, _ := io.ReadAll(g.out)
	if err := g.cmd.Wait(); err != nil && !t.Failed() {
		t.Errorf("the virtual machine: %v\n%s%s", err, rest, &g.stderr)
	} else if t.Failed() && g.stderr.Len() > 0 {
		t.Log(&g.stderr)
	}
}
