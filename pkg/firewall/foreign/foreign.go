// Package foreign says what other programs' rules do with what a bridge forwards: whether a
// chain in the forward hook drops it, and where rules that let it pass have to stand.
//
// It is pure. Package foreign below pkg/host reads the chains. What is read is what is
// understood of rules, and that is not all: hence two questions. [Ruleset.Drops] takes what
// is not understood for nothing, [Ruleset.DropsSurely] for what may let the packet pass.
package foreign

import (
	"fmt"
	"slices"
	"strings"
)

// A Verdict is what a rule does.
type Verdict string

// The verdicts. A rule with None goes on.
const (
	None   Verdict = ""
	Accept Verdict = "accept"
	Drop   Verdict = "drop" // or reject
	Jump   Verdict = "jump" // to another chain, and back
	Goto   Verdict = "goto" // to another chain, and not back
	Return Verdict = "return"
	DNAT   Verdict = "dnat" // or redirect
)

// A Chain is one of another program's rules, in whatever table.
type Chain struct {
	Tool   string // the program that the command for it begins with: nft, iptables, ip6tables, iptables-legacy, ...
	Family string // ip, ip6 or inet
	Table  string
	Name   string
	Hook   string // forward or prerouting; "": it is only jumped to
	Drops  bool   // what no rule decides
	Rules  []Rule
}

// String is how people and nft call a chain: "ip filter FORWARD".
func (c *Chain) String() string { return strings.Join([]string{c.Family, c.Table, c.Name}, " ") }

// Carries reports whether packets of a family, 4 or 6, go by a chain.
func (c *Chain) Carries(family int) bool {
	return c.Family == "inet" || c.Family == "ip" && family == 4 || c.Family == "ip6" && family == 6
}

// OfIPTables reports whether iptables changes the chain, of either kind.
func (c *Chain) OfIPTables() bool { return c.Tool != "nft" }

// OfLegacy reports whether that is the iptables that came before nf_tables.
func (c *Chain) OfLegacy() bool { return strings.HasSuffix(c.Tool, "-legacy") }

// OfFirewalld reports whether the chain is firewalld's, which has a second table while it
// loads its rules.
func (c *Chain) OfFirewalld() bool {
	return c.Tool == "nft" && (c.Table == "firewalld" || strings.HasPrefix(c.Table, "firewalld_"))
}

// A Rule is what is understood of one.
type Rule struct {
	In, Out     []string // interfaces it is about, a "*" at the end stands for any rest; none: any
	Established bool     // it is about answers only
	New         bool     // it is about packets only that begin a connection; with Established: about neither
	Published   bool     // it is about packets whose destination was rewritten
	Protocol    string   // "": any
	Port        uint16   // destination port; 0: any
	Other       bool     // it asks for more than that
	Verdict     Verdict
	Rejects     bool   // it drops, and tells the sender
	To          string // chain
	Handle      uint64 // by which nft knows it
}

// With returns the rule that asks for all that either asks for, with the verdict that the other
// one has, if any.
func (r Rule) With(o Rule) Rule {
	r.Other = r.Other || o.Other || r.In != nil && o.In != nil || r.Out != nil && o.Out != nil
	r.In, r.Out = append(slices.Clone(r.In), o.In...), append(slices.Clone(r.Out), o.Out...)
	r.Established, r.New = r.Established || o.Established, r.New || o.New
	if o.Verdict != None {
		r.Verdict, r.To = o.Verdict, o.To
	}
	return r
}

// Form is how iptables writes a rule that accepts or drops by links, and whether a connection is
// new, only; "" for any other one.
// What is put into chains has this form.
func (r Rule) Form() string {
	simple := !r.Established && !r.Published && !r.Other && !r.Rejects && r.Protocol == "" && r.Port == 0
	if !simple || len(r.In) > 1 || len(r.Out) > 1 || len(r.In)+len(r.Out) == 0 || r.Verdict != Accept && r.Verdict != Drop {
		return ""
	}
	var words []string
	for _, in := range r.In {
		words = append(words, "-i", in)
	}
	for _, out := range r.Out {
		words = append(words, "-o", out)
	}
	if r.New {
		words = append(words, "-m", "conntrack", "--ctstate", "NEW")
	}
	return strings.Join(append(words, "-j", strings.ToUpper(string(r.Verdict))), " ")
}

