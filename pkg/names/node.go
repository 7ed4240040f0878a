package names

import (
	"net/netip"
	"slices"
	"sync/atomic"
)

// A node has the addresses of one name in one network. Tables share it. It never
// changes, but for the turn of each family.
type node struct {
	owners   []*Entry // the attachments that have these addresses, or nil
	families [2]family
}

// A family has the addresses of one: IPv4, IPv6.
type family struct {
	addresses []netip.Addr  // sorted, each once
	turn      atomic.Uint32 // how many answers were given
}

func newNode(owners []*Entry, addresses []netip.Addr) *node {
	n := &node{owners: owners}
	sorted := slices.Clone(addresses)
	slices.SortFunc(sorted, netip.Addr.Compare)
	for _, a := range slices.Compact(sorted) {
		f := &n.families[IPv4]
		if a.Is6() {
			f = &n.families[IPv6]
		}
		f.addresses = append(f.addresses, a)
	}
	return n
}

// and returns the node with one more owner. The receiver may be nil.
func (n *node) and(e *Entry) *node {
	if n == nil {
		return ownedBy([]*Entry{e})
	}
	if slices.Contains(n.owners, e) {
		return n // it has the name twice
	}
	return ownedBy(append(slices.Clone(n.owners), e))
}

// without returns the node without an owner, or nil if no owner is left.
func (n *node) without(e *Entry) *node {
	if n == nil {
		return nil
	}
	left := slices.DeleteFunc(slices.Clone(n.owners), func(o *Entry) bool { return o == e })
	if len(left) == 0 {
		return nil
	}
	return ownedBy(left)
}

func ownedBy(owners []*Entry) *node {
	var all []netip.Addr
	for _, e := range owners {
		all = append(all, e.Addresses...)
	}
	return newNode(owners, all)
}

// next returns the addresses of a family and the index of the one that comes first
// in this answer.
func (f *family) next() ([]netip.Addr, int) {
	if len(f.addresses) < 2 {
		return f.addresses, 0
	}
	return f.addresses, int((f.turn.Add(1) - 1) % uint32(len(f.addresses)))
}
