package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"dcni/pkg/container"
	"dcni/pkg/host/sandbox"
	"dcni/pkg/records"
)

// A life is a container from its making to its end, in the dnet that is its
// parent. Who kills that dnet ends the container, and the next dnet cleans up
// after both (see [app.heal]).
type life struct {
	*app
	spec *container.Spec
	opts *runOptions
	args []string

	nets    []wanted
	c       *records.Container
	lock    *records.Lock // of the container, held till the end
	child   *sandbox.Child
	netns   *os.File // holds the network namespace, for DEL; nil on the network host
	results []*types100.Result
	silent  *os.File // the other end of the command's standard input, where nobody writes
	signals chan os.Signal
}

// killed is the status of a container whose dnet was killed, and so it too.
const killed = 128 + int(syscall.SIGKILL)

// live runs the container and returns its exit status.
func (l *life) live() (int, error) {
	l.catchSignals()
	a := l.app
	a.heal()
	var err error
	if l.nets, err = a.want(l.spec); err != nil {
		return statusUsage, err
	}
	if err := l.begin(); err != nil {
		return statusUsage, err
	}
	status, err := l.work()
	return status, errors.Join(err, l.end(status))
}

// begin starts the child and records the container. There is nothing to be
// cleaned up before there is a record: the child dies with us.
func (l *life) begin() error {
	var random [32]byte
	rand.Read(random[:])
	l.c = &records.Container{
		ID: hex.EncodeToString(random[:]), Name: l.spec.Name, Hostname: l.spec.Hostname, Command: l.args,
		Stage: records.Created, Created: time.Now().UTC(), Remove: l.opts.remove,
	}
	if l.c.Name == "" {
		l.c.Name = container.MadeName(l.args[0], l.c.ID)
	}
	var err error
	if l.lock, err = l.store.LockContainer(l.c.ID); err != nil {
		return err
	}
	if err = l.start(); err == nil {
		err = l.record()
	}
	if err != nil {
		if l.child != nil {
			err = errors.Join(err, l.child.Kill())
		}
		l.lock.Unlock()
	}
	return err
}

// start makes the child, which makes itself ready while we go on.
func (l *life) start() error {
	stdin, err := l.stdin()
	if err != nil {
		return err
	}
	out, errs := os.Stdout, os.Stderr
	if l.opts.detach {
		// There is nobody to read it.
		if out, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
			return err
		}
		errs = out
	}
	if err := sandbox.Adopt(); err != nil {
		return err
	}
	l.child, err = sandbox.Start(sandbox.Options{
		Stdin: stdin, Stdout: out, Stderr: errs,
		Network: !l.spec.HostNetwork(), Terminal: l.opts.interactive && !l.opts.detach && sandbox.IsTerminal(stdin),
	})
	if err != nil || l.spec.HostNetwork() {
		return err
	}
	l.netns, err = os.Open(l.child.NetNSPath())
	return err
}

// stdin is the command's: ours with -i, else nothing. In the background -i is a
// pipe that nobody writes to, on which a shell waits for ever.
func (l *life) stdin() (*os.File, error) {
	switch {
	case !l.opts.interactive:
		return os.Open(os.DevNull)
	case !l.opts.detach:
		return os.Stdin, nil
	}
	r, w, err := os.Pipe()
	l.silent = w
	return r, err
}

// record writes the container's first record, in which is all that a DEL needs.
func (l *life) record() error {
	l.c.Process = l.child.Process
	if l.c.Hostname == "" {
		l.c.Hostname = container.ShortID(l.c.ID)
		if l.spec.HostNetwork() {
			l.c.Hostname, _ = os.Hostname() // uname(2) does not fail
		}
	}
	for i, n := range l.nets {
		at, err := n.attachment(l.c, "eth"+strconv.Itoa(i))
		if err != nil {
			return err
		}
		l.c.Networks = append(l.c.Networks, at)
	}
	return l.store.AddContainer(l.c, func(others []*records.Container) error {
		for _, o := range others {
			if o.Name == l.c.Name {
				return fmt.Errorf("Conflict. The container name %q is already in use by container %q. "+ //nolint:staticcheck // Docker's sentence
					"You have to remove (or rename) that container to be able to reuse that name.", "/"+o.Name, o.ID)
			}
		}
		return nil
	})
}

