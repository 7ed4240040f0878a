package leases

import (
	"cmp"
	"errors"
	"net/netip"
	"os"
	"slices"
	"time"

	"dcni/pkg/wire"
)

// Addresses that machines on the LAN have are remembered beside the leases, as links
// by-others/<address> -> <MAC>. The time of a link is when the machine was last heard.
// They are hints: whether an address is free is asked of the LAN each time that it is
// claimed. A mark only keeps ADD from meeting the same machine again and again.
const (
	// othersFor is how long an address is passed over. A machine that is asleep or away
	// for less keeps it.
	othersFor = time.Hour
	// othersAtLeast is how long it is passed over also if no other address is left
	// (RFC 5227, RATE_LIMIT_INTERVAL).
	othersAtLeast = time.Minute
	// othersMost is how many are remembered, the last ones: a machine can claim any
	// number.
	othersMost = 256
)

// others is an address that a machine on the LAN has.
type others struct {
	addr  netip.Addr
	since time.Duration // it was last heard
}

// MarkOthers remembers addresses that machines on the LAN have.
func (l Leases) MarkOthers(list []wire.Conflict) error {
	return l.session(true, func(s *session) error {
		return s.change(func() error {
			if err := os.Mkdir(s.path("by-others"), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
				return err
			}
			for _, c := range list {
				if err := s.replaceLink(cmp.Or(c.MAC, "this host"), s.path("by-others", c.Address.String()), false); err != nil {
					return err
				}
			}
			known, err := s.others()
			for len(known) > othersMost && err == nil {
				err = os.Remove(s.path("by-others", known[0].addr.String()))
				known = known[1:]
			}
			return err
		})
	})
}

// others returns the addresses that machines on the LAN have, the longest known first. What
// has not been heard for long, or has another name than an address, is forgotten.
func (s *session) others() (list []others, err error) {
	names, err := s.dir("by-others")
	now := time.Now() // of all, so that their order is that of their times
	for _, name := range names {
		path := s.path("by-others", name)
		info, failed := os.Lstat(path)
		if failed != nil {
			continue // an operator removed it
		}
		a, ok := parseName(name)
		since := now.Sub(info.ModTime()).Abs() // the clock may have been set back
		if ok && since < othersFor {
			list = append(list, others{a, since})
		} else if !s.readOnly {
			_ = os.RemoveAll(path) // a hint that stays does no harm
		}
	}
	slices.SortFunc(list, func(a, b others) int {
		return cmp.Or(cmp.Compare(b.since, a.since), a.addr.Compare(b.addr))
	})
	return list, err
}

// forgetOthers forgets that machines have had addresses: they are leased.
func (s *session) forgetOthers(addrs []netip.Addr) error {
	for _, a := range addrs {
		if err := os.Remove(s.path("by-others", a.String())); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
