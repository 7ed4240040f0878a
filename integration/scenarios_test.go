package integration

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// A group is a set of scripts that one test runs, side by side unless serial.
type group struct {
	test  string // the test, or subtest, that runs it
	suite suite
	files string // pattern

	serial bool                   // one after another, beside other tests
	only   func(name string) bool // nil: all files
}

var groups = []group{
	{"TestParity/reference", reference, "testdata/parity/*.txtar", false, nil},
	{"TestParity/dcni", dcni, "testdata/parity/*.txtar", false, nil},
	{"TestDCNI", dcni, "testdata/dcni/*.txtar", false, nil},
	{"TestAlone", dcni, "testdata/alone/*.txtar", true, nil},
	{"TestDCNIWithoutBridgeNetfilter", withoutBridgeNetfilter, "testdata/dcni/bridge_*.txtar", false, nil},
	{"TestNamesInBridge", namesInBridge, "testdata/dcni/names_*.txtar", false, nil},
	{"TestIPTables", byIPTables, "testdata/dcni/*.txtar", false, runsByIPTables},
	{"TestExamples", dcni, examples + "/*.conflist", false, nil},
	{"TestInVM", dcni, "testdata/vm/*.txtar", true, nil},
	{"TestDocker", dcni, "parity/scenarios/*.txt", false, nil},
	{"TestDemo", dcni, "testdata/demo/*.txtar", false, nil},
	{"TestHarness", reference, "testdata/harness/*.txtar", false, nil},
}

// groupOf returns the group of a test.
func groupOf(t *testing.T) group {
	t.Helper()
	i := slices.IndexFunc(groups, func(g group) bool { return g.test == t.Name() })
	if i < 0 {
		t.Fatalf("%s is no group of scripts", t.Name())
	}
	return groups[i]
}

// scripts returns the files of a group.
func (g group) scripts() []string {
	files, _ := filepath.Glob(g.files) // the pattern is a good one
	return slices.DeleteFunc(files, func(file string) bool {
		name, _, _ := strings.Cut(filepath.Base(file), ".")
		return g.only != nil && !g.only(name)
	})
}

// announce prints the name of each scenario that will run, for progress, and
// fails if there is none: a pattern that matches nothing must not pass.
func announce() error {
	pattern := flag.Lookup("test.run").Value.String()
	out, err := exec.Command("/proc/self/exe", "-test.list", ".").Output()
	if err != nil {
		return fmt.Errorf("list the tests: %w", err)
	}
	n := 0
	for _, name := range scenarios(strings.Fields(string(out))) {
		if selected(name, pattern) {
			fmt.Println("scenario: " + name)
			n++
		}
	}
	if n == 0 {
		return errors.New("no scenario matches " + pattern)
	}
	return nil
}

// scenarios returns tests with, in place of those that run groups of scripts,
// their scripts.
func scenarios(tests []string) (names []string) {
	for _, test := range tests {
		scripted := false
		for _, g := range groups {
			if g.test != test && !strings.HasPrefix(g.test, test+"/") {
				continue
			}
			scripted = true
			for _, file := range g.scripts() {
				name, _, _ := strings.Cut(filepath.Base(file), ".")
				names = append(names, g.test+"/"+name)
			}
		}
		if !scripted {
			names = append(names, test)
		}
	}
	return names
}

// selected reports whether -test.run has a test run: one of its alternatives
// matches, element by element.
func selected(name, pattern string) bool {
	elements := strings.Split(name, "/")
	for _, alternative := range split(pattern, '|') {
		all := true
		for i, p := range split(alternative, '/') {
			all = all && (i >= len(elements) || regexp.MustCompile(p).MatchString(elements[i]))
		}
		if all {
			return true
		}
	}
	return false
}

// split splits a pattern at a separator that is in no brackets, as package testing
// does.
func split(pattern string, separator rune) []string {
	depth := 0
	return strings.FieldsFunc(pattern, func(c rune) bool {
		switch c {
		case '(', '[':
			depth++
		case ')', ']':
			depth--
		}
		return c == separator && depth == 0
	})
}

// starts says that a scenario starts, for progress.
func starts(t *testing.T) { fmt.Println("starts: " + t.Name()) }

// A scriptT is what testscript sees of a test.
type scriptT struct {
	*testing.T
	serial bool
}

func (t scriptT) Run(name string, f func(testscript.T)) {
	t.T.Run(name, func(sub *testing.T) { f(scriptT{sub, t.serial}) })
}

// Parallel waits for the script's turn.
func (t scriptT) Parallel() {
	if !t.serial {
		t.T.Parallel()
	}
	starts(t.T)
}

// Verbose is what people ask for by -v: `go test -json` has it on always, and a
// script that fails would print all that it did before.
func (t scriptT) Verbose() bool { return flag.Lookup("test.v").Value.String() == "true" }

// run runs the scripts of the calling test's group, each in a throwaway host.
func run(t *testing.T) {
	g := groupOf(t)
	if missing := g.suite.missing(); missing != "" {
		t.Skipf("bin/%s is not built", missing)
	}
	runScripts(t, g, g.scripts())
}

func runScripts(t *testing.T, g group, files []string) {
	if !g.serial {
		t.Parallel()
	}
	if len(files) == 0 {
		t.Fatalf("no scripts: %s", g.files)
	}
	p := testscript.Params{
		Files:               files,
		Setup:               g.suite.setup,
		Cmds:                commands(),
		Condition:           g.suite.condition,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE") != "",
	}
	p.Deadline, _ = t.Deadline()
	testscript.RunT(scriptT{t, g.serial}, p)
}

// TestSelected compares what is announced with what -test.run means.
func TestSelected(t *testing.T) {
	for _, c := range []struct {
		name, pattern string
		want          bool
	}{
		{"TestDCNI/bare", ".", true},
		{"TestDCNI/bare", "TestDCNI/^(bare|other)$", true},
		{"TestDCNI/bare", "TestDCNI/other", false},
		{"TestDCNI/bare", "TestParity|TestDCNI/other", false},
		{"TestParity/dcni/talk", "TestParity|TestDCNI/other", true},
		{"TestParity/dcni/talk", "TestParity/reference", false},
		{"TestVersions", "TestVersions/any", true},
	} {
		if got := selected(c.name, c.pattern); got != c.want {
			t.Errorf("%s is selected by %s: %t", c.name, c.pattern, got)
		}
	}
}
