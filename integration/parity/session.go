package parity

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"dcni/integration/testhost"
)

//go:embed prelude.sh
var prelude string

//go:embed docker-dcni.sh
var dockerOfDCNI string

//go:embed dockerd.sh
var dockerdScript string

// A Session runs commands in a throwaway host, on the thread that is in it.
type Session struct {
	env   []string
	clean string // command that removes what a scenario left
}

// DCNI returns a session in the calling goroutine's host where docker is dcni. binaries is
// where `make build` puts programs; tools of the tests are in its directory "test".
func DCNI(binaries string) (*Session, error) {
	const dir = "/run/parity"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "docker"), []byte(dockerOfDCNI), 0o755); err != nil {
		return nil, err
	}
	// Docker's daemon switches forwarding on when it starts, and dcni with the first container, which it says.
	for _, name := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		if err := os.WriteFile("/proc/sys/net/"+name, []byte("1"), 0); err != nil {
			return nil, err
		}
	}
	s := &Session{
		env: append(os.Environ(), "CNI_PATH=/opt/cni/bin", "TALK_PATIENCE=400ms",
			path(dir, binaries, filepath.Join(binaries, "test"))),
		clean: "dnet ps -aq | xargs -r dnet stop -t 0 --rm >/dev/null; " + endBackground,
	}
	if out, status := s.output(prelude + startAgent); status != "0" {
		return nil, fmt.Errorf("dnetd: exit status %s: %s", status, out)
	}
	return s, nil
}

// startAgent starts dnetd, as systemd does where it is installed.
const startAgent = "background dnetd serve --metrics=; timeout 30 sh -c 'until test -S /run/dcni/dnetd.sock; do sleep 0.02; done'"

// endBackground ends what background of prelude.sh started.
const endBackground = "test ! -e /run/background || { xargs kill </run/background; rm /run/background; }"

// path is the variable PATH with folders before the caller's, and those of root behind it.
func path(dirs ...string) string {
	return "PATH=" + strings.Join(append(dirs, os.Getenv("PATH"), "/usr/sbin", "/sbin"), ":")
}

// An Engine is a Docker engine in a throwaway host.
type Engine struct {
	*Session
	cmd   *exec.Cmd
	stdin interface{ Close() error }
}

// StartDocker starts a Docker engine in the calling goroutine's host. docker is a folder with
// usr/sbin/dockerd and usr/bin/docker, binaries as for [DCNI].
func StartDocker(docker, binaries string) (*Engine, error) {
	env := append(os.Environ(), "DOCKER_HOST=unix:///run/docker-engine/socket", "DOCKER_CONFIG=/run/docker-engine/config",
		"CGROUP_PARENT="+testhost.CgroupParent, "TALK="+filepath.Join(binaries, "test", "talk"),
		path(filepath.Join(docker, "usr/bin"), filepath.Join(docker, "usr/sbin"), filepath.Join(binaries, "test")))
	e := &Engine{Session: &Session{env: env, clean: "docker ps -aq | xargs -r docker rm -fv >/dev/null; docker network prune -f >/dev/null; " + endBackground}}
	e.cmd = exec.Command("sh", "-c", dockerdScript)
	e.cmd.Env, e.cmd.Stderr = env, os.Stderr
	out, err := e.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if e.stdin, err = e.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := e.cmd.Start(); err != nil {
		return nil, err
	}
	buf := make([]byte, len("ready\n"))
	if n, err := out.Read(buf); string(buf[:n]) != "ready\n" {
		return nil, errors.Join(fmt.Errorf("dockerd.sh said %q: %w", buf[:n], err), e.Stop())
	}
	return e, nil
}

// Version returns the engine's version.
func (e *Engine) Version() string {
	out, _ := e.output("docker version -f '{{.Server.Version}}'")
	return strings.TrimSpace(out)
}

// Stop ends the engine.
func (e *Engine) Stop() error {
	return errors.Join(e.stdin.Close(), e.cmd.Wait())
}

// Run runs a command of a scenario and returns what it said, normalized.
func (s *Session) Run(command string) string {
	out, status := s.output(prelude + command)
	return Normalize(command, out, status)
}

// Clean removes what a scenario left.
func (s *Session) Clean() error {
	if out, status := s.output(s.clean); status != "0" {
		return fmt.Errorf("%s: exit status %s: %s", s.clean, status, out)
	}
	return nil
}

// output runs a script and returns what it printed, and its exit status.
func (s *Session) output(script string) (out, status string) {
	cmd := exec.Command("sh", "-c", script)
	var b bytes.Buffer
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = s.env, "/tmp", &b, &b
	const rest = 10 * time.Second // for what a process in the background holds open
	cmd.WaitDelay = rest
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return b.String(), err.Error()
	}
	return b.String(), strconv.Itoa(cmd.ProcessState.ExitCode())
}

// Observe runs the steps of a scenario one after another and returns what came of each. A
// step that only looks runs until it says what want returns for it, if that is known, and for as
// long as patience at most.
func (s *Scenario) Observe(run func(command string) string, want func(Step) string, patience time.Duration) []string {
	var seen []string
	for _, step := range s.Steps {
		said := run(step.Command)
		for end := time.Now().Add(patience); step.Looks() && want(step) != "" && said != want(step) && time.Now().Before(end); {
			const pause = 100 * time.Millisecond
			time.Sleep(pause)
			said = run(step.Command)
		}
		seen = append(seen, said)
	}
	return seen
}

// Differences returns, as text, where what dcni said is not what the file has, and where a
// reason is given for what is the same.
func (s *Scenario) Differences(seen []string) string {
	var b strings.Builder
	for i, step := range s.Steps {
		switch {
		case step.Reason != "" && seen[i] == step.Docker:
			fmt.Fprintf(&b, "%s\n    is what Docker says, so remove %q\n", step.Command, differs+step.Reason)
		case seen[i] != step.Want():
			fmt.Fprintf(&b, "%s\n  want\n%s  got\n%s", step.Command, indented(step.Want()), indented(seen[i]))
		}
	}
	return b.String()
}
