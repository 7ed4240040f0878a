package firewall

import (
	"fmt"
	"hash/fnv"
	"net/netip"
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
	SetBridges     = "bridges"     // every network's bridge
	SetICC         = "icc"         // pairs of bridges that may talk: each with itself
	SetInternal    = "internal"    // bridges of internal networks
	SetSubnets4    = "subnets4"    // bridge . subnet
	SetSubnets6    = "subnets6"    //
	SetMasquerade4 = "masquerade4" // subnets that take the host's address outside
	SetMasquerade6 = "masquerade6" //
	MapPorts4      = "ports4"      // published on any address
	MapPorts4Addr  = "ports4_addr" // published on one address
	MapPorts6      = "ports6"
	MapPorts6Addr  = "ports6_addr"
	// Ports that are relayed to containers that have IPv4 only. No rule uses these
	// sets: their elements claim the ports against other endpoints.
	SetRelayed6     = "relayed6"
	SetRelayed6Addr = "relayed6_addr"
)

// Version identifies the present rules. ADD installs them again where it finds another
// version. It is the hash of their text, written down because hashing them would cost
// each ADD more than looking them up. A test compares the two.
const Version = "rules 7fc18c9838704e6d"

// ChainUses is how often each chain is used when all rules are there: by its
// rules, and by jumps to it, as the kernel counts (NFTA_CHAIN_USE). The users' chain is
// left out, since they change it. A test counts them, as for [Version].
var ChainUses = []struct {
	Chain string
	Times uint32
}{
	{"forward", 7}, {"output", 1}, {"postrouting", 7}, {"prerouting", 1}, {"publish", 8}, {"raw", 3}, {"version", 1},
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
			publishChain(),
			{"prerouting", &Hook{"nat", "prerouting", -100, "dstnat"}, toPublish()},
			{"output", &Hook{"nat", "output", -100, "-100"}, toPublish()},
			forwardChain(),
			postroutingChain(),
		},
	}
}

func sets() []Set {
	anyKey, to4 := []Type{TypeProto, TypeService}, []Type{TypeIPv4, TypeService}
	to6 := []Type{TypeIPv6, TypeService}
	return []Set{
		{Name: SetBridges, Key: []Type{TypeIfName}},
		{Name: SetICC, Key: []Type{TypeIfName, TypeIfName}},
		{Name: SetInternal, Key: []Type{TypeIfName}},
		{Name: SetSubnets4, Key: []Type{TypeIfName, TypeIPv4}, Interval: true},
		{Name: SetSubnets6, Key: []Type{TypeIfName, TypeIPv6}, Interval: true},
		{Name: SetMasquerade4, Key: []Type{TypeIPv4}, Interval: true},
		{Name: SetMasquerade6, Key: []Type{TypeIPv6}, Interval: true},
		{Name: MapPorts4, Key: anyKey, Value: to4},
		{Name: MapPorts4Addr, Key: append([]Type{TypeIPv4}, anyKey...), Value: to4},
		{Name: MapPorts6, Key: anyKey, Value: to6},
		{Name: MapPorts6Addr, Key: append([]Type{TypeIPv6}, anyKey...), Value: to6},
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

func toPublish() []Rule { return []Rule{rule(Jump("publish"), Local)} }

// publishChain sends packets for a published port to the container. Packets without
// these fields (ICMP has no port) match no element.
func publishChain() Chain {
	return Chain{"publish", nil, []Rule{
		rule(DNAT{false, []Field{FieldDst4, FieldProto, FieldDstSvc}, MapPorts4Addr}),
		rule(DNAT{false, []Field{FieldProto, FieldDstSvc}, MapPorts4}),
		rule(Return, AddrIn{FieldDst6, false, netip.MustParsePrefix("::1/128")}),
		rule(Return, AddrIn{FieldSrc6, false, netip.MustParsePrefix("fe80::/10")}),
		rule(DNAT{true, []Field{FieldDst6, FieldProto, FieldDstSvc}, MapPorts6Addr}),
		rule(DNAT{true, []Field{FieldProto, FieldDstSvc}, MapPorts6}),
	}}
}

// forwardChain decides which containers may talk. The order matters: the drops of
// internal networks stand before the accept of published ports, and the last drop
// closes containers' own addresses to other networks and to the outside.
func forwardChain() Chain {
	return Chain{"forward", &Hook{"filter", "forward", 0, "filter"}, []Rule{
		rule(Jump(UserChain)),
		rule(Accept, Established),
		rule(Accept, InSet{[]Field{FieldIIf, FieldOIf}, SetICC}),
		rule(Drop, InSet{[]Field{FieldIIf}, SetInternal}),
		rule(Drop, InSet{[]Field{FieldOIf}, SetInternal}),
		rule(Accept, InSet{[]Field{FieldOIf}, SetBridges}, DNATed),
		rule(Drop, InSet{[]Field{FieldOIf}, SetBridges}),
	}}
}

// postroutingChain chooses source addresses. A container that reaches its own or
// a neighbour's published port would get the answer straight over the bridge,
// from an address it never asked: its source becomes the bridge's, also where
// the network does not masquerade. So does 127.0.0.1, which means nothing there.
func postroutingChain() Chain {
	out4, out6 := []Field{FieldOIf, FieldSrc4}, []Field{FieldOIf, FieldSrc6}
	multicast4, multicast6 := netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("ff00::/8")
	return Chain{"postrouting", &Hook{"nat", "postrouting", 100, "srcnat"}, []Rule{
		rule(Masquerade, InSet{[]Field{FieldOIf}, SetBridges}, DNATed,
			AddrIn{FieldSrc4, false, netip.MustParsePrefix("127.0.0.0/8")}),
		rule(Masquerade, DNATed, InSet{out4, SetSubnets4}),
		rule(Masquerade, DNATed, InSet{out6, SetSubnets6}),
		rule(Return, InSet{out4, SetSubnets4}),
		rule(Return, InSet{out6, SetSubnets6}),
		rule(Masquerade, InSet{[]Field{FieldSrc4}, SetMasquerade4}, AddrIn{FieldDst4, true, multicast4}),
		rule(Masquerade, InSet{[]Field{FieldSrc6}, SetMasquerade6}, AddrIn{FieldDst6, true, multicast6}),
	}}
}
