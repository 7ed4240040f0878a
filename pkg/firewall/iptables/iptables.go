// Package iptables says what a network allows as rules of iptables, in chains as Docker has
// them. [Base], [Network], [Member], [Endpoint] and [Linked] turn policy into lists of rules of
// one family; a [Change] compares such lists with a [Ruleset], which is what iptables-save
// prints, and makes what iptables-restore reads of the differences.
//
// A rule is an owner's by its comment: "web" is a network, "web c1/eth0" an attachment. Rules
// without one are the host's. What an owner has is compared, and changed, as a whole.
//
// Each network has three chains of its own, in each family that it has addresses of: what its
// containers send ([from]), what comes to them ([to]), and which address that carries
// ([source]). All packets of its bridge are sent there, on a bridge of another owner's those of
// the containers alone. An overlay network has one more, for what the host itself sends to the
// bridge ([host]). Between two owners' rules in one chain the order does not matter, but for
// those of containers there: they come first.
//
// The package is pure: package iptables below pkg/host runs the programs.
package iptables

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"dcni/pkg/firewall"
	"dcni/pkg/wire"
)

// Chains in the tables filter, nat and raw, that all networks share.
const (
	Forward = "DCNI-FORWARD" // first in FORWARD
	fromAll = "DCNI-FROM"    // jumps to each network's from
	toAll   = "DCNI-TO"      // jumps to each network's to
	links   = "DCNI-LINKS"   // what links open
	open    = "DCNI-OPEN"    // published ports that are reached by the container's own address
	closed  = "DCNI-CLOSED"  // last in FORWARD, where the host is closed as a router
	invalid = "DCNI-INVALID" // what comes to the host, and is of no connection
	guards  = "DCNI-GUARD"   // such packets for published ports
	ports   = "DCNI"         // nat: published ports
	sources = "DCNI-POSTROUTING"
	raw     = "DCNI-RAW"

	// Users is where users' own rules are, as with Docker. It is made where it is missing, and
	// stays.
	Users = "DOCKER-USER"
)

// A Rule is one of a chain.
type Rule struct {
	Table, Chain string
	Match        string // as iptables-save prints it, without the comment
	Target       string // of -j
	Comment      string // the owner
	Place        Place  // where it stands among others
}

// Place is where a rule is put.
type Place int

// The places. In a chain of iptables' own, First is before all rules but a jump to the users'
// chain, and Last behind all.
const (
	Anywhere Place = iota
	First
	Last
)

// String returns the rule as iptables-save prints it.
func (r Rule) String() string { return "-A " + r.words() }

// words are the chain and what the rule says.
func (r Rule) words() string {
	s := r.Chain
	if r.Match != "" {
		s += " " + r.Match
	}
	if r.Comment != "" {
		s += " -m comment --comment " + quote(r.Comment)
	}
	return s + " -j " + r.Target
}

// A list collects the rules of one owner in one family.
type list struct {
	six     bool
	comment string
	rules   []Rule
}

// add adds a rule of a table. Parts of the match that are "" are left out.
func (l *list) add(table, chain, target string, match ...string) {
	match = slices.DeleteFunc(match, func(s string) bool { return s == "" })
	l.rules = append(l.rules, Rule{Table: table, Chain: chain, Match: strings.Join(match, " "), Target: target, Comment: l.comment})
}

// Matches that occur more than once, and where packets go that are said to be dropped.
const (
	established  = "-m conntrack --ctstate RELATED,ESTABLISHED"
	untracked    = "-m conntrack --ctstate INVALID"
	dnated       = "-m conntrack --ctstate DNAT"
	local        = "-m addrtype --dst-type LOCAL"
	fromLoopback = "-s 127.0.0.0/8"

	accept, drop, back, masquerade = "ACCEPT", "DROP", "RETURN", "MASQUERADE"
)

// Router is what [Base] says of the host besides networks.
type Router struct {
	Closed   bool               // the host routes for networks only
	Passing  []firewall.Passing // what another backend's networks are
	Filtered bool               // what bridges pass from port to port goes by iptables as well
}

