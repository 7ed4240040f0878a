package host

import (
	"dcni/pkg/host/xfrm"
	"dcni/pkg/wire"
)

// xfrm returns the host's own IPsec.
func (h *Host) xfrm() (xfrm.Kernel, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ipsec == nil {
		conn, err := xfrm.Dial()
		if err != nil {
			return xfrm.Kernel{}, err
		}
		h.ipsec = conn
	}
	return xfrm.Kernel{Conn: h.ipsec}, nil
}

// xfrmObject is a [wire.XfrmState] or a [wire.XfrmPolicy].
type xfrmObject struct {
	h *Host
	o wire.Object
}

func (x xfrmObject) Ensure() (bool, error) {
	k, err := x.h.xfrm()
	if err != nil {
		return false, err
	}
	return k.Ensure(x.o)
}

func (x xfrmObject) Check() error { return x.with(xfrm.Kernel.Check) }

func (x xfrmObject) Remove() error { return x.with(xfrm.Kernel.Remove) }

func (x xfrmObject) Probe() error { return x.with(xfrm.Kernel.Probe) }

func (x xfrmObject) with(do func(xfrm.Kernel, wire.Object) error) error {
	k, err := x.h.xfrm()
	if err != nil {
		return err
	}
	return do(k, x.o)
}

// ESP returns the states of encrypted networks, and the policies that name one.
func (h *Host) ESP() ([]wire.XfrmUse, []*wire.XfrmPolicy, error) {
	k, err := h.xfrm()
	if err != nil {
		return nil, nil, err
	}
	return k.ESP()
}
