// Package firewall says what traffic a network allows, once, as values.
//
// A [Network] and an [Endpoint] are the policy. Each turns into set elements
// ([Element]); the rules over those sets ([Rules]) are constant: attaching a
// container or publishing a port never adds one. Everything here prints as
// nft(8) lists it, so documentation, tests and kernel can be compared as text.
//
// The package is pure: package host carries the policy out.
//
// # What the rules say
//
//   - Users' own rules come first, in the chain dcni-user, which dcni makes if
//     it is missing and never touches again.
//   - Containers of one bridge may talk if their network has icc. Another bridge
//     and the outside reach a container through its published ports only, never
//     by its own address. Of a network without protection they reach all by that, of a
//     routed one the published ports and ICMP, and from interfaces of the host that a
//     network trusts its published ports, see [Endpoint.Opened].
//   - Where a network's containers may not talk, one that links to another reaches the ports
//     that the other exposes ([Links]).
//   - An internal network has no way out nor in, not through a published port
//     either: its drop stands before the accept of what was published.
//   - On a bridge that dcni did not make, all this is about the addresses of the
//     network's containers ([Member]), and about what the host routes to and from the
//     bridge: what stays on the bridge passes, but for what containers of a network
//     without icc say to one another. The host, virtual machines and neighbours on
//     the same bridge are as they were.
//   - Of an overlay network, the host itself reaches the containers that are on it, and is
//     told at once that it does not reach those on other nodes.
//   - Where dcni switched forwarding on, the host routes for its networks only: what
//     neither comes from nor goes to a container is dropped, unless dcni-user accepts it.
//   - What conntrack calls invalid is not translated. If it comes from a container, is for
//     a published port, or answers a connection of a container's that has the host's
//     address, it is dropped. Segments of connections that the host itself has with others
//     are left alone, and so is what stays on one bridge.
//   - What leaves a network that masquerades takes the host's address, or the one that
//     the network names, multicast excepted. What stays on a bridge keeps its own, unless it was published:
//     then the answer must come back through the host.
//   - Published ports are looked up for the host's own addresses only, first the
//     binding to that address, then the one to any. ::1 is left alone: the kernel
//     can't route it off lo, a relay serves it. So are link-local IPv6 sources and
//     broadcasts.
//   - A published port of a service leads to its tasks by turns, in a chain of its own, see [Turn].
//   - 127.0.0.0/8 and ::1 stay on lo. route_localnet, which a port published on
//     127.0.0.1 needs, would otherwise open the host's loopback services.
package firewall

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"strings"

	"dcni/pkg/wire"
)

// Network is what a network allows.
type Network struct {
	Name       string         `json:"name"`
	Bridge     string         `json:"bridge"`
	Subnets    []netip.Prefix `json:"subnets,omitempty"`
	ICC        bool           `json:"icc,omitempty"`        // its containers may talk to each other
	Internal   bool           `json:"internal,omitempty"`   // no way out nor in
	Masquerade bool           `json:"masquerade,omitempty"` // what leaves takes the host's address
	// SNAT has the address that what leaves takes instead, one a family at most.
	SNAT []netip.Addr `json:"snat,omitempty"`
	// Unprotected has the families in which others reach all ports of the containers, by the
	// containers' own addresses.
	Unprotected []Family `json:"unprotected,omitempty"`
	// Routed has the families in which what leaves keeps the containers' own addresses, and
	// others reach the published ports by them.
	Routed []Family `json:"routed,omitempty"`
	// Trusted are interfaces of the host from which published ports are reached by the
	// containers' own addresses in any case.
	Trusted []string `json:"trusted,omitempty"`
	// Adopted says that dcni did not make the bridge. All is then said of the network's
	// containers only, see [Member], and of nothing else that uses the bridge.
	Adopted bool `json:"adopted,omitempty"`
	// Overlay says that some of the network's containers are on other nodes. The host, of
	// which each node has one with the gateway's address, reaches those here only, see
	// [Member]: an answer from another node would stay there.
	Overlay bool `json:"overlay,omitempty"`
	// Self has the addresses, one a family, from which the host sends to tasks of services on other
	// nodes what comes from itself, and from containers.
	Self []netip.Addr `json:"self,omitempty"`
	// Hosts says that other nodes' containers are reached by the host, which has an address
	// of its own on the network: see [Inside].
	Hosts bool `json:"hosts,omitempty"`
	// Backend carries this out: NFTables, which is "" as well, or IPTables.
	Backend string `json:"backend,omitempty"`
}

// ByIPTables reports whether iptables carries the network's policy out.
func (n *Network) ByIPTables() bool { return n.Backend == IPTables }

