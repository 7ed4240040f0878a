package xfrm

import (
	"errors"

	"dcni/pkg/wire"
)

// A Kernel is the IPsec of one network namespace, as a [wire.Host] of states and policies.
type Kernel struct{ *Conn }

// Ensure makes a state or a policy so.
func (k Kernel) Ensure(o wire.Object) (bool, error) {
	switch o := o.(type) {
	case *wire.XfrmState:
		return k.EnsureState(o)
	case *wire.XfrmPolicy:
		return k.EnsurePolicy(o)
	}
	return false, errors.ErrUnsupported
}

// Check compares one with the kernel's.
func (k Kernel) Check(o wire.Object) error {
	switch o := o.(type) {
	case *wire.XfrmState:
		return k.CheckState(o)
	case *wire.XfrmPolicy:
		return k.CheckPolicy(o)
	}
	return errors.ErrUnsupported
}

// Remove removes one.
func (k Kernel) Remove(o wire.Object) error {
	switch o := o.(type) {
	case *wire.XfrmState:
		return k.RemoveState(o)
	case *wire.XfrmPolicy:
		return k.RemovePolicy(o)
	}
	return errors.ErrUnsupported
}

// Probe tells whether states can be made.
func (k Kernel) Probe(o wire.Object) error {
	switch o := o.(type) {
	case *wire.XfrmState:
		return k.Conn.Probe(o.Dst.Is6())
	case *wire.XfrmPolicy:
		return k.Conn.Probe(o.Dst.Addr().Is6())
	}
	return errors.ErrUnsupported
}

// ESP returns the states that dcni made, and the policies that name one.
func (k Kernel) ESP() (states []wire.XfrmUse, policies []*wire.XfrmPolicy, err error) {
	list, err := k.States()
	if err != nil {
		return nil, nil, err
	}
	for _, s := range list {
		states = append(states, wire.XfrmUse{Src: s.Src, Dst: s.Dst, SPI: s.SPI, Port: s.Port, Packets: s.Packets})
	}
	policies, err = k.Policies()
	return states, policies, err
}
