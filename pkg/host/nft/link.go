package nft

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"dcni/pkg/firewall"
)

// linkSets are the sets of what links open.
func linkSets() []string { return []string{firewall.SetLinks4, firewall.SetLinks6} }

// linkChange returns which elements are missing of what links open to an attachment, and which
// of its own are there besides.
func (f *Firewall) linkChange(l *firewall.Linked) (add, stale []element, err error) {
	all, err := f.list(linkSets()...)
	if err != nil {
		return nil, nil, err
	}
	want, comment := encodeAll(l.Open), firewall.Comment(l.Owner)
	has := func(list []element, e element) bool {
		return slices.ContainsFunc(list, func(o element) bool { return o.id() == e.id() && o.comment == comment })
	}
	for _, w := range want {
		if !has(all, w) && !has(add, w) {
			add = append(add, w)
		}
	}
	for _, have := range all {
		// One of the same key that is another's is what is left of an attachment that had the address.
		same := slices.ContainsFunc(add, func(w element) bool { return w.id() == have.id() })
		if same || have.comment == comment && !has(want, have) {
			stale = append(stale, have)
		}
	}
	return add, stale, nil
}

// ensureLinked makes what links open to an attachment so.
func (f *Firewall) ensureLinked(l *firewall.Linked) (changed bool, err error) {
	add, stale, err := f.linkChange(l)
	if err != nil || len(add)+len(stale) == 0 {
		return false, err
	}
	err = f.commit(func(b *Batch) error {
		b.elements(unix.NFT_MSG_DELSETELEM, 0, grouped(stale))
		b.elements(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, grouped(add))
		return nil
	})
	return err == nil, wrap("open "+l.String(), err)
}

// checkLinked tells whether something is missing or open besides.
func (f *Firewall) checkLinked(l *firewall.Linked) error {
	add, stale, err := f.linkChange(l)
	switch {
	case err != nil:
		return err
	case len(add) > 0:
		return errors.New("what the link opens is missing")
	case len(stale) > 0:
		return errors.New("more is open than the link says")
	}
	return nil
}
