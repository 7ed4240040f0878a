// Mutate puts small faults into packages, one at a time, and prints the share of them
// that the packages' own tests catch:
//
//	go run ./integration/mutate [-show] [-sample 200] [-tests ./pkg/mode/none,./pkg/mode/host] ./pkg/ipam ./pkg/names
//
// Without arguments it takes the packages that decide and that remember. With -sample it
// tries that many faults of each package, the same ones each time. With -tests, the tests
// of these packages count as well: the crash matrix of each mode tests pkg/cni.
//
// It compiles a package once with all faults; the environment variable MUTATE chooses the
// fault of one run of the tests. A fault is another comparison operator, one side of
// && or || alone, a call whose result is not used that is left out, or an assignment
// such as n += 1 that is left out. A fault in code that no test runs is not caught, and
// is not tried.
package main

import (
	"cmp"
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
	others := flag.String("tests", "", "packages, with commas between, whose tests count as well")
	sample := flag.Int("sample", 0, "try only that many faults of a package; 0 tries all")
	flag.Parse()
	status, packages := 0, flag.Args()
	if len(packages) == 0 {
		packages = usual
	}
	for _, pkg := range packages {
		if err := measure(pkg, strings.FieldsFunc(*others, func(r rune) bool { return r == ',' }), *show, *sample); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", pkg, err)
			status = 1
		}
	}
	os.Exit(status)
}

// measure prints the share of a package's faults that its tests catch, and those of others.
// It tries as many faults as sample says, or all if that is 0.
func measure(pkg string, others []string, show bool, sample int) error {
	temp, err := os.MkdirTemp("", "mutate-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(temp) }() // a temporary folder
	p, err := list(pkg)
	if err != nil {
		return err
	}
	faults, err := overlay(temp, p.Dir, p.GoFiles)
	if err != nil {
		return err
	}
	t := &tests{}
	for i, one := range append([]string{pkg}, others...) {
		program, err := build(temp, strconv.Itoa(i), one)
		if err != nil {
			return err
		}
		t.programs = append(t.programs, program)
	}
	slices.SortStableFunc(t.programs, func(a, b *program) int { return cmp.Compare(a.limit, b.limit) })
	tried := choose(len(faults), sample)
	left := t.uncaught(tried)
	fmt.Printf("%s: %.2f (%d of %d faults caught, %d of them by the time limit; there are %d)\n",
		pkg, 1-float64(len(left))/float64(len(tried)), len(tried)-len(left), len(tried), t.ended.Load(), len(faults))
	for _, i := range left {
		if !show {
			break
		}
		reached := ", not reached"
		if slices.ContainsFunc(t.programs, func(p *program) bool { return p.reaches(i) }) {
			reached = ""
		}
		fmt.Println("  " + faults[i] + reached)
	}
	return nil
}

// A source is a package as the go command lists it.
type source struct {
	Dir     string
	GoFiles []string
}

func list(pkg string) (p source, err error) {
	out, err := exec.Command("go", "list", "-json=Dir,GoFiles", pkg).Output()
	return p, errors.Join(err, json.Unmarshal(out, &p))
}

// A program is the tests of a package, compiled with the faults.
type program struct {
	path, dir string
	reached   string // folder with a file for each fault whose place they reach
	limit     time.Duration
}

// build compiles the tests of a package, runs them without a fault, and notes what they
// reach and how long they may take.
func build(temp, name, pkg string) (*program, error) {
	from, err := list(pkg)
	p := &program{path: filepath.Join(temp, name+".test"), dir: from.Dir, reached: filepath.Join(temp, name+".reached"), limit: time.Hour}
	if err := errors.Join(err, os.Mkdir(p.reached, 0o755)); err != nil {
		return nil, err
	}
	compile := exec.Command("go", "test", "-c", "-vet=off", "-overlay", filepath.Join(temp, "overlay.json"), "-o", p.path, pkg)
	if out, err := compile.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	start := time.Now()
	if failed, _ := p.run("MUTATE_REACHED=" + p.reached); failed {
		return nil, errors.New("the tests fail without a fault: see go test -short " + pkg)
	}
	p.limit = max(timeLimit, timesLonger*time.Since(start))
	return p, nil
}

// reaches reports whether the tests run the code that a fault is in: the run without a
// fault made a file for it.
func (p *program) reaches(fault int) bool {
	_, err := os.Stat(filepath.Join(p.reached, strconv.Itoa(fault)))
	return err == nil
}

// run runs the tests with a variable in their environment, and reports whether they fail,
// and whether the limit ended them.
func (p *program) run(variable string) (failed, ended bool) {
	ctx, cancel := context.WithTimeout(context.Background(), p.limit)
	defer cancel()
	run := exec.CommandContext(ctx, p.path, "-test.short", "-test.failfast")
	run.Dir = p.dir
	run.Env = append(os.Environ(), variable)
	failed = run.Run() != nil
	return failed, ctx.Err() != nil
}

// tests are those that count, the quickest first.
type tests struct {
	programs []*program
	ended    atomic.Int32 // runs that the limit ended
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
				if !t.catch(faults[i]) {
					mu.Lock()
					left = append(left, faults[i])
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	slices.Sort(left)
	return left
}

// catch reports whether tests fail with a fault.
func (t *tests) catch(fault int) bool {
	for _, p := range t.programs {
		if !p.reaches(fault) {
			continue
		}
		failed, ended := p.run("MUTATE=" + strconv.Itoa(fault))
		if ended {
			t.ended.Add(1)
		}
		if failed {
			return true
		}
	}
	return false
}
