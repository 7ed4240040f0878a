// Package netns opens network namespaces and runs functions in them.
//
// Importing it pins the main goroutine to the process's first thread: without
// that, the runtime may use that thread for [NS.Do], and the process as others
// see it (/proc/PID/ns/net, the one the kernel asks for /proc/sys/net) would
// end up in a container's namespace.
package netns

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

func init() { runtime.LockOSThread() }

// NS is an open network namespace. Holding it open keeps the namespace alive.
type NS struct {
	file *os.File
	jobs chan func()
}

// ErrNotNetNS says that a path is there, but is no network namespace.
var ErrNotNetNS = errors.New("not a network namespace")

// Open opens the network namespace at a path: a bind mount under /run/netns or
// /proc/PID/ns/net. The error is os.ErrNotExist when nothing is there.
func Open(path string) (*NS, error) {
	// O_NONBLOCK: a FIFO at that path must not hang the runtime.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, ErrNotNetNS)
	}
	return &NS{file: f}, nil
}

// Fd returns the namespace's descriptor, as netlink messages want it.
func (n *NS) Fd() int { return int(n.file.Fd()) }

// Same reports whether two open namespaces are one.
func (n *NS) Same(other *NS) bool {
	a, errA := n.file.Stat()
	b, errB := other.file.Stat()
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// Do runs fn with the calling thread in the namespace. Sockets that fn opens
// stay there. The first call starts a thread that enters the namespace and
// serves all later ones; it is never unlocked, so the runtime scraps it at
// Close instead of letting other goroutines run where they don't belong.
func (n *NS) Do(fn func() error) error {
	if n.jobs == nil {
		if err := n.start(); err != nil {
			return err
		}
	}
	done := make(chan error)
	n.jobs <- func() { done <- fn() }
	return <-done
}

func (n *NS) start() error {
	jobs, entered := make(chan func()), make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Setns(n.Fd(), unix.CLONE_NEWNET)
		entered <- err
		if err != nil {
			return
		}
		for job := range jobs {
			job()
		}
	}()
	if err := <-entered; err != nil {
		return fmt.Errorf("enter network namespace: %w", err)
	}
	n.jobs = jobs
	return nil
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

// Close ends the namespace's thread and lets the namespace go.
func (n *NS) Close() error {
	if n.jobs != nil {
		close(n.jobs)
		n.jobs = nil
	}
	return n.file.Close()
}
