// Mutate puts small faults into packages, one at a time, and prints the share of them
// that the packages' own tests catch:
//
//	go run ./integration/mutate [-show] [-sample 200] ./pkg/ipam ./pkg/names
//
// Without arguments it takes the packages that decide and that remember. With -sample it
// tries that many faults of each package, the same ones each time.
//
// It compiles a package once with all faults; the environment variable MUTATE chooses the
// fault of one run of the tests. A fault is another comparison operator, one side of
// && or || alone, a call whose result is not used that is left out, or an assignment
// such as n += 1 that is left out. A fault in code that no test runs is not caught, and
// is not tried.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Tests that a fault makes loop are ended after the longer of these: a time, and this many
// times what they took without a fault.
const (
	timeLimit   = 2 * time.Minute
	timesLonger = 5
)

// usual are the packages that are measured without arguments.
var usual = strings.Fields("./pkg/wire ./pkg/cni ./pkg/records ./pkg/records/disk ./pkg/records/leases ./pkg/records/registry " +
	"./pkg/firewall ./pkg/ipam ./pkg/names ./pkg/network ./pkg/dns")

func main() {
	show := flag.Bool("show", false, "list the faults that no test catches")
	sample := flag.Int("sample", 0, "try only that many faults of a package; 0 tries all")
	flag.Parse()
	status, packages := 0, flag.Args()
	if len(packages) == 0 {
		packages = usual
	}
	for _, pkg := range packages {
		if err := measure(pkg, *show, *sample); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", pkg, err)
			status = 1
		}
	}
	os.Exit(status)
}

// measure prints the share of a package's faults that its tests catch. It tries as many
// faults as sample says, or all if that is 0.
func measure(pkg string, show bool, sample int) error {
	temp, err := os.MkdirTemp("", "mutate-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(temp) }() // a temporary folder
	var p struct {
		Dir     string
		GoFiles []string
	}
	out, err := exec.Command("go", "list", "-json=Dir,GoFiles", pkg).Output()
	if err := errors.Join(err, json.Unmarshal(out, &p)); err != nil {
		return err
	}
	faults, err := overlay(temp, p.Dir, p.GoFiles)
	if err != nil {
		return err
	}
	program := filepath.Join(temp, "tests")
	build := exec.Command("go", "test", "-c", "-vet=off", "-overlay", filepath.Join(temp, "overlay.json"), "-o", program, pkg)
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	reached := filepath.Join(temp, "reached")
	if err := os.Mkdir(reached, 0o755); err != nil {
		return err
	}
	t, start := &tests{program: program, dir: p.Dir, reached: reached, limit: time.Hour}, time.Now()
	if t.fail("MUTATE_REACHED=" + reached) {
		return errors.New("the tests fail without a fault: see go test -short " + pkg)
	}
	t.limit = max(timeLimit, timesLonger*time.Since(start))
	tried := choose(len(faults), sample)
	left := t.uncaught(tried)
	fmt.Printf("%s: %.2f (%d of %d faults caught, %d of them by the time limit; there are %d)\n",
		pkg, 1-float64(len(left))/float64(len(tried)), len(tried)-len(left), len(tried), t.ended.Load(), len(faults))
	for _, i := range left {
		if show {
			fmt.Println("  " + faults[i] + t.notReached(i))
		}
	}
	return nil
}

// tests are those of a package, compiled with its faults.
type tests struct {
	program, dir string
	reached      string // folder with a file for each fault whose place they reach
	limit        time.Duration
	ended        atomic.Int32 // runs that the limit ended
}

// choose returns the faults of n to try: as many as sample says, or all if that is 0 or
// too many. The same ones are chosen each time.
func choose(n, sample int) []int {
	all := rand.New(rand.NewPCG(1, 1)).Perm(n)
	if sample > 0 && sample < n {
		all = all[:sample]
	}
	return all
}

// notReached says so of a fault in code that the tests don't run: the run without a
// fault made no file for it.
func (t *tests) notReached(fault int) string {
	if _, err := os.Stat(filepath.Join(t.reached, strconv.Itoa(fault))); err != nil {
		return ", not reached"
	}
	return ""
}

// overlay writes a package's files with faults, and the file that tells the go command to
// use them. It returns what each fault is.
func overlay(temp, dir string, files []string) ([]string, error) {
	replace := map[string]string{}
	write := func(name string, text []byte) error {
		replace[filepath.Join(dir, name)] = filepath.Join(temp, name)
		return os.WriteFile(filepath.Join(temp, name), text, 0o600)
	}
	m := &mutator{}
	for _, name := range files {
		text, err := m.file(filepath.Join(dir, name))
		if err := errors.Join(err, write(name, text)); err != nil {
			return nil, err
		}
	}
	err := write("mutate_helper.go", []byte("package "+m.pkg+helper))
	list, _ := json.Marshal(map[string]any{"Replace": replace})
	return m.faults, errors.Join(err, os.WriteFile(filepath.Join(temp, "overlay.json"), list, 0o600))
}

// uncaught runs the tests once with each of the faults and returns those with which they
// pass.
func (t *tests) uncaught(faults []int) []int {
	var left []int
	var mu sync.Mutex
	var all sync.WaitGroup
	for worker := range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for i := worker; i < len(faults); i += runtime.GOMAXPROCS(0) {
				fault := faults[i]
				if t.notReached(fault) != "" || !t.fail("MUTATE="+strconv.Itoa(fault)) {
					mu.Lock()
					left = append(left, fault)
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	slices.Sort(left)
	return left
}

// fail runs the tests with a variable in their environment, and reports whether they
// fail.
func (t *tests) fail(variable string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), t.limit)
	defer cancel()
	run := exec.CommandContext(ctx, t.program, "-test.short", "-test.failfast")
	run.Dir = t.dir
	run.Env = append(os.Environ(), variable)
	failed := run.Run() != nil
	if ctx.Err() != nil {
		t.ended.Add(1)
	}
	return failed
}
