package links

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"dcni/pkg/host/rtnl"
	"dcni/pkg/host/spaces"
	"dcni/pkg/wire"
)

// rateLimit is a [wire.RateLimit].
type rateLimit struct {
	h *Links
	o *wire.RateLimit
}

const tokenBucket = "tbf"

func (r rateLimit) want() rtnl.TokenBucket {
	return rtnl.TokenBucket{Rate: r.o.Rate, Burst: r.o.Burst, Limit: r.o.Limit()}
}

func (r rateLimit) Ensure() (bool, error) {
	rt, l, err := r.h.Link(r.o.NetNS, r.o.Dev)
	if err != nil {
		return false, err
	}
	kind, have, err := rt.RootQdisc(l.Index)
	if err != nil || kind == tokenBucket && have.Same(r.want()) {
		return false, err
	}
	return true, noTokenBucket(rt.SetTokenBucket(l.Index, r.want()))
}

func (r rateLimit) Check() error {
	rt, l, err := r.h.Link(r.o.NetNS, r.o.Dev)
	if err != nil {
		return err
	}
	kind, have, err := rt.RootQdisc(l.Index)
	switch {
	case err != nil:
		return err
	case kind != tokenBucket:
		return fmt.Errorf("is %s", kind)
	case !have.Same(r.want()):
		return fmt.Errorf("is rate %dbit limit %d", have.Rate*8, have.Limit)
	}
	return nil
}

func (r rateLimit) Remove() error {
	rt, l, err := r.h.Link(r.o.NetNS, r.o.Dev)
	if err == nil {
		err = rt.RemoveRootQdisc(l.Index)
	}
	if err != nil && !spaces.Gone(err) && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}

func (r rateLimit) Probe() error { return nil }

// noTokenBucket says what the kernel's error means where it lacks the kind of queue.
func noTokenBucket(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		return &wire.Error{Code: wire.CodeUnavailable, Msg: "kernel has no token bucket for rates (module sch_tbf)", Err: err}
	}
	return err
}
