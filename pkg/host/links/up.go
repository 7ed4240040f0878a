package links

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/rtnl"
	"dcni/pkg/host/spaces"
	"dcni/pkg/wire"
)

// up is a [wire.Up].
type up struct {
	h *Links
	o *wire.Up
}

func (u up) Ensure() (bool, error) {
	if u.o.Dev == rtnl.Lo && u.h.loUp(u.o.NetNS) {
		return false, nil
	}
	rt, l, err := u.h.Link(u.o.NetNS, u.o.Dev)
	if err != nil || l.Up() {
		return false, err
	}
	defer u.h.Changed()
	err = rt.SetUp(l.Index, true)
	if errors.Is(err, unix.EADDRINUSE) { // of children of one parent, in whatever namespaces
		err = wire.Errorf(wire.CodeAddressTaken, "MAC %s of %s: already in use on the same parent", l.MAC, u.o.Dev)
	}
	if err != nil {
		return false, err
	}
	return true, rt.AwaitLocal(l.Index)
}

// loUp reports whether a namespace's lo is up, as it mostly is.
func (h *Links) loUp(netns string) bool {
	s, err := h.In(netns)
	if err != nil {
		return false
	}
	return s.RT.LoUp()
}

func (u up) Check() error {
	_, l, err := u.h.Link(u.o.NetNS, u.o.Dev)
	if err == nil && !l.Up() {
		err = fmt.Errorf("is down")
	}
	return err
}

func (u up) Remove() error {
	defer u.h.Changed()
	rt, l, err := u.h.Link(u.o.NetNS, u.o.Dev)
	if err == nil {
		err = rt.SetUp(l.Index, false)
	}
	if err != nil && !spaces.Gone(err) {
		return err
	}
	return nil
}

func (u up) Probe() error { return nil }
