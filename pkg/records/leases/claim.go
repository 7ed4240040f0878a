package leases

import (
	"errors"
	"net/netip"
	"os"
	"slices"

	"dcni/pkg/ipam"
	"dcni/pkg/wire"
)

// errStale means that bitmap and links were found to differ. A session that
// ends with it is run again after a rebuild.
var errStale = errors.New("the bitmap of leases differs from the links")

// A claim is one request that is being served.
type claim struct {
	owner  wire.Attachment
	plan   ipam.Plan
	lowest bool
	name   string // encoded; "" if not sticky

	kept   []netip.Addr          // kept for the name: tried first
	had    []netip.Addr          // the owner's last ones: tried then
	evict  []*reservation        // what has to be taken from other names
	cursor map[string]netip.Addr // where spans go on next time
	others []others              // what machines on the LAN have
}

// byOthers reports whether a machine on the LAN has an address.
func (c *claim) byOthers(a netip.Addr) bool {
	return slices.ContainsFunc(c.others, func(o others) bool { return o.addr == a })
}

// claim leases addresses. It may be run again after a rebuild.
func (s *session) claim(c *claim) ([]ipam.Assigned, error) {
	had, err := s.release(c.owner)
	if err != nil {
		return nil, err
	}
	c.had = append(c.had, had...)
	if c.name != "" {
		if c.kept, err = s.kept(c.name, c.owner.IfName); err != nil {
			return nil, err
		}
	}
	out, err := s.choose(c)
	if err != nil {
		return nil, err
	}
	c.plan.Sort(out)
	addrs := make([]netip.Addr, len(out))
	for i, a := range out {
		addrs[i] = a.Address.Addr()
	}
	if err := s.change(func() error { return s.put(c, addrs) }); err != nil {
		return nil, errors.Join(err, s.undo(c.owner, addrs))
	}
	for span, a := range c.cursor {
		s.state.setCursor(span, a)
	}
	return out, nil
}

// choose finds all addresses of a claim and changes nothing.
func (s *session) choose(c *claim) ([]ipam.Assigned, error) {
	c.evict, c.cursor = nil, map[string]netip.Addr{}
	var err error
	if c.others, err = s.others(); err != nil {
		return nil, err
	}
	out := slices.Clone(c.plan.Fixed)
	for _, a := range out {
		if err := s.checkFixed(c, a.Address.Addr()); err != nil {
			return nil, err
		}
	}
	for _, set := range c.plan.Sets {
		a, err := s.pick(c, set)
		if err != nil {
			return nil, err
		}
		if !a.Address.IsValid() {
			return nil, ipam.Exhausted(set.Family(), s.l.network)
		}
		out = append(out, a)
	}
	return out, nil
}

// checkFixed refuses a static address that is another's. The link decides. An
// address without a link that is set in the bitmap may be kept for a name.
func (s *session) checkFixed(c *claim, a netip.Addr) error {
	l, err := s.link(a)
	if err == nil {
		return ipam.InUse(a, "leased to "+l.ownerText())
	}
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	taken, err := s.pages.has(a)
	if err != nil || !taken || slices.Contains(c.kept, a) {
		return err
	}
	all, err := s.reservations()
	if err != nil {
		return err
	}
	for _, r := range all {
		if slices.Contains(r.addrs, a) {
			return ipam.InUse(a, "kept for "+r.name)
		}
	}
	return nil // an operator removed the link; the bitmap is older than that
}

// pick chooses one address of a set: one of those preferred, the next free one,
// or, from a full set, the one that was given back to a name longest ago, or the one
// that a machine on the LAN was last heard to have longest ago. It returns the zero
// value if there is none.
func (s *session) pick(c *claim, set ipam.Set) (ipam.Assigned, error) {
	if a, err := s.pickPreferred(c, set); err != nil || a.Address.IsValid() {
		return a, err
	}
	a, err := s.pickNext(c, set)
	if err != nil || a.Address.IsValid() {
		return a, err
	}
	if !s.state.exact {
		// The bitmap may be older than the links: it is full only if they say so, too.
		if err := s.rebuild(); err != nil {
			return a, err
		}
		if a, err := s.pickNext(c, set); err != nil || a.Address.IsValid() {
			return a, err
		}
	}
	if a, err = s.pickKept(c, set); err != nil || a.Address.IsValid() {
		return a, err
	}
	return s.pickOthers(c, set)
}

