package shared

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/proc"
	"dcni/pkg/netns"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// Donors returns the containers whose network namespace another one may join, with what
// containerd knows of their names.
func (h Shared) Donors() ([]network.Donor, error) {
	list, err := h.Records.Donors()
	for i := range list {
		d := &list[i]
		known := h.Bundle(d.Container)
		d.ID = known.Container
		if len(d.Names) == 0 && known.Name != "" {
			d.Names = []string{known.Name}
		}
	}
	return list, err
}

// NetNSOf returns a path that leads to the namespace of a donor now, and that namespace;
// "" if the donor does not run. A path of a process may be another process's by now, and
// one that is mounted may not be to be seen here: then a process of the donor's leads to
// the namespace as well.
func (h Shared) NetNSOf(d *network.Donor) (string, wire.Sandbox) {
	for _, at := range d.Namespaces {
		path := at.Path
		found, err := h.Sandbox(path)
		if err != nil || !is(found, at, d) || !h.hasAddress(at) {
			path = processIn(at.Cookie, d)
			found, err = h.Sandbox(path)
		}
		switch {
		case path == "" || err != nil:
		case found.Own:
			return network.HostNetNS, found
		default:
			return path, found
		}
	}
	return "", wire.Sandbox{}
}

// is reports whether the namespace that was found at a path is the donor's. Without a
// cookie, it must not be the host's, and a process's path must be that of one of the
// donor's.
func is(found wire.Sandbox, at network.Namespace, d *network.Donor) bool {
	p, ofProcess := processOf(at.Path)
	switch {
	case at.Cookie != 0:
		return found.Cookie == at.Cookie
	case at.Start != 0:
		start, err := p.StartTime()
		return ofProcess && err == nil && start == at.Start
	case found.Own:
		return false
	}
	return !ofProcess || belongs(p, d)
}

// hasAddress reports whether the namespace at a path has an address that the container was
// given. A path that is known by its name alone may lead to that of another container by
// now: libcni keeps what it has of a container until DEL, or for ever.
func (h Shared) hasAddress(at network.Namespace) bool {
	if _, ofProcess := processOf(at.Path); ofProcess || at.Cookie != 0 || at.Start != 0 {
		return true
	}
	s, err := h.Open(at.Path)
	if err != nil {
		return false
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		list, err := s.RT.Addrs(0, family)
		if err == nil && slices.ContainsFunc(list, func(p netip.Prefix) bool { return slices.Contains(at.Addresses, p.Addr()) }) {
			return true
		}
	}
	return false
}

// processOf returns the process of a path /proc/PID/ns/net.
func processOf(path string) (proc.Process, bool) {
	rest, ok := strings.CutPrefix(filepath.Clean(path), "/proc/")
	pid, _, deeper := strings.Cut(rest, "/")
	n, err := strconv.Atoi(pid)
	return proc.Process(n), ok && deeper && err == nil
}

func belongs(p proc.Process, d *network.Donor) bool {
	return p.Belongs(d.Container) || d.ID != "" && p.Belongs(d.ID)
}

// processIn returns the path by which a process of a donor's leads to the namespace of a
// cookie, "" if there is none.
func processIn(cookie uint64, d *network.Donor) string {
	if cookie == 0 {
		return ""
	}
	known := map[netns.ID]bool{}
	for p := range proc.All() {
		id, path := p.Namespace("net"), p.NetNS()
		there, seen := known[id]
		if !seen {
			have, err := netns.CookieAt(path)
			there = err == nil && have == cookie
			known[id] = there
		}
		if there && belongs(p, d) {
			return path
		}
	}
	return ""
}
