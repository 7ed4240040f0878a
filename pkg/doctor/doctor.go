// Package doctor decides what on a host would break a network, from facts that
// others have read: what is wrong, what it breaks, and the command that mends it.
//
// It is pure. Package condition, below host, reads what only the kernel and other
// programs' files tell.
package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"dcni/pkg/firewall"
	"dcni/pkg/firewall/foreign"
	"dcni/pkg/wire"
)

// The words that a finding is known by. Programs compare them, so they stay.
const (
	Kernel        = "kernel"         // the kernel lacks what a network is made of
	Forwarding    = "forwarding"     // the host does not forward packets of a family
	Rules         = "rules"          // rules of dcni are missing or changed
	ForwardDrop   = "forward-drop"   // another program's rules drop what is forwarded
	CompetingPort = "competing-port" // another program's rules lead a published port elsewhere
	UFW           = "ufw"            // ufw drops what is forwarded
	Firewalld     = "firewalld"      // firewalld rejects what is forwarded
	NetManager    = "networkmanager" // NetworkManager manages a link of dcni's
	Networkd      = "networkd"       // systemd-networkd manages a link of dcni's
	MTU           = "mtu"            // a network sends larger packets than the way out takes
	Overlap       = "overlap"        // two networks have an address in common
	RouteOverlap  = "route-overlap"  // a network hides addresses that the host reaches otherwise
	StaleLease    = "stale-lease"    // an address is leased to a container that is not attached
	Orphan        = "orphan"         // an attachment's container is gone
	Agent         = "agent"          // dnetd does not answer, and containers need it
	ResolverLoop  = "resolver-loop"  // the host's name server asks the host's name server
	PortHeld      = "port-held"      // another program has a published port
	GatewayHeld   = "gateway-held"   // another program has the port at which a gateway answers names
	Store         = "store"          // the store of the host's cluster does not answer
	Tunnel        = "tunnel"         // what overlay networks send does not pass to another node
	Checksums     = "checksums"      // the NIC computes checksums of overlay networks wrongly
	Neighbours    = "neighbours"     // the kernel's neighbour table is nearly full
	Closed        = "closed"         // the host routes for dcni's networks alone, and another suite's needs it
	HostRecord    = "host-record"    // a record of what dcni changed of the host can't be read
)

// A Finding is one thing that is wrong.
type Finding struct {
	ID      string `json:"id"`      // one of the words above
	Subject string `json:"subject"` // what it is about: a network, a port, a family, ...
	Problem string `json:"problem"` // what is wrong: one sentence without a full stop
	Breaks  string `json:"breaks"`  // what does not work because of it, likewise
	Fix     string `json:"fix"`     // a command for a shell of root's that mends it
}

// Facts are what is known of a host. A part that is not known is empty, and nothing
// is found in it.
type Facts struct {
	Incomplete  bool         // not all could be read: what is wrong there is not found
	Networks    []Network    // that containers can be attached to, or are
	Attachments []Attachment // that are up
	Missing     []Missing
	Forwards    map[int]bool    // by family, 4 and 6: whether the host forwards; none where the kernel lacks it
	Rules       string          // how dcni's own rules differ from what is up; "": not at all
	Taken       string          // why dcni can't have its own table; "": it can
	Closed      map[int]bool    // by family: the host routes for dcni's networks alone, as dcni switched forwarding on
	Users       []foreign.Chain // dcni's chain for the rules of users, and what it jumps to; nil: it is not there
	Chains      []foreign.Chain // of other programs' rules
	Managed     []string        // links that NetworkManager manages
	Networkd    []Configured    // links that systemd-networkd manages
	Uplink      Uplink
	Routes      []Route
	Servers     []netip.Addr // of the host's resolv.conf
	Local       []netip.Addr // of the host
	Stale       []Lease      // that no attachment has
	Agent       string       // why dnetd does not answer; "": it does
	AgentUnit   bool         // systemd runs, and has a unit of dnetd's
	Listeners   []Listener
	Held        []HeldGateway
	Neighbours  []NeighbourTable
	Unreadable  []Unreadable
	Cluster     Cluster
}

