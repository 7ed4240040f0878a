// Package leases has the addresses in use on each network, as symbolic links on the disk.
// Package records says how they look.
package leases

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"dcni/pkg/ipam"
	"dcni/pkg/records"
	"dcni/pkg/records/disk"
	"dcni/pkg/wire"
)

// Why leases survive a kill -9 at any system call.
//
// A lease is a symbolic link, and symlink(2) refuses a name that is there: so
// no address is ever handed out twice, whatever else is wrong. What could go
// wrong is the bitmap, which is beside the links so that finding an address
// costs the same with ten leases and with 60,000, and by-owner, without which
// a release does not find its addresses.
//
// Everything happens under the network's lock. A session that is going to change
// something first writes "dirty" to .state, in one write of one page of the
// page cache, which a kill can't divide. After its last change it writes
// "clean" with the time at which the directory of links was last changed. The
// next session begins by reading .state. It rebuilds bitmap and by-owner from the
// links if
//
//   - .state says dirty, or can't be understood: the last session died in
//     between. A claim that it had half made is then a lease like others, and its
//     owner's release finds it. A release that it had half made is a smaller lease;
//   - its epoch is not this boot's. Also, a power failure may have kept some
//     files and not others;
//   - the directory has changed since: an operator removed a link.
//
// Where file times are coarse, a session does not see that an operator removed a link
// within a tick of its last change. The address then looks taken. That is why a network
// counts as full only after a rebuild. A link that an operator made is met by
// symlink(2), which also leads to a rebuild. So no address is lost for ever.
//
// A rebuild drops leases of another epoch, whose sandboxes died with their
// boot: not every runtime cleans up after one. What belongs to a name stays. A link
// that can't be read is made again from by-owner.

// Leases are the addresses in use on one network.
type Leases struct {
	store   records.Store
	root    string // the data directory
	dir     string
	network string
	locked  bool // the caller holds the network's lock
}

// Of returns the leases of a network that are kept in a data directory, "" for the
// store's own.
func Of(store records.Store, dataDir, network string) Leases {
	root := store.DataDir(dataDir)
	return Leases{store: store, network: network, root: root, dir: filepath.Join(root, "leases", network)}
}

// Locked returns the same leases for a caller that holds the network's lock.
func (l Leases) Locked() Leases {
	l.locked = true
	return l
}

