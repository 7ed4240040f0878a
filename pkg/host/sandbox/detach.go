package sandbox

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
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

// Detach starts this very program once more with the same arguments, in a
// session of its own, and returns what it says by [Ready] once all is well. If
// it ends without a word, its exit status is returned, and the word is empty.
func Detach() (word string, status int, err error) {
	if err := keepFiles(); err != nil {
		return "", 0, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return "", 0, err
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return "", 0, err
	}
	args := append([]string{detached}, os.Args[1:]...)
	proc, err := os.StartProcess("/proc/self/exe", args, &os.ProcAttr{
		Files: []*os.File{null, null, os.Stderr, w}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
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

// keepFiles keeps whatever files the caller has open, but for the first three,
// from programs that this one starts: what goes on in the background would hold
// its locks, and its pipes would never end.
func keepFiles() error {
	if err := unix.CloseRange(readyFd, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close_range: %w", err)
	}
	return nil
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
