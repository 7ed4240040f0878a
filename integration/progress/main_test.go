package main

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
)

// events of `go test -json` that matter here, one a line.
const (
	announced = `{"Action":"start","Package":"x/scn"}
{"Action":"output","Package":"x/scn","Output":"scenario: TestA/one\n"}
{"Action":"output","Package":"x/scn","Output":"scenario: TestA/two\n"}
{"Action":"output","Package":"x/scn","Output":"scenario: TestB\n"}
{"Action":"run","Package":"x/scn","Test":"TestA"}
{"Action":"run","Package":"x/scn","Test":"TestA/one"}
{"Action":"output","Package":"x/scn","Test":"TestA/one","Output":"starts: TestA/one\n"}
{"Action":"output","Package":"x/scn","Test":"TestA/one","Output":"chatter\n"}
`
	noted = `{"Action":"output","Package":"x/scn","Test":"TestA/one","Output":"note: once more\n"}
`
	onePasses = `{"Action":"pass","Package":"x/scn","Test":"TestA/one","Elapsed":1.5}
{"Action":"run","Package":"x/scn","Test":"TestA/two"}
{"Action":"output","Package":"x/scn","Test":"TestA/two","Output":"starts: TestA/two\n"}
`
	allPass = onePasses + `{"Action":"pass","Package":"x/scn","Test":"TestA/two","Elapsed":0.1}
{"Action":"pass","Package":"x/scn","Test":"TestA","Elapsed":1.6}
{"Action":"run","Package":"x/scn","Test":"TestB"}
{"Action":"output","Package":"x/scn","Test":"TestB","Output":"=== RUN   TestB\n"}
{"Action":"output","Package":"x/scn","Test":"TestB","Output":"    b_test.go:12: noise\n"}
{"Action":"output","Package":"x/scn","Test":"TestB","Output":"    b_test.go:13: no such kernel\n"}
{"Action":"output","Package":"x/scn","Test":"TestB","Output":"    testscript.go:1: > skip 'no such kernel'\n"}
{"Action":"output","Package":"x/scn","Test":"TestB","Output":"        \n"}
{"Action":"output","Package":"x/scn","Test":"TestB","Output":"--- SKIP: TestB (0.00s)\n"}
{"Action":"skip","Package":"x/scn","Test":"TestB","Elapsed":0}
{"Action":"pass","Package":"x/scn","Elapsed":2}
`
	oneFails = `{"Action":"output","Package":"x/scn","Test":"TestA/one","Output":"        a_test.go:3: wrong\n"}
{"Action":"output","Package":"x/scn","Test":"TestA/one","Output":"    --- FAIL: TestA/one (1.50s)\n"}
{"Action":"fail","Package":"x/scn","Test":"TestA/one","Elapsed":1.5}
{"Action":"output","Package":"x/scn","Test":"TestA","Output":"--- FAIL: TestA (1.60s)\n"}
{"Action":"fail","Package":"x/scn","Test":"TestA","Elapsed":1.6}
{"Action":"output","Package":"x/scn","Output":"FAIL\n"}
{"Action":"fail","Package":"x/scn","Elapsed":2}
`
	killed = `{"Action":"output","Package":"x/scn","Output":"panic: test timed out\n"}
{"Action":"fail","Package":"x/scn","Elapsed":2}
`
	noBuild = `{"ImportPath":"x/bad","Action":"build-output","Output":"bad.go:1: syntax error\n"}
{"ImportPath":"x/bad","Action":"build-fail"}
{"Action":"start","Package":"x/bad"}
{"Action":"output","Package":"x/bad","Output":"FAIL\tx/bad [build failed]\n"}
{"Action":"fail","Package":"x/bad","Elapsed":0}
`
	noTests = `{"Action":"start","Package":"x/none"}
{"Action":"output","Package":"x/none","Output":"?   \tx/none\t[no test files]\n"}
{"Action":"skip","Package":"x/none","Elapsed":0}
`
)

