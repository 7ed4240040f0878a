package records

import (
	"bytes"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// retry repeats a system call that a signal interrupted: the Go runtime sends
// itself signals to preempt goroutines.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// open opens a file without the offer to the poller that os.OpenFile makes: six
// system calls, all in vain for a file on a disk.
func open(path string, flags int, perm uint32) (int, error) {
	return retry(func() (int, error) { return unix.Open(path, flags|unix.O_CLOEXEC, perm) })
}

// openFile is open with an error that names the path.
func openFile(path string, flags int, perm uint32) (*os.File, error) {
	fd, err := open(path, flags, perm)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// readFile is os.ReadFile, with open.
func readFile(path string) ([]byte, error) {
	f, err := openFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var data bytes.Buffer
	data.Grow(int(info.Size()) + bytes.MinRead) // a file that is shorter is read at once
	_, err = data.ReadFrom(f)
	return data.Bytes(), err
}

// rename is os.Rename for files: that looks first whether the new name is a
// directory's.
func rename(from, to string) error {
	_, err := retry(func() (int, error) { return 0, unix.Rename(from, to) })
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}
