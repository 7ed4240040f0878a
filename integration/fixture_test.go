package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"dcni/integration/testhost"
)

// A fixture is a throwaway host for tests that are tables rather than sessions.
// All of a test runs in it; subtests would run elsewhere.
type fixture struct {
	*testhost.Host
	t *testing.T
}

// newFixture makes the host of a test, which runs beside others.
func newFixture(t *testing.T) *fixture {
	t.Helper()
	t.Parallel()
	if missing := dcni.missing(); missing != "" {
		t.Skipf("bin/%s is not built", missing)
	}
	starts(t)
	host, err := testhost.NewHost(binaries)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = host.Close() })
	return &fixture{host, t}
}

// netns makes sandboxes.
func (r *fixture) netns(names ...string) {
	r.t.Helper()
	for _, name := range names {
		if err := r.NewNetNS(name); err != nil {
			r.t.Fatal(err)
		}
	}
}

// run runs a program of the host, and returns what it prints.
func (r *fixture) run(name string, args ...string) string {
	r.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		r.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// An outcome is what a plugin said.
type outcome struct {
	out    []byte
	stderr string
	err    error        // nil: exit status 0
	failed *types.Error // the one error on stdout, or nil
}

// pluginCall is one call of a plugin. Words are CNI_ variables in lower case, as
// those of the script command "plugin"; c1 and eth0 unless they say otherwise.
func pluginCall(verb, plugin, conf string, words ...string) *exec.Cmd {
	env := map[string]string{"CONTAINERID": "c1", "NETNS": testhost.NetNSPath("c1"), "IFNAME": "eth0", "PATH": pluginDir}
	for _, w := range words {
		word, value, _ := strings.Cut(w, "=")
		if word == "netns" && value != "" {
			value = testhost.NetNSPath(value)
		}
		env[strings.ToUpper(word)] = value
	}
	cmd := exec.Command(pluginDir + "/" + plugin)
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+verb)
	for name, value := range env {
		cmd.Env = append(cmd.Env, "CNI_"+name+"="+value)
	}
	cmd.Stdin = strings.NewReader(conf)
	return cmd
}

// outcomeOf runs a command and reads its answer.
func outcomeOf(cmd *exec.Cmd) outcome {
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	a := outcome{err: cmd.Run()}
	a.out, a.stderr = out.Bytes(), stderr.String()
	if a.err == nil {
		return a
	}
	d := json.NewDecoder(&out)
	e := &types.Error{}
	if d.Decode(e) == nil && errors.Is(d.Decode(&struct{}{}), io.EOF) {
		a.failed = e
	}
	return a
}

// plugin executes a plugin, with nothing between.
func (r *fixture) plugin(verb, plugin, conf string, words ...string) outcome {
	return outcomeOf(pluginCall(verb, plugin, conf, words...))
}

// ok expects success.
func (r *fixture) ok(a outcome) outcome {
	r.t.Helper()
	if a.err != nil {
		r.t.Fatalf("%v: %s%s", a.err, a.out, a.stderr)
	}
	return a
}

// refused expects one error, of a code, with words in that order.
func (r *fixture) refused(what string, a outcome, code uint, words string) bool {
	r.t.Helper()
	switch {
	case a.err == nil:
		r.t.Errorf("%s: unexpected success", what)
	case a.failed == nil:
		r.t.Errorf("%s: not one error on stdout: %q, stderr %q", what, a.out, a.stderr)
	case a.failed.Code != code || !saysInOrder(a.failed.Msg+" "+a.failed.Details, words):
		r.t.Errorf("%s:\n got %d %q %q\nwant %d %q", what, a.failed.Code, a.failed.Msg, a.failed.Details, code, words)
	default:
		return true
	}
	return false
}

func saysInOrder(text, words string) bool {
	for _, w := range strings.Fields(words) {
		i := strings.Index(text, w)
		if i < 0 {
			return false
		}
		text = text[i+len(w):]
	}
	return true
}

// same expects the host to look as before, but for lines that match.
func (r *fixture) same(what string, before picture, ignored ...string) bool {
	r.t.Helper()
	diff := before.settle(patience, regexp.MustCompile(strings.Join(append(ignored, `^$`), "|")))
	if len(diff) == 0 {
		return true
	}
	const enough, width = 12, 300
	for i, line := range diff {
		diff[i] = line[:min(len(line), width)]
	}
	r.t.Errorf("%s: the host has changed:\n%s", what, strings.Join(diff[:min(len(diff), enough)], "\n"))
	return false
}
