package network

import (
	"cmp"
	"slices"
	"strings"
)

// A Candidate is a network of a container, as far as it may be the gateway network:
// that which has the default route and publishes the ports, and whose names come
// first.
type Candidate struct {
	Name       string
	Priority   int // gwPriority
	Internal   bool
	IPv4, IPv6 bool // the families that the network has
}

// Compare orders networks as Docker orders a container's endpoints: the higher
// priority comes first, then what is not internal, then what has both families,
// then the name that sorts first.
func (c Candidate) Compare(o Candidate) int {
	return cmp.Or(
		cmp.Compare(o.priority(), c.priority()),
		compareBool(o.Internal, c.Internal),
		compareBool(c.both(), o.both()),
		cmp.Compare(c.Name, o.Name))
}

// compareBool orders true before false.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

func (c Candidate) both() bool { return c.IPv4 && c.IPv6 }

// Gateway returns which of the networks is the gateway network.
func Gateway(list []Candidate) int {
	return slices.Index(list, slices.MinFunc(list, Candidate.Compare))
}

// maxPriority is from where on all priorities are one, the same below zero: else
// metrics would not fit 31 bits.
const maxPriority = 999

func (c Candidate) priority() int { return max(-maxPriority, min(c.Priority, maxPriority)) }

// Metric returns the metric of the network's default routes in a sandbox: in the
// order of [Candidate.Compare], lower is preferred. Names that begin alike get one
// metric: the routes are put in order when they are made, see [wire.Route].
func (c Candidate) Metric() int {
	const letters = 64
	rank := 0
	for i := range 2 {
		rank *= letters
		if i < len(c.Name) {
			rank += letter(c.Name[i])
		}
	}
	class := 2 * (maxPriority + 1 - c.priority())
	if !c.both() {
		class++
	}
	return class*letters*letters + rank
}

// letter ranks the letters of a network's name as they sort: - . 0-9 A-Z _ a-z,
// folded into 64.
func letter(c byte) int {
	const order = "-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
	return min(max(strings.IndexByte(order, c)-1, 0), len(order)-2)
}