// OpenTo reports whether others reach containers of the network by their own addresses, from
// somewhere.
func (n *Network) OpenTo() bool { return len(n.Unprotected)+len(n.Routed)+len(n.Trusted) > 0 }

// Endpoint is what one attachment publishes.
type Endpoint struct {
	Owner     wire.Attachment `json:"owner"`
	Bridge    string          `json:"bridge"`
	Addresses []netip.Addr    `json:"addresses,omitempty"` // the first of each family is the target
	Ports     []Port          `json:"ports,omitempty"`
	Routed    []Family        `json:"routed,omitempty"`  // in which they are opened, and not bound on the host
	Trusted   bool            `json:"trusted,omitempty"` // they are opened in the other families as well, for trusted interfaces
	Backend   string          `json:"backend,omitempty"` // its network's, for String
	// NotGateway has the families in which another network of the container is its gateway
	// network: there nothing is bound on the host.
	NotGateway []Family `json:"notGateway,omitempty"`
}

// Key names the network; see [wire.Object].
func (n *Network) Key() string { return "firewall network " + n.Name }

// String returns the network's elements on one line, as nftables has them.
func (n *Network) String() string {
	if n.ByIPTables() {
		return "rules of iptables for network " + n.Name + " on bridge " + n.Bridge
	}
	return joinElements(n.Elements())
}

// Key names the attachment; see [wire.Object].
func (e *Endpoint) Key() string { return "firewall endpoint " + e.Owner.String() }

// Root marks the endpoint as something DEL removes by itself: its elements do
// not go away with the link.
func (e *Endpoint) Root() {}

// Refers names the network whose rules must be there first.
func (e *Endpoint) Refers() []string { return []string{(&Network{Name: e.Owner.Network}).Key()} }

// Provides names the host's ports that it takes: no other endpoint may have
// them.
func (e *Endpoint) Provides() []string {
	var keys []string
	for i := range e.Ports {
		for _, element := range e.PortElements(i) {
			keys = append(keys, "port "+element.Set+" "+fmt.Sprint(element.Key))
		}
	}
	return keys
}

// String returns the endpoint's elements on one line, or its ports where iptables publishes
// them; a port not yet chosen is 0.
func (e *Endpoint) String() string {
	if e.Backend == IPTables && len(e.Ports) > 0 {
		words := make([]string, len(e.Ports))
		for i, p := range e.Ports {
			words[i] = p.String()
		}
		return "rules of iptables for " + strings.Join(words, ", ") + " of " + e.Owner.String()
	}
	var elements []Element
	for i := range e.Ports {
		elements = append(elements, e.PortElements(i)...)
	}
	elements = append(elements, e.Opened()...)
	if len(elements) == 0 {
		return e.Key() + " publishes nothing"
	}
	return joinElements(elements)
}

// maxComment is the length that nft accepts for a comment when a listing is loaded
// again.
const maxComment = 127

// Comment returns the comment that marks an attachment's elements as its own:
// "web c1/eth0". Names too long for a comment are cut and carry the identity's
// hash instead, so that two owners never look the same.
func Comment(owner wire.Attachment) string {
	s := owner.String()
	if len(s) <= maxComment {
		return s
	}
	id := "#" + owner.ID()
	return s[:maxComment-len(id)] + id
}

// OwnerOf returns the attachment whose comment it is; false for one that is cut, and for what is no
// attachment's.
func OwnerOf(comment string) (a wire.Attachment, ok bool) {
	network, rest, ofOne := strings.Cut(comment, " ")
	container, ifName, whole := strings.Cut(rest, "/")
	a = wire.Attachment{Network: network, Container: container, IfName: ifName}
	return a, ofOne && whole && network != ServiceOwner && !strings.Contains(ifName, "#")
}

// NetworkComment returns the comment of a network's elements: its name.
func NetworkComment(name string) string {
	if len(name) <= maxComment-digestLen {
		return name
	}
	id := "#" + wire.Attachment{Network: name}.ID()
	return name[:maxComment-digestLen-len(id)] + id
}

// digestLen is the length of " " and what digest returns.
const digestLen = 1 + 8

// digest is a short word for a list of elements. The bridge's element carries
// it, so that one look tells whether a network is as it should be, leftovers of
// an earlier configuration included.
func digest(elements []Element) string {
	h := fnv.New32a()
	for _, e := range elements {
		fmt.Fprintln(h, e)
	}
	return fmt.Sprintf("%08x", h.Sum32())
}

func joinElements(elements []Element) string { return joinElementsIn("inet", elements) }
