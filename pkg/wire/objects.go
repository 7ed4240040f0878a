package wire

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// The objects that a bridge attachment is made of. All are used as pointers.
// A NetNS field holds the path of the network namespace that the thing lives
// in; "" is the host's own. Printing says "sandbox" for any path, so that two
// plans of one configuration read the same.

// Bridge is a Linux bridge of the host. It is created down, so that what must
// be set before it comes up can be; an [Up] raises it. It never takes router
// advertisements: containers could send them. A bridge that is there already is
// adopted as it is: its MAC and MTU are its owner's and stay so, whatever ports
// come and go.
type Bridge struct {
	Name    string // link name, at most 15 bytes
	MAC     string // fixed: a drawn one changes with the ports and breaks neighbours' caches
	MTU     int    // bytes
	Alias   string // for people: the network's name
	Adopted bool   // it is there, and another owner's: it is never made
}

// Key returns the link's name: a host has one link of a name.
func (b *Bridge) Key() string { return "link " + b.Name }

func (b *Bridge) String() string {
	if b.Adopted {
		return "link " + b.Name + " type bridge, as its owner made it"
	}
	return fmt.Sprintf("link %s type bridge address %s mtu %d alias %q", b.Name, b.MAC, b.MTU, b.Alias)
}

// Veth is the pair that joins a sandbox to a bridge: Name is the host's end
// and a port of Bridge, Peer the sandbox's end, created right there.
type Veth struct {
	Name     string // host end, see [Attachment.HostLink]
	Bridge   string // the host end's master
	NetNS    string // path of the sandbox; "" for the host's end only, which is not made alone
	Peer     string // CNI_IFNAME
	MAC      string // of the peer
	MTU      int    // bytes, of both ends
	Alias    string // for people: the owner, "web c1/eth0"
	Isolated bool   // no traffic to other isolated ports: icc off without a rule
	// Fixed says that the bridge learns nothing of what the port sends: where which MAC is, an
	// [FDB] says.
	Fixed bool
	// Tuned is what the peer is made with besides. Another program may change it later, or its
	// MAC: that is not compared.
	Tuned Tuning
	Made  bool // set by Ensure: the pair was not there
}

// Key returns the host end's name.
func (v *Veth) Key() string { return "link " + v.Name }

// Refers names the bridge.
func (v *Veth) Refers() []string { return []string{"link " + v.Bridge} }

// Provides names the sandbox's end, which comes and goes with the host's.
func (v *Veth) Provides() []string { return []string{"link " + v.Peer + at(v.NetNS)} }

// Root marks the veth as what DEL removes: its peer and all on it go along.
func (v *Veth) Root() {}

func (v *Veth) String() string {
	s := fmt.Sprintf("link %s mtu %d master %s hairpin on", v.Name, v.MTU, v.Bridge)
	if v.Isolated {
		s += " isolated on"
	}
	if v.Fixed {
		s += " learning off"
	}
	return s + fmt.Sprintf(" alias %q type veth peer %s address %s%s in sandbox", v.Alias, v.Peer, v.MAC, v.Tuned)
}

// Up says that a link is up. It comes after what must be set before.
type Up struct {
	NetNS string
	Dev   string
}

// Key names the link and the fact.
func (u *Up) Key() string { return "up " + u.Dev + at(u.NetNS) }

// Refers names the link.
func (u *Up) Refers() []string { return refers(u.NetNS, u.Dev) }

func (u *Up) String() string { return "link " + u.Dev + " up" + in(u.NetNS) }

// Sysctl is one kernel setting below /proc/sys/net.
type Sysctl struct {
	NetNS string
	Path  string // with slashes, for names of links contain dots: net/ipv4/ip_forward
	Value string
	Was   string // what Ensure found before it wrote; Remove writes it back
	// AtFirst says that a link has the value as it comes up. What it is later is the
	// sandbox's owner's to say.
	AtFirst bool
}

// Key is the path.
func (s *Sysctl) Key() string { return "sysctl " + s.Path + at(s.NetNS) }

// Refers names the link that the setting is of, if it is one's: it comes and
// goes with that.
func (s *Sysctl) Refers() []string {
	for _, of := range []string{"/conf/", "/neigh/"} {
		_, rest, _ := strings.Cut(s.Path, of)
		if dev, _, ok := strings.Cut(rest, "/"); ok && dev != "all" && dev != "default" {
			return refers(s.NetNS, dev)
		}
	}
	return nil
}

func (s *Sysctl) String() string {
	return "sysctl " + s.Path + "=" + s.Value + in(s.NetNS)
}

