package leases

import (
	"errors"
	"net/netip"
	"os"
	"slices"

	"dcni/pkg/records"
	"dcni/pkg/records/disk"
	"dcni/pkg/wire"
)

// view runs f on a network's leases and changes nothing: what a session would rebuild
// on disk, it makes in memory. It waits until no process changes them.
func (l Leases) view(f func(*session) error) error {
	if err := records.CheckWords(wire.Attachment{Network: l.network, Container: "-", IfName: "-"}); err != nil {
		return err
	}
	if !l.locked {
		lock, err := l.store.LockNetworkToRead(l.network)
		if err != nil {
			return err
		}
		defer lock.Unlock()
	}
	s := &session{l: l, readOnly: true, pages: &pages{cache: make(map[netip.Addr]*cachedPage)}}
	s.pages.dir = s.path(".pages")
	var err error
	s.epoch, err = l.store.KnownEpoch()
	if err != nil && !errors.Is(err, os.ErrNotExist) && !disk.IsUnreadable(err) {
		return err
	}
	if !s.clean() {
		if err := s.rebuild(); err != nil {
			return err
		}
	}
	err = f(s)
	if errors.Is(err, errStale) && !s.rebuilt {
		if err = s.rebuild(); err == nil {
			err = f(s)
		}
	}
	return err
}

// clean reports whether bitmap and by-owner are right.
func (s *session) clean() bool {
	file, _, err := disk.RegularFile(s.path(".state"), os.O_RDONLY, 0)
	if err != nil {
		return false
	}
	defer file.Close()
	state, ok, err := readState(file)
	changed, failed := s.changed()
	s.state = state
	return err == nil && failed == nil && ok && !state.dirty && state.epoch == s.epoch && state.changed == changed
}

// rebuildView makes the bitmap in memory.
func (s *session) rebuildView() error {
	clear(s.pages.cache)
	s.pages.whole = true
	links, err := s.links()
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return err
	}
	for a, l := range links {
		if l.owner.Container == "" || s.isCurrent(l) {
			if err := s.pages.set(a, true); err != nil {
				return err
			}
		}
	}
	err = s.eachList("by-name", func(name, ifName string) error {
		addrs, _ := s.kept(name, ifName) // what is no list keeps nothing
		for _, a := range addrs {
			if err := s.pages.set(a, true); err != nil {
				return err
			}
		}
		return nil
	})
	s.rebuilt, s.state.exact = true, true
	return err
}

// isCurrent reports whether a lease is of this boot.
func (s *session) isCurrent(l lease) bool { return l.epoch == s.epoch || s.l.store.Has(l.owner) }

// leasedTo returns the addresses whose links, or where those can't be read whose
// by-owner, name an owner.
func (s *session) leasedTo(owner wire.Attachment) ([]netip.Addr, error) {
	listed, err := s.byOwner(owner)
	if err != nil && !errors.Is(err, errStale) {
		return nil, err
	}
	links := map[netip.Addr]lease{}
	if s.rebuilt { // by-owner may be older than the links
		if links, err = s.links(); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	var rest []netip.Addr
	for a, l := range links {
		if l.owner == owner && !slices.Contains(listed, a) {
			rest = append(rest, a)
		}
	}
	slices.SortFunc(rest, netip.Addr.Compare)
	return slices.DeleteFunc(append(listed, rest...), func(a netip.Addr) bool {
		l, err := s.link(a)
		return err != nil || l.owner.Container != "" && (l.owner != owner || !s.isCurrent(l))
	}), nil
}