// Base returns the host's rules of a family: the jumps to shared chains, what keeps loopback
// addresses on lo, and what closes the host as a router. That is the last rule of FORWARD, so
// that what other programs accept there is forwarded.
func Base(six bool, r Router) []Rule {
	l := &list{six: six}
	l.add("raw", raw, drop, l.loopback("-s"), "! -i lo")
	l.add("raw", raw, drop, l.loopback("-d"), "! -i lo")
	l.add("filter", Forward, Users)
	l.add("filter", Forward, fromAll)
	l.add("filter", Forward, toAll)
	l.add("filter", invalid, guards)
	if r.Closed {
		l.add("filter", closed, back, established)
		if r.Filtered {
			l.add("filter", closed, back, "-m physdev --physdev-is-bridged")
		}
		for _, p := range r.Passing {
			l.pass(p)
		}
		l.add("filter", closed, drop, "-m addrtype --dst-type UNICAST")
	}
	hook := func(place Place, table, chain, target string, match ...string) {
		l.add(table, chain, target, match...)
		l.place(place)
	}
	published := []string{local}
	if six { // ::1 does not leave lo, and link-local addresses are not forwarded: dnetd serves those
		published = []string{"! -s fe80::/10 ! -d ::1/128", local}
	}
	hook(First, "raw", "PREROUTING", raw)
	hook(First, "nat", "PREROUTING", ports, published...)
	hook(First, "nat", "OUTPUT", ports, published...)
	hook(First, "nat", "POSTROUTING", sources)
	hook(First, "filter", "INPUT", invalid, untracked)
	hook(First, "filter", "FORWARD", Forward)
	if r.Closed {
		hook(Last, "filter", "FORWARD", closed)
	}
	return l.rules
}

// pass leaves what another backend's network sends and gets to that.
func (l *list) pass(p firewall.Passing) {
	from, to := "", ""
	switch {
	case p.Address.IsValid() && p.Address.Is6() != l.six:
		return
	case p.Address.IsValid():
		from, to = "-s "+full(p.Address), "-d "+full(p.Address)
	}
	l.add("filter", closed, back, from, "-i "+p.Bridge)
	l.add("filter", closed, back, to, "-o "+p.Bridge)
}

func (l *list) loopback(side string) string {
	if l.six {
		return side + " ::1/128"
	}
	return side + " 127.0.0.0/8"
}

// Names of a network's own chains.
func from(id string) string   { return "DCNI-FROM-" + id }
func to(id string) string     { return "DCNI-TO-" + id }
func source(id string) string { return "DCNI-POST-" + id }
func inside(id string) string { return "DCNI-IN-" + id }   // on a bridge of another owner's: containers, as senders
func host(id string) string   { return "DCNI-HOST-" + id } // of an overlay network: what the host sends

// idOf is what a network's chains are named by.
func idOf(network string) string { return wire.Attachment{Network: network}.ID() }

// Has reports whether the network has rules of a family: that of its addresses, and IPv4, which the
// host routes for every bridge, where containers of an internal one may give themselves such addresses.
func Has(n *firewall.Network, six bool) bool {
	return n.Internal && !n.Adopted && !six || slices.ContainsFunc(n.Subnets, func(s netip.Prefix) bool { return s.Addr().Unmap().Is6() == six })
}

// Network returns the rules of a network in a family.
func Network(n *firewall.Network, six bool) []Rule {
	if !Has(n, six) {
		return nil
	}
	l := &list{six: six, comment: firewall.NetworkComment(n.Name)}
	id := idOf(n.Name)
	if !n.Adopted {
		l.jumps(id, "-i "+n.Bridge, "-o "+n.Bridge, l.subnets(n))
	}
	l.from(n, from(id))
	l.to(n, to(id))
	l.source(n, source(id))
	l.host(n, host(id))
	return l.rules
}

// place has the rule that was added last stand first or last.
func (l *list) place(p Place) { l.rules[len(l.rules)-1].Place = p }

// host is about what the host itself sends to an overlay network's bridge. What is for
// containers on other nodes it refuses: its address is the gateway's, which those nodes have as well.
// Where the host has an address of its own, its packets are marked, see [firewall.Inside].
func (l *list) host(n *firewall.Network, chain string) {
	if !n.Overlay && !n.Hosts {
		return
	}
	l.add("filter", "OUTPUT", chain, "-o "+n.Bridge)
	l.place(First)
	if n.Hosts {
		l.add("filter", chain, classify(firewall.Inside))
		return
	}
	refuse := "REJECT --reject-with icmp-host-unreachable"
	if l.six {
		refuse = "REJECT --reject-with icmp6-addr-unreachable"
	}
	for _, subnet := range l.subnets(n) {
		l.add("filter", chain, refuse, "-d "+strings.TrimPrefix(subnet, "-s "), "-m conntrack ! --ctstate DNAT")
		l.place(Last)
	}
}

