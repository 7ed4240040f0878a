package firewall

import (
	"fmt"
	"net/netip"
	"strings"

	"dcni/pkg/wire"
)

// The sets of the table of the bridge family, [FrameTable]. All begin with the name of a port.
const (
	SetApartPorts = "apart"      // ports that reach no other one of them
	SetChecked    = "checked"    // ports whose frames are looked at
	SetMACs       = "macs"       // port . MAC of what is behind it
	SetAddresses4 = "addresses4" // port . address
	SetAddresses6 = "addresses6" //
)

// FrameRules is the table of the bridge family, whose rules are about frames, not packets. Only
// hosts have it on which a network asks for it by a [BridgePort].
type FrameRules struct {
	Known []*BridgePort // that are put in with it: the host's records have them
	// Required says that the network can't do without, as a kernel without the bridge family
	// would have it: its ports are checked.
	Required bool
}

// Key is always the same.
func (*FrameRules) Key() string { return "table bridge " + TableName }

// Root marks it as something that goes with its last user.
func (*FrameRules) Root() {}

func (*FrameRules) String() string { return "rules of table bridge " + TableName }

// BridgePort is an attachment's port of a bridge, as the rules of frames know it.
type BridgePort struct {
	Owner     wire.Attachment `json:"owner"`
	Link      string          `json:"link"`                // the port
	MAC       string          `json:"mac,omitempty"`       // of the sandbox's interface
	Addresses []netip.Addr    `json:"addresses,omitempty"` // its own, that of the link (fe80::) included
	// Apart says that no frame passes to another such port, nor from one, but packets from
	// own addresses to own addresses: those that are left to the rules of the inet family.
	Apart bool `json:"apart,omitempty"`
	// Checked says that nothing is sent but from the MAC, and from the addresses.
	Checked bool `json:"checked,omitempty"`
	// Tunnel is the port by which the network's containers on other nodes send, "" for none.
	// It is apart as well.
	Tunnel string `json:"tunnel,omitempty"`
}

// Key names the attachment; see [wire.Object].
func (p *BridgePort) Key() string { return "bridge port " + p.Owner.String() }

// Root marks the elements as something DEL removes by itself: they don't go with the port.
func (p *BridgePort) Root() {}

// Refers names the rules.
func (p *BridgePort) Refers() []string { return []string{(&FrameRules{}).Key()} }

// String returns the elements on one line.
func (p *BridgePort) String() string { return joinElementsIn("bridge", p.Elements()) }

// OfTunnel returns the port of the network's tunnel; nil where it has none that is apart.
func (p *BridgePort) OfTunnel() *BridgePort {
	if !p.Apart || p.Tunnel == "" {
		return nil
	}
	return &BridgePort{Owner: wire.Attachment{Network: p.Owner.Network}, Link: p.Tunnel, Apart: true}
}

// Comment marks the elements as the owner's.
func (p *BridgePort) Comment() string {
	if p.Owner.Container == "" {
		return NetworkComment(p.Owner.Network)
	}
	return Comment(p.Owner)
}

// MAC is an Ethernet address, as 02:42:0a:01:00:02.
type MAC string

func (m MAC) String() string { return string(m) }

// Elements returns what puts the port into the sets.
func (p *BridgePort) Elements() []Element {
	var elements []Element
	add := func(set string, key ...fmt.Stringer) {
		elements = append(elements, Element{Set: set, Key: append([]fmt.Stringer{IfName(p.Link)}, key...), Comment: p.Comment()})
	}
	if p.Apart {
		add(SetApartPorts)
	}
	if p.Checked {
		add(SetChecked)
		add(SetMACs, MAC(p.MAC))
	}
	for _, a := range p.Addresses {
		add(byFamily(a.Unmap().Is6(), SetAddresses4, SetAddresses6), a.Unmap())
	}
	return elements
}

// FrameSets are the names of the sets, those of what ports are in first.
func FrameSets() []string {
	return []string{SetApartPorts, SetChecked, SetMACs, SetAddresses4, SetAddresses6}
}

// EtherType is a match of what a frame carries, as it is on the wire: what has a VLAN's tag is
// neither. Matches of fields imply it.
type EtherType uint16

// The types in use.
const (
	EtherIPv4 EtherType = 0x0800
	EtherIPv6 EtherType = 0x86dd
)

func (t EtherType) String() string {
	if t == EtherIPv6 {
		return "ether type ip6"
	}
	return "ether type ip"
}

// ARPOfIPv4 matches ARP of IPv4 on Ethernet, by how it begins.
const ARPOfIPv4 ARPHeader = "arp htype 1 arp ptype ip arp hlen 6 arp plen 4"

// ARPHeader is a match of ARP.
type ARPHeader string

func (h ARPHeader) String() string { return string(h) }

// ICMPv6Type is a match of a message's type (RFC 4443, RFC 4861).
type ICMPv6Type uint8

// The types in use.
const (
	RouterSolicit   ICMPv6Type = 133
	RouterAdvert    ICMPv6Type = 134
	NeighborSolicit ICMPv6Type = 135
	NeighborAdvert  ICMPv6Type = 136
	Redirect        ICMPv6Type = 137
	ListenerReport  ICMPv6Type = 143 // which groups a neighbour listens to (MLDv2)
)