func (s *session) pickPreferred(c *claim, set ipam.Set) (ipam.Assigned, error) {
	for _, a := range slices.Concat(c.kept, c.had) {
		span, ok := spanOf(set, a)
		if !ok || c.plan.Reserved[a] != "" || c.byOthers(a) {
			continue
		}
		taken, err := s.pages.has(a)
		if err != nil {
			return ipam.Assigned{}, err
		}
		if taken {
			if !slices.Contains(c.kept, a) {
				continue
			}
			if _, err := s.link(a); err == nil {
				continue // a second container of that name
			}
		}
		return take(span, a), nil
	}
	return ipam.Assigned{}, nil
}

func (s *session) pickNext(c *claim, set ipam.Set) (ipam.Assigned, error) {
	for _, span := range set {
		var after netip.Addr
		if !c.lowest {
			after = s.state.cursor(span.String())
		}
		a, err := span.Next(s.pages, after, func(a netip.Addr) bool {
			return c.plan.Reserved[a] != "" || c.byOthers(a)
		})
		if err != nil {
			return ipam.Assigned{}, err
		}
		if a.IsValid() {
			if !c.lowest {
				c.cursor[span.String()] = a
			}
			return take(span, a), nil
		}
	}
	return ipam.Assigned{}, nil
}

// pickKept takes an address over that is kept for a name and not in use.
func (s *session) pickKept(c *claim, set ipam.Set) (ipam.Assigned, error) {
	all, err := s.reservations()
	if err != nil {
		return ipam.Assigned{}, err
	}
	for _, r := range all { // the oldest first
		for _, a := range r.addrs {
			span, ok := spanOf(set, a)
			if !ok || c.plan.Reserved[a] != "" || c.byOthers(a) {
				continue
			}
			if _, err := s.link(a); !errors.Is(err, os.ErrNotExist) {
				continue
			}
			c.evict = append(c.evict, &reservation{name: r.name, ifName: r.ifName, addrs: []netip.Addr{a}})
			return take(span, a), nil
		}
	}
	return ipam.Assigned{}, nil
}

// pickOthers takes an address that a machine on the LAN had: it may be gone.
func (s *session) pickOthers(c *claim, set ipam.Set) (ipam.Assigned, error) {
	for _, o := range c.others { // the longest known first
		span, ok := spanOf(set, o.addr)
		if !ok || c.plan.Reserved[o.addr] != "" || o.since < othersAtLeast {
			continue
		}
		if taken, err := s.pages.has(o.addr); err != nil || !taken {
			return take(span, o.addr), err
		}
	}
	return ipam.Assigned{}, nil
}

func spanOf(set ipam.Set, a netip.Addr) (ipam.Span, bool) {
	for _, span := range set {
		if span.Contains(a) {
			return span, true
		}
	}
	return ipam.Span{}, false
}

// take returns an address of a span. No two sets of a claim have one in common, see
// [ipam.Config.Ranges].
func take(span ipam.Span, a netip.Addr) ipam.Assigned {
	return ipam.Assigned{Address: netip.PrefixFrom(a, span.Subnet.Bits()), Gateway: span.Gateway}
}

// put makes the links. Only one order matters: the link of an address comes first,
// because the link is the lease.
func (s *session) put(c *claim, addrs []netip.Addr) error {
	target := lease{owner: c.owner, epoch: s.epoch, name: c.name}.target()
	for _, a := range addrs {
		err := os.Symlink(target, s.path(a.String()))
		if errors.Is(err, os.ErrExist) {
			return errStale
		}
		if err != nil {
			return err
		}
		if err := s.pages.set(a, true); err != nil {
			return err
		}
	}
	if err := s.writeOwner(c.owner, addrs); err != nil {
		return err
	}
	if len(c.others) > 0 {
		if err := s.forgetOthers(addrs); err != nil {
			return err
		}
	}
	for _, r := range c.evict {
		if err := s.unkeep(r.name, r.ifName, r.addrs); err != nil {
			return err
		}
	}
	if c.name == "" {
		return nil
	}
	return s.keep(c.name, c.owner.IfName, addrs)
}

// undo takes back what put made. The links of other owners stay: put stopped
// at the first of them. The state stays dirty, so the bitmap is made again.
func (s *session) undo(owner wire.Attachment, addrs []netip.Addr) error {
	var errs []error
	for _, a := range addrs {
		l, err := s.link(a)
		if err != nil || l.owner != owner {
			continue
		}
		errs = append(errs, os.Remove(s.path(a.String())))
	}
	return errors.Join(append(errs, s.removeOwner(owner))...)
}
