package links

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dcni/pkg/host/spaces"
	"dcni/pkg/wire"
)

// movedRoutes is a [wire.MovedRoutes].
type movedRoutes struct {
	h *Links
	o *wire.MovedRoutes
}

// Ensure copies the routes to the tables before it deletes them from main.
func (m movedRoutes) Ensure() (changed bool, err error) {
	return applyEach(m.differences)
}

// differences returns what of one family is to be moved, as sbr does it: a route goes to the
// table of each address whose prefix has its gateway or the address that packets carry, and
// to all if it says neither.
func (m movedRoutes) differences(family int) (d sourceDiff, err error) {
	nl, l, err := m.h.LibraryLink(m.o.NetNS, m.o.Dev)
	if err != nil {
		return d, err
	}
	d.nl = nl
	list, err := sourceRoutes{h: m.h}.routes(nl, family, unix.RT_TABLE_MAIN, l.Attrs().Index)
	if err != nil {
		return d, err
	}
	d.drop = slices.DeleteFunc(list, func(r netlink.Route) bool {
		dst, ok := routeDst(r)
		return !ok || !slices.Contains(m.o.Dsts, dst)
	})
	tables, err := m.tables(nl, family)
	if err != nil || len(d.drop) == 0 {
		return d, err
	}
	for _, p := range m.o.Prefixes {
		if p.Addr().Is6() != (family == netlink.FAMILY_V6) {
			continue
		}
		for _, r := range d.drop {
			if isOf(r, p) {
				r.Table, r.Protocol, r.Flags = tables[p.Addr()], unix.RTPROT_BOOT, r.Flags&unix.RTNH_F_ONLINK
				d.add = append(d.add, r)
			}
		}
	}
	// A gateway is reached by the route of its subnet, which has to be in the table before.
	slices.SortStableFunc(d.add, func(a, b netlink.Route) int { return len(a.Gw) - len(b.Gw) })
	return d, nil
}

// isOf reports whether a route is that of an address.
func isOf(r netlink.Route, p netip.Prefix) bool {
	has := func(ip []byte) bool {
		a, ok := netip.AddrFromSlice(ip)
		return ok && p.Contains(a.Unmap())
	}
	return has(r.Src) || has(r.Gw) || r.Src == nil && r.Gw == nil
}

// tables returns the tables that rules by the link's addresses lead to. Without a rule for each
// of a family, the routes have to stay where they are.
func (m movedRoutes) tables(nl *netlink.Handle, family int) (map[netip.Addr]int, error) {
	rules, err := spaces.Dump(func() ([]netlink.Rule, error) { return nl.RuleList(family) })
	if err != nil {
		return nil, err
	}
	tables := map[netip.Addr]int{}
	for _, p := range m.o.Prefixes {
		a := p.Addr()
		i := slices.IndexFunc(rules, func(r netlink.Rule) bool {
			src, ok := prefix(r.Src)
			return ok && src == netip.PrefixFrom(a, a.BitLen()) && hasSourceOnly(r) && !wire.IsSourceTable(r.Table)
		})
		switch {
		case a.Is6() != (family == netlink.FAMILY_V6):
		case i < 0:
			return nil, wire.Owners(fmt.Errorf("no rule from %s leads to a table, as the plugin sbr had made it", a))
		default:
			tables[a] = rules[i].Table
		}
	}
	return tables, nil
}

func (m movedRoutes) Check() error {
	var errs []error
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		d, err := m.differences(family)
		if err != nil {
			return err
		}
		for _, r := range d.drop {
			dst, _ := routeDst(r)
			errs = append(errs, fmt.Errorf("%s is in the table main", dst))
		}
	}
	return errors.Join(errs...)
}

// Remove does nothing: the routes go with the link.
func (m movedRoutes) Remove() error { return nil }

func (m movedRoutes) Probe() error { return nil }
