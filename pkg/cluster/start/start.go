// Package start starts dclusterd.
package start

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"dcni/pkg/host/detach"
	"dcni/pkg/records"
	"dcni/pkg/records/places"
)

const program = "dclusterd"

// A Starter starts dclusterd, where the host is a node of a cluster or is about to be one.
type Starter struct {
	Store   records.Store
	ConfDir records.ConfDir
	Answers func() bool // a dclusterd answers at the store's socket
	Program string      // "": beside this one, or in PATH
}

// Start starts dclusterd to outlive this process, or has systemd do so where that has its
// unit, and waits until it answers.
func (s Starter) Start(timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	if unit := detach.SystemdUnit(program + ".service"); unit != "" && s.Store.Run == records.Default().Run {
		ctx, cancel := context.WithDeadline(context.Background(), deadline)
		defer cancel()
		out, err := exec.CommandContext(ctx, "systemctl", "--no-ask-password", "start", unit).CombinedOutput()
		if err != nil {
			return fmt.Errorf("systemctl start %s: %w: %s", unit, err, out)
		}
		return s.await(deadline, nil)
	}
	ended, err := s.spawn()
	if err != nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	return s.await(deadline, ended)
}

// spawn starts the program, with a log in place of its output.
func (s Starter) spawn() (<-chan error, error) {
	path := s.Program
	if path == "" {
		var err error
		if path, err = detach.Find(program); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(s.Store.Run, 0o755); err != nil {
		return nil, err
	}
	name := s.Store.Cluster().Log()
	log, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p, err := detach.Command{
		Path: path, Args: []string{program, "--on-demand", "--conf-dir", string(s.ConfDir)},
		Env: append(places.Environment(), "PATH="+os.Getenv("PATH")), Dir: "/", Files: []*os.File{nil, log, log},
	}.Start()
	if err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() {
		state, err := p.Wait()
		ended <- errors.Join(err, fmt.Errorf("%s ended at once (%v): see %s", path, state, name))
	}()
	return ended, nil
}

// await waits until the socket answers, or the process has ended.
func (s Starter) await(deadline time.Time, ended <-chan error) error {
	const pause = 10 * time.Millisecond
	for !s.Answers() {
		select {
		case err := <-ended:
			if s.Answers() { // another one was faster
				return nil
			}
			return err
		case <-time.After(pause):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s was started, and does not answer: see %s", program, s.Store.Cluster().Log())
		}
	}
	return nil
}
