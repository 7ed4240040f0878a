package sandbox

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/detach"
	_ "dcni/pkg/netns" // pins the main goroutine to the first thread, which is what others see and what a child dies with
	"dcni/pkg/records"
)

// Enter becomes a command in a sandbox that is there, with this process's
// standard input or with none. It returns only an error: [ErrGone], or an
// [ExecError].
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

// enter takes this process into the namespaces of another one. Who looks for
// processes left in them (see [Sweep]) does so after that one has ended: if it
// is still there when we are in, we are found.
//
// Others look at a process's first thread, so it must be that one's.
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

// Spawn starts a command in a sandbox that is there, in a session of its own,
// and returns when it runs.
func Spawn(cmd Command) error {
	hear, w, err := os.Pipe()
	if err != nil {
		return err
	}
	r, say, err := os.Pipe()
	if err != nil {
		return err
	}
	p, err := detach.Command{Path: detach.Self, Args: childArgs(join), Files: []*os.File{nil, nil, nil, hear, say}}.Start()
	hear.Close()
	_ = say.Close() // the child's end
	if err != nil {
		return err
	}
	_ = p.Release() // nothing waits for it
	if err := tell(w, cmd); err != nil {
		return err
	}
	return answer(r)
}
