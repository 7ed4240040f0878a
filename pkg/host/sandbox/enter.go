package sandbox

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/detach"
	_ "dcni/pkg/netns" // pins the main goroutine to the first thread: others look at that one, and a child dies with it
	"dcni/pkg/records"
)

// Enter turns this process into a command in an existing sandbox. Without input
// the command's standard input is empty. Enter returns only on an error: [ErrGone],
// or an [ExecError].
func Enter(cmd Command, input bool) error {
	runtime.LockOSThread()
	if !input {
		null, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err := unix.Dup3(null, unix.Stdin, 0); err != nil {
			return err
		}
	}
	return cmd.become()
}

// enter moves this process into the namespaces of another one. [Sweep] looks for
// processes in these namespaces after the other process has ended. So if that one
// is still there once this process is in, Sweep will find this process.
//
// Sweep looks at a process's first thread, so enter must run on that one.
func enter(p records.Process) error {
	fd, err := open(p)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// Threads share their root directory, and one that does can't change its
	// mount namespace.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Setns(fd, unix.CLONE_NEWNET|unix.CLONE_NEWUTS|unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("enter the namespaces of process %d: %w", p.PID, err)
	}
	if ended(fd) {
		return ErrGone
	}
	return nil
}

// Spawn starts a command in an existing sandbox, in a session of its own, and
// returns when the command runs.
func Spawn(cmd Command) error {
	command, w, err := os.Pipe()
	if err != nil {
		return err
	}
	r, status, err := os.Pipe()
	if err != nil {
		return err
	}
	p, err := detach.Command{Path: detach.Self, Args: childArgs(join), Files: []*os.File{nil, nil, nil, command, status}}.Start()
	command.Close()
	_ = status.Close() // the child's end
	if err != nil {
		return err
	}
	_ = p.Release() // this process does not wait for it
	if err := sendCommand(w, cmd); err != nil {
		return err
	}
	return readStatus(r)
}