// Passing returns the two rules that let a bridge pass.
func Passing(bridge string) (in, out Rule) {
	return Rule{In: []string{bridge}, Verdict: Accept}, Rule{Out: []string{bridge}, Verdict: Accept}
}

// Parting returns the rule that keeps a bridge apart from another one, whose clients of
// published ports get their answers.
func Parting(bridge, other string) Rule {
	return Rule{In: []string{bridge}, Out: []string{other}, New: true, Verdict: Drop}
}

// parts reports whether a rule is one of those, for any bridge.
func (r Rule) parts() bool {
	return r.Verdict == Drop && len(r.In) == 1 && len(r.Out) == 1 && r.Form() != ""
}

// Find returns the indexes of rules of some forms, the first of each: others may have the same.
func (c *Chain) Find(forms []string) (list []int) {
	for _, form := range forms {
		i := slices.IndexFunc(c.Rules, func(r Rule) bool { return form != "" && r.Form() == form })
		if i >= 0 && !slices.Contains(list, i) {
			list = append(list, i)
		}
	}
	slices.Sort(list)
	return list
}

// without returns the chain without the rules of some indexes.
func (c *Chain) without(list []int) *Chain {
	rest := *c
	rest.Rules = nil
	for i, r := range c.Rules {
		if !slices.Contains(list, i) {
			rest.Rules = append(rest.Rules, r)
		}
	}
	return &rest
}

// A Packet is one that is forwarded, as far as rules are asked.
type Packet struct {
	In, Out     string // interfaces
	Established bool   // it answers one that passed
	Published   bool   // its destination was rewritten
}

// Packets are what a bridge forwards: what containers send out by an uplink, the answers, and
// what comes for their published ports.
func Packets(bridge, uplink string) (out, answer, published Packet) {
	return Packet{In: bridge, Out: uplink}, Packet{In: uplink, Out: bridge, Established: true}, Packet{In: uplink, Out: bridge, Published: true}
}

// between reports whether a rule's interfaces and connection are the packet's.
func (r Rule) between(p Packet) bool {
	return among(r.In, p.In) && among(r.Out, p.Out) && (!r.Established || p.Established) && (!r.New || !p.Established) && (!r.Published || p.Published)
}

// matches reports whether a rule is for all such packets.
func (r Rule) matches(p Packet) bool {
	return !r.Other && r.Protocol == "" && r.Port == 0 && r.between(p)
}

// among reports whether a name is one of a list's patterns.
func among(list []string, name string) bool {
	return len(list) == 0 || slices.ContainsFunc(list, func(pattern string) bool {
		beginning, open := strings.CutSuffix(pattern, "*")
		return pattern == name || open && strings.HasPrefix(name, beginning)
	})
}

// A Ruleset finds chains by name.
type Ruleset []Chain

// Chain finds a chain of the table of another one; nil if there is none.
func (s Ruleset) Chain(like Chain, name string) *Chain {
	for i, c := range s {
		if c.Tool == like.Tool && c.Family == like.Family && c.Table == like.Table && c.Name == name {
			return &s[i]
		}
	}
	return nil
}

// maxDepth bounds how deep chains are followed: the kernel's NFT_JUMP_STACK_SIZE.
const maxDepth = 16

// decide returns what a chain does with a packet: None if no rule that is understood
// decides. maybe says that a rule before may have accepted it.
func (s Ruleset) decide(c *Chain, p Packet, depth int) (v Verdict, maybe bool) {
	if c == nil || depth > maxDepth {
		return None, false
	}
	for _, r := range c.Rules {
		if !r.matches(p) {
			maybe = maybe || s.mayAccept(c, r, p, depth)
			continue
		}
		switch r.Verdict {
		case Accept, Drop:
			return r.Verdict, maybe
		case Return:
			return None, maybe
		case Jump, Goto:
			v, m := s.decide(s.Chain(*c, r.To), p, depth+1)
			maybe = maybe || m
			if v != None || r.Verdict == Goto {
				return v, maybe
			}
		}
	}
	return None, maybe
}

// mayAccept reports whether a rule that asks for more than is understood may accept a packet
// that is not one of ICMP: those let nothing else pass.
func (s Ruleset) mayAccept(c *Chain, r Rule, p Packet, depth int) bool {
	if r.Protocol == "icmp" || !r.between(p) {
		return false
	}
	switch r.Verdict {
	case Accept:
		return true
	case Jump, Goto:
		v, maybe := s.decide(s.Chain(*c, r.To), p, depth+1)
		return v == Accept || maybe
	}
	return false
}

