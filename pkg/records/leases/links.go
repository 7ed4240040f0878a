package leases

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"dcni/pkg/records"
	"dcni/pkg/records/disk"
	"dcni/pkg/wire"
)

// A lease is one link.
type lease struct {
	owner wire.Attachment
	epoch string
	name  string // encoded name it is kept for; "" if not sticky
}

// target returns what the link points to: c1/eth0@6f1e0c55a2d9, and for a
// sticky one c1/eth0@6f1e0c55a2d9:web.
func (l lease) target() string {
	t := l.owner.Container + "/" + l.owner.IfName + "@" + l.epoch
	if l.name != "" {
		t += ":" + l.name
	}
	return t
}

// ownerText names the owner for people.
func (l lease) ownerText() string {
	if l.owner.Container == "" {
		return "an unknown owner: its link can't be read"
	}
	if l.owner.Container == records.ServiceOwner {
		return "service " + l.owner.IfName
	}
	return l.owner.String()
}

// parseTarget reads a target. The name of an interface may contain an '@', but
// nothing behind the epoch's does.
func parseTarget(network, target string) (lease, bool) {
	container, rest, _ := strings.Cut(target, "/")
	at := strings.LastIndexByte(rest, '@')
	if at < 0 {
		return lease{}, false
	}
	l := lease{owner: wire.Attachment{Network: network, Container: container, IfName: rest[:at]}}
	l.epoch, l.name, _ = strings.Cut(rest[at+1:], ":")
	if records.CheckWords(l.owner) != nil {
		return lease{}, false
	}
	return l, true
}

// canOwn reports whether Claim accepts an identity.
func canOwn(a wire.Attachment) bool { return records.CheckWords(a) == nil }

// parseName reads the name of a link: the canonical text of an address.
func parseName(name string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(name)
	return a, err == nil && a.Zone() == "" && !a.Is4In6() && a.String() == name
}

func (s *session) path(elem ...string) string {
	return s.l.dir + "/" + filepath.Join(elem...)
}

// link reads the lease of an address; os.ErrNotExist if it is free. Something
// that is no lease of ours has the zero owner.
func (s *session) link(a netip.Addr) (lease, error) {
	target, err := os.Readlink(s.path(a.String()))
	if errors.Is(err, unix.EINVAL) {
		return lease{}, nil // no symbolic link
	}
	if err != nil {
		return lease{}, err
	}
	l, _ := parseTarget(s.l.network, target)
	return l, nil
}

// links reads the whole directory. Entries that are no leases of ours are there
// with the zero owner: their addresses are taken.
func (s *session) links() (map[netip.Addr]lease, error) {
	names, err := disk.NamesIn(s.l.dir)
	if disk.IsUnreadable(disk.Unreadable(s.l.dir, err)) {
		err = os.ErrNotExist // no directory: there never was a lease
	}
	if err != nil {
		return nil, err
	}
	out := make(map[netip.Addr]lease, len(names))
	for _, name := range names {
		a, ok := parseName(name)
		if !ok {
			continue
		}
		l, err := s.link(a)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out[a] = l
	}
	return out, nil
}

// owners returns the owners of the links.
func (s *session) owners() ([]wire.Attachment, error) {
	links, err := s.links()
	if err != nil {
		return nil, err
	}
	var out []wire.Attachment
	for _, l := range links {
		if l.owner.Container != "" {
			out = append(out, l.owner)
		}
	}
	slices.SortFunc(out, func(a, b wire.Attachment) int {
		return cmp.Or(cmp.Compare(a.Container, b.Container), cmp.Compare(a.IfName, b.IfName))
	})
	return slices.Compact(out), nil
}

// byOwner returns the addresses of an attachment.
func (s *session) byOwner(owner wire.Attachment) ([]netip.Addr, error) {
	return readList(s.path("by-owner", owner.Container, owner.IfName))
}

func (s *session) writeOwner(owner wire.Attachment, addrs []netip.Addr) error {
	return s.writeList(addrs, "by-owner", owner.Container, owner.IfName)
}

func (s *session) removeOwner(owner wire.Attachment) error {
	return s.removeList("by-owner", owner.Container, owner.IfName)
}

// readList reads a link that holds addresses; none if it is not there. The error is
// errStale if it is something else.
func readList(path string) ([]netip.Addr, error) {
	target, err := os.Readlink(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if errors.Is(err, unix.EINVAL) || disk.IsUnreadable(disk.Unreadable(path, err)) {
		return nil, fmt.Errorf("%s: %w", path, errStale)
	}
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for text := range strings.SplitSeq(target, ",") {
		a, ok := parseName(text)
		if !ok {
			return nil, fmt.Errorf("%s: %q is no list of addresses: %w", path, target, errStale)
		}
		out = append(out, a)
	}
	return out, nil
}

// writeList makes <kind>/<dir>/<name> a link that holds addresses. An old one
// is replaced by rename, so that a name never loses what is kept for it.
func (s *session) writeList(addrs []netip.Addr, kind, dir, name string) error {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	target, path := strings.Join(texts, ","), s.path(kind, dir, name)
	err := os.Mkdir(s.path(kind, dir), 0o755)
	if errors.Is(err, os.ErrNotExist) {
		err = s.l.store.Root(s.l.root).MakeDirs(s.path(kind, dir))
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	err = os.Symlink(target, path)
	if !errors.Is(err, os.ErrExist) {
		return err
	}
	return s.replaceLink(target, path, false)
}

// replaceLink makes a link under another name and renames it over the old one, so that
// there is always one. What is unread is no link of ours, and is kept.
func (s *session) replaceLink(target, path string, unread bool) error {
	temp := s.path(".link") // if it is there, the session that made it died
	if err := os.RemoveAll(temp); err != nil {
		return err
	}
	if err := os.Symlink(target, temp); err != nil {
		return err
	}
	if unread {
		return s.l.store.Root(s.l.root).Supplant(temp, path, disk.ErrIrregular)
	}
	return os.Rename(temp, path)
}

// removeList removes such a link, and its directory if it was the last one in
// it.
func (s *session) removeList(kind, dir, name string) error {
	if err := os.Remove(s.path(kind, dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	err := unix.Rmdir(s.path(kind, dir))
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// release frees the addresses of an attachment and returns them. Addresses that
// are kept for a name stay taken in the bitmap.
func (s *session) release(owner wire.Attachment) ([]netip.Addr, error) {
	owner.Network = s.l.network
	addrs, err := s.byOwner(owner)
	if len(addrs) == 0 {
		return nil, err
	}
	var had []netip.Addr
	err = s.change(func() error {
		var name string
		if had, name, err = s.unlink(owner, addrs); err != nil {
			return err
		}
		if err := s.removeOwner(owner); err != nil {
			return err
		}
		kept, err := s.giveBack(name, owner.IfName)
		if err != nil {
			return err
		}
		for _, a := range had {
			if err := s.pages.set(a, slices.Contains(kept, a)); err != nil {
				return err
			}
		}
		return nil
	})
	return had, err
}

// unlink removes those links that are the owner's, and returns which, and the
// name they were kept for.
func (s *session) unlink(owner wire.Attachment, addrs []netip.Addr) (had []netip.Addr, name string, err error) {
	for _, a := range addrs {
		l, err := s.link(a)
		if errors.Is(err, os.ErrNotExist) || err == nil && l.owner != owner {
			continue // not the owner's any more
		}
		if err != nil {
			return nil, "", err
		}
		if err := os.Remove(s.path(a.String())); err != nil {
			return nil, "", err
		}
		name, had = l.name, append(had, a)
	}
	return had, name, nil
}
