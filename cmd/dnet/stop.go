package main

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"dcni/pkg/host/sandbox"
	"dcni/pkg/records"
)

// stopOptions are the flags of `dnet stop`.
type stopOptions struct {
	seconds int // negative: as long as it takes
	remove  bool
	force   bool
}

func newStopCommand(a *app) *cobra.Command {
	o := &stopOptions{}
	cmd := &cobra.Command{
		Use:                   "stop [OPTIONS] CONTAINER [CONTAINER...]",
		Short:                 "Stop containers, and with --rm forget them",
		DisableFlagsInUseLine: true,
		Args:                  atLeast(1),
		RunE:                  func(_ *cobra.Command, args []string) error { return a.stopAll(o, args) },
	}
	f := cmd.Flags()
	o.declareTimeout(cmd)
	f.BoolVar(&o.remove, "rm", false, "Forget the container, too")
	f.BoolVarP(&o.force, "force", "f", false, "With --rm: forget it even if a plugin fails to detach it")
	return cmd
}

// declareTimeout declares how long a container may take to end.
func (o *stopOptions) declareTimeout(cmd *cobra.Command) {
	const patience = 10 // seconds, Docker's
	f := cmd.Flags()
	f.IntVarP(&o.seconds, "timeout", "t", patience, "Seconds to wait before killing the container (-1: for ever)")
	f.IntVar(&o.seconds, "time", patience, "")
	f.Lookup("time").Hidden = true
}

// stopAll stops containers one after the other, and goes on past errors.
func (a *app) stopAll(o *stopOptions, words []string) error {
	failed := false
	for _, word := range words {
		err := a.stop(o, word)
		if err != nil {
			failed = true
			a.printError(err)
			continue
		}
		fmt.Fprintln(a.out(true), word)
	}
	if failed {
		return &statusErr{statusError, nil}
	}
	return nil
}

// stop ends a container. When it returns without an error, nothing of the container
// is on the host. With --rm --force a plugin's failure is only a warning.
func (a *app) stop(o *stopOptions, word string) error {
	c, err := a.container(word)
	if err != nil {
		return err
	}
	lock, err := a.end(c, o.seconds)
	if err != nil {
		return fmt.Errorf("cannot stop container %s: %w", word, err)
	}
	defer lock.Unlock()
	if err := a.healLocked(c.ID); err != nil {
		err = fmt.Errorf("clean up container %s: %w", word, err)
		if !o.remove || !o.force {
			return err
		}
		a.warn("%v", err)
	}
	if o.remove {
		return a.store.RemoveContainer(c.ID)
	}
	return nil
}

// killTime is how long a container may take to end after SIGKILL.
const killTime = 20 * time.Second

// end sends SIGTERM to a container, and SIGKILL when the container takes longer
// than seconds. It returns the container's lock, which the container's own dnet
// holds until all is cleaned up.
func (a *app) end(c *records.Container, seconds int) (*records.Lock, error) {
	type taken struct {
		lock *records.Lock
		err  error
	}
	ended := make(chan taken, 1)
	go func() {
		lock, err := a.store.LockContainer(c.ID)
		ended <- taken{lock, err}
	}()
	var timeout <-chan time.Time
	if c.Stage != records.Exited {
		if err := sendSignal(c, syscall.SIGTERM); err != nil {
			return nil, err
		}
		if seconds >= 0 {
			timeout = time.After(time.Duration(seconds) * time.Second)
		}
	}
	for sent := false; ; sent = true {
		select {
		case t := <-ended:
			return t.lock, t.err
		case <-timeout:
			if sent {
				return nil, fmt.Errorf("its dnet does not end %s after SIGKILL", killTime)
			}
			if err := sendSignal(c, syscall.SIGKILL); err != nil {
				return nil, err
			}
			timeout = time.After(killTime)
		}
	}
}

// sendSignal sends a signal to a container's first process, which may have ended.
func sendSignal(c *records.Container, sig syscall.Signal) error {
	err := sandbox.Signal(c.Process, sig)
	if errors.Is(err, sandbox.ErrGone) {
		return nil
	}
	return err
}
