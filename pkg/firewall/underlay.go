package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
)

// TableUnderlay is the table of the inet family that [Underlay] and [Nodes] are. As that
// of [Encrypted] it is one of its own: only hosts with overlay networks have it.
const TableUnderlay = TableName + "-underlay"

// The sets of TableUnderlay.
const (
	SetTunnels = "tunnels" // protocol . port of VXLAN
	SetNodes4  = "nodes4"  // the cluster's nodes, on the underlay
	SetNodes6  = "nodes6"  //
)

// Underlay says that the host takes VXLAN at a UDP port from the cluster's nodes only, see
// [Nodes]: what strangers send would come right out at a container.
type Underlay struct {
	Port  uint16
	Known []netip.Addr // nodes that are put in with it: the host's records have the last ones
}

// Key names the port.
func (u *Underlay) Key() string { return "underlay " + strconv.Itoa(int(u.Port)) }

// Root marks it as something that goes with its last user.
func (u *Underlay) Root() {}

func (u *Underlay) String() string {
	return "inet " + TableUnderlay + " udp dport " + strconv.Itoa(int(u.Port)) + " from nodes only"
}

// Nodes are the cluster's nodes by their addresses on the underlay: all of them, and no
// other. dnetd puts them in, next to an [Underlay].
type Nodes struct{ Addresses []netip.Addr }

// Key is always the same.
func (n *Nodes) Key() string { return "underlay nodes" }

func (n *Nodes) String() string {
	return fmt.Sprintf("inet %s nodes %v", TableUnderlay, slices.SortedFunc(slices.Values(n.Addresses), netip.Addr.Compare))
}

// Elements returns the port's element.
func (u *Underlay) Elements() []Element {
	return []Element{{Set: SetTunnels, Key: []fmt.Stringer{Proto("udp"), Service(u.Port)}}}
}

// NodeElements returns the element of a node.
func NodeElements(nodes ...netip.Addr) []Element {
	var list []Element
	for _, a := range nodes {
		a = a.Unmap()
		list = append(list, Element{Set: byFamily(a.Is6(), SetNodes4, SetNodes6), Key: []fmt.Stringer{a}})
	}
	return list
}

// UnderlayTable returns the rules. At input they come before connection tracking: what is
// dropped is remembered nowhere. What is forwarded to a node's port, as from a container, is
// dropped unless a node sent it: the host's masquerade would give it the host's address,
// from which the other node takes VXLAN, and policies of ESP would encrypt it. The same goes
// for what programs of the host send that are not root's. VXLAN of the kernel has no socket of
// the host's, or that of the container's program that sent what is in it, which counts as none
// here. That of what a host's program sends into a network has the program's, and is [Inside].
func UnderlayTable() Table {
	tunnel := in(SetTunnels, FieldProto, FieldDstSvc)
	known := func(f Field, set string, not bool) Match { return InSet{Fields: []Field{f}, Set: set, Not: not} }
	drop := func(m ...Match) Rule {
		return Rule{Match: append([]Match{tunnel}, m...), Verdict: Drop, Comment: underlayNote}
	}
	return Table{
		Name: TableUnderlay,
		Sets: []Set{
			{Name: SetTunnels, Key: []Type{TypeProto, TypeService}},
			{Name: SetNodes4, Key: []Type{TypeIPv4}},
			{Name: SetNodes6, Key: []Type{TypeIPv6}},
		},
		Chains: []Chain{
			{"input", &Hook{"filter", "input", -300, "raw"}, []Rule{
				drop(known(FieldSrc4, SetNodes4, true)), drop(known(FieldSrc6, SetNodes6, true)),
			}},
			{"forward", &Hook{"filter", "forward", -300, "raw"}, []Rule{
				drop(known(FieldDst4, SetNodes4, false), known(FieldSrc4, SetNodes4, true)),
				drop(known(FieldDst6, SetNodes6, false), known(FieldSrc6, SetNodes6, true)),
			}},
			{"output", &Hook{"filter", "output", -300, "raw"}, []Rule{
				drop(known(FieldDst4, SetNodes4, false), NotRoot, NotInside), drop(known(FieldDst6, SetNodes6, false), NotRoot, NotInside),
			}},
		},
	}
}

// underlayNote is what each of the table's rules has as comment.
const underlayNote = "strangers 4"
