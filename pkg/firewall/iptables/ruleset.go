package iptables

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"dcni/pkg/firewall"
)

// A Chain is one of a table.
type Chain struct{ Table, Name string }

// IsOurs reports whether a chain is dcni's.
func (c Chain) IsOurs() bool { return c.Name == ports || strings.HasPrefix(c.Name, "DCNI-") }

// Uses reports whether rules of dcni's may be in a chain.
func Uses(table, chain string) bool {
	switch table {
	case "raw":
		return chain == "PREROUTING" || chain == raw
	case "filter":
		return chain == "INPUT" || chain == "FORWARD" || chain == "OUTPUT" || Chain{table, chain}.IsOurs()
	case "nat":
		return chain == "PREROUTING" || chain == "OUTPUT" || chain == "POSTROUTING" || Chain{table, chain}.IsOurs()
	}
	return false
}

// A Ruleset is what a host has of one family: dcni's chains, and the rules of those and of
// iptables' own chains.
type Ruleset struct {
	Chains []Chain // dcni's, and the users'
	Rules  []Rule  // in their order; those of other programs have a Match only
	odd    []Chain // have a rule that is not written as it was read
}

// Parse reads what iptables-save prints.
func Parse(text string) *Ruleset {
	s := &Ruleset{}
	table := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		name, _, _ := strings.Cut(strings.TrimPrefix(line, ":"), " ")
		switch c := (Chain{table, name}); {
		case strings.HasPrefix(line, "*"):
			table = line[1:]
		case strings.HasPrefix(line, ":") && (c.IsOurs() || c == Chain{"filter", Users}):
			s.Chains = append(s.Chains, c)
		case strings.HasPrefix(line, "-A "):
			r := parseRule(table, line[len("-A "):])
			s.Rules = append(s.Rules, r)
			if r.String() != line {
				s.odd = append(s.odd, Chain{table, r.Chain})
			}
		}
	}
	return s
}

// parseRule reads a rule behind its -A. What it asks for is taken as it is written.
func parseRule(table, text string) Rule {
	words := split(text)
	r := Rule{Table: table, Chain: words[0]}
	var match []string
	for i := 1; i < len(words); i++ {
		switch w := words[i]; {
		case w == "-m" && i+3 < len(words) && words[i+1] == "comment" && words[i+2] == "--comment":
			r.Comment = words[i+3]
			i += 3
		case w == "-j":
			r.Target = strings.Join(words[i+1:], " ")
			var major, minor uint32
			if _, err := fmt.Sscanf(r.Target, setClass+"%x:%x", &major, &minor); err == nil {
				r.Target = classify(major<<16 | minor)
			}
			i = len(words)
		default:
			match = append(match, w)
		}
	}
	r.Match = strings.Join(match, " ")
	return r
}

// ours reports whether a rule is dcni's: in one of its chains, or a jump to one.
func (r Rule) ours() bool {
	leads := (Chain{r.Table, r.Target}).IsOurs() && (r.Comment == "" || strings.HasPrefix(r.Target, host("")))
	return (Chain{r.Table, r.Chain}).IsOurs() || leads
}

// same reports whether two rules are the same, wherever they stand.
func (r Rule) same(o Rule) bool { return r.anywhere() == o.anywhere() }

// anywhere returns the rule without its place.
func (r Rule) anywhere() Rule {
	r.Place = Anywhere
	return r
}

// Owners returns the comments of attachments' rules, sorted.
func (s *Ruleset) Owners() []string {
	return s.comments(func(comment string) bool { return strings.Contains(comment, " ") })
}

// Networks returns the comments of networks' rules, sorted.
func (s *Ruleset) Networks() []string {
	return s.comments(func(comment string) bool { return comment != "" && !strings.Contains(comment, " ") })
}