// jumps sends packets to a network's chains: what has come from its containers, what goes to
// them, and what carries their addresses.
func (l *list) jumps(id, in, out string, sent []string) {
	l.add("filter", fromAll, from(id), in)
	l.add("filter", toAll, to(id), out)
	l.add("filter", invalid, drop, in)
	for _, way := range []string{in, out} {
		l.add("filter", closed, back, way)
		l.place(First)
	}
	l.add("nat", sources, source(id), out)
	for _, s := range sent {
		l.add("nat", sources, source(id), s)
	}
}

// subnets returns matches of what the network's subnets send.
func (l *list) subnets(n *firewall.Network) (matches []string) {
	for _, s := range n.Subnets {
		if s.Addr().Unmap().Is6() == l.six {
			matches = append(matches, "-s "+s.Masked().String())
		}
	}
	return matches
}

// from drops what containers may not send. What they may is for the rest of FORWARD to say:
// where that drops it, see [firewall.Permit].
func (l *list) from(n *firewall.Network, chain string) {
	elsewhere := "! -o " + n.Bridge
	l.add("filter", chain, back, established)
	l.add("filter", chain, drop, elsewhere, untracked) // it would leave with the container's own address
	if n.Internal {
		l.add("filter", chain, drop, elsewhere)
	}
}

// to decides what reaches containers. Containers of one network that may not talk don't do so by
// published ports' own addresses either. On a bridge of another owner's, others on it pass.
func (l *list) to(n *firewall.Network, chain string) {
	own, family := "-i "+n.Bridge, firewall.Family(4)
	if l.six {
		family = 6
	}
	l.add("filter", chain, accept, established)
	switch {
	case n.ICC && n.Adopted:
		l.add("filter", chain, back, own)
	case n.ICC:
		l.add("filter", chain, accept, own)
	default:
		l.add("filter", chain, links)
	}
	if n.Internal {
		l.add("filter", chain, drop, "! "+own)
	}
	l.add("filter", chain, accept, dnated)
	if !n.ICC && n.Adopted {
		l.add("filter", chain, inside(idOf(n.Name)), own)
		l.add("filter", chain, back, own)
	} else if !n.ICC {
		l.add("filter", chain, drop, own)
	}
	if slices.Contains(n.Unprotected, family) {
		l.add("filter", chain, accept)
	}
	if slices.Contains(n.Routed, family) {
		icmp := "-p icmp"
		if l.six {
			icmp = "-p ipv6-icmp"
		}
		l.add("filter", chain, accept, icmp)
		l.add("filter", chain, open)
	}
	for _, name := range n.Trusted {
		l.add("filter", chain, open, "-i "+name)
	}
	l.add("filter", chain, drop)
}

// source chooses source addresses: the bridge's where a container reaches a published port of its
// own network, and the host's, or that which the network names, for what leaves.
func (l *list) source(n *firewall.Network, chain string) {
	out, multicast, routed := "-o "+n.Bridge, "! -d 224.0.0.0/4", slices.Contains(n.Routed, 4)
	if l.six {
		multicast, routed = "! -d ff00::/8", slices.Contains(n.Routed, 6)
	} else {
		l.add("nat", chain, masquerade, fromLoopback, out, dnated)
	}
	for _, s := range l.subnets(n) {
		l.add("nat", chain, masquerade, s, out, dnated)
	}
	if !n.Masquerade || n.Internal || routed {
		return
	}
	target := masquerade
	for _, a := range n.SNAT {
		if a.Unmap().Is6() == l.six {
			target = "SNAT --to-source " + a.Unmap().String()
		}
	}
	l.add("nat", chain, target, multicast, "! "+out)
}

// classify is the target that sets the priority of packets, as tc has it. iptables prints the
// second half with zeros in front, or without: see parseRule.
func classify(priority uint32) string {
	return fmt.Sprintf("%s%x:%04x", setClass, priority>>16, priority&0xffff)
}

