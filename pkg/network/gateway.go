package network

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"dcni/pkg/firewall"
	"dcni/pkg/ipam"
)

// A Candidate is a network of a container, as far as it may be the gateway network:
// that which has the default route and publishes the ports, and whose names come
// first.
type Candidate struct {
	Name       string
	Priority   int // gwPriority
	Internal   bool
	IPv4, IPv6 bool // the families that the network has
	// NoRoute4 and NoRoute6 say that the network has no default route of a family.
	NoRoute4, NoRoute6 bool
}

// CandidateOf returns a network, of which that is known, as a candidate.
func CandidateOf(name string, info Info, subnets []ipam.Subnet) Candidate {
	return Candidate{
		Name: name, Priority: info.Priority, Internal: info.Internal, IPv4: HasFamily(subnets, false), IPv6: HasFamily(subnets, true),
	}
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

// GatewayOf returns which of a container's networks is its gateway network of a family: the first, as
// they are ordered, that has a default route of it; -1 if none has.
func GatewayOf(list []Candidate, v6 bool) int {
	best := -1
	for i, c := range list {
		if c.leads(v6) && (best < 0 || c.Compare(list[best]) < 0) {
			best = i
		}
	}
	return best
}

// leads reports whether the network has a default route of a family.
func (c Candidate) leads(v6 bool) bool {
	if v6 {
		return c.IPv6 && !c.NoRoute6 && !c.Internal
	}
	return c.IPv4 && !c.NoRoute4 && !c.Internal
}

// ArgNotGateway is the key of CNI_ARGS that has the families, of "4" and "6", in which another network of
// the container is its gateway network, separated by commas. dnet gives it, which knows of all.
const ArgNotGateway = "DNET_NOT_GATEWAY"

// NotGateway returns the families in which another one of a container's networks than the i-th is its
// gateway network. As with Docker 29, the host's ports of IPv6 are that of IPv4's, which is reached by a
// relay, where none has a default route of IPv6. Where there is no gateway network at all it returns none.
func NotGateway(list []Candidate, i int) (families []firewall.Family) {
	four, six := GatewayOf(list, false), GatewayOf(list, true)
	if six < 0 {
		six = four
	}
	if four >= 0 && four != i {
		families = append(families, 4)
	}
	if six >= 0 && six != i {
		families = append(families, 6)
	}
	return families
}

// JoinFamilies returns families as ArgNotGateway has them.
func JoinFamilies(families []firewall.Family) string {
	words := make([]string, len(families))
	for i, f := range families {
		words[i] = strconv.Itoa(int(f))
	}
	return strings.Join(words, ",")
}

// SplitFamilies reads what [JoinFamilies] wrote.
func SplitFamilies(text string) (families []firewall.Family, err error) {
	for word := range strings.SplitSeq(text, ",") {
		switch {
		case text == "":
		case word == "4":
			families = append(families, 4)
		case word == "6":
			families = append(families, 6)
		default:
			return nil, fmt.Errorf("%q: must be 4, 6, or both with a comma between", text)
		}
	}
	return families, nil
}

// maxPriority is from where on all priorities are one, the same below zero: else
// ranks would not fit 31 bits.
const maxPriority = 999

func (c Candidate) priority() int { return max(-maxPriority, min(c.Priority, maxPriority)) }

// Metric returns the least metric of the network's default routes in a sandbox. It
// is below 1024, the metric of routes that the kernel learns from router
// advertisements: those never win. Two priorities have one metric. Where that does not
// put routes in order, [Candidate.Rank] does when they are made, see [wire.Route].
func (c Candidate) Metric() int {
	const together = 2 // priorities
	return 1 + (maxPriority-c.priority())/together
}

// Rank returns a number that is lower the more the network is preferred, in the
// order of [Candidate.Compare]. Names that begin alike have one rank.
func (c Candidate) Rank() int {
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

// A Rival is a default route that is in a sandbox already.
type Rival struct {
	Metric int
	Rank   int    // 0: not of one of our networks; it stays as it is
	Name   string // of the network
}

// Place returns the metric of a new default route among others, which is the least
// metric or the next that keeps routes in the order of ranks and names, and to which
// metrics others have to move, by their indices.
func Place(own Rival, others []Rival) (metric int, moves map[int]int) {
	before := func(r Rival) bool { // one of the same network was first
		return cmp.Or(cmp.Compare(r.Rank, own.Rank), cmp.Compare(r.Name, own.Name)) <= 0
	}
	metric = own.Metric
	taken := map[int]bool{}
	var behind []int
	for i, r := range others {
		switch {
		case r.Rank == 0:
			taken[r.Metric] = true
		case before(r):
			metric = max(metric, r.Metric+1)
		default:
			behind = append(behind, i)
		}
	}
	free := func(m int) int {
		for taken[m] {
			m++
		}
		return m
	}
	metric = free(metric)
	slices.SortFunc(behind, func(a, b int) int { return others[a].Metric - others[b].Metric })
	moves = map[int]int{}
	for next, i := metric+1, 0; i < len(behind) && others[behind[i]].Metric < next; i++ {
		next = free(next)
		moves[behind[i]] = next
		next++
	}
	return metric, moves
}

// letter ranks the letters of a network's name as they sort: - . 0-9 A-Z _ a-z,
// folded into 64.
func letter(c byte) int {
	const order = "-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
	return min(max(strings.IndexByte(order, c)-1, 0), len(order)-2)
}