// Drops reports whether a base chain drops a packet as far as its rules are understood.
func (s Ruleset) Drops(c *Chain, p Packet) bool {
	drops, _ := s.drops(c, p)
	return drops
}

// DropsSurely reports whether a base chain drops a packet whatever those rules say that are
// not understood.
func (s Ruleset) DropsSurely(c *Chain, p Packet) bool {
	drops, maybe := s.drops(c, p)
	return drops && !maybe
}

func (s Ruleset) drops(c *Chain, p Packet) (drops, maybe bool) {
	v, maybe := s.decide(c, p, 0)
	return v == Drop || v == None && c.Drops, maybe
}

// Accepts reports whether a chain accepts a packet, or may by a rule that asks for more.
func (s Ruleset) Accepts(c *Chain, p Packet) bool {
	v, maybe := s.decide(c, p, 0)
	return v == Accept || maybe
}

// A Bridge is one that is to forward what containers send and get.
type Bridge struct {
	Name     string
	Uplink   string   // the host's link out; "": none
	Families []int    // 4, 6
	Ports    bool     // of its containers are published
	Filtered bool     // what its containers send one another goes by these chains as well
	Others   []string // bridges of other programs
	// Put returns the forms of the rules that were put into a chain of iptables for the bridge.
	Put func(*Chain) []string
}

// A Put is a rule that has to be put into a chain: before the rule of an index, or at the end.
type Put struct {
	Rule
	At int // among the rules without [Block.Ours]
}

// A Block is a base chain that drops something of a bridge's.
type Block struct {
	Chain *Chain
	Ours  []int  // indexes of rules that were put there before: they go
	Puts  []Put  // what lets the bridge pass in a chain of iptables, in the order in which it is put
	Open  string // nothing is dropped, but this bridge of another program is not kept apart
}

// Blocks returns the chains in the forward hook that drop something of a bridge's. In a
// chain of iptables rules can be put, and firewalld can be asked for, so what is not
// understood there counts for nothing. Other chains count if they drop surely.
func (s Ruleset) Blocks(b Bridge) (list []Block) {
	for i := range s {
		c := &s[i]
		if c.Hook != "forward" || !slices.ContainsFunc(b.Families, c.Carries) {
			continue
		}
		if c.OfIPTables() {
			if block := s.iptables(c, b); block != nil {
				list = append(list, *block)
			}
			continue
		}
		out, answer, published := Packets(b.Name, b.Uplink)
		for _, p := range []Packet{out, answer, published} {
			drops := c.OfFirewalld() && s.Drops(c, p) || s.DropsSurely(c, p) && !s.meant(c, p, b.Name, 0)
			if drops && (p != published || b.Ports) {
				list = append(list, Block{Chain: c})
				break
			}
		}
	}
	return list
}

// iptables returns what a chain of iptables drops; nil for nothing.
//
// All rules before a place keep their say, so that what other programs keep apart stays apart.
func (s Ruleset) iptables(c *Chain, b Bridge) *Block {
	block := &Block{Chain: c}
	if b.Put != nil {
		block.Ours = c.Find(b.Put(c))
	}
	rest := c.without(block.Ours)
	in, out := s.place(rest, b)
	pass, reach := Passing(b.Name)
	if in >= 0 {
		for _, other := range s.apart(rest, b, in) {
			block.Puts = append(block.Puts, Put{Parting(b.Name, other), in})
		}
		block.Puts = append(block.Puts, Put{pass, in})
	}
	if out >= 0 {
		block.Puts = append(block.Puts, Put{reach, out})
	}
	if in, out := s.place(c, b); in >= 0 || out >= 0 {
		return block
	}
	if slices.ContainsFunc(block.Ours, func(i int) bool { return c.Rules[i].parts() && c.Rules[i].Out[0] == b.Uplink }) {
		return block // it was no uplink when it was parted
	}
	block.Open = c.open(block)
	if block.Open != "" {
		return block
	}
	return nil
}

// open returns a bridge that one was to be kept apart from, and is let pass to; "" for none.
func (c *Chain) open(b *Block) string {
	passed := slices.IndexFunc(b.Ours, func(i int) bool { return c.Rules[i].Verdict == Accept && len(c.Rules[i].In) > 0 })
	if passed < 0 {
		return ""
	}
	for _, p := range b.Puts {
		if p.parts() && !slices.ContainsFunc(b.Ours[:passed], func(i int) bool { return c.Rules[i].Form() == p.Form() }) {
			return p.Out[0]
		}
	}
	return ""
}