func (t ICMPv6Type) String() string {
	return "icmpv6 type " + map[ICMPv6Type]string{
		RouterSolicit: "nd-router-solicit", RouterAdvert: "nd-router-advert", NeighborSolicit: "nd-neighbor-solicit",
		NeighborAdvert: "nd-neighbor-advert", Redirect: "nd-redirect", ListenerReport: "mld2-listener-report",
	}[t]
}

// UDPPorts is a match of the source and the destination of UDP.
type UDPPorts struct{ From, To uint16 }

func (m UDPPorts) String() string { return fmt.Sprintf("udp sport %d udp dport %d", m.From, m.To) }

// FrameTable returns the rules. They come before those of bridge netfilter (priority 0).
func FrameTable() Table {
	port := func(types ...Type) []Type { return append([]Type{TypeIfName}, types...) }
	apart := []Match{in(SetApartPorts, FieldIIf), in(SetApartPorts, FieldOIf)}
	t := Table{
		Family: "bridge", Name: TableName,
		Sets: []Set{
			{Name: SetApartPorts, Key: port()},
			{Name: SetChecked, Key: port()},
			{Name: SetMACs, Key: port(TypeMAC)},
			{Name: SetAddresses4, Key: port(TypeIPv4)},
			{Name: SetAddresses6, Key: port(TypeIPv6)},
		},
		Chains: []Chain{
			{"prerouting", &Hook{"filter", "prerouting", beforeNetfilter, "filter"}, []Rule{rule(Jump("sender"), in(SetChecked, FieldIIf))}},
			{"sender", nil, []Rule{
				rule(Drop, notIn(SetMACs, FieldIIf, FieldSrcMAC)),
				rule(Jump("sender_arp"), ARPOfIPv4),
				rule(Jump("sender4"), EtherIPv4),
				rule(Jump("sender6"), EtherIPv6),
				rule(Drop),
			}},
			{"sender_arp", nil, senderARP()},
			{"sender4", nil, sender4()},
			{"sender6", nil, sender6()},
			{"forward", &Hook{"filter", "forward", beforeNetfilter, "filter"}, []Rule{rule(Jump("between"), apart...)}},
			{"between", nil, []Rule{
				rule(Accept, in(SetAddresses4, FieldIIf, FieldSrc4), in(SetAddresses4, FieldOIf, FieldDst4)),
				rule(Accept, in(SetAddresses6, FieldIIf, FieldSrc6), in(SetAddresses6, FieldOIf, FieldDst6)),
				rule(Drop),
			}},
		},
	}
	for _, c := range t.Chains {
		for i := range c.Rules {
			c.Rules[i].Comment = frameNote
		}
	}
	return t
}

// beforeNetfilter is the priority that nft calls filter in the bridge family.
const beforeNetfilter = -200

// frameNote is what each of the table's rules has as comment.
const frameNote = "frames 1"

// IsFrameNote reports whether a comment is that of such a rule, of whichever dcni.
func IsFrameNote(comment string) bool { return strings.HasPrefix(comment, "frames ") }

// notIn returns a match of fields that are no element of a set.
func notIn(set string, fields ...Field) Match { return InSet{Fields: fields, Set: set, Not: true} }

// senderARP accepts ARP from the port's addresses. One without (0.0.0.0) asks whether an address
// is free (RFC 5227), and claims none.
func senderARP() []Rule {
	return []Rule{
		rule(Drop, notIn(SetMACs, FieldIIf, FieldARPMAC)),
		rule(Accept, in(SetAddresses4, FieldIIf, FieldARPAddr)),
		rule(Accept, exactly(FieldARPAddr, netip.IPv4Unspecified())),
		rule(Drop),
	}
}

// sender4 accepts packets from the port's addresses, and what asks for one by DHCP.
func sender4() []Rule {
	return []Rule{
		rule(Accept, in(SetAddresses4, FieldIIf, FieldSrc4)),
		rule(Accept, exactly(FieldSrc4, netip.IPv4Unspecified()), UDPPorts{68, 67}),
		rule(Drop),
	}
}

// sender6 accepts packets from the port's addresses, but for neighbour discovery that says
// something of others: who has an address, who is a router, where a way leads. Without an
// address (::), which duplicate detection has, only what is usual then passes: RFC 4862, 5.4,
// where the address asked for is the port's own.
func sender6() []Rule {
	target := in(SetAddresses6, FieldIIf, FieldNDTarget)
	none := exactly(FieldSrc6, netip.IPv6Unspecified())
	return []Rule{
		rule(Drop, NeighborAdvert, notIn(SetAddresses6, FieldIIf, FieldNDTarget)),
		rule(Drop, RouterAdvert),
		rule(Drop, Redirect),
		rule(Accept, in(SetAddresses6, FieldIIf, FieldSrc6)),
		rule(Accept, none, NeighborSolicit, target),
		rule(Accept, none, RouterSolicit),
		rule(Accept, none, ListenerReport),
		rule(Drop),
	}
}

// exactly matches one address.
func exactly(f Field, a netip.Addr) Match {
	return AddrIn{Field: f, Prefix: netip.PrefixFrom(a, a.BitLen())}
}

func joinElementsIn(family string, elements []Element) string {
	words := make([]string, len(elements))
	for i, e := range elements {
		words[i] = e.String()
	}
	return "element " + family + " " + TableName + " " + strings.Join(words, "; ")
}
