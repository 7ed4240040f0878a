package links

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/proc"
	"dcni/pkg/host/rtnl"
	"dcni/pkg/netns"
	"dcni/pkg/wire"
)

// What STATUS asks beyond what is there already: could the kernel make it? It
// is tried where it leaves nothing, so that an operator hears of a missing
// module before the first container does.

// ProbeKind tells whether the kernel can make links of a kind. One that is
// loaded shows below /sys/module; else a link is made in a namespace of its
// own, which also loads the module where that is allowed.
func ProbeKind(kind string) error {
	if _, err := os.Stat("/sys/module/" + kind); err == nil {
		return nil
	}
	err := netns.Scratch(func() error {
		rt, err := rtnl.Dial()
		if err != nil {
			return err
		}
		defer rt.Close()
		return rt.Change(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, func(m *rtnl.Message) {
			m.IfInfo(0, 0, 0)
			m.Str(unix.IFLA_IFNAME, "probe0")
			info := m.Open(unix.IFLA_LINKINFO)
			m.Raw(unix.IFLA_INFO_KIND, []byte(kind))
			m.Close(info)
		})
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EOPNOTSUPP):
		return NoKind(kind, err)
	case errors.Is(err, unix.EINVAL) && needsParent[kind]:
		return nil // it knows the kind, and misses the parent
	}
	return fmt.Errorf("make a %s link: %w", kind, err)
}

// needsParent are the kinds of links that are made on another.
var needsParent = map[string]bool{wire.KindMacvlan: true, wire.KindIpvlan: true, wire.KindVLAN: true}

// NoKind is the error for a kernel without a kind of links: ADD fails as STATUS said.
func NoKind(kind string, err error) error {
	module := kind
	if kind == wire.KindVLAN {
		module = "8021q"
	}
	return &wire.Error{
		Code: wire.CodeUnavailable,
		Msg:  fmt.Sprintf("kernel has no %s links, and no module %s to load", kind, module), Err: err,
	}
}

var errNoIPv6 = errors.New("the network has IPv6 addresses, and the kernel no IPv6 (booted with ipv6.disable=1?)")

// probeFamily tells whether the kernel has an object's address family.
func probeFamily(o *wire.Addr) error {
	if o.Prefix.Addr().Is4() {
		return nil
	}
	if _, err := os.Stat(proc.SysctlDir + "net/ipv6"); errors.Is(err, fs.ErrNotExist) {
		return errNoIPv6
	}
	return nil
}

// ProbeCookie tells whether namespaces can be told apart.
func ProbeCookie() error {
	_, err := netns.CookieAt(netns.Own)
	if errors.Is(err, unix.ENOPROTOOPT) {
		return fmt.Errorf("kernel is older than 5.14: it has no SO_NETNS_COOKIE: %w", err)
	}
	return err
}
