package sandbox

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/proc"
	"dcni/pkg/netns"
	"dcni/pkg/records"
)

// ErrGone says that a process has ended.
var ErrGone = errors.New("the process has ended")

// open returns a descriptor of a process that runs, ErrGone if it has ended.
func open(p records.Process) (int, error) {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return -1, ErrGone
	}
	if start, err := proc.Process(p.PID).StartTime(); err != nil || start != p.Start || ended(fd) {
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
	var list []int
	self := proc.Process(os.Getpid())
	for q := range proc.All() {
		if q != self && inNamespaceOf(q, p) && hasMarker(q, marker) {
			list = append(list, int(q))
		}
	}
	own, _ := self.NamespaceInode("mnt") // this process is alive, so there is one
	for _, q := range proc.OwnChildren() {
		mnt, err := q.NamespaceInode("mnt")
		if killed[int(q)] || inNamespaceOf(q, p) || err == nil && mnt != own {
			list = append(list, int(q))
		}
	}
	return list
}

// inNamespaceOf reports whether a process shares a namespace with a sandbox's first
// one.
func inNamespaceOf(q proc.Process, p records.Process) bool {
	for kind, inode := range map[string]uint64{"mnt": p.MntNS, "net": p.NetNS, "uts": p.UTSNS} {
		if inode == 0 {
			continue // the host's
		}
		if ns, err := q.NamespaceInode(kind); err == nil && ns == inode {
			return true
		}
	}
	return false
}

// hasMarker reports whether a process sees one of the sandbox's own mounts. A
// process that makes itself a mount namespace (unshare -m) keeps them.
func hasMarker(q proc.Process, marker string) bool { return strings.Contains(q.Mounts(), marker) }

// Marker is a word that only the mounts of one container contain, see [Sweep].
func Marker(container string) string { return "/containers/" + container + "/" }

// Find finds the first process of a container by its mounts: the oldest one that has them and, if
// there are cookies, is in a network namespace of one of these. The zero Process is none.
func Find(container string, cookies []uint64) (found records.Process) {
	const digits = 64
	if len(container) != digits {
		return found // such a folder is of no dnet: other programs' mounts may have the name
	}
	host, _ := proc.Process(os.Getpid()).NamespaceInode("net") // this process is alive, so there is one
	for q := range proc.All() {
		if !hasMarker(q, Marker(container)) {
			continue
		}
		c := Child{Process: records.Process{PID: int(q)}}
		if err := c.identify(true); err != nil {
			continue // it has ended
		}
		cookie, err := netns.CookieAt(q.NetNS())
		if len(cookies) > 0 && (err != nil || !slices.Contains(cookies, cookie)) {
			continue
		}
		if c.NetNS == host {
			c.NetNS = 0
		}
		if found.PID == 0 || c.Start < found.Start {
			found = c.Process
		}
	}
	return found
}
