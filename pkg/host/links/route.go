package links

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dcni/pkg/host/rtnl"
	"dcni/pkg/host/spaces"
	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// route is a [wire.Route].
type route struct {
	h *Links
	o *wire.Route
}

func (r route) Ensure() (bool, error) {
	rt, l, err := r.h.Link(r.o.NetNS, r.o.Dev)
	if err != nil {
		return false, err
	}
	if r.o.Src.IsValid() && r.Check() == nil { // to replace it by itself would look like a change
		return false, nil
	}
	least := r.o.Metric
	const rounds = 16 // other ADDs to the same sandbox may be at it as well
	for range rounds {
		var there bool
		if r.o.Rank != 0 {
			r.o.Metric = least
			if there, err = r.place(rt, l.Index); there {
				return false, nil
			}
		}
		if err == nil {
			err = r.add(rt, l.Index)
		}
		if !errors.Is(err, unix.EEXIST) {
			return err == nil, err
		}
		if r.o.Rank == 0 {
			break
		}
	}
	if r.Check() == nil {
		return false, nil
	}
	return false, err
}

// add adds the route. Where its gateway is not reached since the on-link route went, as by a
// flush of the table, that is put back first: the kernel made it with the address.
func (r route) add(rt *rtnl.Conn, own int) error {
	err := rt.ChangeRoute(unix.RTM_NEWROUTE, own, r.o)
	if r.o.Table != 0 || !r.o.Via.IsValid() || !errors.Is(err, unix.ENETUNREACH) && !errors.Is(err, unix.EHOSTUNREACH) {
		return err
	}
	list, listErr := rt.Addrs(own, int(rtnl.Family(r.o.Via)))
	i := slices.IndexFunc(list, func(p netip.Prefix) bool { return p.Contains(r.o.Via) })
	if listErr != nil || i < 0 || rt.AddOnLink(own, list[i]) != nil {
		return err
	}
	return rt.ChangeRoute(unix.RTM_NEWROUTE, own, r.o)
}

// place puts a default route in order with those that are in the sandbox: it changes
// the route's metric, and makes way there. Each route that moves has its new place
// before it loses the old one. It reports whether the route itself is there.
func (r route) place(rt *rtnl.Conn, own int) (there bool, err error) {
	list, err := rt.Routes(rtnl.Family(r.o.Dst.Addr()), r.table(), 0)
	if err != nil {
		return false, err
	}
	var rivals []rtnl.Route
	for _, have := range list {
		switch {
		case have.Dst != r.o.Dst:
		case have.Index == own && have.Via == r.o.Via:
			r.o.Metric = have.Metric
			return true, nil
		default:
			rivals = append(rivals, have)
		}
	}
	if len(rivals) == 0 {
		return false, nil
	}
	self := network.Rival{Metric: r.o.Metric, Rank: r.o.Rank, Name: r.o.Owner.Network}
	ranked := r.h.rivals(rt, r.o.Owner, rivals)
	r.o.Foreign = slices.ContainsFunc(ranked, func(o network.Rival) bool { return o.Rank == 0 })
	metric, moves := network.Place(self, ranked)
	for _, i := range slices.SortedFunc(maps.Keys(moves), func(a, b int) int { return rivals[b].Metric - rivals[a].Metric }) {
		if err := r.move(rivals[i], moves[i]); err != nil {
			return false, fmt.Errorf("make way for metric %d: %w", metric, err)
		}
	}
	r.o.Metric = metric
	return false, nil
}

// move gives another link's route of the same destination another metric.
func (r route) move(rival rtnl.Route, metric int) error {
	nl, err := r.h.Handle(r.o.NetNS)
	if err != nil {
		return err
	}
	list, err := r.list(nl, &netlink.Route{Table: r.table(), LinkIndex: rival.Index}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_OIF)
	if err != nil {
		return err
	}
	for _, have := range list {
		if dst, ok := routeDst(have); !ok || dst != rival.Dst || have.Priority != rival.Metric {
			continue
		}
		moved := have
		moved.Priority = metric
		there := slices.ContainsFunc(list, func(o netlink.Route) bool {
			dst, ok := routeDst(o)
			return ok && dst == rival.Dst && o.Priority == metric // another ADD is at the same
		})
		if !there {
			if err := nl.RouteAdd(&moved); err != nil {
				return err
			}
		}
		if err := nl.RouteDel(&have); err != nil && !spaces.Gone(err) {
			return err
		}
	}
	return nil
}

// rivals returns the default routes that are in a sandbox with their networks: what
// is on record for the links of the same container.
func (h *Links) rivals(rt *rtnl.Conn, owner wire.Attachment, list []rtnl.Route) []network.Rival {
	siblings := h.Records.Siblings(owner)
	rivals := make([]network.Rival, len(list))
	for i, have := range list {
		rivals[i].Metric = have.Metric
		l, err := rt.LinkByIndex(have.Index)
		if err != nil {
			continue
		}
		for _, rec := range siblings {
			if rec.IfName == l.Name {
				c := candidate(rt, l, rec)
				rivals[i].Rank, rivals[i].Name = c.Rank(), c.Name
			}
		}
	}
	return rivals
}

// candidate returns the network of an attachment. Containerd attaches a pod's networks
// at the same time: the record may not have the subnets yet, but then the link has
// addresses already.
func candidate(rt *rtnl.Conn, l *rtnl.Link, rec *records.Record) network.Candidate {
	c := network.CandidateOf(rec.Network, rec.Info, rec.Subnets)
	if len(rec.Subnets) == 0 {
		addrs, err := rt.Addrs(l.Index, unix.AF_INET)
		c.IPv4, c.IPv6 = err == nil && len(addrs) > 0, rtnl.DisableIPv6.Is(l, "0")
	}
	return c
}

func (r route) list(nl *netlink.Handle, filter *netlink.Route, mask uint64) ([]netlink.Route, error) {
	return spaces.Dump(func() ([]netlink.Route, error) {
		return nl.RouteListFiltered(int(rtnl.Family(r.o.Dst.Addr())), filter, mask)
	})
}

func (r route) table() int {
	if r.o.Table == 0 {
		return unix.RT_TABLE_MAIN
	}
	return r.o.Table
}

// Check finds a route of that destination and gateway. Its metric may have been changed
// by place; a plugin further down the chain may have changed it, too, or moved the route
// to a table of its own (sbr, vrf).
func (r route) Check() error {
	rt, l, err := r.h.Link(r.o.NetNS, r.o.Dev)
	if err != nil {
		return err
	}
	for _, table := range []int{r.table(), unix.RT_TABLE_UNSPEC} {
		list, err := rt.Routes(rtnl.Family(r.o.Dst.Addr()), table, l.Index)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(list, func(have rtnl.Route) bool {
			return have.Dst == r.o.Dst && have.Via == r.o.Via && (!r.o.Src.IsValid() || have.Src == r.o.Src) &&
				!wire.IsSourceTable(have.Table) // that has copies only
		}) {
			return nil
		}
		if r.o.NetNS == "" {
			break
		}
	}
	return fmt.Errorf("missing")
}

func (r route) Remove() error {
	rt, l, err := r.h.Link(r.o.NetNS, r.o.Dev)
	if err == nil {
		err = rt.ChangeRoute(unix.RTM_DELROUTE, l.Index, r.o)
	}
	if err != nil && !spaces.Gone(err) {
		return err
	}
	return nil
}

func (r route) Probe() error { return nil }
