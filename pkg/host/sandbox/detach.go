package sandbox

import (
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/detach"
)

// detached is argv[0] of a program that [Detach] started, and readyFd is the
// descriptor to which it writes that all is well.
const (
	detached = "dnet-detached"
	readyFd  = 3
)

// IsDetached reports whether [Detach] started this process.
func IsDetached() bool {
	if os.Args[0] != detached {
		return false
	}
	unix.CloseOnExec(readyFd)
	return true
}

// Detach starts this very program once more with the given arguments, in a
// session of its own, and returns the word that it passes to [Ready] once all is
// well. If it ends before that, the word is empty, and status is its exit status.
func Detach(args []string, stderr *os.File) (word string, status int, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return "", 0, err
	}
	proc, err := detach.Command{
		Path: detach.Self, Args: append([]string{detached}, args...), Files: []*os.File{nil, nil, stderr, w},
	}.Start()
	_ = w.Close() // the child's end
	if err != nil {
		return "", 0, err
	}
	data, err := io.ReadAll(r)
	if err != nil || len(data) > 0 {
		return string(data), 0, err
	}
	state, err := proc.Wait()
	if err != nil {
		return "", 0, err
	}
	return "", Status(state.Sys().(syscall.WaitStatus)), nil
}

// Ready sends a word to the process that called [Detach], and gives up what this
// process shares with it: standard error and the working directory.
func Ready(word string) error {
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	err = errors.Join(unix.Dup3(null, unix.Stderr, 0), unix.Close(null), os.Chdir("/"))
	pipe := os.NewFile(readyFd, "ready")
	_, sent := pipe.WriteString(word)
	_ = pipe.Close()
	if errors.Is(sent, unix.EPIPE) {
		sent = nil // the caller has ended
	}
	return errors.Join(err, sent)
}