func (s *Ruleset) comments(wanted func(string) bool) (list []string) {
	for _, r := range s.Rules {
		if r.ours() && wanted(r.Comment) {
			list = append(list, r.Comment)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// Bridge returns which network's containers are on a bridge, by its comment, besides one; "" for
// none.
func (s *Ruleset) Bridge(bridge, besides string) string {
	for _, r := range s.Rules {
		if strings.HasPrefix(r.Chain, from("")) && strings.HasPrefix(r.Match, "! -o "+bridge+" ") && r.Comment != besides {
			return r.Comment
		}
	}
	return ""
}

// Internal reports whether a bridge is an internal network's.
func (s *Ruleset) Internal(bridge string) bool {
	return slices.ContainsFunc(s.Rules, func(r Rule) bool {
		return strings.HasPrefix(r.Chain, from("")) && r.Match == "! -o "+bridge && r.Target == drop
	})
}

// Closed reports whether the host is closed as a router.
func (s *Ruleset) Closed() bool {
	return slices.ContainsFunc(s.Rules, func(r Rule) bool { return r.Chain == closed && r.Target == drop })
}

// Claims returns the ports that the rules publish.
func (s *Ruleset) Claims(six bool) (list []firewall.Claim) {
	for _, r := range s.Rules {
		to, is := strings.CutPrefix(r.Target, "DNAT --to-destination ")
		if r.Chain != ports || !is {
			continue
		}
		c := firewall.Claim{Owner: r.Comment, Addr: netip.IPv4Unspecified()}
		if six {
			c.Addr = netip.IPv6Unspecified()
		}
		words := strings.Fields(r.Match)
		for i := 0; i+1 < len(words); i++ {
			switch words[i] {
			case "-d":
				if p, err := netip.ParsePrefix(words[i+1]); err == nil {
					c.Addr = p.Addr()
				}
			case "-p":
				c.Protocol = words[i+1]
			case "--dport":
				c.Port = number(words[i+1])
			}
		}
		if target, err := netip.ParseAddrPort(to); err == nil {
			c.ContainerPort = target.Port()
		}
		list = append(list, c)
	}
	return list
}

func number(s string) uint16 {
	n, _ := strconv.ParseUint(s, 10, 16) // 0 is no port
	return uint16(n)
}

// A Change is what is to be done so that owners have what they should.
type Change struct {
	have        *Ruleset
	add, remove []Rule
}

// Have returns what was there.
func (c *Change) Have() *Ruleset { return c.have }

// NewChange begins a change of a ruleset.
func NewChange(have *Ruleset) *Change { return &Change{have: have} }

// Kinds of what an owner has, by the chains that it is in.
var (
	anywhere    = func(Rule) bool { return true }
	ofMembers   = func(r Rule) bool { return !ofEndpoints(r) && !ofLinks(r) }
	ofEndpoints = func(r Rule) bool { return slices.Contains([]string{ports, guards, open}, r.Chain) }
	ofLinks     = func(r Rule) bool { return r.Chain == links }
)

// Base has the host's own rules be these.
func (c *Change) Base(want []Rule) bool { return c.set("", anywhere, want) }

// All takes all that is dcni's away.
func (c *Change) All() {
	c.remove = slices.DeleteFunc(slices.Clone(c.have.Rules), func(r Rule) bool { return !r.ours() })
}

// Network has a network's rules be these; none: it goes, with those of its attachments.
func (c *Change) Network(name string, want []Rule) bool {
	if len(want) == 0 {
		for _, owner := range c.have.Owners() {
			if strings.HasPrefix(owner, name+" ") {
				c.Owned(owner)
			}
		}
	}
	return c.set(firewall.NetworkComment(name), anywhere, want)
}

// Member has the rules of a container's addresses be these.
func (c *Change) Member(owner string, want []Rule) bool { return c.set(owner, ofMembers, want) }

// Linked has the rules of a container's links be these.
func (c *Change) Linked(owner string, want []Rule) bool { return c.set(owner, ofLinks, want) }

// Endpoint has the rules of a container's ports be these. Those of others for the same ports
// come behind them if first.
func (c *Change) Endpoint(owner string, want []Rule, first bool) bool {
	if first {
		want = slices.Clone(want)
		for i := range want {
			if want[i].Chain == ports {
				want[i].Place = First
			}
		}
	}
	return c.set(owner, ofEndpoints, want)
}

// Owned has an owner have nothing.
func (c *Change) Owned(owner string) bool { return c.set(owner, anywhere, nil) }

// set has an owner's rules of a kind be these, and reports whether they are not. They are put
// again as a whole: among themselves, their order counts.
func (c *Change) set(owner string, kind func(Rule) bool, want []Rule) (changed bool) {
	var have []Rule
	for _, r := range c.have.Rules {
		if r.ours() && r.Comment == owner && kind(r) {
			have = append(have, r)
		}
	}
	if sameRules(have, want) && !c.misplaced(want) {
		return false
	}
	c.remove, c.add = append(c.remove, have...), append(c.add, want...)
	return true
}

// sameRules compares lists chain by chain, in which the order counts.
func sameRules(a, b []Rule) bool {
	return slices.EqualFunc(byChain(a), byChain(b), Rule.same)
}

func byChain(rules []Rule) []Rule {
	return slices.SortedStableFunc(slices.Values(rules), func(a, b Rule) int {
		return cmp.Or(strings.Compare(a.Table, b.Table), strings.Compare(a.Chain, b.Chain))
	})
}

// misplaced reports whether rules of others stand where they may not, before one that is to be
// first, or behind one that is to be last. Where a rule is one of a port, others are those for
// the same one.
func (c *Change) misplaced(want []Rule) bool {
	want = slices.DeleteFunc(slices.Clone(want), func(r Rule) bool { return r.Place == Anywhere })
	if len(want) == 0 {
		return false
	}
	beside := map[Rule][]Rule{} // by spot: thousands of ports are compared each with its own
	for _, o := range c.have.Rules {
		beside[o.spot()] = append(beside[o.spot()], o)
	}
	return slices.ContainsFunc(want, func(r Rule) bool { return r.misplaced(beside[r.spot()]) })
}

// spot returns what rules have in common whose order may count: the chain, and of ports the match.
func (r Rule) spot() Rule {
	s := Rule{Table: r.Table, Chain: r.Chain}
	if r.Chain == ports {
		s.Match = r.Match
	}
	return s
}

// misplaced reports whether a rule's place is wrong among those of its spot, in their order.
func (r Rule) misplaced(among []Rule) bool {
	behind := false
	for _, o := range among {
		switch {
		case o.same(r):
			behind = true
		case r.Place == First && !behind && stands(r, o), r.Place == Last && behind:
			return true
		}
	}
	return false
}

// stands reports whether one rule may not stand before another one.
func stands(r, before Rule) bool {
	if (Chain{r.Table, r.Chain}).IsOurs() {
		return r.Chain == ports && before.Match == r.Match && before.Comment != r.Comment
	}
	return before.Target != Users && !before.ours()
}

// Text returns what iptables-restore --noflush reads to make the change, all or nothing in
// each table; "" where there is nothing to do.
func (c *Change) Text() string {
	var b strings.Builder
	for _, table := range []string{"raw", "filter", "nat"} {
		if lines := c.lines(table); len(lines) > 0 {
			b.WriteString("*" + table + "\n" + strings.Join(lines, "\n") + "\nCOMMIT\n")
		}
	}
	return b.String()
}

// lines are what is to be done in a table: chains come, rules go and come, chains go.
func (c *Change) lines(table string) (lines []string) {
	rest := c.rest(table)
	chains := needed(slices.Concat(rest, ofTable(c.add, table)))
	for _, chain := range chains {
		if !slices.Contains(c.have.Chains, Chain{table, chain}) {
			lines = append(lines, ":"+chain+" - [0:0]")
		}
	}
	lines = append(lines, c.removals(table, rest)...)
	at := map[string]int{}
	for _, r := range ofTable(c.add, table) {
		if r.Place == First {
			at[r.Chain]++
			lines = append(lines, "-I "+r.Chain+" "+strconv.Itoa(at[r.Chain])+strings.TrimPrefix(r.words(), r.Chain))
		} else {
			lines = append(lines, r.String())
		}
	}
	for _, chain := range c.have.Chains {
		if chain.Table == table && chain.IsOurs() && !slices.Contains(chains, chain.Name) {
			lines = append(lines, "-X "+chain.Name)
		}
	}
	return lines
}

// many is how many rules are no more taken out of a chain one by one. The kernel looks for each
// from the chain's beginning: 20,000 took 17 s, and to write a chain again with as many, 3 s.
const many = 1000

// removals are what takes rules out of a table, with those of dcni's that stay.
func (c *Change) removals(table string, rest []Rule) (lines []string) {
	count := map[string]int{}
	for _, r := range ofTable(c.remove, table) {
		count[r.Chain]++
	}
	again := func(chain string) bool {
		at := Chain{table, chain}
		return count[chain] > many && at.IsOurs() && !slices.Contains(c.have.odd, at)
	}
	for _, chain := range slices.Sorted(maps.Keys(count)) {
		if again(chain) {
			lines = append(lines, "-F "+chain)
		}
	}
	for _, r := range rest {
		if again(r.Chain) {
			lines = append(lines, r.String())
		}
	}
	for _, r := range ofTable(c.remove, table) {
		if !again(r.Chain) {
			lines = append(lines, "-D "+r.words())
		}
	}
	return lines
}

// rest returns dcni's rules in a table that a change leaves, in their order.
func (c *Change) rest(table string) (rules []Rule) {
	gone := map[Rule]int{}
	for _, r := range ofTable(c.remove, table) {
		gone[r.anywhere()]++
	}
	for _, r := range ofTable(c.have.Rules, table) {
		if k := r.anywhere(); gone[k] > 0 {
			gone[k]--
		} else if r.ours() {
			rules = append(rules, r)
		}
	}
	return rules
}

func ofTable(rules []Rule, table string) []Rule {
	return slices.DeleteFunc(slices.Clone(rules), func(r Rule) bool { return r.Table != table })
}

// needed returns the chains that have rules or are jumped to, dcni's and the users', sorted.
func needed(rules []Rule) (names []string) {
	for _, r := range rules {
		for _, name := range []string{r.Chain, r.Target} {
			if (Chain{r.Table, name}).IsOurs() || name == Users {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// quote writes a comment as iptables-save does.
func quote(s string) string {
	if s != "" && !strings.ContainsAny(s, " \t\"'\\") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `'`, `\'`).Replace(s) + `"`
}

// split splits a line into words, which may be in quotes.
func split(line string) (words []string) {
	var word strings.Builder
	quoted, escaped, begun := false, false, false
	end := func() {
		if begun {
			words = append(words, word.String())
		}
		word.Reset()
		begun = false
	}
	for _, c := range line {
		switch {
		case escaped:
			word.WriteRune(c)
			escaped = false
		case quoted && c == '\\':
			escaped = true
		case c == '"':
			quoted, begun = !quoted, true
		case !quoted && (c == ' ' || c == '\t'):
			end()
		default:
			word.WriteRune(c)
			begun = true
		}
	}
	end()
	return words
}