// Claim leases the addresses that a request asks for, or none. It first releases
// what the owner had on this network, also if the claim then fails. The owner gets
// the same addresses again if they are still allowed.
//
// Errors: code 7 for an address the network does not have, 101 for one that
// belongs to another, 11 if the network is full.
func (l Leases) Claim(req ipam.Request, cfg ipam.Config) ([]ipam.Assigned, error) {
	req.Owner.Network = l.network
	if err := records.CheckWords(req.Owner); err != nil {
		return nil, err
	}
	plan, err := cfg.Plan(req)
	if err != nil {
		if e := l.Release(req.Owner); e != nil {
			err = errors.Join(err, e)
		}
		return nil, err
	}
	c := &claim{owner: req.Owner, plan: plan, lowest: cfg.Allocation == ipam.Lowest}
	if cfg.Sticky {
		c.name = disk.EncodeName(req.Name)
		if req.Name == "" {
			c.name = disk.EncodeName(req.Owner.Container)
		}
	}
	var out []ipam.Assigned
	err = l.session(true, func(s *session) error {
		out, err = s.claim(c)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Release frees all addresses of an attachment. It is no error if it has none.
func (l Leases) Release(owner wire.Attachment) error {
	owner.Network = l.network
	if !canOwn(owner) {
		return nil // DEL must not fail for it
	}
	return l.session(false, func(s *session) error {
		_, err := s.release(owner)
		return err
	})
}

// ByOwner returns the addresses of an attachment in the order of its result,
// none if it has no lease. It changes nothing.
func (l Leases) ByOwner(owner wire.Attachment) ([]netip.Addr, error) {
	owner.Network = l.network
	if err := records.CheckWords(owner); err != nil {
		return nil, err
	}
	var out []netip.Addr
	err := l.view(func(s *session) (err error) {
		out, err = s.leasedTo(owner)
		return err
	})
	return out, err
}

// Owners returns every attachment that has a lease, in order.
func (l Leases) Owners() ([]wire.Attachment, error) {
	var out []wire.Attachment
	err := l.session(false, func(s *session) (err error) {
		out, err = s.owners()
		return err
	})
	return out, err
}

// ReleaseExcept frees the addresses of every attachment that is not valid any
// more, and returns those attachments. It goes on past errors.
func (l Leases) ReleaseExcept(valid func(wire.Attachment) bool) ([]wire.Attachment, error) {
	var gone []wire.Attachment
	err := l.session(false, func(s *session) error {
		owners, err := s.owners()
		if err != nil {
			return err
		}
		var errs []error
		for _, owner := range owners {
			if valid(owner) || owner.Container == records.ServiceOwner && s.l.store.Has(owner) {
				continue
			}
			had, err := s.release(owner)
			if err == nil && len(had) == 0 {
				return errStale // by-owner was changed by hand
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("release %s: %w", owner, err))
				continue
			}
			gone = append(gone, owner)
		}
		return errors.Join(errs...)
	})
	return gone, err
}

// Full returns nil if a plain request would get its addresses, and an
// [ipam.ExhaustedError] if not. It changes nothing.
func (l Leases) Full(cfg ipam.Config) error {
	plan, err := cfg.Plan(ipam.Request{})
	if err != nil {
		return err
	}
	return l.view(func(s *session) error {
		others, err := s.others()
		if err != nil {
			return err
		}
		for _, set := range plan.Sets {
			a, err := s.pick(&claim{plan: plan, lowest: true, others: others}, set)
			if err != nil {
				return err
			}
			if !a.Address.IsValid() {
				return ipam.Exhausted(set.Family(), l.network)
			}
		}
		return nil
	})
}

// Check compares the leases of an attachment with the addresses it should have
// and returns every difference.
func (l Leases) Check(owner wire.Attachment, addrs []netip.Addr) error {
	have, err := l.ByOwner(owner)
	if err != nil {
		return err
	}
	var errs []error
	for _, a := range addrs {
		if !slices.Contains(have, a) {
			errs = append(errs, fmt.Errorf("address %s is not leased to %s", a, owner))
		}
	}
	for _, a := range have {
		if !slices.Contains(addrs, a) {
			errs = append(errs, fmt.Errorf("address %s is leased to %s, which does not have it", a, owner))
		}
	}
	return errors.Join(errs...)
}

// Forget removes the directory of a network that has no leases, and the cursors of
// next-fit with it. A network whose first claim failed leaves such a directory. If
// there are leases, Forget changes nothing and reports false. It leaves which addresses
// machines on the LAN have: the next claim would try the same ones.
func (l Leases) Forget() (empty bool, err error) {
	if !l.locked {
		lock, err := l.store.LockNetwork(l.network)
		if err != nil {
			return false, err
		}
		defer lock.Unlock()
	}
	links, err := (&session{l: l}).links()
	switch {
	case errors.Is(err, os.ErrNotExist):
		return true, nil
	case err != nil || len(links) > 0:
		return false, err
	}
	entries, err := os.ReadDir(l.dir)
	errs := []error{err}
	for _, e := range entries {
		if e.Name() != "by-others" {
			errs = append(errs, os.RemoveAll(filepath.Join(l.dir, e.Name())))
		}
	}
	_ = os.Remove(filepath.Join(l.dir, "by-others")) // if it is empty
	_ = os.Remove(l.dir)
	return true, errors.Join(errs...)
}

// Drop removes all leases of a network that is being removed, those that are
// kept for a name, too. The caller holds the network's lock and knows that the
// network has no attachment.
func (l Leases) Drop() error { return os.RemoveAll(l.dir) }

// Taken returns the leased addresses of this boot, those that are kept for a
// name included. It takes no lock and
// changes nothing: its result is only shown to people.
func (l Leases) Taken() ([]netip.Addr, error) {
	links, err := (&session{l: l}).links()
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil
	case err != nil || len(links) == 0:
		return nil, err
	}
	epoch, err := l.store.KnownEpoch()
	if errors.Is(err, os.ErrNotExist) || disk.IsUnreadable(err) {
		err = nil // of no boot that is known
	}
	var out []netip.Addr
	for a, link := range links {
		if link.epoch == epoch || link.name != "" {
			out = append(out, a)
		}
	}
	return out, err
}

// Any reports whether an attachment of this boot has a lease. It takes no lock:
// the registry's is held, which comes after a network's. It changes nothing.
func (l Leases) Any() (bool, error) {
	epoch, err := l.store.KnownEpoch()
	if err != nil {
		return !errors.Is(err, os.ErrNotExist), nil
	}
	links, err := (&session{l: l}).links()
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	for _, link := range links {
		if link.epoch == epoch {
			return true, nil
		}
	}
	return false, err
}
