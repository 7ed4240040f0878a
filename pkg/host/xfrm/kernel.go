package xfrm

import (
	"errors"
	"sync"

	"dcni/pkg/wire"
)

// A Kernel is the IPsec of one network namespace, as a [wire.Host] of states and policies.
// Its socket is opened when it is first used, in the namespace of the calling thread. Close
// it after use.
type Kernel struct {
	mu     sync.Mutex
	opened *Conn
}

// conn returns the socket.
func (k *Kernel) conn() (*Conn, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.opened != nil {
		return k.opened, nil
	}
	conn, err := Dial()
	if err == nil {
		k.opened = conn
	}
	return conn, err
}

// Close gives the socket back, where it was opened.
func (k *Kernel) Close() {
	if k.opened != nil {
		k.opened.Close()
	}
}

// Ensure makes a state or a policy so.
func (k *Kernel) Ensure(o wire.Object) (bool, error) {
	c, err := k.conn()
	if err != nil {
		return false, err
	}
	switch o := o.(type) {
	case *wire.XfrmState:
		return c.EnsureState(o)
	case *wire.XfrmPolicy:
		return c.EnsurePolicy(o)
	}
	return false, errors.ErrUnsupported
}

// Check compares one with the kernel's.
func (k *Kernel) Check(o wire.Object) error {
	c, err := k.conn()
	if err != nil {
		return err
	}
	switch o := o.(type) {
	case *wire.XfrmState:
		return c.CheckState(o)
	case *wire.XfrmPolicy:
		return c.CheckPolicy(o)
	}
	return errors.ErrUnsupported
}

// Remove removes one.
func (k *Kernel) Remove(o wire.Object) error {
	c, err := k.conn()
	if err != nil {
		return err
	}
	switch o := o.(type) {
	case *wire.XfrmState:
		return c.RemoveState(o)
	case *wire.XfrmPolicy:
		return c.RemovePolicy(o)
	}
	return errors.ErrUnsupported
}

// Probe tells whether states can be made.
func (k *Kernel) Probe(o wire.Object) error {
	c, err := k.conn()
	if err != nil {
		return err
	}
	switch o := o.(type) {
	case *wire.XfrmState:
		return c.Probe(o.Dst.Is6())
	case *wire.XfrmPolicy:
		return c.Probe(o.Dst.Addr().Is6())
	}
	return errors.ErrUnsupported
}

// ESP returns the states that dcni made, and the policies that name one.
func (k *Kernel) ESP() (states []wire.XfrmUse, policies []*wire.XfrmPolicy, err error) {
	c, err := k.conn()
	if err != nil {
		return nil, nil, err
	}
	list, err := c.States()
	if err != nil {
		return nil, nil, err
	}
	for _, s := range list {
		states = append(states, wire.XfrmUse{Src: s.Src, Dst: s.Dst, SPI: s.SPI, Port: s.Port, Packets: s.Packets})
	}
	policies, err = c.Policies()
	return states, policies, err
}