func TestWatch(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		ok   bool
		want string
	}{
		"passes": {announced + allPass + noTests, true, `
   3 left  TestA/one
   2 left  TestA/two
ok    x/scn (2.0s)
skipped, no such kernel:
  TestB
3 passed, 0 failed, 1 skipped`},
		"says something": {announced + noted + allPass, true, `
   3 left  TestA/one
note: once more
   2 left  TestA/two
ok    x/scn (2.0s)
skipped, no such kernel:
  TestB
3 passed, 0 failed, 1 skipped`},
		"fails": {announced + oneFails, false, `
   3 left  TestA/one
FAIL  TestA/one (1.5s)
chatter
        a_test.go:3: wrong
FAIL  x/scn (2.0s)
failed:
  TestA/one
    wrong
0 passed, 1 failed, 0 skipped`},
		"is killed": {announced + killed, false, `
   3 left  TestA/one
FAIL  TestA: did not end
FAIL  TestA/one: did not end
chatter
FAIL  x/scn (2.0s)
panic: test timed out
failed:
  TestA
  TestA/one
0 passed, 2 failed, 0 skipped`},
		"says no more": {announced + onePasses, false, `
   3 left  TestA/one
   2 left  TestA/two
FAIL  x/scn: did not end
FAIL  TestA: did not end
FAIL  TestA/two: did not end
failed:
  x/scn
  TestA
  TestA/two
1 passed, 3 failed, 0 skipped`},
		"does not build": {noBuild, false, `
bad.go:1: syntax error
FAIL  x/bad (0.0s)
FAIL	x/bad [build failed]
0 passed, 0 failed, 0 skipped`},
		"says nothing":  {"", false, "\n0 passed, 0 failed, 0 skipped"},
		"runs no tests": {noTests, false, "\n0 passed, 0 failed, 0 skipped"},
		"fails in no test": {announced + allPass + `{"Action":"exit","Status":2}`, false, `
   3 left  TestA/one
   2 left  TestA/two
ok    x/scn (2.0s)
skipped, no such kernel:
  TestB
3 passed, 0 failed, 1 skipped`},
		"is no JSON": {"go: downloading\n", false, "\ngo: downloading\n0 passed, 0 failed, 0 skipped"},
	} {
		var out strings.Builder
		ok, err := newReport(&out).watch(strings.NewReader(c.in))
		got := regexp.MustCompile(` in \S+\n$`).ReplaceAllString(out.String(), "")
		if err != nil || ok != c.ok || "\n"+got != c.want {
			t.Errorf("a run that %s: ok %v, want %v, %v:\n%s\nwant:%s", name, ok, c.ok, err, got, c.want)
		}
	}
}

// TestAgain lists what is run once more: few tests that failed, and nothing where a run was cut short.
func TestAgain(t *testing.T) {
	fails := func(pkg, test string) string {
		return fmt.Sprintf(`{"Action":"fail","Package":%q,"Test":%q}`+"\n", pkg, test)
	}
	exit := func(status int) string { return fmt.Sprintf(`{"Action":"exit","Status":%d}`+"\n", status) }
	ended := `{"Action":"fail","Package":"x"}` + "\n"
	for name, c := range map[string]struct{ in, want string }{
		"a test":                    {fails("x", "TestA") + ended, "x ^TestA$\n"},
		"a test below":              {fails("x", "TestA/is_it?") + fails("x", "TestA") + ended, `x ^TestA$/^is_it\?$` + "\n"},
		"two packages":              {fails("x", "TestA") + ended + fails("y", "TestB"), "x ^TestA$\ny ^TestB$\n"},
		"many":                      {fails("x", "TestA") + fails("x", "TestB") + fails("x", "TestC") + fails("y", "TestA") + fails("y", "TestB") + fails("y", "TestC"), ""},
		"a package without a test":  {fails("y", "TestA") + ended, ""},
		"a run that passes":         {announced + allPass, ""},
		"a package that was killed": {announced + killed, ""},
		"a package that's no Go":    {announced + oneFails + noBuild, ""},
		"a run that was cut short":  {announced + onePasses, ""},
		"a go command that fails":   {fails("x", "TestA") + ended + exit(1) + exit(1), ""},
		"two go commands":           {fails("x", "TestA") + ended + exit(1) + fails("y", "TestB") + exit(1), "x ^TestA$\ny ^TestB$\n"},
		"a scenario":                {announced + oneFails, "x/scn ^TestA$/^one$\n"},
	} {
		r := newReport(io.Discard)
		if _, err := r.watch(strings.NewReader(c.in)); err != nil {
			t.Error(err)
		}
		if got := r.again(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
