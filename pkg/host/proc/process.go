// Package proc reads /proc: which processes there are, and which network
// namespaces something refers to.
package proc

import (
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"dcni/pkg/netns"
)

// A Process is one of /proc. What is asked of one that has ended is empty.
type Process int

// All lists the processes that there are.
func All() iter.Seq[Process] {
	return func(yield func(Process) bool) {
		dir, err := os.Open("/proc")
		if err != nil {
			return
		}
		defer dir.Close()
		names, _ := dir.Readdirnames(-1) // what was read before an error is as good
		for _, name := range names {
			if pid, err := strconv.Atoi(name); err == nil && !yield(Process(pid)) {
				return
			}
		}
	}
}

func (p Process) path(name string) string { return "/proc/" + strconv.Itoa(int(p)) + "/" + name }

func (p Process) read(name string) string {
	data, _ := os.ReadFile(p.path(name)) // ended: nothing
	return string(data)
}

// String returns the process as "12 (sleep)".
func (p Process) String() string {
	return strconv.Itoa(int(p)) + " (" + strings.TrimSpace(p.read("comm")) + ")"
}

// NetNS returns the path of the process's network namespace.
func (p Process) NetNS() string { return p.path("ns/net") }

// Namespace returns the namespace of a kind, as net, that the process is in.
func (p Process) Namespace(kind string) netns.ID {
	id, _ := netns.At(p.path("ns/" + kind)) // ended: none
	return id
}

// Belongs reports whether the process is a container's: its cgroup is named
// after the container, or its parent (runc, crun, conmon, a shim) was started
// with the container's ID as an argument.
func (p Process) Belongs(container string) bool {
	return hasWord(p.read("cgroup"), container) || slices.Contains(p.Parent().Args(), container)
}

// Parent returns the process's parent.
func (p Process) Parent() Process { return parentIn(p.read("stat")) }

// parentIn reads a process's parent out of its stat (proc_pid_stat(5)). It is the
// second word behind the name, which is in parentheses and may hold any character.
func parentIn(stat string) Process {
	words := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	if len(words) < 2 {
		return 0
	}
	pid, _ := strconv.Atoi(words[1]) // a number: the kernel writes it
	return Process(pid)
}

// Name returns what the kernel calls the process: its program's name, cut to 15 bytes.
func (p Process) Name() string { return strings.TrimSuffix(p.read("comm"), "\n") }

// StartTime returns when the process started, in clock ticks since the boot. With the
// PID it tells the process from a later one.
func (p Process) StartTime() (uint64, error) {
	stat, err := os.ReadFile(p.path("stat"))
	if err != nil {
		return 0, err
	}
	return startTimeIn(string(stat))
}

// startTimeIn reads it out of a process's stat. It is the 22nd word: the 20th behind
// the name.
func startTimeIn(stat string) (uint64, error) {
	const behindName = 20
	words := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	if len(words) < behindName {
		return 0, fmt.Errorf("stat of a process has %d words behind the name", len(words))
	}
	return strconv.ParseUint(words[behindName-1], 10, 64)
}

// NamespaceInode returns the inode of the process's namespace of a kind.
func (p Process) NamespaceInode(kind string) (uint64, error) {
	var stat unix.Stat_t
	path := p.path("ns/" + kind)
	if err := unix.Stat(path, &stat); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return stat.Ino, nil
}

// Mounts returns the process's mountinfo (proc_pid_mountinfo(5)).
func (p Process) Mounts() string { return p.read("mountinfo") }

// OwnChildren lists the children of all threads of this process.
func OwnChildren() []Process {
	paths, _ := filepath.Glob("/proc/self/task/*/children") // the pattern is well-formed
	var list []Process
	for _, path := range paths {
		data, _ := os.ReadFile(path) // an error: the thread has ended
		for word := range strings.FieldsSeq(string(data)) {
			if pid, err := strconv.Atoi(word); err == nil {
				list = append(list, Process(pid))
			}
		}
	}
	return list
}

// Args returns the process's command line.
func (p Process) Args() []string { return strings.Split(p.read("cmdline"), "\x00") }

// Executable returns the path of the program that the process runs, also where an
// upgrade has replaced the file.
func (p Process) Executable() string {
	path, _ := os.Readlink(p.path("exe")) // ended: none
	return strings.TrimSuffix(path, " (deleted)")
}

// HoldsSocket reports whether the process has the socket of an inode open.
func (p Process) HoldsSocket(inode uint32) bool {
	want := "socket:[" + strconv.FormatUint(uint64(inode), 10) + "]"
	fds, _ := filepath.Glob(p.path("fd/*")) // the pattern is well-formed
	return slices.ContainsFunc(fds, func(fd string) bool {
		target, _ := os.Readlink(fd)
		return target == want
	})
}

// hasWord reports whether a text has a word with neither letter nor digit
// beside it: libpod-c1.scope has c1, libpod-abc1 has not.
func hasWord(text, word string) bool {
	for rest := text; word != ""; {
		i := strings.Index(rest, word)
		if i < 0 {
			return false
		}
		before, after := rest[:i], rest[i+len(word):]
		if !alphanumeric(before, len(before)-1) && !alphanumeric(after, 0) {
			return true
		}
		rest = rest[i+1:]
	}
	return false
}

func alphanumeric(s string, i int) bool {
	if i < 0 || i >= len(s) {
		return false
	}
	c := s[i]
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
