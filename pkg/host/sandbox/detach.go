package sandbox

import (
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/detach"
)

// detached is the program's first argument (argv[0]) where [Detach] started it,
// and readyFd where it says that all is well.
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

// Ready says a word to who called [Detach], and lets go of what this process
// has of it: its standard error and its directory.
func Ready(word string) error {
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	err = errors.Join(unix.Dup3(null, unix.Stderr, 0), unix.Close(null), os.Chdir("/"))
	pipe := os.NewFile(readyFd, "ready")
	_, told := pipe.WriteString(word)
	_ = pipe.Close() // who called may be gone
	if errors.Is(told, unix.EPIPE) {
		told = nil
	}
	return errors.Join(err, told)
}
