package vxlan

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dcni/pkg/host/spaces"
	"dcni/pkg/wire"
)

// rule is a [wire.Rule].
type rule struct {
	Machine
	o *wire.Rule
}

func (r rule) library() *netlink.Rule {
	n := netlink.NewRule()
	n.Family = unix.AF_INET
	if r.o.Family == 6 {
		n.Family = unix.AF_INET6
	}
	n.Priority, n.IifName, n.Table = r.o.Priority, r.o.IIF, r.o.Table
	if r.o.Mask != 0 {
		mask := r.o.Mask
		n.Mark, n.Mask = r.o.Mark, &mask
	}
	return n
}

// there lists the rules of the same key.
func (r rule) there() (*netlink.Handle, []netlink.Rule, error) {
	nl, err := r.Library()
	if err != nil {
		return nil, nil, err
	}
	want := r.library()
	list, err := spaces.Dump(func() ([]netlink.Rule, error) { return nl.RuleList(want.Family) })
	if err != nil {
		return nil, nil, err
	}
	var same []netlink.Rule
	for _, have := range list {
		have.Family = want.Family
		mask := uint32(0)
		if have.Mask != nil {
			mask = *have.Mask
		}
		if have.Priority == want.Priority && have.IifName == want.IifName && mask == r.o.Mask && have.Mark == r.o.Mark&r.o.Mask {
			same = append(same, have)
		}
	}
	return nl, same, nil
}

// Ensure adds the rule before it deletes those of the same key that lead elsewhere.
func (r rule) Ensure() (bool, error) {
	nl, same, err := r.there()
	if err != nil {
		return false, err
	}
	var errs []error
	found := false
	for _, have := range same {
		found = found || have.Table == r.o.Table
	}
	if !found {
		if err := nl.RuleAdd(r.library()); err != nil && !errors.Is(err, unix.EEXIST) {
			return false, err
		}
	}
	changed := !found
	for _, have := range same {
		if have.Table != r.o.Table {
			changed = true
			errs = append(errs, nl.RuleDel(&have))
		}
	}
	return changed, errors.Join(errs...)
}

// Check tells where it leads.
func (r rule) Check() error {
	_, same, err := r.there()
	if err != nil {
		return err
	}
	err = errMissing
	for _, have := range same {
		if have.Table != r.o.Table {
			return fmt.Errorf("leads to table %d", have.Table)
		}
		err = nil
	}
	return err
}

// Remove deletes it, wherever it leads.
func (r rule) Remove() error {
	nl, same, err := r.there()
	errs := []error{err}
	for _, have := range same {
		if err := nl.RuleDel(&have); !gone(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Probe has nothing to ask.
func (r rule) Probe() error { return nil }
