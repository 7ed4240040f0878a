package service

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"dcni/pkg/firewall"
	"dcni/pkg/wire"
)

// A Balanced is what a client has of one service in one family: a chain of its own in the
// table of its network namespace, to which its address leads, see [Layout].
//
// Only the first packet of a connection is looked at, as always where addresses are
// rewritten, so a running connection stays with its task. When that is gone, the client's
// connections to it are forgotten (see Keep): the next packet then is a first one. One of
// UDP goes to another task. One of TCP that begins no connection is answered by a reset.
type Balanced struct {
	Chain string
	VIP   netip.Addr
	Tasks []netip.Addr // in the order of their turns; none: the address is refused
	Keep  []netip.Addr // connections to others than these are forgotten
}

// A Balancer has what is the same for all clients of a network's services.
type Balancer struct {
	Network  string
	families [2][]balancer // IPv4, IPv6
}

// A balancer is a service in one family; its tasks begin with no client's first one.
type balancer struct {
	Balanced
	affinity bool
}

// Balancer returns what the network's services are for its clients.
func (n Network) Balancer() Balancer {
	b, all := Balancer{Network: n.Name}, n.tasks()
	for f, six := range []bool{false, true} {
		for i, s := range n.Services {
			if vip := s.vip(six); !s.Removing && vip.IsValid() {
				b.families[f] = append(b.families[f], balancer{Balanced{
					Chain: Chain(n.Name, s.Name), VIP: vip, Tasks: addresses(all[i], six, Ready), Keep: addresses(all[i], six, Ready, Draining),
				}, s.Affinity == ClientAffinity})
			}
		}
	}
	return b
}

func (s balancer) same(o balancer) bool {
	return s.Chain == o.Chain && s.VIP == o.VIP && s.affinity == o.affinity && slices.Equal(s.Tasks, o.Tasks) && slices.Equal(s.Keep, o.Keep)
}

// Without returns the services that another has not, or has otherwise.
func (b Balancer) Without(o Balancer) Balancer {
	for f, list := range b.families {
		b.families[f] = slices.DeleteFunc(slices.Clone(list), func(s balancer) bool { return slices.ContainsFunc(o.families[f], s.same) })
	}
	return b
}

// Has reports whether there are services in a family.
func (b Balancer) Has(six bool) bool { return len(b.family(six)) > 0 }

func (b Balancer) family(six bool) []balancer {
	if six {
		return b.families[1]
	}
	return b.families[0]
}

// Loses reports whether services that become others have fewer tasks to which connections are kept.
func (b Balancer) Loses(after Balancer) bool {
	kept := after.Kept()
	for vip, tasks := range b.Kept() {
		now, is := kept[vip]
		if is && slices.ContainsFunc(tasks, func(a netip.Addr) bool { return !slices.Contains(now, a) }) {
			return true
		}
	}
	return false
}

// Kept returns, by virtual address, the tasks to which connections are kept.
func (b Balancer) Kept() map[netip.Addr][]netip.Addr {
	kept := map[netip.Addr][]netip.Addr{}
	for _, list := range b.families {
		for _, s := range list {
			kept[s.VIP] = s.Keep
		}
	}
	return kept
}

// Of returns what a client has of the services in one family.
func (b Balancer) Of(client wire.Attachment, six bool) (list []Balanced) {
	first := weight(client.String(), "")
	for _, s := range b.family(six) {
		if s.Tasks = turned(first, s.Tasks); s.affinity {
			s.Tasks = chosen(client, s.Tasks)
		}
		list = append(list, s.Balanced)
	}
	return list
}

// ChainPrefix begins the names of the chains of all services.
const ChainPrefix = "vip-"

// A Layout is what a client has for all services of a network in one family: a chain at the output
// hook, which leads each address to the service's chain. A sandbox may be on several networks that each have a service
// of one name.
type Layout struct {
	Chain string       // the one at the hook; the names of services' chains begin so
	VIPs  firewall.Set // virtual addresses
	Leads firewall.Set // the chain of each
}

// LayoutOf returns a network's layout.
func LayoutOf(network string, six bool) Layout {
	const digits = 8
	sum := sha256.Sum256([]byte(network))
	name, key := ChainPrefix+hex.EncodeToString(sum[:])[:digits], []firewall.Type{firewall.TypeIPv4}
	if six {
		key = []firewall.Type{firewall.TypeIPv6}
	}
	return Layout{
		Chain: name,
		VIPs:  firewall.Set{Name: name, Key: key},
		Leads: firewall.Set{Name: name + "-leads", Key: key, Value: []firewall.Type{firewall.TypeVerdict}},
	}
}

