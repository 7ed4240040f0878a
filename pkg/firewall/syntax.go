package firewall

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
)

// Table is a table. It prints as `nft list table` does.
type Table struct {
	Family string // "": inet
	Name   string
	Sets   []Set
	Chains []Chain
}

// Type is a data type, by its nft name.
type Type string

// The types in use.
const (
	TypeIfName  Type = "ifname"
	TypeIPv4    Type = "ipv4_addr"
	TypeIPv6    Type = "ipv6_addr"
	TypeProto   Type = "inet_proto"
	TypeService Type = "inet_service"
	TypeFamily  Type = "nf_proto"
	TypeMAC     Type = "ether_addr"
	TypeVerdict Type = "verdict"
	TypeMark    Type = "mark"
)

// Set is a named set, or a map if it has a Value.
type Set struct {
	Name     string
	Key      []Type
	Value    []Type
	Interval bool // elements are ranges
	// Minutes is how long an element is kept that a rule has put in, see [Update]; 0: the
	// set is changed by programs only.
	Minutes int
}

// dynamicSize is how many elements a set takes that rules fill.
const dynamicSize = 65535

// Size returns how many elements the set takes; 0: any number.
func (s Set) Size() int {
	if s.Minutes > 0 {
		return dynamicSize
	}
	return 0
}

// Chain is a chain. Without a Hook it is only jumped to.
type Chain struct {
	Name  string
	Hook  *Hook
	Rules []Rule
}

// Hook says where packets enter a base chain. Its policy is accept: packets that are
// not a container's pass.
type Hook struct {
	Type     string // filter or nat
	Hook     string // forward, prerouting, output or postrouting
	Priority int32
	Name     string // the priority as nft 1.0.6 prints it
}

// Rule is a list of matches that must all hold, and what happens then.
type Rule struct {
	Match   []Match
	Verdict Verdict
	Comment string
}

// Field is what is looked at in a packet, by its nft name.
type Field string

// The fields in use.
const (
	FieldIIf    Field = "iifname"
	FieldOIf    Field = "oifname"
	FieldSrc4   Field = "ip saddr"
	FieldDst4   Field = "ip daddr"
	FieldSrc6   Field = "ip6 saddr"
	FieldDst6   Field = "ip6 daddr"
	FieldProto  Field = "meta l4proto"
	FieldDstSvc Field = "th dport"
	FieldNATSvc Field = "ct reply proto-dst" // the port that answers come to
	FieldFamily Field = "meta nfproto"
	FieldIKind  Field = "meta iifkind"
	FieldOKind  Field = "meta oifkind"

	// Of frames; see [FrameTable]. Of packets the first is there where their link is Ethernet.
	FieldSrcMAC   Field = "ether saddr"
	FieldARPMAC   Field = "arp saddr ether"
	FieldARPAddr  Field = "arp saddr ip"
	FieldNDTarget Field = "@th,64,128" // of neighbour discovery, the address that is asked for or told of
)

// Match is one of [InSet], [IfIs], [AddrIn], [State], [Status], [FibType], [Input],
// [IsFamily], [IsProto], [UDPTo], [NoIPsec], [Direction], [User],
// [Priority], [EtherType], [ARPHeader], [ICMPv6Type], [UDPPorts].
type Match interface{ fmt.Stringer }

// User is a match of who owns the socket of a packet that this host sends. What has no
// socket of the host's own, as what the kernel makes and what comes from a container, matches
// none.
type User string

// NotRoot is a program's that does not run as root.
const NotRoot User = "!= 0"

func (u User) String() string { return "meta skuid " + string(u) }

// Inside is the priority of packets that the host sends into an overlay network. The VXLAN
// packet that one goes out in has its socket and its priority. No program has that priority
// without a right of root's (SO_PRIORITY takes 0 to 6 of others), so that it tells what the
// kernel has encapsulated from what a program has. It is no class of tc's, and the
// last digits make it best effort.
const (
	Inside             = 4789 << 16 // as tc has it, 12b5:0
	NotInside Priority = "!= 12b5:0"
	SetInside Do       = "meta priority set 12b5:0"
)

