package links

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/rtnl"
	"dcni/pkg/host/spaces"
	"dcni/pkg/wire"
)

// addr is a [wire.Addr].
type addr struct {
	h *Links
	o *wire.Addr
}

func (a addr) Ensure() (bool, error) {
	rt, l, err := a.h.Link(a.o.NetNS, a.o.Dev)
	if err != nil {
		return false, err
	}
	err = rt.ChangeAddr(unix.RTM_NEWADDR, l.Index, a.o.Prefix)
	if errors.Is(err, unix.EEXIST) {
		// IPv6 answers so when the address is on this very link, IPv4 too:
		// either finds only its own link's.
		return a.ensureOnLink(rt, l)
	}
	if errors.Is(err, unix.EADDRINUSE) { // of ipvlans alone, and in whichever namespace
		err = wire.Errorf(wire.CodeAddressTaken, "address %s: another ipvlan on the same parent has it", a.o.Prefix.Addr())
	}
	if err == nil && l.Up() && a.o.Prefix.Addr().Is6() { // where it is down, the kernel begins when it comes up
		return true, rt.AwaitLocal(l.Index)
	}
	return err == nil, err
}

func (a addr) Check() error {
	rt, l, err := a.h.Link(a.o.NetNS, a.o.Dev)
	if err != nil {
		return err
	}
	list, err := rt.Addrs(l.Index, int(rtnl.Family(a.o.Prefix.Addr())))
	if err == nil && !slices.Contains(list, a.o.Prefix) {
		err = fmt.Errorf("missing")
	}
	if err == nil && a.lacksOnLink(rt, l) {
		err = fmt.Errorf("its on-link route is missing")
	}
	return err
}

// lacksOnLink reports whether the route that the kernel makes with an address is
// missing. In a sandbox, plugins behind ours in the chain may have put it into
// another table.
func (a addr) lacksOnLink(rt *rtnl.Conn, l *rtnl.Link) bool {
	return a.o.NetNS == "" && l.Up() && !rt.ReachesOnLink(l.Index, a.o.Prefix)
}

func (a addr) ensureOnLink(rt *rtnl.Conn, l *rtnl.Link) (bool, error) {
	if !a.lacksOnLink(rt, l) {
		return false, nil
	}
	err := rt.AddOnLink(l.Index, a.o.Prefix)
	if errors.Is(err, unix.EEXIST) {
		return false, nil
	}
	return err == nil, err
}

func (a addr) Remove() error {
	rt, l, err := a.h.Link(a.o.NetNS, a.o.Dev)
	if err == nil {
		err = rt.ChangeAddr(unix.RTM_DELADDR, l.Index, a.o.Prefix)
	}
	if err != nil && !spaces.Gone(err) {
		return err
	}
	return nil
}

func (a addr) Probe() error { return probeFamily(a.o) }
