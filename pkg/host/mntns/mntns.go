// Package mntns has a program of a container's image run among the files of the host.
package mntns

import (
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	_ "dcni/pkg/netns" // pins the main goroutine to the first thread
)

// Host is the mount namespace of the host's first process, as a process of the host's PID namespace
// sees it.
const Host = "/proc/1/ns/mnt"

// Exec turns this process into a program, a file of the mount namespace that the process is in, in
// another mount namespace, whose root is the program's root and working directory. The program is opened before, so
// that no copy of it is needed there; /proc must be mounted there and show this process. Needed are CAP_SYS_ADMIN,
// CAP_SYS_CHROOT and, to see the namespace of a process that has more, CAP_SYS_PTRACE. Exec returns
// only on an error.
func Exec(namespace, program string, args, env []string) error {
	runtime.LockOSThread() // what follows is of this thread, and so then of the process
	file, err := unix.Open(program, unix.O_RDONLY, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: program, Err: err}
	}
	ns, err := unix.Open(namespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%w: is it hostPID, and is there SYS_PTRACE?", &os.PathError{Op: "open", Path: namespace, Err: err})
	}
	// Threads share their root directory, and one that does can't change its mount namespace.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Setns(ns, unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("enter %s: %w: are there SYS_ADMIN and SYS_CHROOT?", namespace, err)
	}
	// Not close-on-exec: the program has one descriptor more, of its own file.
	path := "/proc/self/fd/" + strconv.Itoa(file)
	return &os.PathError{Op: "exec", Path: program, Err: unix.Exec(path, args, env)}
}
