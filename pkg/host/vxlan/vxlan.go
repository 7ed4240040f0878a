// Package vxlan makes what an overlay network has on a host besides a bridge: the VXLAN
// device, the entries of forwarding databases and neighbour tables that say where what is
// on other nodes is found, and rules of policy routing.
package vxlan

import (
	"errors"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dcni/pkg/host/rtnl"
	"dcni/pkg/wire"
)

// A Machine is the host's network namespace.
type Machine struct {
	Link    func(name string) (*rtnl.Conn, *rtnl.Link, error)
	Changed func() // a link is being changed: what Link found is good no more
	Library func() (*netlink.Handle, error)
}

// Of returns the kind of an object; nil for one that is none of this package's.
func (m Machine) Of(o wire.Object) wire.Kind {
	switch o := o.(type) {
	case *wire.Vxlan:
		return device{m, o}
	case *wire.FDB:
		if o.Appended() {
			return flood{entry{m, o, fdbEntry(o)}}
		}
		return entry{m, o, fdbEntry(o)}
	case *wire.Neigh:
		return entry{m, o, neighEntry(o)}
	case *wire.Rule:
		return rule{m, o}
	}
	return nil
}

// gone reports whether what was to be removed is not there any more.
func gone(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH)
}
