package firewall

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"strings"
)

// TableName is the table of the inet family that holds everything.
const TableName = "dcni"

// UserChain is where users put their own rules. dcni makes it if it is missing
// and never flushes or changes it.
const UserChain = "dcni-user"

// VersionChain holds one rule whose comment is [Version]. It is never jumped to.
// A rule carries the version, not the table: `nft flush table` takes the rules
// and leaves the table, and that must be noticed.
const VersionChain = "version"

// The sets and maps.
const (
	SetBridges     = "bridges"     // every network's bridge that dcni made
	SetAdopted     = "adopted"     // the others, each as the pair of it with itself
	SetICC         = "icc"         // pairs of bridges that may talk: each with itself
	SetInternal    = "internal"    // bridges of internal networks
	SetSubnets4    = "subnets4"    // bridge . subnet
	SetSubnets6    = "subnets6"    //
	SetMasquerade4 = "masquerade4" // subnets that take the host's address outside
	SetMasquerade6 = "masquerade6" //
	SetMasqueraded = "masqueraded" // adopted bridges whose containers take it outside
	MapSNAT4       = "snat4"       // bridges whose containers take one address outside, and that
	MapSNAT6       = "snat6"       //
	SetOverlays    = "overlays"    // bridges of overlay networks, for which the host reaches its own containers only
	SetUnprotected = "unprotected" // bridge . family, whose containers are reached on all ports
	SetRouted      = "routed"      // bridge . family, whose containers are reached on published ports, and leave with their own addresses
	SetTrusted     = "trusted"     // interface of the host . bridge, whose containers are reached from there on published ports
	SetOpen4       = "open4"       // bridge . container . protocol . port, which is published
	SetOpen6       = "open6"       //
	SetApart       = "apart"       // bridges of networks that others reach, and whose containers may not talk: each with itself
	SetClosed      = "closed"      // families that dcni switched forwarding on for
	MapSenders     = "senders"     // bridge . MAC of another node's, whose host sends to containers, and the node's mark
	MapSelf4       = "self4"       // bridges of overlay networks, and the address of the host's own packets there
	MapSelf6       = "self6"       //
	SetHosts       = "hosts"       // bridges of overlay networks on which the host has an address of its own
	SetMembers4    = "members4"    // bridge . address of containers on adopted bridges, and of overlay networks
	SetMembers6    = "members6"    //
	SetLinks4      = "links4"      // bridge . container . container that it links to . protocol . port
	SetLinks6      = "links6"      //
	MapPorts4      = "ports4"      // published on any address
	MapPorts4Addr  = "ports4_addr" // published on one address
	MapPorts6      = "ports6"
	MapPorts6Addr  = "ports6_addr"
	// Ports published for protocols with connections, under the keys of the maps above:
	// what conntrack calls invalid is not led to the container, and must not reach the
	// host either.
	SetGuarded4     = "guarded4"
	SetGuarded4Addr = "guarded4_addr"
	SetGuarded6     = "guarded6"
	SetGuarded6Addr = "guarded6_addr"
	// TCP connections and SCTP associations of containers that have the host's address
	// outside, as an answer has them: the server, and the host's port. Rules fill these sets.
	SetConnections4 = "connections4"
	SetConnections6 = "connections6"
	// Ports that are relayed to containers that have IPv4 only. No rule uses these
	// sets: their elements claim the ports against other endpoints.
	SetRelayed6     = "relayed6"
	SetRelayed6Addr = "relayed6_addr"
)

// Version identifies the present rules. ADD installs them again where it finds another
// version. It is the hash of their text, written down because hashing them would cost
// each ADD more than looking them up. A test compares the two.
const Version = "rules 1115557ae992f214"

// IsVersion reports whether a comment is a version of the rules, of whichever dcni.
func IsVersion(comment string) bool { return strings.HasPrefix(comment, "rules ") }

