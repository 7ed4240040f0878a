package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"dcni/pkg/host/agent"
	"dcni/pkg/host/detach"
	"dcni/pkg/wire"
)

// Limits of waiting for dnetd. An ADD must not hang as long as its runtime would
// let it, and dnetd answers in less than a millisecond.
const (
	agentTimeout = 2 * time.Second // for an answer
	agentForget  = time.Second     // for one that changes little
	agentStart   = 4 * time.Second // for one to begin
)

// agentSocket is where dnetd listens: agent.DefaultSocket, with the records in
// their usual place.
func (h *Host) agentSocket() string { return filepath.Join(h.records.Run, "dnetd.sock") }

// callDnetd sends dnetd a request, if it is there.
func (h *Host) callDnetd(timeout time.Duration, r agent.Request, fds ...int) (agent.Reply, error) {
	return agent.Call(h.agentSocket(), timeout, r, fds...)
}

// askDnetd sends dnetd a request. Where none runs, it is started, also if it was
// just ending. The error has code 11 if there is no way to have an answer now.
func (h *Host) askDnetd(r agent.Request, fds ...int) (agent.Reply, error) {
	deadline := time.Now().Add(agentStart)
	for {
		reply, err := h.callDnetd(agentTimeout, r, fds...)
		coded := (*wire.Error)(nil)
		if err == nil || errors.As(err, &coded) {
			return reply, err
		}
		if errors.Is(err, agent.ErrTooLong) {
			return reply, wire.Errorf(wire.CodeConfig, "aliases, names and hosts of the container: %v", err)
		}
		if errors.Is(err, agent.ErrAbsent) && time.Now().Before(deadline) {
			err = h.startDnetd(deadline)
			if err == nil || errors.Is(err, errKilled) {
				continue
			}
		}
		return reply, &wire.Error{Code: wire.CodeTryAgain, Msg: "the name server can't be had: dnetd", Err: err}
	}
}

// startDnetd starts dnetd, or waits for another plugin that does, until the
// socket answers.
func (h *Host) startDnetd(deadline time.Time) error {
	const pause = 2 * time.Millisecond
	for {
		lock, free, err := h.records.TryLockAgentStart()
		if err != nil {
			return err
		}
		if h.answers() {
			lock.Unlock()
			return nil
		}
		if free {
			defer lock.Unlock()
			return h.launchDnetd(deadline)
		}
		if time.Now().After(deadline) {
			return errors.New("another plugin is starting it, and it does not answer")
		}
		time.Sleep(pause)
	}
}

// answers reports whether somebody answers at the socket.
func (h *Host) answers() bool {
	_, err := h.callDnetd(agentTimeout, agent.Request{Op: agent.Status})
	return err == nil
}

// launchDnetd has systemd start dnetd, where that has its unit, else starts the
// program. The caller has the lock.
func (h *Host) launchDnetd(deadline time.Time) error {
	if unit := dnetdUnit(); unit != "" {
		ctx, cancel := context.WithDeadline(context.Background(), deadline)
		defer cancel()
		out, err := exec.CommandContext(ctx, "systemctl", "--no-ask-password", "start", unit).CombinedOutput()
		if err != nil {
			return fmt.Errorf("systemctl start %s: %w: %s", unit, err, out)
		}
		return h.awaitDnetd(deadline, nil)
	}
	program, err := findDnetd()
	if err != nil {
		return err
	}
	return h.spawnDnetd(program, deadline)
}

// awaitDnetd waits until the socket answers, or ended says that the process has.
func (h *Host) awaitDnetd(deadline time.Time, ended <-chan error) error {
	const pause = time.Millisecond
	for !h.answers() {
		select {
		case err := <-ended:
			return err
		case <-time.After(pause):
		}
		if time.Now().After(deadline) {
			return errors.New("was started, and does not answer")
		}
	}
	return nil
}

// dnetdUnit returns our unit if systemd runs this host and has it, else "".
func dnetdUnit() string {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return ""
	}
	const unit = "dnetd.socket"
	for _, dir := range []string{"/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib"} {
		if _, err := os.Stat(filepath.Join(dir, "systemd/system", unit)); err == nil {
			return unit
		}
	}
	return ""
}

// findDnetd looks for the program beside this one, then in PATH, which a runtime
// may have cut short.
func findDnetd() (string, error) {
	const name = "dnetd"
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), name)
		if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
			return beside, nil
		}
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	const installed = "/usr/local/bin/" + name
	if _, err := os.Stat(installed); err == nil {
		return installed, nil
	}
	return "", errors.New("no program dnetd: neither beside the plugin nor in PATH " + os.Getenv("PATH"))
}

// errKilled says that somebody killed the dnetd that was just started. The next
// one may live.
var errKilled = errors.New("killed")

// spawnDnetd starts the program to outlive this process, with a log in place of
// its output.
func (h *Host) spawnDnetd(program string, deadline time.Time) error {
	logFile := filepath.Join(h.records.Run, "dnetd.log")
	log, err := os.OpenFile(logFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	p, err := detach.Command{
		Path: program, Args: []string{"dnetd", "--on-demand", "--socket", h.agentSocket()},
		Env: []string{"PATH=" + os.Getenv("PATH")}, Dir: "/", Files: []*os.File{nil, log, log},
	}.Start()
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		state, err := p.Wait()
		if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			err = errors.Join(err, errKilled)
		}
		ended <- errors.Join(err, fmt.Errorf("%s ended at once (%v): see %s", program, state, logFile))
	}()
	return h.awaitDnetd(deadline, ended)
}

// probeDnetd tells whether dnetd answers or could be started.
func (h *Host) probeDnetd() error {
	_, err := h.callDnetd(agentTimeout, agent.Request{Op: agent.Status})
	if errors.Is(err, agent.ErrAbsent) && dnetdUnit() == "" {
		_, err = findDnetd()
	} else if errors.Is(err, agent.ErrAbsent) {
		err = nil
	}
	return wrapped("dnetd", err)
}
