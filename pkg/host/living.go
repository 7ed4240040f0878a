package host

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

// Leave lets go of a sandbox that was entered, if of one, and forgets what links
// there are.
func (h *Host) Leave(path string) { h.forget(path) }

// Lives reports whether the namespace of a cookie is still at a path. What can't
// be told lives.
func (h *Host) Lives(path string, cookie uint64) bool { return Lives(path, cookie) }

// Inhabited is [Inhabited], for who has a Host.
func (h *Host) Inhabited() (map[uint64]bool, error) { return Inhabited() }

// Inhabited returns the cookies of the network namespaces that somebody may still
// mean: those of processes, those that are mounted in any process's mount
// namespace, which may hide them from us, and those that a process has open.
// Sockets don't count: dnetd's would keep alive what nobody else remembers.
func Inhabited() (map[uint64]bool, error) {
	own, err := nsAt(ownNetNS)
	if err != nil {
		return nil, err
	}
	c := census{nsfs: own.dev, tracer: mayTrace(), seen: map[nsID]bool{}, mounts: map[nsID]bool{}, cookies: map[uint64]bool{}}
	for p := range processes() {
		c.add(p.path("ns/net"))
		c.mounted(p)
		c.open(p)
	}
	return c.cookies, errors.Join(c.errs...)
}

// A census looks at each namespace once.
type census struct {
	nsfs         uint64 // the device that all namespaces are on
	tracer       bool   // see mayTrace
	seen, mounts map[nsID]bool
	cookies      map[uint64]bool
	errs         []error // what could not be looked at
}

// add counts the namespace at a path. One that is gone by now is none.
func (c *census) add(path string) {
	if id, err := nsAt(path); err == nil && c.seen[id] {
		return
	}
	ns, err := netns.Open(path)
	switch {
	case errors.Is(err, netns.ErrNotNetNS):
		return
	case err != nil:
		c.fail(err)
		return
	}
	defer ns.Close()
	var st unix.Stat_t
	cookie, err := ns.Cookie()
	if err == nil {
		err = unix.Fstat(ns.Fd(), &st) // it may be another than a moment ago
	}
	if err != nil {
		c.errs = append(c.errs, fmt.Errorf("%s: %w", path, err))
		return
	}
	c.seen[nsID{st.Dev, st.Ino}], c.cookies[cookie] = true, true
}

// fail takes note of what could not be looked at. Processes that have ended are no
// matter, nor those of a user namespace above ours: this machine is a container
// of theirs, and they are in none of its.
func (c *census) fail(err error) {
	if !ended(err) && !(c.tracer && errors.Is(err, fs.ErrPermission)) {
		c.errs = append(c.errs, err)
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
// that nobody has waited for yet has no mounts, which is EINVAL.
func ended(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EINVAL)
}

// mounted counts the namespaces that are mounted where a process sees them.
func (c *census) mounted(p process) {
	id := p.namespace("mnt")
	if c.mounts[id] {
		return
	}
	c.mounts[id] = id != nsID{}
	f, err := os.Open(p.path("mountinfo"))
	if err != nil {
		c.fail(err)
		return
	}
	defer f.Close()
	points, err := netNSMounts(f)
	for _, point := range points {
		c.add(p.path("root") + point)
	}
	if err != nil {
		c.fail(err)
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
func (c *census) open(p process) {
	if int(p) == os.Getpid() || strings.TrimSpace(p.read("comm")) == "dnetd" {
		return
	}
	dir, err := os.Open(p.path("fd"))
	if err != nil {
		c.fail(err)
		return
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1) // what was read before the process ended is as good
	for _, name := range names {
		if path := p.path("fd/" + name); c.isNamespace(path) {
			c.add(path)
		}
	}
}

// isNamespace reports whether an open file is a namespace, of any kind. Its name
// does not tell: it is that of the mount by which it was opened. Nor are servers
// of files asked that may be out of reach.
func (c *census) isNamespace(path string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC, unix.STATX_INO, &st)
	return err == nil && unix.Mkdev(st.Dev_major, st.Dev_minor) == c.nsfs
}