// ChainUses is how often each chain is used when all rules are there: by its
// rules, and by jumps to it, as the kernel counts (NFTA_CHAIN_USE). The users' chain is
// left out, since they change it. A test counts them, as for [Version].
var ChainUses = []struct {
	Chain string
	Times uint32
}{
	{"arrived", 2}, {"foreign", 11}, {"forward", 27}, {"host", 4}, {"input", 1}, {"invalid", 12}, {"outgoing", 7}, {"output", 1}, {"postrouting", 26}, {"prerouting", 1}, {"publish", 10}, {"opened", 11}, {"raw", 3},
	{"routed", 4}, {"version", 1},
}

// digestOf returns what Version has to be.
func digestOf(t Table) string {
	h := fnv.New64a()
	fmt.Fprint(h, encoding, t)
	return fmt.Sprintf("rules %016x", h.Sum64())
}

// encoding is raised when pkg/host encodes the same text in another way.
const encoding = 1

// Rules returns the whole constant rule set.
func Rules() Table {
	t := table()
	t.Chains = append(t.Chains, Chain{Name: VersionChain, Rules: []Rule{{Verdict: Return, Comment: Version}}})
	return t
}

func table() Table {
	return Table{
		Name: TableName,
		Sets: sets(),
		Chains: []Chain{
			{Name: UserChain},
			rawChain(),
			arrivedChain(),
			publishChain(),
			{"prerouting", &Hook{"nat", "prerouting", beforeDNAT, "dstnat - 1"}, toPublish()},
			{"output", &Hook{"nat", "output", beforeDNAT, "-101"}, toPublish()},
			{"input", &Hook{"filter", "input", 0, "filter"}, []Rule{rule(Jump("invalid"), Invalid)}},
			invalidChain(),
			forwardChain(),
			openedChain(),
			foreignChain(),
			routedChain(),
			{"outgoing", nil, []Rule{
				rule(Update{[]Field{FieldDst4, FieldProto, FieldNATSvc}, SetConnections4}, TCP),
				rule(Update{[]Field{FieldDst6, FieldProto, FieldNATSvc}, SetConnections6}, TCP),
				rule(Update{[]Field{FieldDst4, FieldProto, FieldNATSvc}, SetConnections4}, SCTP),
				rule(Update{[]Field{FieldDst6, FieldProto, FieldNATSvc}, SetConnections6}, SCTP),
			}},
			postroutingChain(),
			hostChain(),
		},
	}
}

