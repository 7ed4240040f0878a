// Package sandbox runs commands in namespaces of their own, on the host's file
// system.
//
// A [Child] is this very program, cloned into fresh mount and UTS namespaces and,
// if asked for, a fresh network namespace. The child prepares its mounts and lo
// ([Main] is its side) and waits. At the same time its parent attaches it to
// networks by /proc/PID/ns/net. Then [Child.Run] sends the child the command that
// it becomes.
//
// No namespace is bound to a path, so nothing is left when all processes are
// killed: a child dies with its parent (PR_SET_PDEATHSIG), and its namespaces with
// the last process in them. [Sweep] finds the processes that are left when the
// first one has ended.
package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/detach"
	"dcni/pkg/host/proc"
	"dcni/pkg/netns"
	"dcni/pkg/records"
)

// Options say where a child is to be.
type Options struct {
	Stdin, Stdout, Stderr *os.File
	Network               bool      // a fresh network namespace; false: this process's, or Join
	Join                  *netns.NS // the network namespace of another container, or nil
	// Terminal makes the child's process group the foreground one of the
	// terminal on Stdin, from which it then gets ^C and ^Z first-hand. Else it
	// is a session of its own.
	Terminal bool
}

// A Command is what a sandbox runs, and what the sandbox has of its own.
type Command struct {
	Args []string // Args[0] is searched for in PATH of Env
	Env  []string
	Dir  string

	Hostname string            // "": unchanged
	Files    map[string]string // by path in the sandbox: the file to mount there
	User     *Credential       // whom it runs as; nil: as this process
	Join     *records.Process  // of an existing sandbox, to be entered in place of a fresh one
}

// A Child is a process in a sandbox: dnet's own program before [Child.Run], the
// command after.
type Child struct {
	records.Process
	pidfd    int
	ended    bool
	terminal *os.File // nil: it has none
	command  *os.File // the command is written there
	status   *os.File // the error is read from there, if the command can't be started
}

// The child's descriptors of the two pipes.
const (
	commandFd = 3
	statusFd  = 4
)

// Start makes a child, whose network namespace it has from its first moment. It must be called on a thread that lives as long as the
// child is to: a child dies with its parent's thread.
func Start(o Options) (*Child, error) {
	var pipes [4]*os.File
	defer func() { // the child's ends, and on an error all of them
		for _, f := range pipes {
			_ = f.Close()
		}
	}()
	var err error
	if pipes[0], pipes[1], err = os.Pipe(); err != nil {
		return nil, err
	}
	if pipes[2], pipes[3], err = os.Pipe(); err != nil {
		return nil, err
	}
	c := &Child{command: pipes[1], status: pipes[2]}
	mode := hostNetwork
	attr := &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWUTS,
		Pdeathsig:  unix.SIGKILL, PidFD: &c.pidfd,
		Setsid: !o.Terminal, Setpgid: o.Terminal,
	}
	if o.Network {
		attr.Cloneflags |= unix.CLONE_NEWNET
		mode = ownNetwork
	}
	fork := func() (err error) {
		c.PID, err = forkSelf(mode, attr, o.Stdin, o.Stdout, o.Stderr, pipes[0], pipes[3])
		return err
	}
	if o.Join != nil {
		mode = ownNetwork
		err = o.Join.Do(fork)
	} else {
		err = fork()
	}
	if err != nil {
		return nil, err
	}
	pipes[1], pipes[2] = nil, nil
	if err := c.identify(o.Network || o.Join != nil); err != nil {
		return nil, errors.Join(err, c.Kill())
	}
	if o.Terminal {
		c.terminal = o.Stdin
		c.foreground()
	}
	return c, nil
}

// forkSelf starts this program's [Main]. The files become descriptors 0 up.
func forkSelf(mode string, attr *syscall.SysProcAttr, files ...*os.File) (int, error) {
	var fds []uintptr
	for _, f := range files {
		fds = append(fds, f.Fd())
	}
	pid, err := syscall.ForkExec(detach.Self, childArgs(mode),
		&syscall.ProcAttr{Env: os.Environ(), Files: fds, Sys: attr})
	if err != nil {
		return 0, fmt.Errorf("make namespaces: %w", err)
	}
	return pid, nil
}

// childArgs returns the command line with which this program is a child.
func childArgs(mode string) []string { return []string{"dnet", MainArg, mode} }

