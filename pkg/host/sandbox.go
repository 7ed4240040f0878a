package host

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/proc"
	"dcni/pkg/host/rtnl"
	"dcni/pkg/host/shared"
	"dcni/pkg/host/spaces"
	"dcni/pkg/names"
	"dcni/pkg/netns"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// OpenNetNS opens a sandbox.
func (h *Host) OpenNetNS(path string) (wire.Sandbox, error) { return h.spaces.Sandbox(path) }

// HasLink is [spaces.Set.HasLink].
func (h *Host) HasLink(netns, name string) (bool, error) { return h.spaces.HasLink(netns, name) }

// SameNetNS reports whether a path still leads to the namespace that was entered.
func (h *Host) SameNetNS(path string) bool {
	now, err := netns.Open(path)
	if err != nil {
		return false
	}
	defer now.Close()
	s, err := h.spaces.Open(path)
	return err == nil && s.NS.Same(now)
}

// CloseNetNS closes a sandbox that was opened, if any, and forgets what links there
// are.
func (h *Host) CloseNetNS(path string) { h.spaces.Forget(path) }

// NetNSAlive is [netns.Alive].
func (h *Host) NetNSAlive(path string, cookie uint64) bool { return netns.Alive(path, cookie) }

// ReferencedNetNS is [proc.ReferencedNetNS].
func (h *Host) ReferencedNetNS() (map[uint64]bool, error) { return proc.ReferencedNetNS() }

// IPv6Off reports whether IPv6 is switched off on a link of a namespace.
func (h *Host) IPv6Off(netns, link string) (bool, error) {
	_, l, err := h.spaces.Link(netns, link)
	return err == nil && rtnl.DisableIPv6.Is(l, "1"), err
}

// NetNSInfo looks at a sandbox for a plugin that makes no interface in it.
func (h *Host) NetNSInfo(path string) (wire.NetNSInfo, error) {
	found, err := h.OpenNetNS(path)
	if err != nil || found.Own {
		return wire.NetNSInfo{Sandbox: found}, err
	}
	links, err := h.sandboxLinks(path)
	return wire.NetNSInfo{Sandbox: found, Links: links, Fixed: fixed(path)}, err
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

// How long a plugin that the runtime calls at the same time may take in a sandbox:
// containerd calls loopback so, which is there for some milliseconds.
const (
	passing     = 500 * time.Millisecond
	passingLook = 10 * time.Millisecond
)

// ProcessesIn lists the processes in a namespace that stay there.
func (h *Host) ProcessesIn(path string) (list []string, err error) {
	want, err := netns.At(path)
	if err != nil {
		return nil, spaces.Error(path, err)
	}
	for begin := time.Now(); ; time.Sleep(passingLook) {
		list = nil
		for p := range proc.All() {
			if p.Namespace("net") == want {
				list = append(list, p.String())
			}
		}
		if len(list) == 0 || time.Since(begin) > passing {
			return list, nil
		}
	}
}

// fallbacks are the links that the kernel puts into every new namespace once a
// tunnel's module is loaded (kernel documentation, admin-guide/sysctl/net,
// fb_tunnels_only_for_init_net). They are down, and no program uses them.
var fallbacks = []string{
	"tunl0", "gre0", "gretap0", "erspan0", "sit0", "ip_vti0", "ip6_vti0", "ip6tnl0", "ip6gre0",
}

// sandboxLinks lists a namespace's links besides lo and the kernel's own.
func (h *Host) sandboxLinks(path string) ([]string, error) {
	s, err := h.spaces.Open(path)
	if err != nil {
		return nil, err
	}
	list, err := s.RT.Links()
	var names []string
	for _, l := range list {
		if l.Index != rtnl.LoIndex && (l.Up() || !slices.Contains(fallbacks, l.Name)) {
			names = append(names, l.Name)
		}
	}
	return names, err
}

// Addresses returns the addresses by which a namespace speaks to others, at most
// one of each family; lo's where it can't.
func (h *Host) Addresses(path string) ([]netip.Prefix, error) {
	s, err := h.spaces.Look(path)
	if err != nil {
		return nil, err
	}
	var list []netip.Prefix
	for _, to := range rtnl.Internet {
		p, err := s.RT.SourceFor(to)
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
	return s.RT.Loopback()
}

// Loopback returns the addresses that a namespace's lo has once it is up.
func (h *Host) Loopback(path string) ([]netip.Prefix, error) {
	s, err := h.spaces.Look(path)
	if err != nil {
		return nil, err
	}
	return s.RT.Loopback()
}

// DefaultRoutes is [links.Links.DefaultRoutes].
func (h *Host) DefaultRoutes(netns, link string) ([]*wire.Route, error) {
	return h.links.DefaultRoutes(netns, link)
}

// Donors is [shared.Shared.Donors].
func (h *Host) Donors() ([]network.Donor, error) { return h.shared().Donors() }

// NetNSOf is [shared.Shared.NetNSOf].
func (h *Host) NetNSOf(d *network.Donor) (string, wire.Sandbox) { return h.shared().NetNSOf(d) }

// Bundle is [shared.Shared.Bundle].
func (h *Host) Bundle(container string) names.Identity { return h.shared().Bundle(container) }

// PopCommand is [shared.PopCommand].
const PopCommand = shared.PopCommand

// Pop is [shared.Shared.Pop].
func (h *Host) Pop(a wire.Attachment, plugin string) error { return h.shared().Pop(a, plugin) }

// LeadToNameServer is [nameserver.Resolvers.Lead].
func (h *Host) LeadToNameServer(r *names.Resolver) error { return h.resolvers().Lead(r) }