func sets() []Set {
	anyKey, to4 := []Type{TypeProto, TypeService}, []Type{TypeIPv4, TypeService}
	to6, verdict := []Type{TypeIPv6, TypeService}, []Type{TypeVerdict}
	return []Set{
		{Name: SetBridges, Key: []Type{TypeIfName}},
		{Name: SetAdopted, Key: []Type{TypeIfName, TypeIfName}},
		{Name: SetICC, Key: []Type{TypeIfName, TypeIfName}},
		{Name: SetInternal, Key: []Type{TypeIfName}},
		{Name: SetSubnets4, Key: []Type{TypeIfName, TypeIPv4}, Interval: true},
		{Name: SetSubnets6, Key: []Type{TypeIfName, TypeIPv6}, Interval: true},
		{Name: SetMasquerade4, Key: []Type{TypeIPv4}, Interval: true},
		{Name: SetMasquerade6, Key: []Type{TypeIPv6}, Interval: true},
		{Name: SetMasqueraded, Key: []Type{TypeIfName}},
		{Name: MapSNAT4, Key: []Type{TypeIfName}, Value: []Type{TypeIPv4}},
		{Name: MapSNAT6, Key: []Type{TypeIfName}, Value: []Type{TypeIPv6}},
		{Name: SetOverlays, Key: []Type{TypeIfName}},
		{Name: MapSenders, Key: []Type{TypeIfName, TypeMAC}, Value: []Type{TypeMark}},
		{Name: MapSelf4, Key: []Type{TypeIfName}, Value: []Type{TypeIPv4}},
		{Name: MapSelf6, Key: []Type{TypeIfName}, Value: []Type{TypeIPv6}},
		{Name: SetUnprotected, Key: []Type{TypeIfName, TypeFamily}},
		{Name: SetRouted, Key: []Type{TypeIfName, TypeFamily}},
		{Name: SetTrusted, Key: []Type{TypeIfName, TypeIfName}},
		{Name: SetOpen4, Key: []Type{TypeIfName, TypeIPv4, TypeProto, TypeService}},
		{Name: SetOpen6, Key: []Type{TypeIfName, TypeIPv6, TypeProto, TypeService}},
		{Name: SetApart, Key: []Type{TypeIfName, TypeIfName}},
		{Name: SetHosts, Key: []Type{TypeIfName}},
		{Name: SetClosed, Key: []Type{TypeFamily}},
		{Name: SetMembers4, Key: []Type{TypeIfName, TypeIPv4}},
		{Name: SetMembers6, Key: []Type{TypeIfName, TypeIPv6}},
		{Name: SetLinks4, Key: []Type{TypeIfName, TypeIPv4, TypeIPv4, TypeProto, TypeService}},
		{Name: SetLinks6, Key: []Type{TypeIfName, TypeIPv6, TypeIPv6, TypeProto, TypeService}},
		{Name: MapPorts4, Key: anyKey, Value: to4},
		{Name: MapPorts4Addr, Key: append([]Type{TypeIPv4}, anyKey...), Value: to4},
		{Name: MapPorts6, Key: anyKey, Value: to6},
		{Name: MapPorts6Addr, Key: append([]Type{TypeIPv6}, anyKey...), Value: to6},
		{Name: MapIngress4, Key: anyKey, Value: verdict},
		{Name: MapIngress6, Key: anyKey, Value: verdict},
		{Name: SetGuarded4, Key: anyKey},
		{Name: SetGuarded4Addr, Key: append([]Type{TypeIPv4}, anyKey...)},
		{Name: SetGuarded6, Key: anyKey},
		{Name: SetGuarded6Addr, Key: append([]Type{TypeIPv6}, anyKey...)},
		{Name: SetConnections4, Key: []Type{TypeIPv4, TypeProto, TypeService}, Minutes: remembered},
		{Name: SetConnections6, Key: []Type{TypeIPv6, TypeProto, TypeService}, Minutes: remembered},
		{Name: SetRelayed6, Key: anyKey},
		{Name: SetRelayed6Addr, Key: append([]Type{TypeIPv6}, anyKey...)},
	}
}

// rule returns a rule: matches, then the verdict.
func rule(v Verdict, m ...Match) Rule { return Rule{Match: m, Verdict: v} }

// rawChain keeps loopback on lo, before connection tracking sees the packet. A
// source of 127.0.0.0/8 is as bad as a destination: route_localnet on a bridge
// also lets a container send from 127.0.0.1 to the host.
func rawChain() Chain {
	notLo, loopback := IfIs{FieldIIf, true, "lo"}, netip.MustParsePrefix("127.0.0.0/8")
	return Chain{"raw", &Hook{"filter", "prerouting", -300, "raw"}, []Rule{
		rule(Drop, notLo, AddrIn{FieldSrc4, false, loopback}),
		rule(Drop, notLo, AddrIn{FieldDst4, false, loopback}),
		rule(Drop, notLo, AddrIn{FieldDst6, false, netip.MustParsePrefix("::1/128")}),
	}}
}

// arrivedChain notes through which node a connection came that its host sent to a container here, as to
// a task of a service, and has answers routed back there: the client is another host, to which
// this node's own way would lead with the container's address. The rules of policy routing are
// about what came in by the bridge: a mark stays on the VXLAN packet too, which the host sends.
func arrivedChain() Chain {
	overlay := in(SetOverlays, FieldIIf)
	return Chain{"arrived", &Hook{"filter", "prerouting", afterTracking, "mangle"}, []Rule{
		// not of the first packet alone: it may come before this node knows the sender, and be sent again
		rule(SetCtMark{[]Field{FieldIIf, FieldSrcMAC}, MapSenders}, overlay, Original, Unmarked),
		rule(MarkAsConn, overlay, Reply, Marked),
	}}
}

// afterTracking is the priority of what is before routing and knows the connection.
const afterTracking = -150

