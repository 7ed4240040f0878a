package host

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"dcni/pkg/netns"
	"dcni/pkg/wire"
)

// Enter opens a sandbox.
func (h *Host) Enter(path string) (wire.Sandbox, error) {
	s, err := h.sandbox(path)
	if err != nil {
		return wire.Sandbox{}, err
	}
	own, err := h.root.cookie()
	if err != nil {
		return wire.Sandbox{}, err
	}
	cookie, err := s.cookie()
	return wire.Sandbox{Cookie: cookie, Own: cookie == own}, err
}

// cookie returns the namespace's, see [netns.NS.Cookie].
func (s *sandbox) cookie() (uint64, error) {
	cookie, err := unix.GetsockoptUint64(s.rt.conn.fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	return cookie, os.NewSyscallError("getsockopt", err)
}

// ownNetNS is the host's network namespace: that of the process, whose first
// thread never leaves it.
const ownNetNS = "/proc/self/ns/net"

// Still reports whether a path still leads to the namespace that was entered.
func (h *Host) Still(path string) bool {
	now, err := netns.Open(path)
	if err != nil {
		return false
	}
	defer now.Close()
	s, err := h.sandbox(path)
	return err == nil && s.ns.Same(now)
}

// Lives reports whether the namespace of a cookie is still at a path. What can't
// be told lives.
func Lives(path string, cookie uint64) bool {
	ns, err := netns.Open(path)
	if err != nil {
		return !errors.Is(err, os.ErrNotExist) && !errors.Is(err, netns.ErrNotNetNS)
	}
	defer ns.Close()
	now, err := ns.Cookie()
	return err != nil || now == cookie
}

// Survey looks at a sandbox for a plugin that makes no interface in it.
func (h *Host) Survey(path string) (wire.Survey, error) {
	found, err := h.Enter(path)
	if err != nil || found.Own {
		return wire.Survey{Sandbox: found}, err
	}
	links, err := h.sandboxLinks(path)
	return wire.Survey{Sandbox: found, Links: links, Fixed: fixed(path)}, err
}

// fixed reports whether nothing can be mounted over a path. What is open shows
// by its name how it was reached: a mounted file by its path, a process's
// namespace as net:[4026531840].
func fixed(path string) bool {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return false // gone, which shows soon enough
	}
	defer unix.Close(fd)
	name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	return err == nil && !filepath.IsAbs(name)
}

// Inside lists the processes in a namespace.
func (h *Host) Inside(path string) ([]string, error) {
	want, err := nsAt(path)
	if err != nil {
		return nil, netnsError(path, err)
	}
	var list []string
	for p := range processes() {
		if p.namespace("net") == want {
			list = append(list, p.String())
		}
	}
	return list, nil
}

// fallbacks are the links that the kernel puts into every new namespace once a
// tunnel's module is loaded (kernel documentation, admin-guide/sysctl/net,
// fb_tunnels_only_for_init_net). They are down, and nobody's.
var fallbacks = []string{
	"tunl0", "gre0", "gretap0", "erspan0", "sit0", "ip_vti0", "ip6_vti0", "ip6tnl0", "ip6gre0",
}

// sandboxLinks lists a namespace's links besides lo and the kernel's own.
func (h *Host) sandboxLinks(path string) ([]string, error) {
	s, err := h.sandbox(path)
	if err != nil {
		return nil, err
	}
	list, err := s.rt.links()
	var names []string
	for _, l := range list {
		if l.index != loIndex && (l.up() || !slices.Contains(fallbacks, l.name)) {
			names = append(names, l.name)
		}
	}
	return names, err
}

// loIndex is lo's in every namespace: it is the first link there
// (LOOPBACK_IFINDEX in the kernel's net/flow.h).
const loIndex = 1

// Addresses returns the addresses by which a namespace speaks to others, at most
// one of each family; lo's where it can't.
func (h *Host) Addresses(path string) ([]netip.Prefix, error) {
	s, err := h.in(path)
	if err != nil {
		return nil, err
	}
	var list []netip.Prefix
	for _, to := range wayOut {
		p, err := s.rt.speaksAs(to)
		if err != nil {
			return nil, err
		}
		if p.IsValid() {
			list = append(list, p)
		}
	}
	if len(list) > 0 {
		return list, nil
	}
	return s.rt.loopback()
}

// Loopback returns the addresses that a namespace's lo has once it is up.
func (h *Host) Loopback(path string) ([]netip.Prefix, error) {
	s, err := h.in(path)
	if err != nil {
		return nil, err
	}
	return s.rt.loopback()
}

// speaksAs returns the address that packets to another one carry; where there
// is no route to that, the first that others could reach; the zero Prefix where
// there is none of that family.
func (r *rtnl) speaksAs(to netip.Addr) (netip.Prefix, error) {
	_, source, err := r.wayTo(to)
	if err != nil {
		source = netip.Addr{} // no route
	}
	family := unix.AF_INET
	if to.Is6() {
		family = unix.AF_INET6
	}
	list, err := r.addrs(0, family)
	if err != nil {
		return netip.Prefix{}, err
	}
	var first netip.Prefix
	for _, p := range list {
		a := p.Addr()
		if a == source {
			return p, nil
		}
		if !first.IsValid() && !a.IsLoopback() && !a.IsLinkLocalUnicast() {
			first = p
		}
	}
	return first, nil
}

// loopback returns the addresses that lo has, or will have when it comes up.
func (r *rtnl) loopback() ([]netip.Prefix, error) {
	lo, err := r.linkAt(loIndex)
	if err != nil {
		return nil, err
	}
	list := []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}
	off, err := devconfs["ipv6/disable_ipv6"].of(lo)
	if err == nil && off == "0" {
		list = append(list, netip.MustParsePrefix("::1/128"))
	}
	return list, nil
}