// A Configured is a link with the file that a program configures it by.
type Configured struct{ Link, File string }

// A Network is one as its configuration says, with what was chosen for it.
type Network struct {
	Name, Driver string
	File         string // its configuration; "" if it has none
	Link         string // its bridge on this host; "" if it has none
	Internal     bool
	Foreign      bool // another suite's plugin makes it
	NoForward    bool // its configuration forbids to switch forwarding on
	Encrypted    bool // what goes to other nodes is ESP
	MTU          int  // as configured, in bytes; 0: chosen at ADD
	Subnets      []netip.Prefix
	Options      map[string]string // by Docker's names
	Labels       map[string]string
}

// An Attachment is one that is up.
type Attachment struct {
	wire.Attachment
	Name      string // the container's
	Addresses []netip.Addr
	Ports     []firewall.Port // published
	Link      string          // the network's bridge; "" if it has none
	Internal  bool
	MTU       int          // bytes; 0: not known
	Names     bool         // dnetd answers it
	Listen    []netip.Addr // gateway addresses at which dnetd answers it as well
	Peers     bool         // dnetd sees to its neighbours on other nodes
	Gone      bool         // its network namespace is not there any more
	ByDnet    bool         // it is a container of `dnet run`, which dnetd leaves to dnet
}

// A Missing is what the kernel has not.
type Missing struct {
	What     string   // "ipvlan links"
	Module   string   // that has it
	Networks []string // that need it
	Why      string   // the kernel's words
}

// An Uplink is the link that leads out of the host.
type Uplink struct {
	Name string
	MTU  int // bytes; 0: there is none
}

// A Route is one of the host's.
type Route struct {
	Dst    netip.Prefix
	Dev    string
	OnLink bool // no next hop
}

// A Lease is an address with its file.
type Lease struct {
	Network string
	Address netip.Addr
	Owner   wire.Attachment
	File    string
}

// A Listener is a process that listens on a port that a container publishes.
type Listener struct {
	Attachment wire.Attachment // that publishes it
	Port       firewall.Port
	PID        int    // 0: not known
	Program    string // its name
}

// A NeighbourTable is the kernel's for one family. All network namespaces share it.
type NeighbourTable struct {
	Family         int // 4 or 6
	Entries, Limit int // the limit is gc_thresh3
}

// A HeldGateway is a gateway address at which dnetd can't answer names.
type HeldGateway struct {
	Network string
	Address netip.Addr
	Why     string
}

// An Unreadable is the record of something of the host's that dcni changed, which can't be read.
type Unreadable struct {
	Key  string // of the object that made the change: "forwarding 4"
	File string
	Why  string
}

// Findings returns what is wrong, in an order that is always the same.
func Findings(f Facts) []Finding {
	var all []Finding
	for _, check := range []func(Facts) []Finding{
		kernel, forwarding, closed, rules, dropping, competing, managed, networkd, mtu, overlaps, routeOverlaps, leases, orphans, agent, loops, held, gateways, neighbours, unreadable, cluster,
	} {
		all = append(all, check(f)...)
	}
	return all
}

func kernel(f Facts) (list []Finding) {
	for _, m := range f.Missing {
		list = append(list, Finding{
			Kernel, m.What,
			fmt.Sprintf("the kernel has no %s: %s", m.What, m.Why),
			"no container can be attached to " + named("network", m.Networks),
			"modprobe " + m.Module,
		})
	}
	return list
}