const setClass = "CLASSIFY --set-class "

// Member returns the rules of a container's addresses on a bridge of another owner's, or of an
// overlay network, where the host reaches it.
func Member(m *firewall.Member, six bool) []Rule {
	l := &list{six: six, comment: firewall.Comment(m.Owner)}
	id := idOf(m.Owner.Network)
	for _, a := range m.Addresses {
		if a = a.Unmap(); a.Is6() != six {
			continue
		}
		address := netip.PrefixFrom(a, a.BitLen()).String()
		from, to := "-s "+address, "-d "+address
		if m.Overlay {
			l.add("filter", host(id), back, to)
			l.place(First)
			continue
		}
		l.jumps(id, from+" -i "+m.Bridge, to+" -o "+m.Bridge, []string{from})
		l.add("filter", inside(id), drop, from)
	}
	return l.rules
}

// Endpoint returns the rules of an endpoint's ports: what sends packets to the container, what
// keeps those of no connection from the host, and what opens the container's own address.
// Ports that are not yet chosen have none.
func Endpoint(e *firewall.Endpoint, six bool) []Rule {
	l := &list{six: six, comment: firewall.Comment(e.Owner)}
	for _, el := range e.Elements() {
		if isSix(el) == six && el.Value != nil {
			address, service := el.Value[0].(netip.Addr), el.Value[1].(firewall.Service)
			target := netip.AddrPortFrom(address, uint16(service))
			l.add("nat", ports, "DNAT --to-destination "+target.String(), l.port(el)...)
		}
	}
	for _, el := range e.Guards() {
		if isSix(el) == six {
			l.add("filter", guards, drop, l.guarded(el)...)
		}
	}
	for _, el := range e.Opened() {
		if isSix(el) == six {
			l.add("filter", open, accept, "-d "+full(el.Key[1].(netip.Addr)), "-o "+string(el.Key[0].(firewall.IfName)), protocol(el.Key[2:]))
		}
	}
	return l.rules
}

// Linked returns the rules of what links open to an attachment.
func Linked(o *firewall.Linked, six bool) []Rule {
	l := &list{six: six, comment: firewall.Comment(o.Owner)}
	for _, el := range o.Open {
		if isSix(el) == six {
			l.add("filter", links, accept, "-s "+full(el.Key[1].(netip.Addr)), "-d "+full(el.Key[2].(netip.Addr)),
				"-i "+string(el.Key[0].(firewall.IfName)), protocol(el.Key[3:]))
		}
	}
	return l.rules
}

// isSix reports whether an element is of a set of IPv6.
func isSix(el firewall.Element) bool {
	return strings.HasSuffix(strings.TrimSuffix(el.Set, "_addr"), "6")
}

// port returns the match of a port set's element: the host's address if it has one, and the port.
func (l *list) port(el firewall.Element) []string {
	if a, ok := el.Key[0].(netip.Addr); ok {
		return []string{"-d " + full(a), protocol(el.Key[1:])}
	}
	return []string{protocol(el.Key)}
}

// guarded is port, for packets that rules would have sent to the container.
func (l *list) guarded(el firewall.Element) []string {
	match := l.port(el)
	if !l.six {
		return match
	}
	if len(match) == 1 {
		match = append([]string{"! -d ::1/128"}, match...)
	}
	return append([]string{"! -s fe80::/10"}, match...)
}

// protocol matches a protocol and its destination port.
func protocol(key []fmt.Stringer) string {
	return fmt.Sprintf("-p %s -m %[1]s --dport %s", key[0], key[1])
}

func full(a netip.Addr) string { return netip.PrefixFrom(a, a.BitLen()).String() }

// Lines returns an object's rules as commands, IPv4 first; nil for one that has none.
func Lines(o wire.Object) (lines []string) {
	for _, six := range []bool{false, true} {
		var rules []Rule
		switch o := o.(type) {
		case *firewall.Network:
			rules = Network(o, six)
		case *firewall.Member:
			rules = Member(o, six)
		case *firewall.Endpoint:
			rules = Endpoint(o, six)
		}
		program := "iptables"
		if six {
			program = "ip6tables"
		}
		for _, r := range rules {
			lines = append(lines, program+" -t "+r.Table+" "+r.String())
		}
	}
	return lines
}
