package records

import (
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

// readFile reads a file that is replaced whole, and so does not grow.
func readFile(path string) ([]byte, error) {
	fd, err := open(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var info unix.Stat_t
	if err := unix.Fstat(fd, &info); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	data := make([]byte, info.Size)
	for done := 0; done < len(data); {
		n, err := retry(func() (int, error) { return unix.Read(fd, data[done:]) })
		if err != nil {
			return nil, &os.PathError{Op: "read", Path: path, Err: err}
		}
		if n == 0 {
			return data[:done], nil
		}
		done += n
	}
	return data, nil
}

// namesIn lists a directory, in no order.
func namesIn(dir string) ([]string, error) {
	f, err := openFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
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
