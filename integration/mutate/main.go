// Mutate puts small faults into packages, one at a time, and prints the share of them
// that the packages' own tests catch:
//
//	go run ./integration/mutate [-show] ./pkg/ipam ./pkg/names
//
// Without arguments it takes the packages that decide and that remember.
//
// It compiles a package once with all faults; the environment variable MUTATE chooses the
// fault of one run of the tests. A fault is another comparison operator, one side of
// && or || alone, a call whose result is not used that is left out, or an assignment
// such as n += 1 that is left out.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// timeLimit ends tests that a fault makes loop.
const timeLimit = 2 * time.Minute

// usual are the packages that are measured without arguments.
var usual = strings.Fields("./pkg/wire ./pkg/cni ./pkg/records ./pkg/firewall ./pkg/ipam ./pkg/names ./pkg/network ./pkg/dns")

// noFault is the number of no fault.
const noFault = -1

func main() {
	show := flag.Bool("show", false, "list the faults that no test catches")
	flag.Parse()
	status, packages := 0, flag.Args()
	if len(packages) == 0 {
		packages = usual
	}
	for _, pkg := range packages {
		if err := measure(pkg, *show); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", pkg, err)
			status = 1
		}
	}
	os.Exit(status)
}

// measure prints the share of a package's faults that its tests catch.
func measure(pkg string, show bool) error {
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
	tests := filepath.Join(temp, "tests")
	build := exec.Command("go", "test", "-c", "-vet=off", "-overlay", filepath.Join(temp, "overlay.json"), "-o", tests, pkg)
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	if caught(tests, p.Dir, noFault) {
		return errors.New("the tests fail without a fault")
	}
	left := uncaught(tests, p.Dir, len(faults))
	fmt.Printf("%s: %.2f (%d of %d faults caught)\n", pkg, 1-float64(len(left))/float64(len(faults)), len(faults)-len(left), len(faults))
	for _, i := range left {
		if show {
			fmt.Println("  " + faults[i])
		}
	}
	return nil
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

// uncaught runs the tests once with each of n faults and returns the faults with which
// they pass.
func uncaught(tests, dir string, n int) []int {
	var left []int
	var mu sync.Mutex
	var all sync.WaitGroup
	for worker := range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for i := worker; i < n; i += runtime.GOMAXPROCS(0) {
				if !caught(tests, dir, i) {
					mu.Lock()
					left = append(left, i)
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	slices.Sort(left)
	return left
}

// caught reports whether the tests fail with a fault.
func caught(tests, dir string, fault int) bool {
	ctx, cancel := context.WithTimeout(context.Background(), timeLimit)
	defer cancel()
	run := exec.CommandContext(ctx, tests, "-test.short", "-test.failfast")
	run.Dir = dir
	run.Env = append(os.Environ(), "MUTATE="+strconv.Itoa(fault))
	return run.Run() != nil
}