// Priority is a match of a packet's priority; see [Inside].
type Priority string

func (p Priority) String() string { return "meta priority " + string(p) }

// InSet holds if the fields together are an element of the set, or are none.
type InSet struct {
	Fields []Field
	Set    string
	Not    bool
}

// IfIs holds if the interface has that name or is of that kind (ip-link(8)'s types), or
// is not.
type IfIs struct {
	Field Field
	Not   bool
	Name  IfName
}

// AddrIn holds if an address is in the prefix, or is not.
type AddrIn struct {
	Field  Field
	Not    bool
	Prefix netip.Prefix
}

// State is a match of the connection's state.
type State string

// The states in use.
const (
	Established State = "established,related"   // of a connection that was accepted
	Invalid     State = "invalid"               // of none, or not where that is: NAT leaves it as it is
	NotAccepted State = "invalid,new,untracked" // all others than Established
	New         State = "new"                   // the first of a connection
)

// Family4 and Family6 match packets of a family.
const (
	Family4 IsFamily = 4
	Family6 IsFamily = 6
)

// IsFamily is a match of the address family.
type IsFamily Family

// IsProto is a match of the transport protocol.
type IsProto Proto

// The protocols that are matched.
const (
	TCP    IsProto = "tcp"
	SCTP   IsProto = "sctp"
	ICMP   IsProto = "icmp"
	ICMPv6 IsProto = "ipv6-icmp"
)

// Direction is a match of a packet's direction in its connection; see [Original].
type Direction string

// Original matches what goes the way that the first packet went.
const Original Direction = "original"

// Reply matches what goes the other way.
const Reply Direction = "reply"

// Status is a match of what was done to the connection.
type Status string

// A connection is DNATed by a published port, and SNATed on its way out.
const (
	DNATed Status = "dnat" // it came through a published port
	SNATed Status = "snat" // it has the host's address
)

// FibType is a match of the kind of an address.
type FibType string

// The kinds in use.
const (
	Local     FibType = "daddr type local"    // to one of the host's own addresses
	Unicast   FibType = "daddr type unicast"  // to one other machine
	NotFromUs FibType = "saddr type != local" // not from one of the host's own addresses
	FromUs    FibType = "saddr type local"    // from one of them
)

// Input is a match of the interface by which a packet came; see [Forwarded].
type Input string

// Forwarded matches packets that came by any, as they leave: not what the host sends,
// and not what a bridge passes from port to port.
const Forwarded Input = "iif != 0"

// MarkMask is the part of marks that says which node a connection to a task came through.
const MarkMask = 0xffff0000

// Marked matches connections that came through another node, Unmarked all others, by the bits of [MarkMask].
const (
	Marked   CtMark = "!= 0x00000000/16"
	Unmarked CtMark = "0x00000000/16"
)

// CtMark is a match of a connection's mark; see [Marked].
type CtMark string

func (m CtMark) String() string { return "ct mark " + string(m) }

// Verdict is one of [SetCtMark], [Do], [Jump], [VMap], [DNAT], [SNAT], [Update].
type Verdict interface{ fmt.Stringer }

// Do is a verdict without an argument.
type Do string

// The verdicts without an argument.
const (
	Accept     Do = "accept"
	Drop       Do = "drop"
	Return     Do = "return"
	Masquerade Do = "masquerade"
	Reject     Do = "reject with icmpx host-unreachable"
	MarkAsConn Do = "meta mark set ct mark"
)

// Jump goes on in another chain and comes back.
type Jump string

// SetCtMark looks the fields up in a map, and gives the connection the mark that is there; the rule does
// nothing if there is none.
type SetCtMark struct {
	Fields []Field
	Map    string
}

// VMap looks the fields up in a map of verdicts, and does what is there; the rule does nothing if
// there is nothing.
type VMap struct {
	Fields []Field
	Map    string
}

// DNAT looks the fields up in a map and sends the connection to what is there;
// the rule does nothing if there is nothing.
type DNAT struct {
	V6     bool
	Fields []Field
	Map    string
}

// SNAT looks a field up in a map and gives the connection the source address that is
// there; the rule does nothing if there is none.
type SNAT struct {
	V6    bool
	Field Field
	Map   string
}