// Priorities of the chains that translate addresses: just before those of others (dstnat is
// -100, srcnat 100). Of chains of one hook and priority the kernel asks the one first that
// came last, and the first that translates decides: a reload of another firewall would
// decide which container has a port.
const (
	beforeDNAT = -101
	beforeSNAT = 99
)

func toPublish() []Rule { return []Rule{rule(Jump("publish"), Local)} }

// publishChain sends packets for a published port to the container, or to a task of the service. Packets
// without these fields (ICMP has no port) match no element. A service's port is claimed in the map
// of containers' ports, and so is looked up before.
func publishChain() Chain {
	return Chain{"publish", nil, []Rule{
		rule(DNAT{false, []Field{FieldDst4, FieldProto, FieldDstSvc}, MapPorts4Addr}),
		rule(VMap{[]Field{FieldProto, FieldDstSvc}, MapIngress4}, Family4),
		rule(DNAT{false, []Field{FieldProto, FieldDstSvc}, MapPorts4}),
		rule(Return, AddrIn{FieldDst6, false, netip.MustParsePrefix("::1/128")}),
		rule(Return, AddrIn{FieldSrc6, false, netip.MustParsePrefix("fe80::/10")}),
		rule(DNAT{true, []Field{FieldDst6, FieldProto, FieldDstSvc}, MapPorts6Addr}),
		rule(VMap{[]Field{FieldProto, FieldDstSvc}, MapIngress6}, Family6),
		rule(DNAT{true, []Field{FieldProto, FieldDstSvc}, MapPorts6}),
	}}
}

// A member is how rules match a container on an adopted bridge: as the source and as
// the destination of what is forwarded.
type member struct{ from, to Match }

func members() []member {
	return []member{
		{in(SetMembers4, FieldIIf, FieldSrc4), in(SetMembers4, FieldOIf, FieldDst4)},
		{in(SetMembers6, FieldIIf, FieldSrc6), in(SetMembers6, FieldOIf, FieldDst6)},
	}
}

// in returns a match of fields that are an element of a set.
func in(set string, fields ...Field) Match { return InSet{Fields: fields, Set: set} }

// crosses matches what does not stay on one adopted bridge. With bridge netfilter on,
// what a bridge passes from port to port comes here too.
func crosses() Match { return InSet{Fields: []Field{FieldIIf, FieldOIf}, Set: SetAdopted, Not: true} }

// invalidChain drops segments that conntrack calls invalid, as one far out of the window,
// where they are a container's: they come from one, answer one that has the host's address
// outside, or are for a published port. They are not translated, and so come to the host,
// whose answer, a reset, would end a connection that is well. What is relayed is the host's.
func invalidChain() Chain {
	return Chain{"invalid", nil, []Rule{
		rule(Drop, in(SetBridges, FieldIIf)),
		rule(Drop, members()[0].from),
		rule(Drop, members()[1].from),
		rule(Drop, in(SetConnections4, FieldSrc4, FieldProto, FieldDstSvc)),
		rule(Drop, in(SetGuarded4Addr, FieldDst4, FieldProto, FieldDstSvc)),
		rule(Drop, Family4, in(SetGuarded4, FieldProto, FieldDstSvc)),
		rule(Return, AddrIn{FieldDst6, false, netip.MustParsePrefix("::1/128")}),
		rule(Return, AddrIn{FieldSrc6, false, netip.MustParsePrefix("fe80::/10")}),
		rule(Drop, in(SetConnections6, FieldSrc6, FieldProto, FieldDstSvc)),
		rule(Drop, in(SetGuarded6Addr, FieldDst6, FieldProto, FieldDstSvc)),
		rule(Drop, Family6, in(SetGuarded6, FieldProto, FieldDstSvc)),
	}}
}

// remembered is how many minutes a connection of a container's is known after it last
// sent anything. What conntrack calls invalid comes to those that are busy.
const remembered = 2

