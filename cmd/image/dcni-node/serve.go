package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"dcni/pkg/host/agent"
)

// hostRoot is the host's root, as a process of its PID namespace sees it.
const hostRoot = "/proc/1/root"

// serve runs dnetd among the host's files, and ends with it: with an error, so that the kubelet starts the
// container again, unless this process was told to end. A dnetd that has handed over to another one ends too, and
// then this process stays: the kubelet would start it again otherwise, which would take over in turn. It ends
// when it is told to, or when the other dnetd is gone.
func serve(ctx context.Context, args []string) error {
	cmd := exec.Command("/proc/self/exe", append([]string{"host", "dnetd", "serve"}, args...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	// The main goroutine has the first thread for itself (package netns): the child ends when that thread does.
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ctx.Done():
		err := cmd.Process.Signal(syscall.SIGTERM)
		if errors.Is(err, os.ErrProcessDone) {
			err = nil
		}
		return errors.Join(err, <-ended)
	case err := <-ended:
		switch {
		case ctx.Err() != nil: // both were told
			return err
		case err != nil:
			return fmt.Errorf("dnetd: %w", err)
		}
	}
	fmt.Fprintln(os.Stderr, "dcni-node: another dnetd has taken over; this pod waits for its end")
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
			if err := alive(); errors.Is(err, agent.ErrAbsent) {
				return errors.New("the dnetd that had taken over is gone")
			}
		}
	}
}

// socket is dnetd's, as this container sees it.
func socket() string { return hostRoot + agent.DefaultSocket }

// alive returns an error unless a dnetd answers on this node, this container's or the one that took over.
func alive() error {
	_, err := agent.Call(socket(), 5*time.Second, agent.Request{Op: agent.Status})
	return err
}

// ready returns an error unless the dnetd that answers is this container's.
func ready() error {
	if err := alive(); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(socket()), "dnetd.pid"))
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return err
	}
	own, err := inThisContainer(pid)
	if err == nil && !own {
		err = fmt.Errorf("the dnetd that serves, process %d, is not this pod's", pid)
	}
	return err
}

// inThisContainer reports whether a process was started from this container: it is among the host's files,
// but its parent is not.
func inThisContainer(pid int) (bool, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false, err
	}
	_, rest, _ := bytes.Cut(status, []byte("\nPPid:\t"))
	parent, _, _ := strings.Cut(string(rest), "\n")
	theirs, err := os.Readlink("/proc/" + parent + "/ns/mnt")
	if err != nil {
		return false, err
	}
	own, err := os.Readlink("/proc/self/ns/mnt")
	return theirs == own, err
}