// forwarding finds a family that containers or configurations need and the host does not
// forward. ADD switches it on where it may.
func forwarding(f Facts) (list []Finding) {
	for _, family := range []int{4, 6} {
		on, known := f.Forwards[family]
		if on || !known {
			continue
		}
		var need []string
		for _, n := range f.Networks {
			if !n.Internal && n.Link != "" && (n.NoForward || f.attached(n.Name)) && hasFamily(n.Subnets, family) {
				need = append(need, n.Name)
			}
		}
		if len(need) == 0 {
			continue
		}
		setting := wire.Forwarding{Family: family}
		list = append(list, Finding{
			Forwarding, fmt.Sprintf("IPv%d", family),
			fmt.Sprintf("the host does not forward IPv%d", family),
			fmt.Sprintf("containers on %s reach nothing outside by IPv%d, and their published ports don't answer", named("network", need), family),
			"sysctl -w " + strings.ReplaceAll(setting.Path(), "/", ".") + "=1",
		})
	}
	return list
}

// healing is the command that puts back what the records say.
const healing = "dnetd --once"

func rules(f Facts) []Finding {
	if f.Taken != "" {
		return []Finding{{
			Rules, firewall.TableName,
			f.Taken,
			"no container can be attached to a network with a bridge; what is attached is not kept apart, and published ports are closed",
			"nft delete table inet " + firewall.TableName + " && " + healing,
		}}
	}
	if f.Rules == "" {
		return nil
	}
	return []Finding{{
		Rules, firewall.TableName,
		"table inet dcni is not as it should be: " + f.Rules,
		"networks are not kept apart, what leaves is not masqueraded, and published ports are closed",
		healing,
	}}
}

func managed(f Facts) (list []Finding) {
	var links []string
	for _, link := range f.Managed {
		if f.ownLink(link) || wire.IsHostLink(link) {
			links = append(links, link)
		}
	}
	if len(links) == 0 {
		return nil
	}
	return []Finding{{
		NetManager, strings.Join(links, " "),
		fmt.Sprintf("NetworkManager manages %s, which %s dcni's", named("link", links), areOrIs(len(links))),
		"it may take their addresses away, or ask for others by DHCP",
		`printf '[keyfile]\nunmanaged-devices+=interface-name:br-*,interface-name:dcni0,interface-name:veth???????????,interface-name:v??????????????\n'` +
			" >/etc/NetworkManager/conf.d/dcni.conf && nmcli general reload && nmcli device set " +
			strings.Join(links, " managed no && nmcli device set ") + " managed no",
	}}
}

// NetworkdNames are dcni's links, as Name= of a [Match] section takes them (systemd.network(5)).
func NetworkdNames() string {
	digits := strings.Repeat("[0-9a-f]", 12)
	return "dcni0 [bdmv][himrx]-" + digits + " veth" + strings.Repeat("[0-9a-z]", 11) + " v[0-9a-f][0-9a-f]" + digits
}

// networkd finds links that are configured by a file which matches more than it should.
func networkd(f Facts) (list []Finding) {
	var links, files []string
	for _, c := range f.Networkd {
		if !f.ownLink(c.Link) && !wire.IsHostLink(c.Link) {
			continue
		}
		links = append(links, c.Link)
		if !slices.Contains(files, c.File) {
			files = append(files, c.File)
		}
	}
	if len(links) == 0 {
		return nil
	}
	return []Finding{{
		Networkd, strings.Join(links, " "),
		fmt.Sprintf("systemd-networkd manages %s, which %s dcni's, by %s", named("link", links), areOrIs(len(links)), strings.Join(files, ", ")),
		"it takes containers' links out of their bridges, and addresses and routes away",
		`mkdir -p /etc/systemd/network && printf '[Match]\nName=` + NetworkdNames() + `\n\n[Link]\nUnmanaged=yes\n' >/etc/systemd/network/05-dcni.network && networkctl reload; ` + healing,
	}}
}

