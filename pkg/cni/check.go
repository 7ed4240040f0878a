package cni

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"dcni/pkg/network"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// Check compares an attachment with its record and returns every difference.
func (e *Engine) Check(r *Request) error {
	mode, err := parse(e.Plugin, r.conf)
	if err != nil {
		return err
	}
	d, k := mode.Describe(), kindOf(e.Plugin)
	if err := k.readRuntime(r, d); err != nil {
		return err
	}
	if r.Prev == nil {
		return errNoPrev("CHECK needs the result of ADD")
	}
	lock, err := e.Locks.LockAttachmentToRead(r.Attachment)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	rec, err := e.attached(r, d)
	if err != nil {
		return err
	}
	rec.NetNS = r.NetNS // the same namespace, by whichever path
	plan, _, err := e.replan(rec)
	if err != nil {
		return err
	}
	own := e.inSandbox(rec, plan.Own)
	return errors.Join(
		e.checkDonor(rec), wire.Check(e.Host, plan.Host), e.checkNetwork(rec, plan.Network), wire.Check(e.Host, own),
		e.lacksChained(rec), sameResult(r, rec), e.noOtherWay(r, own), k.source(e, d).Check(r, rec.Addresses))
}

// checkNetwork compares the network's objects. Where its file has changed since the attachment
// was made, they are as the youngest attachment has them, as with healing.
func (e *Engine) checkNetwork(rec *records.Record, objects []wire.Object) error {
	differs := wire.Check(e.Host, objects)
	if differs == nil {
		return nil
	}
	list, err := e.Index.List(rec.Network)
	if err != nil {
		return differs
	}
	youngest := rec
	for _, other := range list {
		if other.State == records.Up && other.Plugin == e.Plugin.Type && other.Compare(youngest) > 0 {
			youngest = other
		}
	}
	if youngest == rec {
		return differs
	}
	plan, _, err := e.replan(youngest)
	if err != nil {
		return differs
	}
	return wire.Check(e.Host, plan.Network)
}

// noOtherWay tells of default routes through the attachment's interface that win over
// its own, and that no plugin of the chain has made. Healing leaves them: without a
// router advertisement, it was a program in the sandbox that made them.
func (e *Engine) noOtherWay(r *Request, own []wire.Object) error {
	if e.Plugin.Kind != network.MakesInterface {
		return nil
	}
	list, err := e.Sandboxes.DefaultRoutes(r.NetNS, r.IfName)
	if err != nil {
		return nil //nolint:nilerr // without a link there are none
	}
	for _, o := range own {
		if a, ok := o.(*wire.Autoconf); ok && !a.RefusesRA() {
			list = slices.DeleteFunc(list, func(r *wire.Route) bool { return r.Dst.Addr().Is6() })
		}
	}
	return otherWays(list, own, r.Prev.Routes)
}

// otherWays compares default routes with those of a plan and of a result.
func otherWays(list []*wire.Route, own []wire.Object, result []*types.Route) error {
	planned := func(have *wire.Route) bool {
		return slices.ContainsFunc(own, func(o wire.Object) bool {
			r, ok := o.(*wire.Route)
			return ok && r.Dst == have.Dst && r.Via == have.Via
		})
	}
	chained := func(have *wire.Route) bool {
		return slices.ContainsFunc(result, func(t *types.Route) bool {
			ones, _ := t.Dst.Mask.Size()
			gw, _ := netip.AddrFromSlice(t.GW)
			return ones == 0 && gw.Unmap() == have.Via
		})
	}
	best := map[netip.Prefix]int{}
	for _, have := range list {
		if metric, ok := best[have.Dst]; planned(have) && (!ok || have.Metric < metric) {
			best[have.Dst] = have.Metric
		}
	}
	var errs []error
	for _, have := range list {
		if metric, ok := best[have.Dst]; !planned(have) && !chained(have) && (!ok || have.Metric < metric) {
			errs = append(errs, fmt.Errorf("%s: is not the network's", have))
		}
	}
	return errors.Join(errs...)
}

// attached returns the record of an attachment that is up, in the sandbox that
// the runtime names.
func (e *Engine) attached(r *Request, d network.Description) (*records.Record, error) {
	rec, err := e.Records.Get(r.Attachment, e.Plugin.Type)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, wire.Errorf(wire.CodeUnknown, "%s is not attached", r.Attachment)
	case err != nil:
		return nil, err
	case rec.State != records.Up:
		return nil, wire.Errorf(wire.CodeInternal, "%s is not up: its record says %s", r.Attachment, rec.State)
	}
	found, err := e.enter(r, d)
	if err != nil {
		return nil, err
	}
	if !at(rec, found) {
		return nil, wire.Errorf(wire.CodeNetNS, "CNI_NETNS %q: is another namespace than the one attached (%s)", r.NetNS, rec.NetNS)
	}
	return rec, nil
}

// inSandbox returns an attachment's own objects as they are to be by now: without IPv6
// where the sandbox's owner has switched it off, and where one is not as ADD left it, or the
// interface was made again, as plugins further down the chain had set them.
func (e *Engine) inSandbox(rec *records.Record, own []wire.Object) []wire.Object {
	if off, err := e.Sandboxes.IPv6Off(rec.NetNS, rec.IfName); err == nil && off {
		own = wire.WithoutIPv6(own)
	}
	differs := func(o wire.Object) bool {
		switch o.(type) {
		case *wire.Veth, *wire.Child, *wire.Sysctl, *wire.Autoconf:
			return e.Host.Check(o) != nil
		}
		return false
	}
	if !rec.Remade && !slices.ContainsFunc(own, differs) {
		return own
	}
	return e.chained(rec).Apply(own)
}

// chained returns what plugins behind this one have set.
func (e *Engine) chained(rec *records.Record) network.Chained {
	return e.Chains.ChainOf(rec.Attachment).Behind(e.Plugin.Type, rec.IfName)
}

// lacksChained tells of an interface that was made again without what plugins behind had given
// it.
func (e *Engine) lacksChained(rec *records.Record) error {
	if !rec.Remade {
		return nil
	}
	return e.lacks(rec, e.chained(rec).Others)
}

func (e *Engine) lacks(rec *records.Record, others []string) error {
	if len(others) == 0 {
		return nil
	}
	return fmt.Errorf("%s was made again after it was deleted, and lacks what plugins behind %s gave it: %s; to attach the container again brings it back",
		rec.IfName, e.Plugin.Type, strings.Join(others, ", "))
}
