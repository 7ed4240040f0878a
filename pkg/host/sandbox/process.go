package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dcni/pkg/records"
)

// startTime returns when a process started, in clock ticks since the boot.
func startTime(pid int) (uint64, error) {
	data, err := os.ReadFile(procPath(pid, "stat"))
	if err != nil {
		return 0, err
	}
	// The second field is the program's name in parentheses, and may have any bytes.
	const starttime = 22
	_, rest, _ := strings.Cut(string(data[bytes.LastIndexByte(data, ')')+1:]), " ")
	fields := strings.Fields(rest)
	if len(fields) <= starttime-3 {
		return 0, fmt.Errorf("%s: %d fields", procPath(pid, "stat"), len(fields)+2)
	}
	return strconv.ParseUint(fields[starttime-3], 10, 64)
}

func procPath(pid int, name string) string {
	return "/proc/" + strconv.Itoa(pid) + "/" + name
}

// nsInode returns the inode of a process's namespace.
func nsInode(pid int, kind string) (uint64, error) {
	var stat unix.Stat_t
	path := procPath(pid, "ns/"+kind)
	if err := unix.Stat(path, &stat); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return stat.Ino, nil
}

// ErrGone says that a process has ended.
var ErrGone = errors.New("the process has ended")

// open returns a descriptor of a process that runs, ErrGone if it has ended.
func open(p records.Process) (int, error) {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return -1, ErrGone
	}
	if start, err := startTime(p.PID); err != nil || start != p.Start || ended(fd) {
		unix.Close(fd)
		return -1, ErrGone
	}
	return fd, nil
}

// ended reports whether a process has ended. The descriptor of one that has is
// readable.
func ended(pidfd int) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}

// Signal sends a signal to a recorded process, ErrGone if it has ended.
func Signal(p records.Process, sig unix.Signal) error {
	fd, err := open(p)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); errors.Is(err, unix.ESRCH) {
		return ErrGone
	} else if err != nil {
		return fmt.Errorf("signal process %d: %w", p.PID, err)
	}
	return nil
}

// sweepTime is how long killed processes may take to end. A process that sleeps in
// the kernel can take any time.
const sweepTime = 5 * time.Second

// Sweep kills every process that is left in a sandbox, and waits until they have
// ended. marker is a word that only the sandbox's own mounts contain (see proc(5),
// mountinfo): a namespace's number alone may be that of a newer namespace.
func Sweep(p records.Process, marker string) error {
	if fd, err := open(p); err == nil {
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) // it may have no mounts yet
		unix.Close(fd)
	}
	killed := map[int]bool{}
	for deadline := time.Now().Add(sweepTime); ; time.Sleep(time.Millisecond) {
		reap()
		left := members(p, marker, killed)
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v were killed and don't end", left)
		}
		for _, pid := range left {
			_ = unix.Kill(pid, unix.SIGKILL) // an error: it has ended by itself
			killed[pid] = true
		}
	}
}

// reap waits for orphans that this process adopted and that have ended.
func reap() {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if pid <= 0 && !errors.Is(err, syscall.EINTR) {
			return
		}
	}
}

// members lists the processes that are left of a sandbox. These are the processes
// in one of its namespaces that have the marker. Of this process's own children
// these are all that are in another mount namespace: a program that became dnet by
// exec(2) may have left children in this one. A process that is dying has no
// namespace any more; it counts if it was killed before.
func members(p records.Process, marker string, killed map[int]bool) []int {
	entries, _ := os.ReadDir("/proc") // there on every Linux
	var list []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if inNamespaceOf(pid, p) && hasMarker(pid, marker) {
			list = append(list, pid)
		}
	}
	own, _ := nsInode(os.Getpid(), "mnt") // this process is alive, so there is one
	for _, pid := range children() {
		mnt, err := nsInode(pid, "mnt")
		if killed[pid] || inNamespaceOf(pid, p) || err == nil && mnt != own {
			list = append(list, pid)
		}
	}
	return list
}

// inNamespaceOf reports whether a process shares a namespace with a sandbox's first
// one.
func inNamespaceOf(pid int, p records.Process) bool {
	for kind, inode := range map[string]uint64{"mnt": p.MntNS, "net": p.NetNS, "uts": p.UTSNS} {
		if inode == 0 {
			continue // the host's
		}
		if ns, err := nsInode(pid, kind); err == nil && ns == inode {
			return true
		}
	}
	return false
}

// hasMarker reports whether a process sees one of the sandbox's own mounts. A
// process that makes itself a mount namespace (unshare -m) keeps them.
func hasMarker(pid int, marker string) bool {
	mounts, err := os.ReadFile(procPath(pid, "mountinfo"))
	return err == nil && strings.Contains(string(mounts), marker)
}

// children lists the children of all threads of this process.
func children() []int {
	paths, _ := filepath.Glob("/proc/self/task/*/children")
	var list []int
	for _, path := range paths {
		data, _ := os.ReadFile(path) // an error: the thread has ended
		for word := range strings.FieldsSeq(string(data)) {
			if pid, err := strconv.Atoi(word); err == nil {
				list = append(list, pid)
			}
		}
	}
	return list
}
