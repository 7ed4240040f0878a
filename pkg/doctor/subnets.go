package doctor

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// overlaps finds networks that have an address in common.
func overlaps(f Facts) (list []Finding) {
	for i, a := range f.Networks {
		for _, b := range f.Networks[i+1:] {
			p, q, both := common(a.Subnets, b.Subnets)
			if !both {
				continue
			}
			moves := &b // of two that can't be told apart, the later one
			if f.attached(b.Name) && !f.attached(a.Name) {
				moves = &a
			}
			list = append(list, Finding{
				Overlap, a.Name + " " + b.Name,
				fmt.Sprintf("%s of network %s overlaps %s of network %s", p, a.Name, q, b.Name),
				"two containers may have one address, and the host reaches one of them; a container of the second network may not be attached at all",
				f.recreate(*moves),
			})
		}
	}
	return list
}

func common(a, b []netip.Prefix) (p, q netip.Prefix, both bool) {
	for _, p := range a {
		for _, q := range b {
			if p.Overlaps(q) {
				return p, q, true
			}
		}
	}
	return netip.Prefix{}, netip.Prefix{}, false
}

// leastBits are those of a route from which it says where something is: a VPN's
// 0.0.0.0/1 says nothing.
const leastBits = 2

// routeOverlaps finds networks whose addresses the host reaches otherwise: a VPN's, or
// those of a LAN. Longer than that, a route wins over the network's own.
func routeOverlaps(f Facts) (list []Finding) {
	for _, n := range f.Networks {
		if n.Link == "" { // of a LAN, where the host's route is the same LAN's
			continue
		}
		for _, r := range f.Routes {
			if r.Dev == n.Link || r.Dst.Bits() < leastBits || !r.OnLink && r.Dst.Bits() <= 8 || f.ownLink(r.Dev) {
				continue
			}
			p, _, both := common(n.Subnets, []netip.Prefix{r.Dst})
			if !both {
				continue
			}
			breaks := fmt.Sprintf("the host and all containers reach the addresses of %s by the network and not by %s", p, r.Dev)
			if r.Dst.Bits() >= p.Bits() {
				breaks = fmt.Sprintf("containers that get an address of %s are not reached: packets to it leave by %s", r.Dst, r.Dev)
			}
			list = append(list, Finding{
				RouteOverlap, n.Name,
				fmt.Sprintf("%s of network %s overlaps the host's route to %s by %s", p, n.Name, r.Dst, r.Dev),
				breaks, f.recreate(n),
			})
		}
	}
	return list
}

// ownLink reports whether a link is a network's.
func (f Facts) ownLink(dev string) bool {
	return slices.ContainsFunc(f.Networks, func(n Network) bool { return n.Link == dev })
}

// recreate returns the command that makes a network again, with subnets that are free.
// What is attached has to be detached first.
func (f Facts) recreate(n Network) string {
	var words []string
	for _, a := range f.Attachments {
		if a.Network == n.Name && !a.Gone {
			words = append(words, "dnet disconnect -f", quote(n.Name), a.word(), "&&")
		}
	}
	words = append(words, "dnet rm", quote(n.Name), "&& dnet create")
	if n.Driver != "bridge" {
		words = append(words, "-d", quote(n.Driver))
	}
	if n.Internal {
		words = append(words, "--internal")
	}
	if hasFamily(n.Subnets, 6) {
		words = append(words, "--ipv6")
	}
	if !hasFamily(n.Subnets, 4) {
		words = append(words, "--ipv4=false")
	}
	for _, key := range slices.Sorted(maps.Keys(n.Options)) {
		if strings.HasPrefix(key, "com.docker.") { // others are in no flag
			words = append(words, "-o", quote(key+"="+n.Options[key]))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(n.Labels)) {
		words = append(words, "--label", quote(key+"="+n.Labels[key]))
	}
	return strings.Join(append(words, quote(n.Name)), " ")
}

// dnetdAddress is where containers ask dnetd.
var dnetdAddress = netip.MustParseAddr("127.0.0.11")

// loops finds servers of the host's resolv.conf that ask dnetd, which asks the servers of
// the host's resolv.conf: 127.0.0.11 itself, and a container with names, at its address
// or behind a published port 53.
func loops(f Facts) (list []Finding) {
	for _, server := range f.Servers {
		who := f.asksDnetd(server)
		if who == "" {
			continue
		}
		fix := fmt.Sprintf("sed -i -E '/^nameserver +%s *$/d' /etc/resolv.conf", strings.ReplaceAll(server.String(), ".", `\.`))
		if len(f.Servers) == 1 {
			fix = fmt.Sprintf("sed -i -E 's/^nameserver +%s *$/nameserver 8.8.8.8/' /etc/resolv.conf", strings.ReplaceAll(server.String(), ".", `\.`))
		}
		list = append(list, Finding{
			ResolverLoop, server.String(),
			fmt.Sprintf("/etc/resolv.conf of the host names %s, which is %s: what dnetd asks it comes back to dnetd", server, who),
			"names outside of the networks don't resolve, in containers nor on the host, and the queries go round",
			fix,
		})
	}
	return list
}

// asksDnetd returns what at an address asks dnetd, "" if nothing does.
func (f Facts) asksDnetd(server netip.Addr) string {
	if server == dnetdAddress {
		return "dnetd itself, as containers see it"
	}
	for _, a := range f.Attachments {
		if !a.Names || a.Gone {
			continue
		}
		if slices.Contains(a.Addresses, server) {
			return "container " + a.Name
		}
		for _, p := range a.Ports {
			const dns = 53
			if p.HostPort == dns && p.Protocol == "udp" && (p.HostIP == server || p.Any() && slices.Contains(f.Local, server)) {
				return fmt.Sprintf("port 53 of this host, which container %s publishes", a.Name)
			}
		}
	}
	return ""
}
