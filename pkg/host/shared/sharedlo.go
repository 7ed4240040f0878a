package shared

import (
	"errors"

	"dcni/pkg/host/rtnl"
	"dcni/pkg/network"
	"dcni/pkg/wire"
)

// sharedLo is a [wire.SharedLo].
type sharedLo struct {
	h Shared
	o *wire.SharedLo
}

// lo returns the link and a way to change it, nil where no path leads to the namespace.
func (l sharedLo) lo() (*rtnl.Conn, *rtnl.Link, error) {
	owner := network.Donor{
		Container: l.o.Owner.Container, ID: l.h.Bundle(l.o.Owner.Container).Container,
		Namespaces: []network.Namespace{{Path: l.o.Source, Cookie: l.o.Shared}},
	}
	path, _ := l.h.NetNSOf(&owner)
	if path == "" {
		return nil, nil, nil
	}
	s, err := l.h.Open(path)
	if err != nil {
		return nil, nil, err
	}
	lo, err := s.RT.LinkByIndex(rtnl.LoIndex)
	return s.RT, lo, err
}

// Ensure is before the bind's, whose reaper takes an lo that is down for the sign that it
// must go.
func (l sharedLo) Ensure() (bool, error) {
	rt, lo, err := l.lo()
	if err != nil || lo == nil || lo.Up() {
		return false, err
	}
	return rt.RaiseLo()
}

func (l sharedLo) Check() error {
	_, lo, err := l.lo()
	if err == nil && lo != nil && !lo.Up() {
		err = errors.New("is down")
	}
	return err
}

func (l sharedLo) Remove() error { return nil }
func (l sharedLo) Probe() error  { return nil }
