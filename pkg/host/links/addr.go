package links

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
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
		err = &wire.Error{
			Code: wire.CodeAddressTaken, Taken: a.o.Prefix.Addr(),
			Msg: fmt.Sprintf("address %s: another ipvlan on the same parent has it", a.o.Prefix.Addr()),
		}
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

// noAddr is a [wire.NoAddr].
type noAddr struct {
	h *Links
	o *wire.NoAddr
}

func (n noAddr) Ensure() (bool, error) {
	list, err := n.have()
	for _, p := range list {
		if err := n.h.takeAddr(&wire.Addr{Dev: n.o.Dev, Prefix: p}); err != nil {
			return true, err
		}
	}
	return len(list) > 0, err
}

func (n noAddr) Check() error {
	list, err := n.have()
	if err == nil && len(list) > 0 {
		err = fmt.Errorf("has %s", list[0])
	}
	return err
}

// have returns the link's addresses within the prefix.
func (n noAddr) have() ([]netip.Prefix, error) {
	rt, l, err := n.h.Link("", n.o.Dev)
	if err != nil {
		return nil, err
	}
	list, err := rt.Addrs(l.Index, int(rtnl.Family(n.o.In.Addr())))
	return slices.DeleteFunc(list, func(p netip.Prefix) bool { return !n.o.In.Contains(p.Addr()) }), err
}

func (n noAddr) Remove() error { return nil }
func (n noAddr) Probe() error  { return nil }

// takeAddr takes an address of the host. Those of its subnet that an owner has added since
// must not go with it, as the kernel has it otherwise.
func (h *Links) takeAddr(o *wire.Addr) error {
	keep := setting{h, &wire.Sysctl{Path: "net/ipv4/conf/" + o.Dev + "/promote_secondaries", Value: "1"}}
	if o.Prefix.Addr().Is4() {
		if _, err := keep.Ensure(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return errors.Join(h.Of(o).Remove(), keep.Remove())
}
