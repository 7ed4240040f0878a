package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A report is what is known of the tests so far.
type report struct {
	out       io.Writer
	announcer string              // the package that has scenarios
	left      map[string]bool     // those that have not ended
	running   map[id][]string     // what has not ended, and what it has printed
	slow      []timed             // scenarios that have ended
	skipped   map[string][]string // tests by reason
	passed    int                 // tests
	failed    []id                // tests, without those that failed for one below
	why       map[id]string       // a line of what a failed test printed
	known     int                 // of them, when the last go command ended
	cut       bool                // something was not built, or did not end
	bad       bool                // something failed
}

type timed struct {
	name    string
	seconds float64
}

func newReport(out io.Writer) *report {
	return &report{out: out, left: map[string]bool{}, running: map[id][]string{}, skipped: map[string][]string{}, why: map[id]string{}}
}

func (r *report) begin(i id) { r.running[i] = []string{} }

// print keeps a line, or does what it announces.
func (r *report) print(i id, line string) {
	verb, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
	switch verb {
	case "scenario":
		r.announcer, r.left[name] = i.pkg, true
	case "starts":
		fmt.Fprintf(r.out, "%4d left  %s\n", len(r.left), name)
	case "note":
		fmt.Fprintln(r.out, line[:len(line)-1])
	default:
		r.running[i] = append(r.running[i], line)
	}
}

// end ends a test or a package.
func (r *report) end(e event) {
	printed := r.running[e.id()]
	delete(r.running, e.id())
	if e.Test == "" {
		r.endPackage(e, printed)
		return
	}
	switch e.Action {
	case "pass":
		r.passed++
	case "fail":
		r.bad = true
		if text := unframed(printed); text != "" || !r.failedBelow(e.id()) {
			r.failed = append(r.failed, e.id())
			r.why[e.id()] = fault(printed)
			fmt.Fprintf(r.out, "FAIL  %s (%.1fs)\n%s", r.name(e.id()), e.Elapsed, text)
		}
	case "skip":
		why := reason(printed)
		r.skipped[why] = append(r.skipped[why], r.name(e.id()))
	}
	if e.Package == r.announcer {
		r.endScenario(e)
	}
}

// failedBelow reports whether a test below has said why this one failed.
func (r *report) failedBelow(i id) bool {
	return slices.ContainsFunc(r.failed, func(f id) bool { return f.pkg == i.pkg && strings.HasPrefix(f.test, i.test+"/") })
}

// endScenario counts a scenario, or those below a test that ended early.
func (r *report) endScenario(e event) {
	if r.left[e.Test] {
		r.slow = append(r.slow, timed{e.Test, e.Elapsed})
	}
	maps.DeleteFunc(r.left, func(name string, _ bool) bool {
		return name == e.Test || strings.HasPrefix(name, e.Test+"/")
	})
}

// endPackage shows a package that ended, with what it printed if it failed.
// Tests that a failed package leaves behind did not end: it was killed.
func (r *report) endPackage(e event, printed []string) {
	switch {
	case e.Action == "skip": // it has no tests
		return
	case e.Action == "pass":
		fmt.Fprintf(r.out, "ok    %s (%.1fs)\n", e.Package, e.Elapsed)
		return
	}
	r.bad = true
	r.abandon(func(i id) bool { return i.pkg == e.Package })
	r.cut = r.cut || !slices.ContainsFunc(r.failed, func(i id) bool { return i.pkg == e.Package })
	fmt.Fprintf(r.out, "FAIL  %s (%.1fs)\n%s", e.Package, e.Elapsed, unframed(printed))
}

// abandon fails what has begun and will not end any more.
func (r *report) abandon(match func(id) bool) {
	ids := slices.SortedFunc(maps.Keys(r.running), func(a, b id) int {
		return cmp.Or(cmp.Compare(a.pkg, b.pkg), cmp.Compare(a.test, b.test))
	})
	for _, i := range ids {
		if match(i) {
			fmt.Fprintf(r.out, "FAIL  %s: did not end\n%s", r.name(i), unframed(r.running[i]))
			delete(r.running, i)
			r.bad, r.cut = true, true
			r.failed = append(r.failed, i)
		}
	}
}

// location is what package testing puts before the reason for a skip, and
// scriptLine is what testscript says after its own.
var (
	location   = regexp.MustCompile(`^\s*\S+\.go:\d+: `)
	scriptLine = regexp.MustCompile(`^\s*testscript\.go:\d+: > `)
)

// reason returns why a test was skipped.
func reason(printed []string) string {
	why := "it does not say why"
	for line := range strings.Lines(unframed(printed)) {
		if strings.TrimSpace(line) != "" && !scriptLine.MatchString(line) {
			why = strings.TrimSpace(location.ReplaceAllString(line, ""))
		}
	}
	return why
}

// fault returns the line that says why a test failed: testscript's verdict, or the last line.
func fault(printed []string) string {
	for line := range strings.Lines(unframed(printed)) {
		if _, why, is := strings.Cut(line, "FAIL: "); is {
			return strings.TrimSpace(why)
		}
	}
	return reason(printed)
}

// finish shows what was slow and what was skipped, and reports whether all
// passed.
func (r *report) finish(took time.Duration) (ok bool) {
	r.abandon(func(id) bool { return true })
	const most = 5
	slices.SortFunc(r.slow, func(a, b timed) int { return cmp.Compare(b.seconds, a.seconds) })
	if len(r.slow) > most {
		fmt.Fprintln(r.out, "slowest:")
		for _, s := range r.slow[:most] {
			fmt.Fprintf(r.out, "  %5.1fs  %s\n", s.seconds, s.name)
		}
	}
	skipped := 0
	for _, why := range slices.Sorted(maps.Keys(r.skipped)) {
		tests := r.skipped[why]
		slices.Sort(tests)
		skipped += len(tests)
		fmt.Fprintf(r.out, "skipped, %s:\n  %s\n", why, strings.Join(tests, "\n  "))
	}
	if len(r.failed) > 0 {
		fmt.Fprintln(r.out, "failed:")
		for _, i := range r.failed {
			fmt.Fprintf(r.out, "  %s\n", r.name(i))
			if r.why[i] != "" {
				fmt.Fprintf(r.out, "    %s\n", r.why[i])
			}
		}
	}
	fmt.Fprintf(r.out, "%d passed, %d failed, %d skipped in %s\n", r.passed, len(r.failed), skipped, took.Round(time.Second))
	return !r.bad && r.passed > 0
}

// again returns what `go test` runs the failed tests by, one a line: a package, and a pattern for -run.
// It is empty where running tests again tells nothing: something was not built, was killed, or most of it failed.
func (r *report) again() string {
	const most = 5
	if r.cut || len(r.failed) > most {
		return ""
	}
	var lines strings.Builder
	for _, i := range r.failed {
		names := strings.Split(i.test, "/")
		for n, name := range names {
			names[n] = "^" + regexp.QuoteMeta(name) + "$"
		}
		fmt.Fprintf(&lines, "%s %s\n", i.pkg, strings.Join(names, "/"))
	}
	return lines.String()
}
