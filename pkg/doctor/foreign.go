package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"dcni/pkg/firewall"
	"dcni/pkg/firewall/foreign"
	"dcni/pkg/firewall/iptables"
)

// A ruleset is what other programs have.
type ruleset struct{ foreign.Ruleset }

// dropping finds chains that drop what containers send out, what answers them, or what is
// for their published ports. nftables' accept is no other table's: each may drop.
func dropping(f Facts) (list []Finding) {
	s := ruleset{f.Chains}
	if s.Panics() {
		list = append(list, Finding{
			Firewalld, "panic mode", "firewalld is in panic mode", "the host and its containers reach nothing, and are not reached", "firewall-cmd --panic-off",
		})
	}
	for i := range f.Chains {
		c := &f.Chains[i]
		if c.Hook != "forward" {
			continue
		}
		var names, links []string
		onlyPorts := true
		for _, n := range f.Networks {
			if c.OfIPTables() && !f.attached(n.Name) {
				continue // ADD sees to it
			}
			if n.Link == "" || n.Internal || c.Family == "ip" && !hasFamily(n.Subnets, 4) || c.Family == "ip6" && !hasFamily(n.Subnets, 6) {
				continue
			}
			sent, answer, published := foreign.Packets(n.Link, f.Uplink.Name)
			out := s.Drops(c, sent) || s.Drops(c, answer)
			in := s.Drops(c, published)
			if out || in {
				names, links = append(names, n.Name), append(links, n.Link)
			}
			onlyPorts = onlyPorts && !out
		}
		if len(names) == 0 {
			continue
		}
		found := s.finding(c, names, links, onlyPorts)
		// What a command mends for both families is one thing that is wrong.
		if !slices.ContainsFunc(list, func(o Finding) bool { return o.Fix == found.Fix }) {
			list = append(list, found)
		}
	}
	return list
}

// finding is the finding about a chain that drops what is forwarded for some networks;
// onlyPorts: what is for published ports alone.
func (s ruleset) finding(c *foreign.Chain, names, links []string, onlyPorts bool) Finding {
	id, why, fix := s.allow(c)
	breaks := fmt.Sprintf("containers on %s reach nothing outside, and their published ports don't answer", named("network", names))
	if onlyPorts {
		breaks = fmt.Sprintf("published ports on %s don't answer", named("network", names))
	}
	return Finding{id, c.String(), why, breaks, each(fix, links)}
}

// allow returns what kind of finding a dropping chain is, and the command by which a
// bridge, $b, passes there.
func (s ruleset) allow(c *foreign.Chain) (id, why, fix string) {
	has := func(name string) bool { return s.Chain(*c, name) != nil }
	switch {
	case c.OfFirewalld():
		return Firewalld, "firewalld rejects what is forwarded, and no zone of its lets the bridges pass",
			"firewall-cmd --zone=trusted --add-interface=$b && firewall-cmd --permanent --zone=trusted --add-interface=$b"
	case has("ufw-before-forward") || has("ufw6-before-forward"):
		return UFW, "ufw drops what is forwarded",
			"ufw route allow in on $b && ufw route allow out on $b"
	case c.Name == "FORWARD" && c.OfIPTables():
		at := c.Name
		if has("DOCKER-USER") {
			at = "DOCKER-USER"
		}
		return ForwardDrop, fmt.Sprintf("the chain FORWARD of %s drops what no rule accepts (%s)", c.Tool, family(c)),
			fmt.Sprintf("%s -I %s -i $b -j ACCEPT && %[1]s -I %[2]s -o $b -j ACCEPT", c.Tool, at)
	}
	return ForwardDrop, fmt.Sprintf("the chain %s drops what is forwarded", c),
		c.Command("$b")
}

// closed finds networks of other suites that have containers which the host does not route for,
// as it does for dcni's networks alone. A container of ptp's has a link of its own on the host,
// by a name that says nothing else.
func closed(f Facts) (list []Finding) {
	user := ruleset{f.Users}.Chain(foreign.Chain{Tool: "nft", Family: "inet", Table: firewall.TableName}, firewall.UserChain)
	if user == nil || f.Uplink.Name == "" {
		return nil
	}
	for _, family := range []int{4, 6} {
		var names, links []string
		for _, r := range f.Routes {
			n := f.networkAt(r, family)
			if n == nil || !f.Closed[family] {
				continue
			}
			link, to := r.Dev, []string{f.Uplink.Name}
			if strings.HasPrefix(r.Dev, "veth") {
				link, to = "'veth*'", append(to, "'veth*'")
			}
			packets := []foreign.Packet{{In: r.Dev, Out: f.Uplink.Name}, {In: r.Dev, Out: "veth0"}}[:len(to)]
			passes := func(p foreign.Packet) bool { return foreign.Ruleset(f.Users).Accepts(user, p) }
			if !slices.ContainsFunc(packets, func(p foreign.Packet) bool { return !passes(p) }) {
				continue
			}
			names = append(names, n.Name)
			for _, out := range to {
				links = append(links, fmt.Sprintf("nft add rule inet %s %s iifname %s oifname %s accept", firewall.TableName, firewall.UserChain, link, out))
			}
		}
		if len(names) == 0 {
			continue
		}
		slices.Sort(names)
		slices.Sort(links)
		found := Finding{
			Closed, fmt.Sprintf("IPv%d", family),
			fmt.Sprintf("the host routes IPv%d for dcni's networks alone, as dcni switched forwarding on", family),
			fmt.Sprintf("containers on %s, which another suite's plugin makes, reach nothing outside", named("network", slices.Compact(names))),
			strings.Join(slices.Compact(links), " && "),
		}
		if !slices.ContainsFunc(list, func(o Finding) bool { return o.Fix == found.Fix }) { // it is for both families
			list = append(list, found)
		}
	}
	return list
}

// networkAt returns the network of another suite's plugin that has the addresses of a route of a
// family to the host's own links, nil if there is none.
func (f Facts) networkAt(r Route, family int) *Network {
	if !r.OnLink || familyOf(r.Dst.Addr()) != family || f.ownLink(r.Dev) || r.Dev == f.Uplink.Name {
		return nil
	}
	for i, n := range f.Networks {
		inside := func(p netip.Prefix) bool { return p.Bits() <= r.Dst.Bits() && p.Contains(r.Dst.Addr()) }
		if n.Foreign && slices.ContainsFunc(n.Subnets, inside) {
			return &f.Networks[i]
		}
	}
	return nil
}

func family(c *foreign.Chain) string {
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
		if c.OfIPTables() && (iptables.Chain{Table: c.Table, Name: c.Name}).IsOurs() {
			continue
		}
		for at, r := range c.Rules {
			if r.Verdict != foreign.DNAT || r.Port == 0 {
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
func deletion(c foreign.Chain, r foreign.Rule, at int) string {
	if c.Tool == "nft" {
		return fmt.Sprintf("nft delete rule %s %s %s handle %d", c.Family, c.Table, c.Name, r.Handle)
	}
	return fmt.Sprintf("%s -t %s -D %s %d", c.Tool, c.Table, c.Name, at+1)
}