// routedChain looks at packets as they leave, before their source changes: what is routed
// from bridge to bridge for others, and which connections of containers have the host's
// address. Answers that conntrack does not call one of theirs are known by it. Only
// connections that were answered count, so that a flood of first packets fills no set.
func routedChain() Chain {
	rules := []Rule{
		rule(Jump("foreign"), NotAccepted, in(SetClosed, FieldFamily), Forwarded, byBridge(FieldIKind), byBridge(FieldOKind),
			NotFromUs, Unicast),
	}
	for _, from := range []Match{in(SetBridges, FieldIIf), members()[0].from, members()[1].from} {
		rules = append(rules, rule(Jump("outgoing"), SNATed, Original, Established, from))
	}
	return Chain{"routed", &Hook{"filter", "postrouting", 0, "filter"}, rules}
}

// forwardChain decides which containers may talk. The order matters: the drops of what internal
// networks send, on any bridge, stand before each accept of published ports, and the last drops
// close containers' own addresses to other networks and to the outside, but for what
// openedChain accepts.
func forwardChain() Chain {
	fromOurs, toOurs := in(SetBridges, FieldIIf), in(SetBridges, FieldOIf)
	fromInternal, toInternal := in(SetInternal, FieldIIf), in(SetInternal, FieldOIf)
	rules := []Rule{
		rule(Jump(UserChain)),
		rule(Accept, Established),
		rule(Accept, in(SetICC, FieldIIf, FieldOIf)),
		rule(Accept, in(SetLinks4, FieldIIf, FieldSrc4, FieldDst4, FieldProto, FieldDstSvc)),
		rule(Accept, in(SetLinks6, FieldIIf, FieldSrc6, FieldDst6, FieldProto, FieldDstSvc)),
		// Untranslated: it would leave with the container's own address.
		rule(Drop, fromOurs, Invalid),
		rule(Drop, fromOurs, fromInternal),
	}
	for _, m := range members() {
		rules = append(rules, rule(Drop, m.from, Invalid, crosses()), rule(Drop, m.from, fromInternal, crosses()))
	}
	rules = append(rules,
		rule(Drop, toOurs, toInternal),
		rule(Accept, toOurs, DNATed),
		rule(Jump("opened"), toOurs),
		rule(Drop, toOurs),
	)
	for _, m := range members() {
		rules = append(rules,
			rule(Drop, m.to, toInternal, crosses()),
			rule(Accept, m.to, DNATed),
			rule(Jump("opened"), m.to),
			rule(Drop, m.from, m.to),
			rule(Drop, m.to, crosses()),
		)
	}
	for _, kind := range []Field{FieldIKind, FieldOKind} {
		rules = append(rules, rule(Jump("foreign"), in(SetClosed, FieldFamily), IfIs{kind, true, "bridge"}, Unicast))
	}
	return Chain{"forward", &Hook{"filter", "forward", 0, "filter"}, rules}
}

// byBridge matches an interface that is a bridge.
func byBridge(kind Field) Match { return IfIs{kind, false, "bridge"} }

// foreignChain drops what the host routes for others, where it did not before dcni
// switched forwarding on, unless users accept it in the forward chain. From bridge to
// bridge it is asked as packets leave, where what users accepted is not known: in the
// forward hook, what one bridge passes from port to port looks as if it were routed. The
// users' chain is not asked there again: the kernel would refuse what nf_tables allows in
// some hooks only, such as reject.
func foreignChain() Chain {
	rules := []Rule{
		rule(Accept, Established),
		rule(Accept, in(SetBridges, FieldIIf)),
		rule(Accept, in(SetBridges, FieldOIf)),
	}
	for _, m := range members() {
		rules = append(rules, rule(Accept, m.from), rule(Accept, m.to))
	}
	return Chain{"foreign", nil, append(rules, rule(Drop))}
}