// Update puts the fields into a set, or keeps them there for another [Set.Minutes].
// The next rule follows.
type Update struct {
	Fields []Field
	Set    string
}

func (m InSet) String() string   { return concatFields(m.Fields) + not(m.Not) + "@" + m.Set }
func (m IfIs) String() string    { return string(m.Field) + not(m.Not) + m.Name.String() }
func (m State) String() string   { return "ct state " + string(m) }
func (m Status) String() string  { return "ct status " + string(m) }
func (m FibType) String() string { return "fib " + string(m) }
func (m Input) String() string   { return string(m) }
func (m IsFamily) String() string {
	return "meta nfproto " + Family(m).String()
}
func (m IsProto) String() string   { return "meta l4proto " + string(m) }
func (m Direction) String() string { return "ct direction " + string(m) }
func (v Update) String() string    { return "update @" + v.Set + " { " + concatFields(v.Fields) + " }" }
func (v Do) String() string        { return string(v) }
func (v Jump) String() string      { return "jump " + string(v) }
func (v SetCtMark) String() string {
	return "ct mark set " + concatFields(v.Fields) + " map @" + v.Map
}
func (v VMap) String() string { return concatFields(v.Fields) + " vmap @" + v.Map }

func (m AddrIn) String() string {
	what := m.Prefix.String()
	if m.Prefix.IsSingleIP() {
		what = m.Prefix.Addr().String()
	}
	return string(m.Field) + not(m.Not) + what
}

func (v DNAT) String() string {
	return "dnat " + byFamily(v.V6, "ip", "ip6") + " to " + concatFields(v.Fields) + " map @" + v.Map
}

func (v SNAT) String() string {
	return "snat " + byFamily(v.V6, "ip", "ip6") + " to " + string(v.Field) + " map @" + v.Map
}

func not(n bool) string {
	if n {
		return " != "
	}
	return " "
}

func concatFields(fields []Field) string {
	words := make([]string, len(fields))
	for i, f := range fields {
		words[i] = string(f)
	}
	return strings.Join(words, " . ")
}

// String returns the rule as one line.
func (r Rule) String() string {
	var words []string
	for _, m := range r.Match {
		words = append(words, m.String())
	}
	words = append(words, r.Verdict.String())
	if r.Comment != "" {
		words = append(words, fmt.Sprintf("comment %q", r.Comment))
	}
	return strings.Join(words, " ")
}

// String returns the set as nft lists it when it has no elements.
func (s Set) String() string {
	kind, types := "set", joinTypes(s.Key)
	if s.Value != nil {
		kind, types = "map", types+" : "+joinTypes(s.Value)
	}
	text := "\t" + kind + " " + s.Name + " {\n\t\ttype " + types + "\n"
	if s.Interval {
		text += "\t\tflags interval\n"
	}
	if s.Minutes > 0 {
		text += fmt.Sprintf("\t\tsize %d\n\t\tflags dynamic,timeout\n\t\ttimeout %dm\n", s.Size(), s.Minutes)
	}
	return text + "\t}\n"
}

// String returns the chain as nft lists it.
func (c Chain) String() string {
	text := "\tchain " + c.Name + " {\n"
	if h := c.Hook; h != nil {
		text += fmt.Sprintf("\t\ttype %s hook %s priority %s; policy accept;\n", h.Type, h.Hook, h.Name)
	}
	for _, r := range c.Rules {
		text += "\t\t" + r.String() + "\n"
	}
	return text + "\t}\n"
}

// String returns the table as `nft list table FAMILY NAME` prints it.
func (t Table) String() string {
	var parts []string
	for _, s := range t.Sets {
		parts = append(parts, s.String())
	}
	for _, c := range t.Chains {
		parts = append(parts, c.String())
	}
	return "table " + cmp.Or(t.Family, "inet") + " " + t.Name + " {\n" + strings.Join(parts, "\n") + "}\n"
}

func joinTypes(types []Type) string {
	words := make([]string, len(types))
	for i, t := range types {
		words[i] = string(t)
	}
	return strings.Join(words, " . ")
}
