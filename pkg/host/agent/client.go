package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"dcni/pkg/host/detach"
	"dcni/pkg/records"
	"dcni/pkg/records/places"
	"dcni/pkg/wire"
)

// Limits of waiting for dnetd. An ADD must not hang as long as its runtime would
// let it, and dnetd answers in less than a millisecond.
const (
	AnswerTimeout = 2 * time.Second  // for an answer
	ForgetTimeout = time.Second      // for one that changes little
	startTimeout  = 10 * time.Second // for one to begin, on a host that boots and has all else to start
)

// systemdSocket is the unit that starts dnetd where systemd runs the host.
const systemdSocket = "dnetd.socket"

// A Client asks the dnetd that serves a host's records, and starts it where none
// runs.
type Client struct {
	Store records.Store
	// NeverStart says that dnetd is not started: the caller is dnetd, which may be about
	// to end.
	NeverStart bool
}

// Socket is where dnetd listens: with the records in their usual place, [DefaultSocket].
func (c Client) Socket() string { return filepath.Join(c.Store.Run, "dnetd.sock") }

// Call sends dnetd a request, if it is there.
func (c Client) Call(timeout time.Duration, r Request, fds ...int) (Reply, error) {
	return Call(c.Socket(), timeout, r, fds...)
}

// Ask sends dnetd a request. Where none runs, it is started, also if it was
// just ending, unless NeverStart is set. The error has code 11 if there is no way to have an answer now.
func (c Client) Ask(r Request, fds ...int) (Reply, error) {
	deadline := time.Now().Add(startTimeout)
	for {
		reply, err := c.Call(AnswerTimeout, r, fds...)
		coded := (*wire.Error)(nil)
		if err == nil || errors.As(err, &coded) {
			return reply, err
		}
		if errors.Is(err, ErrTooLong) {
			return reply, wire.Errorf(wire.CodeConfig, "aliases, names and hosts of the container: %v", err)
		}
		if errors.Is(err, ErrAbsent) && !c.NeverStart && time.Now().Before(deadline) {
			err = c.start(deadline)
			if err == nil || errors.Is(err, errKilled) {
				continue
			}
		}
		return reply, &wire.Error{Code: wire.CodeTryAgain, Msg: "the name server can't be had: dnetd", Err: err}
	}
}

// start starts dnetd, or waits for another plugin that does, until the
// socket answers.
func (c Client) start(deadline time.Time) error {
	const pause = 2 * time.Millisecond
	for {
		lock, free, err := c.Store.TryLockAgentStart()
		if err != nil {
			return err
		}
		if c.answers() {
			lock.Unlock()
			return nil
		}
		if free {
			defer lock.Unlock()
			return c.launch(deadline)
		}
		if time.Now().After(deadline) {
			return errors.New("another plugin is starting it, and it does not answer")
		}
		time.Sleep(pause)
	}
}

// answers reports whether a dnetd answers at the socket.
func (c Client) answers() bool {
	_, err := c.Call(AnswerTimeout, Request{Op: Status})
	return err == nil
}

// launch has systemd start dnetd, where that has its unit, else starts the
// program. The caller has the lock.
func (c Client) launch(deadline time.Time) error {
	if unit := detach.SystemdUnit(systemdSocket); unit != "" {
		ctx, cancel := context.WithDeadline(context.Background(), deadline)
		defer cancel()
		out, err := exec.CommandContext(ctx, "systemctl", "--no-ask-password", "start", unit).CombinedOutput()
		if err != nil {
			return fmt.Errorf("systemctl start %s: %w: %s", unit, err, out)
		}
		return c.await(deadline, nil)
	}
	program, err := detach.Find("dnetd")
	if err != nil {
		return err
	}
	return c.spawn(program, deadline)
}

// await waits until the socket answers, or ended says that the process has.
func (c Client) await(deadline time.Time, ended <-chan error) error {
	const pause = time.Millisecond
	for !c.answers() {
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

// errKilled says that the dnetd that was just started was killed. The next
// one may live.
var errKilled = errors.New("killed")

// spawn starts the program to outlive this process, with a log in place of
// its output.
func (c Client) spawn(program string, deadline time.Time) error {
	logFile := filepath.Join(c.Store.Run, "dnetd.log")
	log, err := os.OpenFile(logFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NONBLOCK, 0o600)
	if err != nil { // something else has its name: names matter more than a log
		log, err = os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	}
	if err != nil {
		return err
	}
	defer log.Close()
	p, err := detach.Command{
		Path: program, Args: []string{"dnetd", "serve", "--on-demand", "--socket", c.Socket()},
		Env: append(places.Environment(), "PATH="+os.Getenv("PATH")), Dir: "/", Files: []*os.File{nil, log, log},
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
	return c.await(deadline, ended)
}

// Probe tells whether dnetd answers or could be started.
func (c Client) Probe() error {
	_, err := c.Call(AnswerTimeout, Request{Op: Status})
	if errors.Is(err, ErrAbsent) && detach.SystemdUnit(systemdSocket) == "" {
		_, err = detach.Find("dnetd")
	} else if errors.Is(err, ErrAbsent) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("dnetd: %w", err)
	}
	return nil
}
