package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"dcni/pkg/container"
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
		RunE: func(_ *cobra.Command, args []string) error {
			return a.eachDone(args, func(word string) error { return a.stop(o, word) })
		},
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

// stop ends a container. When it returns without an error, nothing of the container
// is on the host. With --rm --force a plugin's failure is only a warning.
func (a *app) stop(o *stopOptions, word string) error {
	c, err := a.container(word)
	if err != nil {
		return err
	}
	return a.stopContainer(o, c, word)
}

// stopContainer is stop for a container that was found by a word.
func (a *app) stopContainer(o *stopOptions, c *records.Container, word string) error {
	if c.Stage == records.Exited {
		a.waiting("cleaning up container %s", c.Name)
	} else {
		a.waiting("stopping container %s", c.Name)
	}
	a.drainBeforeStop(c.ID)
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

// What follows is about containers that are started again, under the same ID, as `dnet run` was
// asked to. Addresses that were not asked for and ports that are chosen may be others then.

// A savedRun is what the flags of `dnet run` said, as a container's record keeps it.
type savedRun struct {
	container.Options
	Interactive bool
	Services    []string `json:",omitempty"`
}

// save returns the flags for the container's record, with the directory that is meant.
func (o *runOptions) save() (json.RawMessage, error) {
	saved := savedRun{o.Options, o.interactive, o.services}
	if saved.Workdir == "" {
		dir, err := os.Getwd()
		if err != nil {
			return nil, err
		}
		saved.Workdir = dir
	}
	return json.Marshal(saved)
}

// startOptions are the flags of `dnet start`.
type startOptions struct{ attach, interactive bool }

func newStartCommand(a *app) *cobra.Command {
	o := &startOptions{}
	cmd := &cobra.Command{
		Use:                   "start [OPTIONS] CONTAINER [CONTAINER...]",
		Short:                 "Start containers again that have ended, as dnet run was asked to",
		DisableFlagsInUseLine: true,
		Args:                  atLeast(1),
		RunE:                  func(_ *cobra.Command, args []string) error { return a.startAll(o, args) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.attach, "attach", "a", false, "Run it in the foreground")
	f.BoolVarP(&o.interactive, "interactive", "i", false, "Run it in the foreground, with STDIN")
	return cmd
}

func newRestartCommand(a *app) *cobra.Command {
	o := &stopOptions{}
	cmd := &cobra.Command{
		Use:                   "restart [OPTIONS] CONTAINER [CONTAINER...]",
		Short:                 "Stop containers that run, and start them again",
		DisableFlagsInUseLine: true,
		Args:                  atLeast(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.eachDone(args, func(word string) error { return a.restart(o, word) })
		},
	}
	o.declareTimeout(cmd)
	return cmd
}

// startAll starts containers in the background, or one in the foreground. A second dnet, in the
// background already, is asked for one.
func (a *app) startAll(o *startOptions, words []string) error {
	if o.attach || o.interactive || a.detached {
		if len(words) > 1 {
			return errors.New("you cannot start and attach multiple containers at once")
		}
		c, err := a.container(words[0])
		if err != nil {
			return err
		}
		return a.startHere(c, o.interactive)
	}
	a.heal()
	return a.eachDone(words, a.start)
}

// eachDone does the same for all words, and prints each that it is done for.
func (a *app) eachDone(words []string, do func(word string) error) error {
	return a.each(words, func(word string) error {
		err := do(word)
		if err == nil {
			fmt.Fprintln(a.out(true), word)
		}
		return err
	})
}

// start starts a container in the background. One that runs goes on, as with Docker.
func (a *app) start(word string) error {
	c, err := a.container(word)
	if err != nil || c.Stage == records.Running {
		return err
	}
	return a.startContainer(c.ID, word)
}

// startContainer is start for a container that does not run and was found by a word.
func (a *app) startContainer(id, word string) error {
	a.waits.clear() // the second dnet has the terminal
	id, _, err := sandbox.Detach([]string{"--conf-dir", string(a.conf), "start", id}, a.stderr)
	if err == nil && id == "" {
		err = fmt.Errorf("container %s was not started", word) // the second dnet said why
	}
	return err
}

// restart stops a container, and starts it again.
func (a *app) restart(o *stopOptions, word string) error {
	a.heal()
	c, err := a.container(word)
	if err != nil {
		return err
	}
	if c.Remove {
		return fmt.Errorf("cannot restart container %s: it was run with --rm and is forgotten when it ends", word)
	}
	if err := a.stopContainer(o, c, word); err != nil {
		return err
	}
	return a.startContainer(c.ID, word)
}

// startHere runs a container that has ended once more, as this process's child.
func (a *app) startHere(c *records.Container, interactive bool) error {
	if len(c.Options) == 0 {
		return fmt.Errorf("cannot start container %s: it was made by an older dnet, which did not record the flags of dnet run", c.Name)
	}
	var saved savedRun
	if err := json.Unmarshal(c.Options, &saved); err != nil {
		return fmt.Errorf("record of container %s: options: %w", c.Name, err)
	}
	spec, err := saved.Parse()
	if err != nil {
		return &statusErr{statusUsage, err}
	}
	o := &runOptions{
		Options: saved.Options, services: saved.Services,
		detach: a.detached, interactive: interactive || a.detached && saved.Interactive,
	}
	spec.Name = c.Name // which dnet run may have made
	r := &containerRun{app: a, spec: spec, opts: o, args: c.Command, former: c}
	status, err := r.run()
	if already, is := errors.AsType[*alreadyError](err); is && already.stage == records.Running && a.detached {
		return sandbox.Ready(c.ID) // another dnet was faster: one that runs goes on, as with Docker
	}
	if err != nil || status != 0 {
		return &statusErr{status, err}
	}
	return nil
}

// startTime is how long a dnet that starts a container waits for others that look after it.
const startTime = 20 * time.Second

// takeFormer takes the lock of a container that is started again. It is to be on the networks that
// it was on last.
func (r *containerRun) takeFormer() error {
	if r.former == nil {
		return nil
	}
	if err := r.lockFormer(); err != nil {
		return err
	}
	w, known, err := wanted(r.former)
	if err != nil {
		return err
	}
	if known {
		r.spec.Networks, r.spec.Again = w, true
	}
	return nil
}

// An alreadyError is for a container that another dnet has started.
type alreadyError struct {
	name  string
	stage records.Stage
}

func (e *alreadyError) Error() string {
	return fmt.Sprintf("container %s is %s already", e.name, e.stage)
}

// lockFormer takes the lock of a container that has ended, and reads its record again. The dnet
// of one that runs holds it to the end; one that another dnet starts is waited for.
func (r *containerRun) lockFormer() error {
	for end := time.Now().Add(startTime); ; time.Sleep(lockEvery) {
		lock, free, err := r.store.TryLockContainer(r.former.ID)
		if err != nil {
			return err
		}
		now, err := r.store.Container(r.former.ID)
		switch {
		case err != nil:
			err = fmt.Errorf("container %s: %w", r.former.Name, err)
		case now.Stage == records.Running && !free, now.Stage != records.Exited && time.Now().After(end):
			err = &alreadyError{now.Name, now.Stage}
		case free && now.Stage == records.Exited:
			r.lock, r.former = lock, now
			return r.removeFormerFiles()
		}
		lock.Unlock()
		if err != nil {
			return err
		}
	}
}

// lockEvery is how often the lock of a container is tried for.
const lockEvery = 10 * time.Millisecond

// removeFormerFiles removes the files that the container had when it ran, which may be another
// container's as well. What it printed stays.
func (r *containerRun) removeFormerFiles() (err error) {
	for _, path := range []string{resolvConf, hostsFile, hostname, formerResolvConf} {
		gone := os.Remove(filepath.Join(r.store.ContainerDir(r.former.ID), filepath.Base(path)))
		if gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return err
}