// mtu finds networks that are configured for larger packets than the uplink takes, and
// containers that were attached when it took larger ones.
func mtu(f Facts) (list []Finding) {
	up := f.Uplink
	if up.MTU == 0 {
		return nil
	}
	breaks := "packets that are too large get lost wherever a firewall drops the ICMP messages that say so: connections open and then hang"
	for _, n := range f.Networks {
		if n.Internal || n.MTU <= up.MTU || n.File == "" {
			continue
		}
		list = append(list, Finding{
			MTU, n.Name,
			fmt.Sprintf("network %s is configured for packets of %d bytes, and %s, which leads out, takes %d", n.Name, n.MTU, up.Name, up.MTU),
			breaks,
			fmt.Sprintf(`sed -i -E 's/("(mtu|com.docker.network.driver.mtu)" *: *"?)%d/\1%d/' %s`, n.MTU, up.MTU, quote(n.File)),
		})
	}
	for _, a := range f.Attachments {
		n := f.network(a.Network)
		if a.Internal || a.Gone || a.MTU <= up.MTU || n != nil && n.MTU > up.MTU {
			continue
		}
		list = append(list, Finding{
			MTU, a.String(),
			fmt.Sprintf("container %s was attached to network %s with an MTU of %d bytes, and %s, which leads out, takes %d now",
				a.Name, a.Network, a.MTU, up.Name, up.MTU),
			breaks,
			fmt.Sprintf("dnet disconnect %s %s && dnet connect %[1]s %[2]s", quote(a.Network), a.word()),
		})
	}
	return list
}

func leases(f Facts) (list []Finding) {
	for _, l := range f.Stale {
		list = append(list, Finding{
			StaleLease, l.Address.String(),
			fmt.Sprintf("%s of network %s is leased to %s/%s, which is not attached", l.Address, l.Network, l.Owner.Container, l.Owner.IfName),
			"no other container gets the address; a network whose addresses are all gone takes no container",
			"rm " + quote(l.File),
		})
	}
	return list
}

func orphans(f Facts) (list []Finding) {
	for _, a := range f.Attachments {
		if !a.Gone {
			continue
		}
		what, fix := "its addresses are taken", healing
		if a.ByDnet {
			fix = "dnet stop --rm " + a.word()
		}
		if len(a.Ports) > 0 {
			what = "its addresses and published ports are taken"
		}
		list = append(list, Finding{
			Orphan, a.String(),
			fmt.Sprintf("container %s is gone, and its runtime did not detach it from network %s", a.Name, a.Network),
			what, fix,
		})
	}
	return list
}

func agent(f Facts) []Finding {
	named, peering := map[string]bool{}, map[string]bool{} // by container, which can be on several networks
	for _, a := range f.Attachments {
		if a.Names && !a.Gone {
			named[a.Container] = true
		}
		if a.Peers && !a.Gone {
			peering[a.Container] = true
		}
	}
	names, peers := len(named), len(peering)
	if f.Agent == "" || names+peers == 0 {
		return nil
	}
	var breaks []string
	if names > 0 {
		breaks = append(breaks, fmt.Sprintf("%d %s no names", names, plural("container has", "containers have", names)))
	}
	if peers > 0 {
		breaks = append(breaks, fmt.Sprintf("%d %s not follow what moves between nodes", peers, plural("container does", "containers do", peers)))
	}
	fix := healing
	if f.AgentUnit {
		fix = "systemctl restart dnetd"
	}
	return []Finding{{Agent, "dnetd", "dnetd does not answer: " + f.Agent, strings.Join(breaks, ", and "), fix}}
}

func held(f Facts) (list []Finding) {
	for _, l := range f.Listeners {
		who, fix := "another program", fmt.Sprintf("ss -lnp 'sport = :%d'", l.Port.HostPort)
		if l.PID != 0 {
			who, fix = fmt.Sprintf("process %d (%s)", l.PID, l.Program), fmt.Sprintf("kill %d", l.PID)
		}
		list = append(list, Finding{
			PortHeld, fmt.Sprintf("%d/%s", l.Port.HostPort, l.Port.Protocol),
			fmt.Sprintf("%s listens on port %d/%s, which %s publishes", who, l.Port.HostPort, l.Port.Protocol, l.Attachment),
			"clients reach the container and not that program, but for those by ::1 and the like; another container can't publish the port when this one has ended",
			fix,
		})
	}
	return list
}

