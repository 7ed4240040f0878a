package links

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/rtnl"
	"dcni/pkg/host/spaces"
	"dcni/pkg/wire"
)

// autoconf is a [wire.Autoconf].
type autoconf struct {
	h *Links
	o *wire.Autoconf
}

func (a autoconf) Ensure() (bool, error) {
	rt, l, err := a.h.Link(a.o.NetNS, a.o.Dev)
	if err != nil {
		return false, err
	}
	changed, err := a.set(rt, l)
	if err != nil || !l.Up() {
		return changed, err
	}
	learned, err := a.learned(rt, l)
	for _, p := range learned.addrs {
		err = errors.Join(err, spaces.UnlessGone(rt.ChangeAddr(unix.RTM_DELADDR, l.Index, p)))
	}
	for _, r := range learned.routes {
		err = errors.Join(err, spaces.UnlessGone(rt.DelRoute(r)))
	}
	return changed || len(learned.addrs)+len(learned.routes) > 0, err
}

// set sets what differs, in one visit to the sandbox.
func (a autoconf) set(rt *rtnl.Conn, l *rtnl.Link) (changed bool, err error) {
	var files []wire.Sysctl
	for _, s := range a.differing(l) {
		d, _ := rtnl.DevConfOf(s.Path)
		if d.Family == unix.AF_INET6 {
			files = append(files, s)
			continue
		}
		if err := d.Set(rt, l, s.Value); err != nil {
			return false, err
		}
		d.Note(l, s.Value)
		changed = true
	}
	// Where a sandbox does not forward, redirects of IPv4 count for a link also if they
	// count for all.
	all := rtnl.Forwarding4.Is(l, "0") && rtnl.AcceptRedirects4.Is(l, "0")
	if !all && len(files) == 0 {
		return changed, nil
	}
	return changed || len(files) > 0, a.h.Run(a.o.NetNS, func() error {
		for _, s := range files {
			if err := a.h.WriteProc(a.o.NetNS, s.Path, s.Value); err != nil {
				return err
			}
			d, _ := rtnl.DevConfOf(s.Path)
			d.Note(l, s.Value)
		}
		const allRedirects = "net/ipv4/conf/all/accept_redirects"
		if !all || a.o.Chained[allRedirects] != "" {
			return nil
		}
		if have, err := a.h.ReadProc(a.o.NetNS, allRedirects); err != nil || have != "1" {
			return err
		}
		return a.h.WriteProc(a.o.NetNS, allRedirects, "0")
	})
}

// differing returns the link's settings that differ. A kernel without IPv6 has nothing
// to be switched off.
func (a autoconf) differing(l *rtnl.Link) (list []wire.Sysctl) {
	for _, s := range a.o.Settings() {
		d, _ := rtnl.DevConfOf(s.Path)
		if have, err := d.Value(l); err == nil && have != s.Value {
			s.Was = have
			list = append(list, s)
		}
	}
	return list
}

// learned is what the kernel has learned on a link.
type learned struct {
	addrs  []netip.Prefix
	routes []rtnl.Route
}

// learned lists what was learned from router advertisements where they don't count.
func (a autoconf) learned(rt *rtnl.Conn, l *rtnl.Link) (have learned, err error) {
	if !a.o.RefusesRA() || rtnl.DisableIPv6.Is(l, "1") {
		return have, nil
	}
	all, err := rt.AddrsByOrigin(l.Index, unix.AF_INET6)
	if err != nil {
		return have, err
	}
	routes, err := rt.Routes(unix.AF_INET6, 0, l.Index)
	have.addrs = all.Learned
	for _, r := range routes {
		if isLearned(r, all.Given) {
			have.routes = append(have.routes, r)
		}
	}
	return have, err
}

// isLearned reports whether a route is of a router advertisement: it says so, or it is
// the kernel's own and belongs to no address that the link was given.
func isLearned(r rtnl.Route, given []netip.Prefix) bool {
	switch r.Protocol {
	case unix.RTPROT_RA, unix.RTPROT_REDIRECT:
		return true
	case unix.RTPROT_KERNEL:
		return r.Dst.Addr().IsGlobalUnicast() && !slices.ContainsFunc(given, func(p netip.Prefix) bool { return p.Masked() == r.Dst })
	}
	return false
}

func (a autoconf) Check() error {
	rt, l, err := a.h.Link(a.o.NetNS, a.o.Dev)
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range a.differing(l) {
		if d, _ := rtnl.DevConfOf(s.Path); d.Family == unix.AF_INET6 && rtnl.DisableIPv6.Is(l, "1") {
			continue // it counts for nothing
		}
		errs = append(errs, fmt.Errorf("%s is %s", strings.TrimPrefix(s.Path, "net/"), s.Was))
	}
	learned, err := a.learned(rt, l)
	var words []string
	for _, r := range learned.routes {
		words = append(words, r.String())
	}
	for _, p := range learned.addrs {
		words = append(words, "addr "+p.String())
	}
	if len(words) > 0 {
		errs = append(errs, fmt.Errorf("of router advertisements: %s", strings.Join(words, ", ")))
	}
	return errors.Join(append(errs, err)...)
}

// Remove does nothing: the settings go with the link.
func (a autoconf) Remove() error { return nil }

func (a autoconf) Probe() error { return nil }
