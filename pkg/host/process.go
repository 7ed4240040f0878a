package host

import (
	"iter"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A process is one of /proc. What is asked of one that has ended is empty.
type process int

// processes lists those that there are.
func processes() iter.Seq[process] {
	return func(yield func(process) bool) {
		dir, err := os.Open("/proc")
		if err != nil {
			return
		}
		defer dir.Close()
		names, _ := dir.Readdirnames(-1) // what was read before an error is as good
		for _, name := range names {
			if pid, err := strconv.Atoi(name); err == nil && !yield(process(pid)) {
				return
			}
		}
	}
}

func (p process) path(name string) string { return "/proc/" + strconv.Itoa(int(p)) + "/" + name }

func (p process) read(name string) string {
	data, _ := os.ReadFile(p.path(name)) // ended: nothing
	return string(data)
}

// String returns the process as "12 (sleep)".
func (p process) String() string {
	return strconv.Itoa(int(p)) + " (" + strings.TrimSpace(p.read("comm")) + ")"
}

// A nsID tells namespaces apart as long as they live.
type nsID struct{ dev, ino uint64 }

// nsAt returns which namespace a path leads to.
func nsAt(path string) (nsID, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nsID{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return nsID{st.Dev, st.Ino}, nil
}

// namespace returns the namespace of a kind, as net, that the process is in.
func (p process) namespace(kind string) nsID {
	id, _ := nsAt(p.path("ns/" + kind)) // ended: none
	return id
}

// belongs reports whether the process is a container's: its cgroup is named
// after the container, or its parent (runc, crun, conmon, a shim) was started
// with the container's ID as an argument.
func (p process) belongs(container string) bool {
	return hasWord(p.read("cgroup"), container) || slices.Contains(p.parent().args(), container)
}

// parent returns the process's parent.
func (p process) parent() process { return parentIn(p.read("stat")) }

// parentIn reads a process's parent out of its stat (proc_pid_stat(5)). It is the
// second word behind the name, which is in parentheses and may hold any character.
func parentIn(stat string) process {
	words := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	if len(words) < 2 {
		return 0
	}
	pid, _ := strconv.Atoi(words[1]) // a number: the kernel writes it
	return process(pid)
}

func (p process) args() []string { return strings.Split(p.read("cmdline"), "\x00") }

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
