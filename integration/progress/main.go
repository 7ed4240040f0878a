// Progress reads the output of `go test -json` and shows what people watch:
// which scenario starts and how many are left, what failed and what that
// printed, and at the end what was slow, and what was skipped and why. It keeps
// what a test prints until the test ends, and shows it only if the test failed.
//
// A package that prints lines of "scenario: NAME" before its tests names those
// of its tests and subtests that are counted one by one; "starts: NAME" says
// that one starts, and "note: TEXT" is shown at once. Other packages are shown when they end.
//
//	go test -json ./... | progress [-again FILE]
//
// With -again, the file says how to run each of the few tests that failed once more: a package and a
// pattern for -run, one test a line. It is empty where that would tell nothing.
//
// Events "exit" with the "Status" of a go command may follow its own, {"Action":"exit","Status":1}.
//
// The exit status is 1 if a test failed or did not end, or a go command failed.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

func main() {
	file := flag.String("again", "", "write down how to run the failed tests once more")
	flag.Parse()
	r := newReport(os.Stdout)
	ok, err := r.watch(os.Stdin)
	if *file != "" && err == nil {
		err = os.WriteFile(*file, []byte(r.again()), 0o600)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "progress:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// An event is a line of `go test -json`; `go doc test2json` is its manual.
type event struct {
	Action  string
	Package string
	Test    string  // empty: the event is the package's
	Elapsed float64 // seconds, of what ended
	Output  string
	Status  int // of the go command, in an event "exit" that the caller adds after each
}

// watch shows progress until the input ends, and reports whether all passed.
func (r *report) watch(in io.Reader) (ok bool, err error) {
	began := time.Now()
	for lines := bufio.NewReader(in); ; {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				fmt.Fprint(r.out, string(line)) // of a program that ran before the tests
			}
			r.take(e)
		}
		if errors.Is(err, io.EOF) {
			return r.finish(time.Since(began)), nil
		}
		if err != nil {
			return false, err
		}
	}
}

// take takes one event.
func (r *report) take(e event) {
	switch e.Action {
	case "start", "run":
		r.begin(e.id())
	case "output":
		r.print(e.id(), e.Output)
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "build-fail":
		r.bad, r.cut = true, true
	case "exit":
		// A go command that fails without a failed test ran not all of them.
		r.cut = r.cut || e.Status != 0 && len(r.failed) == r.known
		r.bad, r.known = r.bad || e.Status != 0, len(r.failed)
	case "pass", "fail", "skip":
		r.end(e)
	}
}

// An id is a package and a test in it, or "" for the package itself.
type id struct{ pkg, test string }

func (e event) id() id { return id{e.Package, e.Test} }

// name is how an id is shown: the tests of the package that has scenarios have
// no package before them.
func (r *report) name(i id) string {
	switch {
	case i.test == "":
		return i.pkg
	case i.pkg == r.announcer:
		return i.test
	}
	return i.pkg + " " + i.test
}

// unframed returns what a test printed without the lines that package testing
// puts around it.
func unframed(printed []string) string {
	var lines []string
	for _, line := range printed {
		if t := strings.TrimSpace(line); !strings.HasPrefix(t, "=== ") && !strings.HasPrefix(t, "--- ") && t != "FAIL" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}
