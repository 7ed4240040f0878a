package main

import (
	"bufio"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

//go:embed docker.sh
var dockerScript string

// A docker is a Docker of the benchmark's own, beside which we are measured.
type docker struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	dir    string
	client string   // path of the docker command
	netns  []string // paths of its containers' network namespaces, see docker.sh
}

// errNoDocker says that there is no Docker on this machine.
var errNoDocker = errors.New("no dockerd is installed")

// startDocker starts a Docker that is beside no other one: in a network and mount
// namespace of its own. Mode and arguments are docker.sh's. begun, unless nil, is called with
// the process that has the namespaces.
func startDocker(begun func(pid int) error, mode string, args ...string) (*docker, error) {
	path, err := dockerPath()
	if err != nil {
		return nil, err
	}
	d := &docker{}
	for _, dir := range filepath.SplitList(path) {
		if _, err := os.Stat(filepath.Join(dir, "docker")); err == nil && d.client == "" {
			d.client = filepath.Join(dir, "docker")
		}
	}
	if d.dir, err = os.MkdirTemp("", "bench-docker"); err != nil {
		return nil, err
	}
	d.cmd = exec.Command("sh", append([]string{"-c", dockerScript, "docker.sh", d.dir, mode}, args...)...)
	d.cmd.Env = append(os.Environ(), "PATH="+path)
	d.cmd.Stderr = os.Stderr
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if d.stdin, err = d.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	if begun != nil {
		if err := begun(d.cmd.Process.Pid); err != nil {
			return nil, errors.Join(err, d.cmd.Process.Kill(), d.stop())
		}
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	for _, pid := range strings.Fields(line) {
		d.netns = append(d.netns, "/proc/"+pid+"/ns/net")
	}
	if err != nil || len(d.netns) == 0 {
		return nil, errors.Join(fmt.Errorf("docker.sh said %q: %w", line, err), d.stop())
	}
	return d, nil
}

// dockerPath returns a PATH with dockerd and docker: one that was unpacked beside
// this program, or the machine's.
func dockerPath() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	path := os.Getenv("PATH") + ":/usr/sbin"
	unpacked := filepath.Join(filepath.Dir(self), "docker", "usr")
	if _, err := os.Stat(filepath.Join(unpacked, "sbin", "dockerd")); err == nil {
		return filepath.Join(unpacked, "bin") + ":" + filepath.Join(unpacked, "sbin") + ":" + path, nil
	}
	if _, err := exec.LookPath("dockerd"); err != nil {
		return "", errNoDocker
	}
	return path, nil
}

// socket is where the daemon listens.
func (d *docker) socket() string { return filepath.Join(d.dir, "socket") }

// stop ends the Docker and all that it started.
func (d *docker) stop() error {
	err := d.stdin.Close()
	return errors.Join(err, d.cmd.Wait(), os.RemoveAll(d.dir))
}
