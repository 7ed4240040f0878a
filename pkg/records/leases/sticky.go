package leases

import (
	"cmp"
	"errors"
	"net/netip"
	"os"
	"slices"
	"time"

	"dcni/pkg/records/disk"

	"golang.org/x/sys/unix"
)

// A reservation is what is kept for a name and an interface: the link
// by-name/<name>/<ifname>.
type reservation struct {
	name   string // encoded
	ifName string
	addrs  []netip.Addr
	since  time.Time // last taken or given back
}

// kept returns the addresses that are kept for a name.
func (s *session) kept(name, ifName string) ([]netip.Addr, error) {
	return readList(s.path("by-name", name, ifName))
}

// keep keeps addresses for a name instead of those it had before, which are
// free then.
func (s *session) keep(name, ifName string, addrs []netip.Addr) error {
	before, err := s.kept(name, ifName)
	if err != nil {
		return err
	}
	if slices.Equal(before, addrs) {
		return nil
	}
	if err := s.writeList(addrs, "by-name", name, ifName); err != nil {
		return err
	}
	return s.free(before, addrs)
}

// unkeep takes addresses from a name.
func (s *session) unkeep(name, ifName string, addrs []netip.Addr) error {
	before, err := s.kept(name, ifName)
	if err != nil {
		return err
	}
	rest := slices.DeleteFunc(slices.Clone(before), func(a netip.Addr) bool { return slices.Contains(addrs, a) })
	if len(rest) == 0 {
		return s.removeList("by-name", name, ifName)
	}
	since, err := os.Lstat(s.path("by-name", name, ifName))
	if err != nil {
		return err
	}
	if err := s.writeList(rest, "by-name", name, ifName); err != nil {
		return err
	}
	return s.touch(name, ifName, since.ModTime())
}

// free clears the addresses of a list from the bitmap, except those of another list
// and those that are leased: the name may have moved on while a second container of
// that name has the address.
func (s *session) free(list, except []netip.Addr) error {
	for _, a := range list {
		if slices.Contains(except, a) {
			continue
		}
		if _, err := s.link(a); !errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err := s.pages.set(a, false); err != nil {
			return err
		}
	}
	return nil
}

// giveBack notes that the container of a name has gone, and returns what stays
// kept for it.
func (s *session) giveBack(name, ifName string) ([]netip.Addr, error) {
	if name == "" {
		return nil, nil
	}
	kept, err := s.kept(name, ifName)
	if err != nil || len(kept) == 0 {
		return nil, err
	}
	return kept, s.touch(name, ifName, time.Now())
}

// touch sets the time of a reservation, by which the oldest one is found.
func (s *session) touch(name, ifName string, at time.Time) error {
	return s.touchLink(s.path("by-name", name, ifName), at)
}

func (s *session) touchLink(path string, at time.Time) error {
	ts := unix.NsecToTimespec(at.UnixNano())
	err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return &os.PathError{Op: "utimensat", Path: path, Err: err}
	}
	return nil
}

// reservations returns everything that is kept, the oldest first.
func (s *session) reservations() ([]*reservation, error) {
	var out []*reservation
	err := s.eachList("by-name", func(name, ifName string) error {
		path := s.path("by-name", name, ifName)
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		addrs, err := readList(path)
		out = append(out, &reservation{name: name, ifName: ifName, addrs: addrs, since: info.ModTime()})
		return err
	})
	slices.SortFunc(out, func(a, b *reservation) int {
		return cmp.Or(a.since.Compare(b.since), cmp.Compare(a.name, b.name), cmp.Compare(a.ifName, b.ifName))
	})
	return out, err
}

// eachList calls f for every <kind>/<dir>/<name>.
func (s *session) eachList(kind string, f func(dir, name string) error) error {
	dirs, err := s.dir(kind)
	if err != nil {
		return err
	}
	for _, d := range dirs {
		names, err := s.dir(kind, d)
		if err != nil {
			return err
		}
		if len(names) == 0 && !s.readOnly {
			// The session that made it died before it made the link. An empty
			// directory does no harm, so an error does not matter.
			_ = unix.Rmdir(s.path(kind, d))
		}
		for _, n := range names {
			if err := f(d, n); err != nil {
				return err
			}
		}
	}
	return nil
}

// dir lists a directory. Something else of that name is moved away.
func (s *session) dir(elem ...string) ([]string, error) {
	names, err := disk.NamesIn(s.path(elem...))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil
	case disk.IsUnreadable(disk.Unreadable(s.l.dir, err)) && s.readOnly:
		return nil, nil
	case disk.IsUnreadable(disk.Unreadable(s.l.dir, err)):
		return nil, s.l.quarantine(errors.New("is no directory"), elem...)
	}
	return names, err
}
