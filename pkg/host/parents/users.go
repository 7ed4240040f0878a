package parents

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/proc"
	"dcni/pkg/host/rtnl"
	"dcni/pkg/netns"
	"dcni/pkg/wire"
)

// used reports whether something else than dcni uses a link that dcni made: it has
// addresses, belongs to another link, has ports, or is the parent of other links. The
// last attachment that needed it is gone.
func (s sharedLink) used(l *rtnl.Link) (bool, error) {
	if l.Master != 0 {
		return true, nil
	}
	rt := s.h.Root.RT
	ports, err := rt.Ports(l.Index)
	if err != nil || slices.ContainsFunc(ports, func(p *rtnl.Link) bool { return p.Master == l.Index }) {
		return true, err
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		list, err := rt.Addrs(l.Index, family)
		if err != nil || slices.ContainsFunc(list, s.owners) {
			return true, err
		}
	}
	return s.h.hasChildren(l)
}

// owners reports whether an address of the link is one that its owner gave it. The kernel
// gives each link a link-local one, and [hostAccess] gives the host's child single ones.
func (s sharedLink) owners(p netip.Prefix) bool {
	kernels := p.Addr().Is6() && p.Addr().IsLinkLocalUnicast()
	return !kernels && (s.o.Kind != wire.KindMacvlan || !p.IsSingleIP())
}

// hasChildren reports whether a link of the host is the parent of others, in any
// namespace: of some kinds or, without any, of all. Namespaces that can't be looked at are
// passed over.
func (h *Parents) hasChildren(on *rtnl.Link, kinds ...string) (found bool, err error) {
	here, err := h.Root.RT.Links()
	if err != nil || hasChild(here, on, rtnl.Here, kinds) {
		return true, err
	}
	own, err := netns.Open("/proc/thread-self/ns/net")
	if err != nil {
		return true, err
	}
	defer own.Close()
	eachNetNS(func(rt *rtnl.Conn) (done bool, err error) {
		list, err := rt.Links() // that gives the host's namespace a number there, if a link leads to it
		if err != nil {
			return false, err
		}
		host, err := rt.NSID(own.Fd())
		found = err == nil && host != rtnl.Here && hasChild(list, on, host, kinds)
		return found, err
	})
	return found, nil
}

// hasChild reports whether one of the links is on a link of the namespace of a number. The
// other end of a veth is not.
func hasChild(list []*rtnl.Link, on *rtnl.Link, nsid int, kinds []string) bool {
	return slices.ContainsFunc(list, func(l *rtnl.Link) bool {
		return l.Peer == on.Index && l.NSID == nsid && l.Kind != "veth" && (kinds == nil || slices.Contains(kinds, l.Kind))
	})
}

// eachNetNS calls f with a socket in each network namespace that a process is in, until f
// has done. Namespaces that can't be looked at are passed over.
func eachNetNS(f func(rt *rtnl.Conn) (done bool, err error)) {
	over := false
	_ = proc.EachNetNS(func(ns *netns.NS) error {
		if over {
			return nil
		}
		rt, err := dialIn(ns)
		if err != nil {
			return err
		}
		defer rt.Close()
		over, err = f(rt)
		return err
	})
}

// HasChild reports whether a namespace that a process is in, or has mounted or open, has an
// attachment's interface. The error is of namespaces that could not be looked at.
func (h *Parents) HasChild(owner wire.Attachment) (found bool, err error) {
	err = proc.EachNetNS(func(ns *netns.NS) error {
		if found {
			return nil
		}
		rt, err := dialIn(ns)
		if err != nil {
			return err
		}
		defer rt.Close()
		for _, kind := range []string{wire.KindMacvlan, wire.KindIpvlan} {
			list, err := rt.LinksOf(kind)
			if err != nil {
				return err
			}
			c := child{h, &wire.Child{Owner: owner, Kind: kind}}
			found = found || slices.ContainsFunc(list, func(l *rtnl.Link) bool {
				// The container may have taken its alias away. A kernel without the kind lists all links.
				return c.ours(l) || l.Kind == kind && l.Alias == "" && l.Name == owner.IfName
			})
		}
		return nil
	})
	return found, err
}

func dialIn(ns *netns.NS) (rt *rtnl.Conn, err error) {
	err = ns.Do(func() (err error) {
		rt, err = rtnl.Dial()
		return err
	})
	return rt, err
}