// identify reads what tells the child from other processes.
func (c *Child) identify(network bool) error {
	var err error
	if c.Start, err = proc.Process(c.PID).StartTime(); err != nil {
		return err
	}
	if c.MntNS, err = proc.Process(c.PID).NamespaceInode("mnt"); err != nil {
		return err
	}
	if c.UTSNS, err = proc.Process(c.PID).NamespaceInode("uts"); err != nil {
		return err
	}
	if network {
		c.NetNS, err = proc.Process(c.PID).NamespaceInode("net")
	}
	return err
}

// NetNSPath returns the path of the child's network namespace.
func (c *Child) NetNSPath() string { return "/proc/" + strconv.Itoa(c.PID) + "/ns/net" }

// An ExecError says why a command could not be started.
type ExecError struct {
	Status  int // 127: not found; 126: found, and can't be executed
	Message string
}

func (e *ExecError) Error() string { return e.Message }

// Run has the child become the command. It returns nil when that is done or the
// child has died, or an [ExecError].
func (c *Child) Run(cmd Command) error {
	err := sendCommand(c.command, cmd)
	if err != nil && !errors.Is(err, unix.EPIPE) { // EPIPE: the child has died
		return err
	}
	return readStatus(c.status)
}

// A wireCommand is a Command in the pipe to a child. A command line may have any
// bytes; JSON would replace those that are not UTF-8 if they were strings.
type wireCommand struct {
	Args, Env [][]byte
	Dir       []byte
	Hostname  string
	Files     map[string]string
	User      *Credential
	Join      *records.Process
}

// A Credential is whom a command runs as, by numbers.
type Credential struct {
	UID, GID int
	Groups   []int // supplementary
}

// sendCommand sends a command to a child.
func sendCommand(w *os.File, cmd Command) error {
	data, err := json.Marshal(wireCommand{
		convert[[]byte](cmd.Args), convert[[]byte](cmd.Env), []byte(cmd.Dir), cmd.Hostname, cmd.Files, cmd.User, cmd.Join,
	})
	if err == nil {
		_, err = w.Write(data)
	}
	return errors.Join(err, w.Close())
}

// parseCommand reads what sendCommand sent.
func parseCommand(data []byte) (Command, error) {
	var c wireCommand
	err := json.Unmarshal(data, &c)
	return Command{convert[string](c.Args), convert[string](c.Env), string(c.Dir), c.Hostname, c.Files, c.User, c.Join}, err
}

// convert makes bytes of strings, or strings of bytes.
func convert[To, From string | []byte](list []From) []To {
	out := make([]To, len(list))
	for i, s := range list {
		out[i] = To(s)
	}
	return out
}

// readStatus returns the child's error. The pipe closes without one when the child
// becomes the command, or dies.
func readStatus(r *os.File) error {
	data, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil || len(data) == 0 {
		return err
	}
	e := &ExecError{}
	if err := json.Unmarshal(data, e); err != nil {
		return err
	}
	return e
}

// Signal sends a signal to the child, and never to another process that has the
// same number later. SIGCONT gives the child the terminal, if this process has it.
func (c *Child) Signal(sig syscall.Signal) error {
	if sig == unix.SIGCONT {
		c.foreground()
	}
	err := unix.PidfdSendSignal(c.pidfd, sig, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// Wait waits for the child's end. It also reaps the child's orphans, whose parent
// this process became (see [Adopt]), so no other goroutine may wait for a process.
func (c *Child) Wait() (syscall.WaitStatus, error) {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WUNTRACED, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait: %w", err)
		case pid == c.PID && ws.Stopped():
			c.stopped()
		case pid == c.PID:
			c.ended = true
			c.background()
			return ws, nil
		}
	}
}

// Ended reports whether the child has ended or is about to. A process that exits
// leaves its namespaces before it shows as ended (do_exit in the kernel's
// kernel/exit.c).
func (c *Child) Ended() bool {
	if c.ended || ended(c.pidfd) {
		return true
	}
	_, err := os.Readlink(c.NetNSPath())
	return errors.Is(err, os.ErrNotExist)
}

// Kill ends the child and waits until it is gone.
func (c *Child) Kill() error {
	if c.ended {
		return nil
	}
	if err := c.Signal(unix.SIGKILL); err != nil {
		return err
	}
	_, err := c.Wait()
	return err
}

// Status returns the status that a shell gives a process: its exit status, or 128
// plus the signal that ended it.
func Status(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		const signaled = 128
		return signaled + int(ws.Signal())
	}
	return ws.ExitStatus()
}

// Adopt makes this process the parent of its children's orphans.
func Adopt() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become subreaper: %w", err)
	}
	return nil
}