// work attaches the child, has it become the command, and waits for its end.
func (l *life) work() (int, error) {
	for i := range l.c.Networks {
		result, err := l.connect(i)
		if err != nil && l.child.Ended() {
			return l.wait() // who stopped it meanwhile is why
		}
		if err != nil {
			return statusUsage, err
		}
		l.results = append(l.results, result)
	}
	files, err := l.files()
	if err != nil {
		return statusUsage, err
	}
	if sig := l.pending(); sig != 0 {
		return 128 + int(sig), nil
	}
	dir := l.spec.Workdir
	if dir == "" {
		if dir, err = os.Getwd(); err != nil {
			return statusUsage, err
		}
	}
	err = l.child.Run(sandbox.Command{
		Args: l.args, Env: environment(l.c.Hostname, l.spec.Env), Dir: dir, Hostname: l.c.Hostname, Files: files,
	})
	if failed := (&sandbox.ExecError{}); errors.As(err, &failed) {
		return failed.Status, err
	}
	if err != nil {
		return statusUsage, err
	}
	return l.watch()
}

// watch is with the command while it runs.
func (l *life) watch() (int, error) {
	l.c.Stage, l.c.Started = records.Running, time.Now().UTC()
	if err := l.store.PutContainer(l.c); err != nil {
		return statusUsage, err
	}
	if l.opts.detach {
		if err := sandbox.Ready(l.c.ID); err != nil {
			return statusUsage, err
		}
	}
	go func() {
		for sig := range l.signals {
			_ = l.child.Signal(sig.(syscall.Signal)) // it has ended: so will we
		}
	}()
	return l.wait()
}

// wait waits for the command's end and returns its status.
func (l *life) wait() (int, error) {
	ws, err := l.child.Wait()
	if err != nil {
		return statusUsage, err
	}
	return sandbox.Status(ws), nil
}

// end leaves nothing of the container but its record, and of one that never
// ran not even that.
func (l *life) end(status int) error {
	defer l.lock.Unlock()
	err := l.child.Kill()
	l.c.ExitCode = status
	l.c.Remove = l.c.Remove || l.c.Stage == records.Created
	netns := ""
	if l.netns != nil {
		netns = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), l.netns.Fd())
	}
	if left := l.finish(l.c, netns); left != nil {
		err = errors.Join(err, fmt.Errorf("clean up container %s: %w", l.c.Name, left))
	}
	return err
}

// deaf are the signals that are not passed on: those that can't be caught, or
// that are about this process itself.
var deaf = map[syscall.Signal]bool{
	syscall.SIGKILL: true, syscall.SIGSTOP: true, syscall.SIGCHLD: true, syscall.SIGPIPE: true, syscall.SIGURG: true,
	syscall.SIGTSTP: true, syscall.SIGTTIN: true, syscall.SIGTTOU: true,
	syscall.SIGSEGV: true, syscall.SIGBUS: true, syscall.SIGFPE: true, syscall.SIGILL: true, syscall.SIGTRAP: true, syscall.SIGPROF: true,
}

// catchSignals has every other signal wait for the command. Who said nohup
// means it.
func (l *life) catchSignals() {
	const last, waiting = 64, 64
	l.signals = make(chan os.Signal, waiting)
	for sig := syscall.Signal(1); sig <= last; sig++ {
		if !deaf[sig] && (sig != syscall.SIGHUP || !signal.Ignored(sig)) {
			signal.Notify(l.signals, sig)
		}
	}
}

// pending returns a signal that came before the command ran, and would have
// ended it; 0: none.
func (l *life) pending() syscall.Signal {
	for {
		select {
		case sig := <-l.signals:
			switch sig {
			case syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT:
				return sig.(syscall.Signal)
			}
		default:
			return 0
		}
	}
}
