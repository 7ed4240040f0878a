package host

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// reserved reports whether a listener only keeps its port for the container.
// Podman's conmon holds a socket for each published port of its container, and
// its command line names that. nerdctl, where that is our parent, has started
// one before it calls the plugins. Neither ever reads from the socket.
//
// What no process here is seen to hold is not reserved.
func (s *portSurvey) reserved(l listener) bool {
	processes, _ := filepath.Glob("/proc/[1-9]*") // no pattern of ours is bad
	return slices.ContainsFunc(processes, func(proc string) bool {
		return keeps(proc, s.endpoint.Owner.Container) && holds(proc, l.inode)
	})
}

// keeps reports whether a process may hold ports for a container.
func keeps(proc, container string) bool {
	if filepath.Base(proc) == strconv.Itoa(os.Getpid()) {
		return false
	}
	// One that ends meanwhile holds nothing.
	command, _ := os.ReadFile(proc + "/cmdline")
	if slices.ContainsFunc(bytes.Split(command, []byte{0}), func(arg []byte) bool { return string(arg) == container }) {
		return true
	}
	// No other parent will do: a shell that tries a plugin by hand has its own
	// servers for children.
	caller := os.Getppid()
	exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", caller))
	return filepath.Base(exe) == "nerdctl" && parent(proc) == caller
}

// parent returns a process's parent, 0 if it is gone.
func parent(proc string) (pid int) {
	stat, _ := os.ReadFile(proc + "/stat") // see proc_pid_stat(5)
	var state string
	_, _ = fmt.Sscan(string(stat[bytes.LastIndexByte(stat, ')')+1:]), &state, &pid) // 0 then
	return pid
}

// holds reports whether a process has a socket open.
func holds(proc string, inode uint32) bool {
	want := fmt.Sprintf("socket:[%d]", inode)
	fds, _ := filepath.Glob(proc + "/fd/*")
	return slices.ContainsFunc(fds, func(fd string) bool {
		target, _ := os.Readlink(fd)
		return target == want
	})
}
