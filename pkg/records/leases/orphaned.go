package leases

import (
	"errors"
	"net/netip"
	"os"
	"slices"

	"dcni/pkg/wire"
)

// An Orphan is a lease of an attachment that has no record.
type Orphan struct {
	Owner   wire.Attachment
	Address netip.Addr
	Path    string // of its link, which an operator may remove
}

// Orphaned returns the leases of this boot whose attachments have no record, by address:
// an ADD writes its record before it claims, and a DEL releases right after it removed
// the record. Leases of another boot are taken over by themselves, and those that are
// kept for a name are meant to stay. It changes nothing.
//
// Other suites' plugins that take addresses from dipam have no records: Orphaned is for
// networks whose first plugin is one of ours.
func (l Leases) Orphaned() ([]Orphan, error) {
	s := &session{l: l}
	links, err := s.links()
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	epoch, err := l.store.KnownEpoch()
	if err != nil {
		return nil, nil //nolint:nilerr // of no boot that is known: none is an orphan for certain
	}
	var out []Orphan
	for a, found := range links {
		if found.epoch != epoch || found.name != "" || l.store.Has(found.owner) { // a link that can't be read has no epoch
			continue
		}
		lock, err := l.store.LockAttachmentToRead(found.owner) // a DEL may be at it
		if err != nil {
			return nil, err
		}
		now, err := s.link(a)
		if err == nil && now.owner == found.owner && !l.store.Has(found.owner) {
			out = append(out, Orphan{Owner: found.owner, Address: a, Path: s.path(a.String())})
		}
		lock.Unlock()
	}
	slices.SortFunc(out, func(x, y Orphan) int { return x.Address.Compare(y.Address) })
	return out, nil
}
