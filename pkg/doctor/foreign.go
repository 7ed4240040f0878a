package doctor

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

// A Rule is what is understood of one.
type Rule struct {
	In, Out     []string // interfaces it is about, a "*" at the end stands for any rest; none: any
	Established bool     // it is about answers only
	Published   bool     // it is about packets whose destination was rewritten
	Protocol    string   // "": any
	Port        uint16   // destination port; 0: any
	Other       bool     // it asks for more than that
	Verdict     Verdict
	To          string // chain
	Handle      uint64 // by which nft knows it
}

// A packet is one that is forwarded, as far as rules are asked.
type packet struct {
	in, out     string
	established bool
	published   bool
}

// matches reports whether a rule is for all such packets.
func (r Rule) matches(p packet) bool {
	return !r.Other && r.Protocol == "" && r.Port == 0 && among(r.In, p.in) && among(r.Out, p.out) &&
		(!r.Established || p.established) && (!r.Published || p.published)
}

func among(list []string, name string) bool {
	return len(list) == 0 || slices.ContainsFunc(list, func(pattern string) bool {
		beginning, open := strings.CutSuffix(pattern, "*")
		return pattern == name || open && strings.HasPrefix(name, beginning)
	})
}

// A ruleset finds chains by name.
type ruleset []Chain

func (s ruleset) chain(like Chain, name string) *Chain {
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
// decides.
func (s ruleset) decide(c *Chain, p packet, depth int) Verdict {
	if c == nil || depth > maxDepth {
		return None
	}
	for _, r := range c.Rules {
		if !r.matches(p) {
			continue
		}
		switch r.Verdict {
		case Accept, Drop:
			return r.Verdict
		case Return:
			return None
		case Jump, Goto:
			if v := s.decide(s.chain(*c, r.To), p, depth+1); v != None || r.Verdict == Goto {
				return v
			}
		}
	}
	return None
}

// drops reports whether a base chain drops a packet.
func (s ruleset) drops(c *Chain, p packet) bool {
	switch s.decide(c, p, 0) {
	case Accept:
		return false
	case Drop:
		return true
	}
	return c.Drops
}

// foreign finds chains that drop what containers send out, what answers them, or what is
// for their published ports. nftables' accept is no other table's: each may drop.
func foreign(f Facts) (list []Finding) {
	s := ruleset(f.Chains)
	for i := range s {
		c := &s[i]
		if c.Hook != "forward" {
			continue
		}
		var names, links []string
		onlyPorts := true
		for _, n := range f.Networks {
			if n.Link == "" || n.Internal || c.Family == "ip" && !hasFamily(n.Subnets, 4) || c.Family == "ip6" && !hasFamily(n.Subnets, 6) {
				continue
			}
			out := s.drops(c, packet{in: n.Link, out: f.Uplink.Name}) ||
				s.drops(c, packet{in: f.Uplink.Name, out: n.Link, established: true})
			in := s.drops(c, packet{in: f.Uplink.Name, out: n.Link, published: true})
			if out || in {
				names, links = append(names, n.Name), append(links, n.Link)
			}
			onlyPorts = onlyPorts && !out
		}
		if len(names) == 0 {
			continue
		}
		found := s.dropping(c, names, links, onlyPorts)
		// What a command mends for both families is one thing that is wrong.
		if !slices.ContainsFunc(list, func(o Finding) bool { return o.Fix == found.Fix }) {
			list = append(list, found)
		}
	}
	return list
}

// dropping is the finding about a chain that drops what is forwarded for some networks;
// onlyPorts: what is for published ports alone.
func (s ruleset) dropping(c *Chain, names, links []string, onlyPorts bool) Finding {
	id, why, fix := s.allow(c)
	breaks := fmt.Sprintf("containers on %s reach nothing outside, and their published ports don't answer", named("network", names))
	if onlyPorts {
		breaks = fmt.Sprintf("published ports on %s don't answer", named("network", names))
	}
	return Finding{id, c.Family + " " + c.Table + " " + c.Name, why, breaks, each(fix, links)}
}

// allow returns what kind of finding a dropping chain is, and the command by which a
// bridge, $b, passes there.
func (s ruleset) allow(c *Chain) (id, why, fix string) {
	has := func(name string) bool { return s.chain(*c, name) != nil }
	switch {
	case c.Table == "firewalld":
		return Firewalld, "firewalld rejects what is forwarded, and no zone of its lets the bridges pass",
			"firewall-cmd --zone=trusted --add-interface=$b && firewall-cmd --permanent --zone=trusted --add-interface=$b"
	case has("ufw-before-forward") || has("ufw6-before-forward"):
		return UFW, "ufw drops what is forwarded",
			"ufw route allow in on $b && ufw route allow out on $b"
	case c.Name == "FORWARD" && c.Tool != "nft":
		at := c.Name
		if has("DOCKER-USER") {
			at = "DOCKER-USER"
		}
		return ForwardDrop, fmt.Sprintf("the chain FORWARD of %s drops what no rule accepts (%s)", c.Tool, family(c)),
			fmt.Sprintf("%s -I %s -i $b -j ACCEPT && %[1]s -I %[2]s -o $b -j ACCEPT", c.Tool, at)
	}
	at := strings.Join([]string{c.Family, c.Table, c.Name}, " ")
	return ForwardDrop, fmt.Sprintf("the chain %s drops what is forwarded", at),
		fmt.Sprintf(`nft insert rule %s iifname $b accept && nft insert rule %[1]s oifname $b accept`, at)
}

func family(c *Chain) string {
	if c.Family == "ip6" {
		return "IPv6"
	}
	return "IPv4"
}

// each returns a command for one link, or a loop over several.
func each(command string, links []string) string {
	if len(links) == 1 {
		return strings.ReplaceAll(command, "$b", links[0])
	}
	return "for b in " + strings.Join(links, " ") + "; do " + command + "; done"
}

// competing finds rules of others that lead a published port elsewhere: whichever is
// asked first wins.
func competing(f Facts) (list []Finding) {
	for _, c := range f.Chains {
		for at, r := range c.Rules {
			if r.Verdict != DNAT || r.Port == 0 {
				continue
			}
			for _, a := range f.Attachments {
				if !a.publishes(r.Protocol, r.Port) {
					continue
				}
				port := fmt.Sprintf("%d/%s", r.Port, r.Protocol)
				list = append(list, Finding{
					CompetingPort, port,
					fmt.Sprintf("a rule of %s %s %s leads port %s elsewhere, which container %s publishes", c.Family, c.Table, c.Name, port, a.Name),
					"clients reach the container and not what the rule names, or the other way round where that chain's priority is below -101",
					deletion(c, r, at),
				})
			}
		}
	}
	return list
}

func (a Attachment) publishes(protocol string, port uint16) bool {
	for _, p := range a.Ports {
		if p.Protocol == protocol && p.HostPort == port {
			return true
		}
	}
	return false
}

// deletion is the command that deletes the rule at an index of a chain.
func deletion(c Chain, r Rule, at int) string {
	if c.Tool == "nft" {
		return fmt.Sprintf("nft delete rule %s %s %s handle %d", c.Family, c.Table, c.Name, r.Handle)
	}
	return fmt.Sprintf("%s -t %s -D %s %d", c.Tool, c.Table, c.Name, at+1)
}