// Autoconf says that on a sandbox's link the kernel configures nothing by itself
// of what other machines on the link say: no routes, addresses or MTU of router
// advertisements, unless the network asks for them, and no routes of ICMP redirects.
// That is so on a link without IPv6 as well: the sandbox's owner may switch it on.
type Autoconf struct {
	NetNS    string
	Dev      string
	AcceptRA bool // router advertisements count
	// Chained are settings by path that plugins further down the chain make, also
	// others than the link's: theirs count.
	Chained map[string]string
}

// Key names the link.
func (a *Autoconf) Key() string { return "autoconf " + a.Dev + at(a.NetNS) }

// Refers names the link.
func (a *Autoconf) Refers() []string { return refers(a.NetNS, a.Dev) }

func (a *Autoconf) String() string {
	var words []string
	for _, s := range a.Settings() {
		words = append(words, s.Path+"="+s.Value)
	}
	return "sysctl " + strings.Join(words, " ") + in(a.NetNS)
}

// Settings returns the link's settings.
func (a *Autoconf) Settings() []Sysctl {
	four, six := "net/ipv4/conf/"+a.Dev+"/", "net/ipv6/conf/"+a.Dev+"/"
	ra, autoconf := "0", "0"
	if a.AcceptRA {
		ra, autoconf = "2", "1" // 2: also where the sandbox forwards
	}
	list := []Sysctl{
		{Path: four + "accept_redirects", Value: "0"},
		{Path: six + "accept_ra", Value: ra}, {Path: six + "autoconf", Value: autoconf}, {Path: six + "accept_redirects", Value: "0"},
	}
	for i := range list {
		list[i].NetNS = a.NetNS
		if value, ok := a.Chained[list[i].Path]; ok {
			list[i].Value = value
		}
	}
	return list
}

// RefusesRA reports whether router advertisements count for nothing on the link.
func (a *Autoconf) RefusesRA() bool {
	return slices.ContainsFunc(a.Settings(), func(s Sysctl) bool {
		return strings.HasSuffix(s.Path, "/accept_ra") && s.Value == "0"
	})
}

// Forwarding says that the host forwards packets of a family (4 or 6). For
// IPv6, interfaces that take router advertisements go on doing so: accept_ra 1
// becomes 2, or the host would lose its default route (kernel documentation,
// networking/ip-sysctl, accept_ra).
//
// Where Ensure switches it on, it keeps the host from routing for others: what
// neither comes from nor goes to a container is dropped. How it was before is
// recorded, and is put back with the last user.
type Forwarding struct {
	Family int
	// Require forbids to switch it on: Ensure then fails and says what to set.
	Require bool
	// IPTables says that iptables keeps the host from routing for others.
	IPTables bool
	// Found is set by Ensure where it was on already, and was recorded only.
	Found bool
}

// Key names the family.
func (f *Forwarding) Key() string { return fmt.Sprintf("forwarding %d", f.Family) }

// Root marks forwarding as something that goes with its last user.
func (f *Forwarding) Root() {}

func (f *Forwarding) String() string { return "sysctl " + f.Path() + "=1" }

// Path is the setting's place below /proc/sys.
func (f *Forwarding) Path() string {
	if f.Family == 6 {
		return "net/ipv6/conf/all/forwarding"
	}
	return "net/ipv4/ip_forward"
}

// Addr is an address on a link, with its on-link prefix. IPv6 duplicate
// detection is off for it (IFA_F_NODAD): the pool already gives each address
// once, and forwarding would wait for it.
type Addr struct {
	NetNS  string
	Dev    string
	Prefix netip.Prefix
}

// Key names the address and its link.
func (a *Addr) Key() string { return "addr " + a.Prefix.String() + " dev " + a.Dev + at(a.NetNS) }

// Refers names the link.
func (a *Addr) Refers() []string { return refers(a.NetNS, a.Dev) }

func (a *Addr) String() string {
	return "addr " + a.Prefix.String() + " dev " + a.Dev + in(a.NetNS)
}

// NoAddr says that a link of the host has no address within a prefix: what the network was
// before may have left one. What Ensure takes away is not put back.
type NoAddr struct {
	Dev string
	In  netip.Prefix // also of one address, or of a whole family
}

// Key names the prefix and the link.
func (n *NoAddr) Key() string { return "addr none in " + n.In.String() + " dev " + n.Dev }

// Refers names the link.
func (n *NoAddr) Refers() []string { return refers("", n.Dev) }

func (n *NoAddr) String() string { return n.Key() }

