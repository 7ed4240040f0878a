// Package disk reads files warily and replaces them whole: it never waits for what is in a
// file's place, and keeps what can't be read. Package records says which files there are.
package disk

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Retry repeats a system call that a signal interrupted: the Go runtime sends
// itself signals to preempt goroutines.
func Retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// Open opens a file without the offer to the poller that os.OpenFile makes: six
// system calls, all in vain for a file on a disk.
func Open(path string, flags int, perm uint32) (int, error) {
	return Retry(func() (int, error) { return unix.Open(path, flags|unix.O_CLOEXEC, perm) })
}

// OpenFile is open with an error that names the path.
func OpenFile(path string, flags int, perm uint32) (*os.File, error) {
	fd, err := Open(path, flags, perm)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// ReadFile reads a file of the store. It never waits, and reads nothing that is no
// regular file or larger than ours can be: those errors are an [UnreadableError].
func ReadFile(path string) ([]byte, error) { return ReadLimited(path, unix.O_NOFOLLOW, MaxFile) }

// ReadRegular reads a file that is not the store's, as warily.
func ReadRegular(path string) ([]byte, error) { return ReadLimited(path, 0, MaxFile) }

// ReadLimited is readFile with more flags of Open(2), and a limit in bytes.
func ReadLimited(path string, flags int, limit int64) ([]byte, error) {
	fd, info, err := openRegular(path, os.O_RDONLY|flags, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if info.Size > limit {
		return nil, &UnreadableError{Path: path, Err: fmt.Errorf("%d bytes; at most %d are read", info.Size, limit)}
	}
	data := make([]byte, info.Size) // it is replaced whole, and so does not grow
	for done := 0; done < len(data); {
		n, err := Retry(func() (int, error) { return unix.Read(fd, data[done:]) })
		if err != nil {
			return nil, Unreadable(path, &os.PathError{Op: "read", Path: path, Err: err})
		}
		if n == 0 {
			return data[:done], nil
		}
		done += n
	}
	return data, nil
}

// openRegular opens a regular file. Opening a FIFO or a device would wait for what is
// at its other end.
func openRegular(path string, flags int, perm uint32) (int, *unix.Stat_t, error) {
	fd, err := Open(path, flags|unix.O_NONBLOCK, perm)
	if err != nil {
		return -1, nil, Unreadable(path, &os.PathError{Op: "open", Path: path, Err: err})
	}
	var info unix.Stat_t
	if err := unix.Fstat(fd, &info); err != nil {
		unix.Close(fd)
		return -1, nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if info.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return -1, nil, &UnreadableError{Path: path, Err: ErrIrregular}
	}
	return fd, &info, nil
}

// RegularFile is openRegular for the standard library, which offers a file that is
// opened without waiting to the poller.
func RegularFile(path string, flags int, perm uint32) (*os.File, *unix.Stat_t, error) {
	fd, info, err := openRegular(path, flags|unix.O_NOFOLLOW, perm)
	if err != nil {
		return nil, nil, err
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, 0); err != nil {
		unix.Close(fd)
		return nil, nil, &os.PathError{Op: "fcntl", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), info, nil
}

// NamesIn lists a directory, in no order.
func NamesIn(dir string) ([]string, error) {
	f, err := OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// Rename is os.Rename for files: that looks first whether the new name is a
// directory's.
func Rename(from, to string) error {
	_, err := Retry(func() (int, error) { return 0, unix.Rename(from, to) })
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// Exists reports whether something is at a path.
func Exists(path string) bool { return unix.Access(path, unix.F_OK) == nil }

// IsDir reports whether a directory is at a path.
func IsDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