// Chain returns the name of a service's chain, at most 77 bytes of the 127 that a chain's
// name may have.
func Chain(network, service string) string { return LayoutOf(network, false).Chain + "-" + service }

// Lines returns the rules of the chain at the hook as nft(8) lists them. The chain is of type nat. The
// kernel tracks connections as long as a rule needs it: that is what "ct state new" is for, which all packets there
// are. Without it, connections to the last task that drains would end, and the chain of a service without tasks would
// be passed by.
func (l Layout) Lines() []string {
	family := "ip"
	if l.VIPs.Key[0] == firewall.TypeIPv6 {
		family = "ip6"
	}
	return []string{
		fmt.Sprintf("tcp flags ! syn %s daddr @%s reject with tcp reset", family, l.VIPs.Name),
		fmt.Sprintf("ct state new %s daddr vmap @%s", family, l.Leads.Name),
	}
}

// Lines returns the rules of the service's chain as nft(8) lists them: a reset is for TCP alone.
func (b Balanced) Lines() []string {
	switch len(b.Tasks) {
	case 0:
		return []string{"reject with tcp reset", "reject"}
	case 1:
		return []string{"dnat to " + b.Tasks[0].String()}
	}
	turns := make([]string, len(b.Tasks))
	for i, a := range b.Tasks {
		turns[i] = fmt.Sprintf("%d : %s", i, a)
	}
	return []string{fmt.Sprintf("dnat to numgen inc mod %d map { %s }", len(b.Tasks), strings.Join(turns, ", "))}
}

// Comment returns the comment of all rules of the chain, by which they are known again: a
// hash of what they are made from. When [Balanced.Lines] says something else of that, the number must be another.
func (b Balanced) Comment() string {
	const digits = 16
	var from []byte
	for _, a := range b.Tasks {
		from = append(from, a.AsSlice()...)
	}
	sum := sha256.Sum256(from)
	return Comment + " " + hex.EncodeToString(sum[:])[:digits]
}

// Comment is the comment of the rules at the hook.
const Comment = "vip-3"

// A Client is a container that finds services at their virtual addresses. Which they are,
// and which tasks they have, is looked up when the object is ensured.
//
// It is an object of the plan of every interface on a bridge. On a network without services
// it is nothing.
type Client struct {
	NetNS  string // path of the sandbox
	Cookie uint64 // of its namespace
	// Wanted are the services that the runtime says the container is a task of, see
	// [ArgService]. They must be there.
	Wanted []string
	// OfCluster says that the network is a cluster's: which services it has is known when
	// dnetd has seen the cluster's store. Whether it has those that are wanted was looked up
	// when the container claimed its addresses.
	OfCluster bool
	Endpoint
}

// Lacking returns an error if the network lacks a service that the client is to be a task of.
func (c *Client) Lacking(n Network) error {
	for _, name := range c.Wanted {
		is := func(s Service) bool { return strings.EqualFold(s.Name, name) && !s.Removing }
		if !slices.ContainsFunc(n.Services, is) {
			return wire.Errorf(wire.CodeConfig, "%s %q: %v: make it with dnet service create", ArgService, name, &NotFoundError{name, c.Owner.Network})
		}
	}
	return nil
}

// Key names the attachment; see [wire.Object].
func (c *Client) Key() string { return "services " + c.Owner.String() }

// Root marks the client as something DEL removes by itself: the sandbox may stay.
func (c *Client) Root() {}

// Outside returns nil: all of it is in the sandbox.
func (c *Client) Outside() wire.Object { return nil }

func (c *Client) String() string { return "services of network " + c.Owner.Network + " in sandbox" }

// With returns the network with an endpoint in place of the one of its attachment, or besides.
func (n Network) With(e Endpoint) Network {
	i := slices.IndexFunc(n.Endpoints, e.is)
	n.Endpoints = slices.Clone(n.Endpoints)
	if i < 0 {
		n.Endpoints = append(n.Endpoints, e)
	} else {
		n.Endpoints[i] = e
	}
	return n
}

// Crowded returns an error if a service would have too many tasks with an endpoint.
func (n Network) Crowded(e Endpoint) error {
	for _, s := range n.Services {
		if !e.Bears(s.Name) {
			continue
		}
		tasks := slices.DeleteFunc(n.With(e).Tasks(s), func(t Task) bool { return t.State == Unreachable })
		if len(tasks) > MaxTasks {
			return wire.Errorf(wire.CodeConfig, "service %q of network %s has %d tasks, the most that a service may have: this container would be one more",
				s.Name, n.Name, MaxTasks)
		}
	}
	return nil
}