// Route is a route through a link. The zero Via is an on-link route. The
// numbers are those of the CNI result's routes, 0 meaning the kernel's own.
type Route struct {
	NetNS    string
	Dev      string
	Dst      netip.Prefix
	Via      netip.Addr
	Metric   int
	MTU      int // bytes
	AdvMSS   int // bytes
	Table    int
	Scope    int
	HasScope bool // Scope 0 (global) is meant, not left open
	OnLink   bool // Via is on the link though no address's prefix says so
	// Src is the address that packets carry, unless their sender has chosen one. A route of
	// the same Dst and Metric is replaced then, as that which the kernel makes with an address.
	Src netip.Addr
	// Rank, if there is one, lets Ensure raise Metric, and write it back: where other
	// links have routes of the same Dst, Metrics come in the order of Rank, and of
	// one Rank in the order of the networks' names. Routes of those behind move on.
	Rank int
	// Owner is whose a route with a Rank is.
	Owner Attachment
	// Foreign is set by Ensure where a route of the same Dst was in the sandbox that is no
	// network's of ours.
	Foreign bool
}

// OnLink is the route to a subnet of a link, in place of the kernel's, with the address that
// packets carry.
func OnLink(dev string, subnet netip.Prefix, src netip.Addr) *Route {
	r := &Route{Dev: dev, Dst: subnet.Masked(), Src: src}
	if src.Is6() {
		r.Metric, r.HasScope = 256, true // the kernel's own: IP6_RT_PRIO_ADDRCONF of its net/ip6_route.h
	}
	return r
}

// Key names destination, link and table.
func (r *Route) Key() string {
	return fmt.Sprintf("route %s dev %s table %d%s", r.Dst, r.Dev, r.Table, at(r.NetNS))
}

// Refers names the link.
func (r *Route) Refers() []string { return refers(r.NetNS, r.Dev) }

func (r *Route) String() string {
	var b strings.Builder
	dst := r.Dst.String()
	if r.Dst.Bits() == 0 {
		dst = "default"
		if r.Dst.Addr().Is6() {
			dst = "-6 default"
		}
	}
	b.WriteString("route " + dst)
	if r.Via.IsValid() {
		b.WriteString(" via " + r.Via.String())
	}
	b.WriteString(" dev " + r.Dev)
	if r.OnLink {
		b.WriteString(" onlink")
	}
	if r.Src.IsValid() {
		b.WriteString(" src " + r.Src.String())
	}
	for _, f := range []struct {
		name  string
		value int
	}{{"metric", r.Metric}, {"mtu", r.MTU}, {"advmss", r.AdvMSS}, {"table", r.Table}} {
		if f.value != 0 {
			b.WriteString(" " + f.name + " " + strconv.Itoa(f.value))
		}
	}
	if r.HasScope {
		b.WriteString(" scope " + strconv.Itoa(r.Scope))
	}
	return b.String() + in(r.NetNS)
}

// ForwardAll says that the host routes a family for others as well, also where
// [Forwarding] switched that on. It comes before that.
type ForwardAll struct{ Family int }

// Key names the family.
func (f *ForwardAll) Key() string { return fmt.Sprintf("forwarding %d for all", f.Family) }

// Root marks it as something that goes with its last user.
func (f *ForwardAll) Root() {}

func (f *ForwardAll) String() string { return fmt.Sprintf("forward all of ipv%d", f.Family) }

// Borrowed is a change of something of the host's that is another owner's, as a
// bridge that dcni did not make: an address on it, a setting, that it is up. Ensure
// changes only what is not so. How it was before is recorded, and is put back with the
// last user.
type Borrowed struct {
	Object // an [Addr], [Sysctl] or [Up] of the host
}

// Key is the object's, and tells it from one that dcni owns.
func (b *Borrowed) Key() string { return "borrowed " + b.Object.Key() }

// Root marks the change as something that goes with its last user.
func (b *Borrowed) Root() {}

// in says where a thing lives, for people: nothing for the host, "in sandbox"
// elsewhere.
func in(netns string) string {
	if netns == "" {
		return ""
	}
	return " in sandbox"
}

// at says where a thing lives, for keys.
func at(netns string) string {
	if netns == "" {
		return ""
	}
	return " netns " + netns
}

// refers names the link that a thing hangs on.
func refers(netns, dev string) []string { return []string{"link " + dev + at(netns)} }

// Flows says that the host's connection tracking remembers nothing of an
// attachment's addresses: another container may have had them, and a new one
// would inherit its translations.
type Flows struct {
	Owner     Attachment
	Addresses []netip.Addr
}

// Key names the attachment.
func (f *Flows) Key() string { return "flows " + f.Owner.String() }

// Root marks the flows as what DEL removes: they outlive the link.
func (f *Flows) Root() {}

func (f *Flows) String() string {
	words := make([]string, len(f.Addresses))
	for i, a := range f.Addresses {
		words[i] = a.String()
	}
	return "conntrack none of " + strings.Join(words, " ")
}
