// Package netns opens network namespaces and runs functions in them.
//
// Importing it pins the main goroutine to the process's first thread, the one
// that other processes take for the process (/proc/PID/ns/net). So no other
// goroutine can run there and leave it in a container's namespace.
package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

func init() { runtime.LockOSThread() }

// NS is an open network namespace. Holding it open keeps the namespace alive.
type NS struct{ fd int }

// ErrNotNetNS says that a path is there, but is no network namespace.
var ErrNotNetNS = errors.New("not a network namespace")

// Open opens the network namespace at a path: a bind mount under /run/netns or
// /proc/PID/ns/net. The error is os.ErrNotExist when nothing is there.
func Open(path string) (*NS, error) {
	fd, err := open(path)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		unix.Close(fd)
		return nil, fmt.Errorf("%s: %w", path, ErrNotNetNS)
	}
	return &NS{fd}, nil
}

// open opens a path, and unlike os.Open does not register it with Go's poller. With
// O_NONBLOCK, a FIFO at the path does not block.
func open(path string) (fd int, err error) {
	for {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// Fd returns the namespace's descriptor, as netlink messages want it.
func (n *NS) Fd() int { return n.fd }

// Do runs fn with the calling thread in the namespace, and then moves the thread
// back. Sockets that fn opens stay there. The two system calls on this thread cost a
// fiftieth of passing fn to another thread.
//
// A thread that can't go back must never run anything else: it stays locked to
// its goroutine, and Do panics, which ends the process before it works on the
// wrong machine.
func (n *NS) Do(fn func() error) error {
	return inside(func() error { return unix.Setns(n.Fd(), unix.CLONE_NEWNET) }, fn)
}

// Scratch runs fn as [NS.Do] does, in a new network namespace that no other process
// sees. It is gone afterwards with everything that fn made in it.
func Scratch(fn func() error) error {
	return inside(func() error { return unix.Unshare(unix.CLONE_NEWNET) }, fn)
}

// Pin mounts a new network namespace at a path, which it makes. The namespace stays until [Unpin], whatever
// becomes of this process.
func Pin(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, nil, 0o444); err != nil { //nolint:gosec // it is empty, and only a place
		return err
	}
	err := Scratch(func() error { return unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "") })
	if err != nil {
		return errors.Join(&os.PathError{Op: "mount", Path: path, Err: err}, os.Remove(path))
	}
	return nil
}

// Unpin undoes [Pin], also what a killed one has left. It removes the directory that is empty then.
func Unpin(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "unmount", Path: path, Err: err}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	_ = unix.Rmdir(filepath.Dir(path)) // not empty: of others
	return nil
}

// inside moves the calling thread to another network namespace with enter, runs fn
// there, and moves the thread back.
func inside(enter, fn func() error) error {
	runtime.LockOSThread()
	home, err := open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open own network namespace: %w", err)
	}
	defer unix.Close(home)
	if err := enter(); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace: %w", err)
	}
	err = fn()
	if back := unix.Setns(home, unix.CLONE_NEWNET); back != nil {
		panic(fmt.Sprintf("netns: can't go back from a network namespace: %v", back))
	}
	runtime.UnlockOSThread()
	return err
}

// Cookie returns the number that the kernel gives a network namespace for its
// whole life and to no other after it (SO_NETNS_COOKIE, Linux 5.14): a path
// may come to mean another namespace, a cookie does not.
func (n *NS) Cookie() (uint64, error) {
	var cookie uint64
	err := n.Do(func() error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		return err
	})
	return cookie, err
}

// Close closes the namespace. It was open only for reading, so there is no error
// that matters.
func (n *NS) Close() {
	unix.Close(n.fd)
	n.fd = -1
}
