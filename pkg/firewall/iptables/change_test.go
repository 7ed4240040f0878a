package iptables

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"dcni/pkg/firewall"
	"dcni/pkg/wire"
)

// A tables is a host's iptables of one family, which takes what iptables-restore --noflush does.
// As the kernel it refuses jumps to chains that are not there, and to delete what is not there or in use.
type tables struct {
	t      *testing.T
	order  []string            // "table chain"
	chains map[string][]string // rules by chain
}

func newTables(t *testing.T) *tables {
	h := &tables{t: t, chains: map[string][]string{}}
	for _, c := range []string{"raw PREROUTING", "filter INPUT", "filter FORWARD", "filter OUTPUT", "nat PREROUTING", "nat OUTPUT", "nat POSTROUTING"} {
		h.order, h.chains[c] = append(h.order, c), nil
	}
	return h
}

// save prints as iptables-save does.
func (h *tables) save() string {
	var b strings.Builder
	for _, table := range []string{"raw", "filter", "nat"} {
		b.WriteString("*" + table + "\n")
		for _, head := range []bool{true, false} {
			for _, c := range h.order {
				t, name, _ := strings.Cut(c, " ")
				if t == table && head {
					b.WriteString(":" + name + " - [0:0]\n")
				}
				for _, r := range h.chains[c] {
					if t == table && !head {
						b.WriteString("-A " + name + r + "\n")
					}
				}
			}
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}

func (h *tables) restore(text string) {
	h.t.Helper()
	table := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		op, rest, _ := strings.Cut(line, " ")
		name, rule, _ := strings.Cut(rest, " ")
		rule, key := " "+rule, table+" "+name
		switch {
		case strings.HasPrefix(line, "*"):
			table = line[1:]
		case strings.HasPrefix(line, ":"):
			key = table + " " + op[1:]
			h.order, h.chains[key] = append(h.order, key), nil
		case op == "-A":
			h.refers(table, rule)
			h.chains[key] = append(h.chains[key], rule)
		case op == "-I":
			at, rule, _ := strings.Cut(rule[1:], " ")
			n, err := strconv.Atoi(at)
			if err != nil {
				h.t.Fatalf("%s: %v", line, err)
			}
			h.refers(table, rule)
			h.chains[key] = slices.Insert(h.chains[key], n-1, " "+rule)
		case op == "-D":
			i := slices.Index(h.chains[key], rule)
			if i < 0 {
				h.t.Fatalf("%s: is not there", line)
			}
			h.chains[key] = slices.Delete(h.chains[key], i, i+1)
		case op == "-F":
			if _, there := h.chains[table+" "+rest]; !there {
				h.t.Fatalf("%s: no such chain", line)
			}
			h.chains[table+" "+rest] = nil
		case op == "-X":
			if len(h.chains[key]) > 0 || strings.Contains(h.save(), "-j "+name+"\n") {
				h.t.Fatalf("%s: in use", line)
			}
			h.order = slices.DeleteFunc(h.order, func(c string) bool { return c == key })
			delete(h.chains, key)
		case line != "COMMIT":
			h.t.Fatalf("%s: not understood", line)
		}
	}
}

func (h *tables) refers(table, rule string) {
	h.t.Helper()
	_, target, _ := strings.Cut(rule, "-j ")
	if _, there := h.chains[table+" "+target]; strings.HasPrefix(target, "DCNI") && !there {
		h.t.Fatalf("%s: no such chain", rule)
	}
}

// change makes a change, and then finds nothing left to do.
func (h *tables) change(fill func(*Change)) (text string) {
	h.t.Helper()
	for i := range 2 {
		c := NewChange(Parse(h.save()))
		fill(c)
		if i == 0 {
			text = c.Text()
			h.restore(text)
		} else if again := c.Text(); again != "" {
			h.t.Errorf("done, and to do again:\n%s\nof\n%s", again, h.save())
		}
	}
	return text
}

// Networks and containers come and go, in any order, and leave what was there before; the users' chain
// stays.
func TestLife(t *testing.T) {
	h := newTables(t)
	h.chains["filter FORWARD"] = []string{" -j FOREIGN"}
	closed := Base(false, Router{Closed: true, Passing: []firewall.Passing{{Bridge: "br-other"}, {Bridge: "br-lan", Address: netip.MustParseAddr("10.5.0.9")}, {Bridge: "br-lan", Address: netip.MustParseAddr("fd00:5::9")}}})
	web, lan := policies["plain"].(*firewall.Network), policies["adopted"].(*firewall.Network)
	lan = &firewall.Network{Name: "lan", Bridge: lan.Bridge, Subnets: lan.Subnets, Adopted: true}
	member := &firewall.Member{Owner: wire.Attachment{Network: "lan", Container: "m1", IfName: "eth0"}, Bridge: "br0", Addresses: addresses("10.1.0.9")}
	e := policies["endpoint"].(*firewall.Endpoint)
	h.change(func(c *Change) { c.Base(Base(false, Router{})) })
	h.change(func(c *Change) { c.Network("web", Network(web, false)) })
	h.change(func(c *Change) { c.Base(closed) })
	if got := h.chains["filter FORWARD"]; !slices.Equal(got, []string{" -j DCNI-FORWARD", " -j FOREIGN", " -j DCNI-CLOSED"}) {
		t.Errorf("FORWARD has %q", got)
	}
	h.change(func(c *Change) { c.Network("lan", Network(lan, false)) })
	h.change(func(c *Change) { c.Member(firewall.Comment(member.Owner), Member(member, false)) })
	if text := h.change(func(c *Change) { c.Endpoint(firewall.Comment(e.Owner), Endpoint(e, false), false) }); strings.Count(text, "\n-") != 6 {
		t.Errorf("ports are more than a rule each, and what opens and guards them:\n%s", text)
	}
	// Another program stands before, and another one behind.
	h.chains["filter FORWARD"] = []string{" -j LATE", " -j DCNI-FORWARD", " -j FOREIGN", " -j DCNI-CLOSED", " -j LAST"}
	h.change(func(c *Change) { c.Base(closed) })
	if got := h.chains["filter FORWARD"]; !slices.Equal(got, []string{" -j DCNI-FORWARD", " -j LATE", " -j FOREIGN", " -j LAST", " -j DCNI-CLOSED"}) {
		t.Errorf("FORWARD has %q", got)
	}
	// Users' jump may be first.
	h.chains["filter FORWARD"] = []string{" -j DOCKER-USER", " -j DCNI-FORWARD", " -j DCNI-CLOSED"}
	if text := h.change(func(c *Change) { c.Base(closed) }); text != "" {
		t.Errorf("moved:\n%s", text)
	}
	s := Parse(h.save())
	if got := fmt.Sprint(s.Owners(), s.Networks()); got != "[lan m1/eth0 web c1/eth0] [lan web]" {
		t.Errorf("owners and networks: %s", got)
	}
	h.change(func(c *Change) { c.Network("web", nil) })
	if got := Parse(h.save()).Owners(); len(got) != 1 {
		t.Errorf("the network is gone, and %q have rules", got)
	}
	h.change(func(c *Change) { c.All() })
	var left []string
	for _, c := range h.order {
		left = append(left, c+fmt.Sprint(h.chains[c]))
	}
	want := "raw PREROUTING[] filter INPUT[] filter FORWARD[ -j DOCKER-USER] filter OUTPUT[] nat PREROUTING[] nat OUTPUT[] nat POSTROUTING[] filter DOCKER-USER[]"
	if got := strings.Join(left, " "); got != want {
		t.Errorf("left is %s\nwant %s", got, want)
	}
}

// The host reaches an overlay network's containers that are here, whichever comes or is put again
// first, and no others.
func TestOverlay(t *testing.T) {
	h := newTables(t)
	h.chains["filter OUTPUT"] = []string{" -j FOREIGN"}
	web := policies["overlay"].(*firewall.Network)
	chain := host(idOf("web"))
	jump, refuse := ` -o br-web -m comment --comment web -j `+chain, ` -d 10.1.0.0/24 -m conntrack ! --ctstate DNAT -m comment --comment web -j REJECT --reject-with icmp-host-unreachable`
	put := func(container, address string) string {
		m := &firewall.Member{Owner: owner(container), Bridge: "br-web", Addresses: addresses(address), Overlay: true}
		h.change(func(c *Change) { c.Member(firewall.Comment(m.Owner), Member(m, false)) })
		return ` -d ` + address + `/32 -m comment --comment "web ` + container + `/eth0" -j RETURN`
	}
	want := func(when string, rules ...string) {
		t.Helper()
		if got := h.chains["filter "+chain]; !slices.Equal(got, rules) {
			t.Errorf("%s: the chain has %q", when, got)
		}
		if got := h.chains["filter OUTPUT"]; !slices.Equal(got, []string{jump, " -j FOREIGN"}) {
			t.Errorf("%s: OUTPUT has %q", when, got)
		}
	}
	network := func() { h.change(func(c *Change) { c.Network("web", Network(web, false)) }) }
	network()
	one := put("c1", "10.1.0.2")
	two := put("c2", "10.1.0.3")
	want("both here", two, one, refuse)
	h.chains["filter "+chain] = []string{refuse, two, one}
	network()
	want("put again", two, one, refuse)
	h.chains["filter OUTPUT"] = []string{" -j FOREIGN", jump}
	network()
	want("another program before", two, one, refuse)
	h.change(func(c *Change) { c.Owned("web c1/eth0") })
	want("one is gone", two, refuse)
	h.change(func(c *Change) { c.Network("web", nil) })
	if got := h.save(); strings.Contains(got, "DCNI") {
		t.Errorf("left is\n%s", got)
	}
}

// Of two attachments of one container that publish a port, the gateway endpoint's rule comes first.
func TestSiblings(t *testing.T) {
	h := newTables(t)
	h.change(func(c *Change) { c.Base(Base(false, Router{})) })
	put := func(network, address string, first bool) {
		e := &firewall.Endpoint{
			Owner: wire.Attachment{Network: network, Container: "c1", IfName: "eth0"}, Bridge: "br", Addresses: addresses(address),
			Ports: []firewall.Port{{HostPort: 8080, Protocol: "tcp", ContainerPort: 80}},
		}
		h.change(func(c *Change) { c.Endpoint(firewall.Comment(e.Owner), Endpoint(e, false), first) })
	}
	order := func() (list []string) {
		for _, c := range Parse(h.save()).Claims(false) {
			list = append(list, c.Owner)
		}
		return list
	}
	put("a", "10.1.0.2", false)
	put("b", "10.2.0.2", false)
	if got := order(); !slices.Equal(got, []string{"a c1/eth0", "b c1/eth0"}) {
		t.Errorf("%q", got)
	}
	put("b", "10.2.0.2", true)
	if got := order(); !slices.Equal(got, []string{"b c1/eth0", "a c1/eth0"}) {
		t.Errorf("%q", got)
	}
}

// A container with thousands of ports goes, and others keep theirs in their order. Where another
// program's rule would be written in another way than it was, the chain is not written again.
func TestThousandsOfPorts(t *testing.T) {
	h := newTables(t)
	h.change(func(c *Change) { c.Base(Base(false, Router{})) })
	put := func(container string, from uint16, count int) {
		e := &firewall.Endpoint{Owner: owner(container), Bridge: "br", Addresses: addresses("10.1.0.2")}
		for i := range count {
			e.Ports = append(e.Ports, firewall.Port{HostPort: from + uint16(i), Protocol: "tcp", ContainerPort: 80})
		}
		h.change(func(c *Change) { c.Endpoint(firewall.Comment(e.Owner), Endpoint(e, false), false) })
	}
	put("c1", 100, 2)
	put("c2", 200, 2)
	before := h.save()
	for _, foreign := range []string{"", " -p tcp -m string --string \"a b\" --algo bm -j RETURN"} {
		put("c3", 1000, many+1)
		put("c4", 300, 2)
		if foreign != "" {
			h.chains["nat DCNI"] = slices.Insert(h.chains["nat DCNI"], 1, foreign)
		}
		text := h.change(func(c *Change) { c.Owned("web c3/eth0") })
		if got := strings.Count(text, "\n-F "); got != 2 && foreign == "" || got != 1 && foreign != "" {
			t.Errorf("%d chains are written again beside %q", got, foreign)
		}
		if foreign != "" && h.chains["nat DCNI"][1] != foreign {
			t.Errorf("another program's rule is gone:\n%s", h.save())
		}
		h.chains["nat DCNI"] = slices.DeleteFunc(h.chains["nat DCNI"], func(r string) bool { return r == foreign })
		h.change(func(c *Change) { c.Owned("web c4/eth0") })
		if got := h.save(); got != before {
			t.Errorf("left is\n%s\nwant\n%s", got, before)
		}
	}
}

// The class of packets is read in each form that iptables has printed.
func TestParseClass(t *testing.T) {
	want := Network(policies["hosts"].(*firewall.Network), false)
	for _, printed := range []string{"12b5:0", "12b5:0000"} {
		text := "*filter\n"
		for _, r := range want {
			text += strings.Replace(r.String(), "12b5:0000", printed, 1) + "\n"
		}
		if s := Parse(text + "COMMIT\n"); !slices.ContainsFunc(s.Rules, func(r Rule) bool { return r.Target == classify(firewall.Inside) && r.ours() }) {
			t.Errorf("%s is read as %+v", printed, s.Rules)
		}
	}
}

// What is read is what was written, with words that have spaces and quotes.
func TestParse(t *testing.T) {
	for _, comment := range []string{"web", "web c1/eth0", `a"b`, `it's \x`} {
		r := Rule{Table: "nat", Chain: ports, Match: "-d 192.0.2.1/32 -p tcp -m tcp --dport 8080", Target: "DNAT --to-destination 10.1.0.2:80", Comment: comment}
		s := Parse("# Generated\n*nat\n:DCNI - [0:0]\n" + r.String() + "\nCOMMIT\n")
		if len(s.Rules) != 1 || s.Rules[0] != r {
			t.Errorf("%s is read as %+v", r, s.Rules)
		}
		if got := s.Claims(false); len(got) != 1 || got[0].Addr != addresses("192.0.2.1")[0] || got[0].Port != 8080 || got[0].ContainerPort != 80 || got[0].Protocol != "tcp" || got[0].Owner != comment {
			t.Errorf("claims are %+v", got)
		}
	}
}