// postroutingChain chooses source addresses. A container that reaches its own or
// a neighbour's published port would get the answer straight over the bridge,
// from an address it never asked: its source becomes the bridge's, also where
// the network does not masquerade. So does 127.0.0.1, which means nothing there. On
// an adopted bridge, clients in the network's subnets are such neighbours. A network with
// an address of its own for what leaves comes before those that take whichever the host has.
func postroutingChain() Chain {
	out4, out6 := in(SetSubnets4, FieldOIf, FieldSrc4), in(SetSubnets6, FieldOIf, FieldSrc6)
	toOurs, from127 := in(SetBridges, FieldOIf), AddrIn{FieldSrc4, false, netip.MustParsePrefix("127.0.0.0/8")}
	not4 := AddrIn{FieldDst4, true, netip.MustParsePrefix("224.0.0.0/4")}
	not6 := AddrIn{FieldDst6, true, netip.MustParsePrefix("ff00::/8")}
	snat4, snat6 := SNAT{false, FieldIIf, MapSNAT4}, SNAT{true, FieldIIf, MapSNAT6}
	fromOurs, member4, member6 := in(SetBridges, FieldIIf), members()[0], members()[1]
	remote4, remote6 := elsewhere(FieldDst4, SetMembers4), elsewhere(FieldDst6, SetMembers6)
	self4, self6 := SNAT{false, FieldOIf, MapSelf4}, SNAT{true, FieldOIf, MapSelf6}
	overlay := in(SetOverlays, FieldOIf)
	return Chain{"postrouting", &Hook{"nat", "postrouting", beforeSNAT, "srcnat - 1"}, []Rule{
		rule(self4, overlay, DNATed, remote4, FromUs),
		rule(self6, overlay, DNATed, remote6, FromUs),
		rule(self4, overlay, DNATed, remote4, out4), // with bridge netfilter no link is known where it came in
		rule(self6, overlay, DNATed, remote6, out6),
		rule(self4, overlay, DNATed, remote4, fromOurs),
		rule(self6, overlay, DNATed, remote6, fromOurs),
		rule(self4, overlay, DNATed, remote4, member4.from),
		rule(self6, overlay, DNATed, remote6, member6.from),
		rule(Masquerade, toOurs, DNATed, from127),
		rule(Masquerade, toOurs, DNATed, out4),
		rule(Masquerade, toOurs, DNATed, out6),
		rule(Masquerade, member4.to, DNATed, from127),
		rule(Masquerade, member4.to, DNATed, out4),
		rule(Masquerade, member6.to, DNATed, out6),
		rule(Return, out4),
		rule(Return, out6),
		rule(Return, in(SetOverlays, FieldIIf), in(SetICC, FieldIIf, FieldOIf)),
		rule(Return, in(SetRouted, FieldIIf, FieldFamily)),
		rule(snat4, fromOurs, not4),
		rule(snat6, fromOurs, not6),
		rule(snat4, member4.from, not4),
		rule(snat6, member6.from, not6),
		rule(Masquerade, in(SetMasquerade4, FieldSrc4), not4),
		rule(Masquerade, in(SetMasquerade6, FieldSrc6), not6),
		rule(Masquerade, member4.from, in(SetMasqueraded, FieldIIf), not4),
		rule(Masquerade, member6.from, in(SetMasqueraded, FieldIIf), not6),
	}}
}

// elsewhere matches what is for a container on another node, on an overlay network.
func elsewhere(to Field, members string) Match {
	return InSet{Fields: []Field{FieldOIf, to}, Set: members, Not: true}
}

// hostChain refuses what the host itself sends to containers of an overlay network on
// other nodes: it would carry the gateway's address, which those nodes have as well, but for what is
// for a port of a service, and carries the node's own. Where
// the host has an address of its own, it marks what it sends there, see [Inside].
func hostChain() Chain {
	overlay := in(SetOverlays, FieldOIf)
	return Chain{"host", &Hook{"filter", "output", 0, "filter"}, []Rule{
		rule(SetInside, in(SetHosts, FieldOIf)),
		rule(Return, DNATed),
		rule(Reject, overlay, in(SetSubnets4, FieldOIf, FieldDst4), elsewhere(FieldDst4, SetMembers4)),
		rule(Reject, overlay, in(SetSubnets6, FieldOIf, FieldDst6), elsewhere(FieldDst6, SetMembers6)),
	}}
}
