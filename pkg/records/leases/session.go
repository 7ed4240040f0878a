package leases

import (
	"errors"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"dcni/pkg/records"
	"dcni/pkg/records/disk"
	"dcni/pkg/wire"
)

// A session is the work on a network's leases under its lock.
type session struct {
	l       Leases
	epoch   string
	file    *os.File // .state
	state   state
	pages   *pages
	begun   bool // this session wrote dirty to .state
	torn    bool // a change is half made
	rebuilt bool

	readOnly bool // nothing is to be changed on disk, see view
}

// session runs f under the network's lock, with bitmap and by-owner in order.
// Without create it does nothing on a network without any lease so far. If a change
// fails halfway, the state stays dirty and the next session repairs it.
func (l Leases) session(create bool, f func(*session) error) error {
	if err := records.CheckWords(wire.Attachment{Network: l.network, Container: "-", IfName: "-"}); err != nil {
		return err
	}
	if !l.locked {
		lock, err := l.store.LockNetwork(l.network)
		if err != nil {
			return err
		}
		defer lock.Unlock()
	}
	s, err := l.open(create)
	if err != nil || s == nil {
		return err
	}
	defer s.file.Close()
	if err := s.load(); err != nil {
		return err
	}
	err = f(s)
	if errors.Is(err, errStale) && !s.rebuilt {
		if err = s.rebuild(); err == nil {
			err = f(s)
		}
	}
	if s.torn {
		return err
	}
	return errors.Join(err, s.finish())
}

// open returns nil if there is no directory and none is to be made.
func (l Leases) open(create bool) (*session, error) {
	s := &session{l: l}
	file, err := s.openState()
	if disk.IsUnreadable(err) && !create && !disk.IsDir(l.dir) {
		return nil, nil // so there never was a lease
	}
	if errors.Is(err, os.ErrNotExist) || disk.IsUnreadable(err) {
		if !create && !disk.IsUnreadable(err) {
			return nil, nil
		}
		if file, err = s.makeState(err); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, err
	}
	s.file = file
	s.pages = &pages{dir: s.path(".pages"), cache: make(map[netip.Addr]*cachedPage)}
	return s, nil
}

func (s *session) openState() (*os.File, error) {
	file, _, err := disk.RegularFile(s.path(".state"), os.O_RDWR|os.O_CREATE, 0o644)
	return file, err
}

// makeState makes the directory of leases and the state in it, where one of them is
// missing or something else has its name.
func (s *session) makeState(why error) (*os.File, error) {
	if disk.IsUnreadable(why) {
		if err := s.l.quarantine(why, ".state"); err != nil {
			return nil, err
		}
	}
	if err := s.l.store.Root(s.l.root).MakeDirs(s.l.dir); err != nil {
		return nil, err
	}
	return s.openState()
}

// quarantine moves something of a network's directory away.
func (l Leases) quarantine(why error, elem ...string) error {
	return l.store.Root(l.root).Quarantine(filepath.Join(l.dir, filepath.Join(elem...)), why)
}

// load reads the state and rebuilds if it can't be relied on.
func (s *session) load() error {
	var err error
	if s.epoch, err = s.l.store.Epoch(); err != nil {
		return err
	}
	var ok bool
	if s.state, ok, err = readState(s.file); err != nil {
		return err
	}
	changed, err := s.changed()
	if err != nil {
		return err
	}
	if ok && !s.state.dirty && s.state.epoch == s.epoch && s.state.changed == changed {
		return nil
	}
	return s.rebuild()
}

// changed returns when the directory of links was changed last.
func (s *session) changed() (int64, error) {
	var st unix.Stat_t
	if _, err := disk.Retry(func() (int, error) { return 0, unix.Stat(s.l.dir, &st) }); err != nil {
		return 0, &os.PathError{Op: "stat", Path: s.l.dir, Err: err}
	}
	return st.Mtim.Nano(), nil
}

// change makes a change that has to be made whole. Before the first one .state
// says dirty.
func (s *session) change(f func() error) error {
	if !s.begun {
		s.state.dirty = true
		if err := s.state.write(s.file); err != nil {
			return err
		}
		s.begun = true
	}
	s.torn, s.state.exact = true, false
	if err := f(); err != nil {
		return err
	}
	s.torn = false
	return nil
}

// finish comes after the last change.
func (s *session) finish() error {
	if !s.begun {
		return nil
	}
	if err := s.pages.flush(); err != nil {
		return err
	}
	changed, err := s.changed()
	if err != nil {
		return err
	}
	s.state.dirty, s.state.epoch, s.state.changed = false, s.epoch, changed
	return s.state.write(s.file)
}

// rebuild makes bitmap and by-owner from the links, after it has dropped those
// of another boot.
func (s *session) rebuild() error {
	if s.readOnly {
		return s.rebuildView()
	}
	if err := s.change(s.rebuildAll); err != nil {
		return err
	}
	s.rebuilt, s.state.exact = true, true
	return nil
}

