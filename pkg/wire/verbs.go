package wire

import (
	"errors"
	"slices"
)

// Ensure makes the objects so, in order, and returns those that it changed.
// On an error it takes those away again, newest first, and returns none: only
// what this call made is undone.
func Ensure(h Host, objects []Object) ([]Object, error) {
	var changed []Object
	for _, o := range objects {
		did, err := h.Ensure(o)
		if did {
			changed = append(changed, o)
		}
		if err != nil {
			err = opError("ensure", o, err)
			return nil, errors.Join(err, Undo(h, changed))
		}
	}
	return changed, nil
}

// Stages splits an attachment's objects before its first address: its link, and
// what is set on it, are the first stage, its addresses and what comes after them
// the second. Where an address is only known, or only known to be free, once the
// link is there (DHCP, duplicate detection), that is found out in between.
func Stages(own []Object) (link, addresses []Object) {
	first := slices.IndexFunc(own, func(o Object) bool { _, ok := o.(*Addr); return ok })
	if first < 0 {
		return own, nil
	}
	return own[:first:first], own[first:]
}

// Undo removes what Ensure changed, newest first. It goes on past errors and
// joins them.
func Undo(h Host, changed []Object) error {
	var errs []error
	for _, o := range slices.Backward(changed) {
		if err := h.Remove(o); err != nil {
			errs = append(errs, opError("remove", o, err))
		}
	}
	return errors.Join(errs...)
}

// Apply makes what is wanted so and then removes the rest of what is there: in
// this order, what is in both sets is never without, and what replaces another
// is there before that one goes. Two objects of one key are one thing, with
// other contents. Apply goes on past errors and joins them. It returns what it
// really reached, for the caller to give as have the next time: what is wanted
// and there, and what could not be replaced or removed.
func Apply(h Host, have, want []Object) (reached []Object, err error) {
	var errs []error
	wanted, there := byKey(want), byKey(have)
	for _, o := range want {
		changed, err := h.Ensure(o)
		if err == nil || changed {
			reached = append(reached, o) // with an error: half made, so to be removed one day
		} else if old, ok := there[o.Key()]; ok {
			reached = append(reached, old)
		}
		if err != nil {
			errs = append(errs, opError("ensure", o, err))
		}
	}
	for _, o := range slices.Backward(have) {
		if _, ok := wanted[o.Key()]; ok {
			continue
		}
		if err := h.Remove(o); err != nil {
			errs = append(errs, opError("remove", o, err))
			reached = append(reached, o)
		}
	}
	return reached, errors.Join(errs...)
}

func byKey(objects []Object) map[string]Object {
	m := make(map[string]Object, len(objects))
	for _, o := range objects {
		m[o.Key()] = o
	}
	return m
}

// Check compares the objects with the machine and returns every difference,
// joined, or nil.
func Check(h Host, objects []Object) error {
	var errs []error
	for _, o := range objects {
		if err := h.Check(o); err != nil {
			errs = append(errs, opError("check", o, err))
		}
	}
	return errors.Join(errs...)
}

// So reports whether all objects are there as described. Unlike [Check] it
// stops at the first that is not.
func So(h Host, objects []Object) bool {
	return !slices.ContainsFunc(objects, func(o Object) bool { return h.Check(o) != nil })
}

// Del removes the attachment's own objects: those that are a [Root], for the
// rest goes with them. What is gone already is no error; it goes on past
// errors and joins them.
func Del(h Host, own []Object) error {
	var roots []Object
	for _, o := range slices.Backward(own) {
		if _, ok := o.(Root); ok {
			roots = append(roots, o)
		}
	}
	if b, ok := h.(BatchRemover); ok {
		return b.RemoveAll(roots)
	}
	slices.Reverse(roots)
	return Undo(h, roots)
}

// Probe tells whether the objects could be made here: nil, or everything that
// is missing, once.
func Probe(h Host, objects []Object) error {
	var errs []error
	said := map[string]bool{}
	for _, o := range objects {
		if err := h.Probe(o); err != nil && !said[err.Error()] {
			said[err.Error()] = true
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// opError says which object an error is about. An error that is meant for the
// user (an [Error], with its code) already does, in the user's words.
func opError(op string, o Object, err error) error {
	if e := (*Error)(nil); errors.As(err, &e) {
		return err
	}
	return OpErrorOf(op, o, err)
}
