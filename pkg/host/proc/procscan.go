package proc

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"dcni/pkg/netns"
)

// ReferencedNetNS returns the cookies of the network namespaces that are still
// referred to: those of processes, those that are mounted in any process's mount
// namespace, which may hide them from this process, and those that a process has
// open. Sockets don't count: dnetd's alone would keep a namespace alive.
func ReferencedNetNS() (map[uint64]bool, error) {
	cookies := map[uint64]bool{}
	err := EachNetNS(func(ns *netns.NS) error {
		cookie, err := ns.Cookie()
		if err == nil {
			cookies[cookie] = true
		}
		return err
	})
	return cookies, err
}

// EachNetNS visits those namespaces once each. Its errors are those of namespaces that
// could not be looked at.
func EachNetNS(visit func(ns *netns.NS) error) error {
	own, err := netns.At(netns.Own)
	if err != nil {
		return err
	}
	s := scan{nsfs: own.Dev, tracer: mayTrace(), seen: map[netns.ID]bool{}, mounts: map[netns.ID]bool{}, visit: visit}
	for p := range All() {
		s.add(p.path("ns/net"))
		s.mounted(p)
		s.open(p)
	}
	return errors.Join(s.errs...)
}

// A scan looks at each namespace once.
type scan struct {
	nsfs         uint64 // the device that all namespaces are on
	tracer       bool   // see mayTrace
	seen, mounts map[netns.ID]bool
	visit        func(ns *netns.NS) error
	errs         []error // what could not be looked at
}

// add counts the namespace at a path. One that is gone by now is none.
func (s *scan) add(path string) {
	if id, err := netns.At(path); err == nil && s.seen[id] {
		return
	}
	ns, err := netns.Open(path)
	switch {
	case errors.Is(err, netns.ErrNotNetNS):
		return
	case err != nil:
		s.fail(err)
		return
	}
	defer ns.Close()
	id, err := ns.ID() // it may be another than a moment ago
	if err == nil && s.seen[id] {
		return
	}
	if err == nil {
		err = s.visit(ns)
	}
	if err != nil {
		s.errs = append(s.errs, fmt.Errorf("%s: %w", path, err))
		return
	}
	s.seen[id] = true
}

// fail takes note of what could not be looked at. Processes that have ended are no
// matter, nor those of a user namespace above ours: this machine is a container
// of theirs, and they are in none of its.
func (s *scan) fail(err error) {
	if !ended(err) && !(s.tracer && errors.Is(err, fs.ErrPermission)) {
		s.errs = append(s.errs, err)
	}
}

// mayTrace reports whether the process may look into all others of its user
// namespace.
func mayTrace() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&header, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_SYS_PTRACE) != 0
}

// ended reports whether an error says that a process or mount is gone. A process
// that its parent has not waited for yet has no mounts, which is EINVAL.
func ended(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EINVAL)
}

// mounted counts the namespaces that are mounted where a process sees them.
func (s *scan) mounted(p Process) {
	id := p.Namespace("mnt")
	if s.mounts[id] {
		return
	}
	s.mounts[id] = id != netns.ID{}
	f, err := os.Open(p.path("mountinfo"))
	if err != nil {
		s.fail(err)
		return
	}
	defer f.Close()
	points, err := netNSMounts(f)
	for _, point := range points {
		s.add(p.path("root") + point)
	}
	if err != nil {
		s.fail(err)
	}
}

// netNSMounts returns where network namespaces are mounted, by a process's
// mountinfo. Only the beginning of a line matters: a container can make its line
// as long as the options of its overlay file system.
func netNSMounts(mountinfo io.Reader) (points []string, err error) {
	lines := bufio.NewReaderSize(mountinfo, 64<<10)
	for rest := false; ; {
		line, more, err := lines.ReadLine()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return points, err
		}
		const root, point = 3, 4 // proc_pid_mountinfo(5)
		words := strings.Fields(string(line))
		if !rest && len(words) > point && strings.HasPrefix(words[root], "net:[") {
			points = append(points, unescape(words[point]))
		}
		rest = more
	}
}

// unescape reads a path as the kernel writes it, white space and backslashes as
// octal numbers.
func unescape(path string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}

// open counts the namespaces that a process has open, but for us: dnetd and
// this process open many, and mean none.
func (s *scan) open(p Process) {
	if int(p) == os.Getpid() || strings.TrimSpace(p.read("comm")) == "dnetd" {
		return
	}
	dir, err := os.Open(p.path("fd"))
	if err != nil {
		s.fail(err)
		return
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1) // what was read before the process ended is as good
	for _, name := range names {
		if path := p.path("fd/" + name); s.isNamespace(path) {
			s.add(path)
		}
	}
}

// isNamespace reports whether an open file is a namespace, of any kind. Its name
// does not tell: it is that of the mount by which it was opened. Nor are servers
// of files asked that may be out of reach.
func (s *scan) isNamespace(path string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC, unix.STATX_INO, &st)
	return err == nil && unix.Mkdev(st.Dev_major, st.Dev_minor) == s.nsfs
}