// apart returns the bridges that what lets a bridge pass at an index of a chain must not lead to:
// those that rules of its table are about, and those that are dropped there or later, as by the
// policy.
func (s Ruleset) apart(c *Chain, bridge Bridge, in int) (list []string) {
	for _, b := range bridge.Others {
		if i, drops := s.droppedAt(c, Packet{In: bridge.Name, Out: b}, bridge.Name); drops && i >= in {
			list = append(list, b)
			continue
		}
		about := func(r Rule) bool { return slices.Contains(r.Out, b) && !r.parts() }
		if slices.ContainsFunc(s, func(o Chain) bool {
			return s.Chain(*c, o.Name) != nil && o.Tool == c.Tool && o.Family == c.Family && slices.ContainsFunc(o.Rules, about)
		}) {
			list = append(list, b)
		}
	}
	return list
}

// Panics reports whether firewalld drops everything: its panic mode.
func (s Ruleset) Panics() bool {
	return slices.ContainsFunc(s, func(c Chain) bool { return c.OfFirewalld() && c.Hook == "prerouting" && c.Drops })
}

// Command is what lets a bridge pass in a chain of nft's.
func (c *Chain) Command(bridge string) string {
	return fmt.Sprintf("nft insert rule %s iifname %s accept && nft insert rule %[1]s oifname %[2]s accept", c, bridge)
}

// place returns where in a base chain of iptables the rules have to stand that let pass what
// comes from a bridge, and what goes to it: each before the rule of an index, which drops such,
// or at the end. It is -1 where nothing of that is dropped, or what drops it was put there for
// that: in a chain that is its users', or by a rule that names the bridge.
func (s Ruleset) place(c *Chain, b Bridge) (in, out int) {
	in, out = -1, -1
	sent, answer, published := Packets(b.Name, b.Uplink)
	if i, drops := s.droppedAt(c, sent, b.Name); drops {
		in = i
	}
	if i, drops := s.droppedAt(c, Packet{In: b.Name, Out: b.Name}, b.Name); drops && b.Filtered && (in < 0 || i < in) {
		in = i
	}
	if i, drops := s.droppedAt(c, answer, b.Name); drops {
		out = i
	}
	if i, drops := s.droppedAt(c, published, b.Name); drops && b.Ports && (out < 0 || i < out) {
		out = i
	}
	return in, out
}

// usersChains are chains that are there for what their users want.
var usersChains = []string{"DOCKER-USER", "ufw-before-forward", "ufw6-before-forward"}

// droppedAt returns the index of the rule by which a base chain drops a packet, the number of
// its rules for its policy.
func (s Ruleset) droppedAt(c *Chain, p Packet, bridge string) (at int, drops bool) {
	for i, r := range c.Rules {
		if !r.matches(p) {
			continue
		}
		v := r.Verdict
		if v == Jump || v == Goto {
			to := s.Chain(*c, r.To)
			if v, _ = s.decide(to, p, 1); v == Drop && s.meant(to, p, bridge, 1) || v == Drop && slices.Contains(usersChains, r.To) {
				return 0, false
			}
			if v == None && r.Verdict == Goto {
				v = Return
			}
		}
		switch v {
		case Accept:
			return 0, false
		case Drop:
			return i, !names(r, bridge)
		case Return:
			return i, c.Drops
		}
	}
	return len(c.Rules), c.Drops
}

// names reports whether a rule is about a bridge by its name.
func names(r Rule, bridge string) bool {
	return slices.Contains(append(slices.Clone(r.In), r.Out...), bridge)
}

// meant reports whether the rule by which a chain drops a packet names the bridge.
func (s Ruleset) meant(c *Chain, p Packet, bridge string, depth int) bool {
	if c == nil || depth > maxDepth {
		return false
	}
	for _, r := range c.Rules {
		if !r.matches(p) {
			continue
		}
		switch r.Verdict {
		case Drop:
			return names(r, bridge)
		case Jump, Goto:
			if v, _ := s.decide(s.Chain(*c, r.To), p, depth+1); v == Drop {
				return names(r, bridge) || s.meant(s.Chain(*c, r.To), p, bridge, depth+1)
			}
		}
	}
	return false
}