func gateways(f Facts) (list []Finding) {
	for _, g := range f.Held {
		list = append(list, Finding{
			GatewayHeld, g.Address.String(), g.Why, "virtual machines on network " + g.Network + " find no names",
			"ss -lnp 'sport = :53'",
		})
	}
	return list
}

// nearlyFull is the share of the neighbour table, in percent, from which it is found
// too small.
const nearlyFull = 80

func neighbours(f Facts) (list []Finding) {
	for _, t := range f.Neighbours {
		need := 0
		for _, a := range f.Attachments {
			for _, addr := range a.Addresses {
				if familyOf(addr) == t.Family {
					need++
				}
			}
		}
		if t.Limit == 0 || max(need, t.Entries)*100 < t.Limit*nearlyFull {
			continue
		}
		limit := t.Limit
		for limit*nearlyFull <= 2*max(need, t.Entries)*100 {
			limit *= 2
		}
		key := fmt.Sprintf("net.ipv%d.neigh.default.gc_thresh", t.Family)
		list = append(list, Finding{
			Neighbours, fmt.Sprintf("IPv%d", t.Family),
			fmt.Sprintf("the kernel's IPv%d neighbour table has %d entries of %d, and containers here have %d addresses", t.Family, t.Entries, t.Limit, need),
			"once it is full, the host and containers reach no neighbour that they don't know already",
			fmt.Sprintf("sysctl -w %s3=%d %[1]s2=%[3]d", key, limit, limit/2),
		})
	}
	return list
}

// unreadable finds records whose loss breaks something. Of the other kinds it counts that the file
// is there, and DEL needs no more.
func unreadable(f Facts) (list []Finding) {
	for _, u := range f.Unreadable {
		kind, of, _ := strings.Cut(u.Key, " ")
		var breaks, fix string
		switch {
		case kind == "forwarding" && !strings.HasSuffix(of, " for all"):
			breaks, fix = fmt.Sprintf("CHECK of the containers that use IPv%s fails", of), healing
		case kind == "link":
			breaks, fix = fmt.Sprintf("CHECK of the containers on it fails, and a link %s that its owner made since is deleted with the last of them", of), healing
		case kind == "borrowed":
			// How it was is lost. Without the file, what is there counts as its owner's.
			breaks, fix = "what dcni changed stays when the last container goes: "+of, "rm -r "+quote(u.File)
		default:
			continue
		}
		list = append(list, Finding{
			HostRecord, u.Key, fmt.Sprintf("the record of %s, %s, can't be read: %s", u.Key, u.File, u.Why), breaks, fix,
		})
	}
	return list
}

// word is what commands call a container by: names of other runtimes' may be of several.
func (a Attachment) word() string {
	if a.ByDnet {
		return quote(a.Name)
	}
	return quote(a.Container)
}

// attached reports whether a network has an attachment.
func (f Facts) attached(network string) bool {
	return slices.ContainsFunc(f.Attachments, func(a Attachment) bool { return a.Network == network && !a.Gone })
}

// network returns the network of a name, nil if its configuration is gone.
func (f Facts) network(name string) *Network {
	for i := range f.Networks {
		if f.Networks[i].Name == name {
			return &f.Networks[i]
		}
	}
	return nil
}

func familyOf(a netip.Addr) int {
	if a.Unmap().Is4() {
		return 4
	}
	return 6
}

func hasFamily(list []netip.Prefix, family int) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return familyOf(p.Addr()) == family })
}

// named returns a noun with names behind: "network web", "networks lab, web".
func named(noun string, list []string) string {
	return plural(noun, noun+"s", len(list)) + " " + strings.Join(list, ", ")
}

func areOrIs(n int) string { return plural("is", "are", n) }

func plural(one, many string, n int) string {
	if n == 1 {
		return one
	}
	return many
}

// quote returns a word as a shell takes it.
func quote(s string) string {
	plain := func(r rune) bool {
		return r < 128 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=,@%+", r))
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
