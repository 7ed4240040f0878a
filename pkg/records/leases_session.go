package records

import (
	"errors"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"

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
}

// session runs f under the network's lock, with bitmap and by-owner in order.
// Without create it does nothing on a network without any lease so far. If a change
// fails halfway, the state stays dirty and the next session repairs it.
func (l Leases) session(create bool, f func(*session) error) error {
	if err := checkWords(wire.Attachment{Network: l.network, Container: "-", IfName: "-"}); err != nil {
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
	const flags = os.O_RDWR | os.O_CREATE
	s := &session{l: l}
	file, err := openFile(s.path(".state"), flags, 0o644)
	if errors.Is(err, unix.ENOTDIR) && !create {
		return nil, nil // so there never was a lease
	}
	if errors.Is(err, os.ErrNotExist) {
		if !create {
			return nil, nil
		}
		if err := os.MkdirAll(l.dir, 0o755); err != nil {
			return nil, err
		}
		file, err = openFile(s.path(".state"), flags, 0o644)
	}
	if err != nil {
		return nil, err
	}
	s.file = file
	s.pages = &pages{dir: s.path(".pages"), cache: make(map[netip.Addr]*cachedPage)}
	return s, nil
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
	if _, err := retry(func() (int, error) { return 0, unix.Stat(s.l.dir, &st) }); err != nil {
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
	for a, l := range links {
		if l.owner.Container != "" && l.epoch != s.epoch {
			if err := os.Remove(s.path(a.String())); err != nil {
				return err
			}
			delete(links, a)
		}
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
			return s.removeList("by-name", name, ifName) // not a list of ours
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