func (s *session) rebuildAll() error {
	links, err := s.links()
	if err != nil {
		return err
	}
	if err := s.mendLinks(links); err != nil {
		return err
	}
	if err := s.rebuildOwners(links); err != nil {
		return err
	}
	taken, err := s.rebuildKept(links)
	if err != nil {
		return err
	}
	if err := s.pages.reset(); err != nil {
		return err
	}
	for a := range links {
		taken = append(taken, a)
	}
	for _, a := range taken {
		if err := s.pages.set(a, true); err != nil {
			return err
		}
	}
	return nil
}

// mendLinks drops the leases of another boot. An attachment that is on record is of
// this one, whatever epoch its lease has: the epoch could not be read, and is another
// now. A link that can't be read is made again if by-owner says whose it is. Otherwise
// its address stays taken.
func (s *session) mendLinks(links map[netip.Addr]lease) error {
	claimed, err := s.claimed(links)
	if err != nil {
		return err
	}
	for a, l := range links {
		owner, unread := claimed[a]
		switch {
		case unread:
			l = lease{owner: owner, name: s.keptFor(owner.IfName, a)}
		case l.owner.Container == "" || l.epoch == s.epoch:
			continue
		case !s.l.store.Has(l.owner):
			if err := os.Remove(s.path(a.String())); err != nil {
				return err
			}
			delete(links, a)
			continue
		}
		l.epoch = s.epoch
		links[a] = l
		if err := s.replaceLink(l.target(), s.path(a.String()), unread); err != nil {
			return err
		}
	}
	return nil
}

// claimed returns the owners that by-owner names for links that can't be read.
func (s *session) claimed(links map[netip.Addr]lease) (map[netip.Addr]wire.Attachment, error) {
	out := map[netip.Addr]wire.Attachment{}
	if !slices.ContainsFunc(slices.Collect(maps.Values(links)), func(l lease) bool { return l.owner.Container == "" }) {
		return out, nil
	}
	err := s.eachList("by-owner", func(container, ifName string) error {
		owner := wire.Attachment{Network: s.l.network, Container: container, IfName: ifName}
		addrs, _ := s.byOwner(owner) // a list that can't be read claims nothing
		for _, a := range addrs {
			if l, there := links[a]; there && l.owner.Container == "" {
				out[a] = owner
			}
		}
		return nil
	})
	return out, err
}

// keptFor returns the name that an address is kept for.
func (s *session) keptFor(ifName string, a netip.Addr) (name string) {
	_ = s.eachList("by-name", func(n, i string) error {
		if addrs, _ := s.kept(n, i); i == ifName && slices.Contains(addrs, a) {
			name = n
		}
		return nil
	})
	return name
}

// rebuildOwners makes by-owner say what the links say. Where it lists the same
// addresses it stays as it is, for the order.
func (s *session) rebuildOwners(links map[netip.Addr]lease) error {
	by := make(map[wire.Attachment][]netip.Addr)
	for a, l := range links {
		if l.owner.Container != "" {
			by[l.owner] = append(by[l.owner], a)
		}
	}
	for _, addrs := range by {
		slices.SortFunc(addrs, netip.Addr.Compare)
	}
	err := s.eachList("by-owner", func(container, ifName string) error {
		owner := wire.Attachment{Network: s.l.network, Container: container, IfName: ifName}
		have, err := s.byOwner(owner)
		if err == nil && len(by[owner]) > 0 && slices.Equal(slices.SortedFunc(slices.Values(have), netip.Addr.Compare), by[owner]) {
			delete(by, owner)
			return nil
		}
		if err != nil { // no list of ours
			return s.l.quarantine(disk.ErrIrregular, "by-owner", container, ifName)
		}
		return s.removeOwner(owner)
	})
	if err != nil {
		return err
	}
	for owner, addrs := range by {
		if err := s.writeOwner(owner, addrs); err != nil {
			return err
		}
	}
	return nil
}

// rebuildKept returns the addresses that are kept for names. If an address is leased
// to another name, a claim died while it took the address over: the lease counts.
func (s *session) rebuildKept(links map[netip.Addr]lease) ([]netip.Addr, error) {
	var out []netip.Addr
	err := s.eachList("by-name", func(name, ifName string) error {
		addrs, err := s.kept(name, ifName)
		if err != nil {
			return s.l.quarantine(disk.ErrIrregular, "by-name", name, ifName) // not a list of ours
		}
		var lost []netip.Addr
		for _, a := range addrs {
			if l, ok := links[a]; ok && (l.name != name || l.owner.IfName != ifName) {
				lost = append(lost, a)
			} else {
				out = append(out, a)
			}
		}
		if len(lost) == 0 {
			return nil
		}
		return s.unkeep(name, ifName, lost)
	})
	return out, err
}
