package firewall

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"

	"dcni/pkg/wire"
)

// The maps of services' ports: which chain leads a connection to the tasks.
const (
	MapIngress4 = "ingress4"
	MapIngress6 = "ingress6"
)

// IngressPrefix begins the names of the chains that lead to tasks.
const IngressPrefix = "ingress"

// ServiceOwner stands for a network where a service has a port of the host: no network's name
// begins with an underscore, and no container's ID.
const ServiceOwner = "_service"

// OfService returns what owns the ports of a service. Its comment is "_service _web/api".
func OfService(network, service string) wire.Attachment {
	return wire.Attachment{Network: ServiceOwner, Container: "_" + network, IfName: service}
}

// IsOfService reports whether a comment is that of a service's port.
func IsOfService(comment string) bool { return strings.HasPrefix(comment, ServiceOwner+" ") }

// IsOfNetwork reports whether a comment is that of a port of a service of the network.
func (i *Ingress) IsOfNetwork(comment string) bool {
	return strings.HasPrefix(comment, OfService(i.Network, "").String())
}

// Fits reports whether the comment of a service's ports is whole: by it they are known as the
// network's.
func Fits(network, service string) bool {
	owner := OfService(network, service)
	return Comment(owner) == owner.String()
}

// OwnerWords says who has a port by the comment of its element: "service api of network web", or
// "container c1 on network web".
func OwnerWords(comment string) string {
	network, rest, _ := strings.Cut(comment, " ")
	inside, name, found := strings.Cut(rest, "/")
	switch {
	case !found: // cut, or of no attachment
		return comment
	case network == ServiceOwner:
		return "service " + name + " of network " + strings.TrimPrefix(inside, "_")
	}
	return "container " + inside + " on network " + network
}

// A Turn is a port of the host in one family, behind which are the tasks of a service. Connections
// go to them by turns, in a chain of the port's own.
type Turn struct {
	Owner    string // comment of the service
	V6       bool
	Protocol string
	Port     uint16           // of the host
	Tasks    []netip.AddrPort // in the order of their turns; none: the port refuses
	Sticky   bool             // all of a client's connections go to one task, by its address
}

// A HostPort is a port of the host, by which a [Turn] is told.
type HostPort struct {
	V6       bool
	Protocol string
	Port     uint16
}

// HostPort returns the port.
func (t Turn) HostPort() HostPort { return HostPort{t.V6, t.Protocol, t.Port} }

// Chain returns the name of the port's chain: ingress4-tcp-8080.
func (t Turn) Chain() string {
	return fmt.Sprintf("%s%s-%s-%d", IngressPrefix, byFamily(t.V6, "4", "6"), t.Protocol, t.Port)
}

// Element returns what leads the port to its chain.
func (t Turn) Element() Element {
	return Element{
		Set: byFamily(t.V6, MapIngress4, MapIngress6), Key: []fmt.Stringer{Proto(t.Protocol), Service(t.Port)},
		Value: []fmt.Stringer{Jump(t.Chain())}, Comment: t.Owner,
	}
}

// Slots is how many turns a port has that keeps its clients' tasks. A client's address is hashed to one
// of them, and each is the task's that has the greatest weight for it: where another task comes
// or goes, no more slots change than it has.
const Slots = 256

// Turns returns where connections go, in order: as many as there are tasks, or the slots.
func (t Turn) Turns() []netip.AddrPort {
	if !t.Sticky || len(t.Tasks) < 2 {
		return t.Tasks
	}
	turns := make([]netip.AddrPort, Slots)
	for slot := range turns {
		turns[slot] = slices.MaxFunc(t.Tasks, func(a, b netip.AddrPort) int {
			return cmp.Or(cmp.Compare(weight(slot, a), weight(slot, b)), a.Compare(b))
		})
	}
	return turns
}

func weight(slot int, task netip.AddrPort) uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, task, " ", slot)
	// The last bytes of FNV hardly reach the highest bits: they are mixed (murmur3's finalizer).
	x := h.Sum64()
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// HashSeed is the seed of the hash of clients' addresses: without one the kernel takes another for
// each rule, and clients would move with every change.
const HashSeed = 0x64636e69

// Lines returns the rules of the port's chain as nft(8) lists them. TCP that begins no connection
// had one that was forgotten, to a task that is gone. nft wants the protocol before a port, or can't
// load what it has listed itself.
func (t Turn) Lines() []string {
	family := byFamily(t.V6, "ip", "ip6")
	turns := t.Turns()
	var first string
	switch len(turns) {
	case 0:
		return []string{"meta l4proto tcp reject with tcp reset", "reject"}
	case 1:
		first = t.Tasks[0].String()
	default:
		words := make([]string, len(turns))
		for i, to := range turns {
			words[i] = fmt.Sprintf("%d : %s . %d", i, to.Addr(), to.Port())
		}
		by := fmt.Sprintf("numgen inc mod %d", len(turns))
		if t.Sticky {
			by = fmt.Sprintf("jhash %s saddr mod %d seed 0x%x", family, len(turns), HashSeed)
		}
		first = by + " map { " + strings.Join(words, ", ") + " }"
	}
	return []string{"tcp flags ! syn reject with tcp reset", "meta l4proto " + t.Protocol + " dnat " + family + " to " + first}
}

// Comment returns the comment of the chain's rules, by which they are known again: a hash of what
// they say.
func (t Turn) Comment() string {
	h := fnv.New64a()
	fmt.Fprint(h, strings.Join(t.Lines(), "\n"))
	return fmt.Sprintf("turn-1 %016x", h.Sum64())
}

// Ingress is what the services of a network have at the host's ports.
type Ingress struct {
	Network string // what else its services have is taken away
	// Claims take the ports, one each, by a virtual address as if that were a container's. Rules
	// don't come to it: the turns are before.
	Claims []*Endpoint
	Turns  []Turn
}

// Key names the network; see [wire.Object].
func (i *Ingress) Key() string { return "ports of services of network " + i.Network }

// String returns the ports, on one line.
func (i *Ingress) String() string {
	var words []string
	for _, c := range i.Claims {
		for _, p := range c.Ports {
			words = append(words, p.String())
		}
	}
	if len(words) == 0 {
		return i.Key()
	}
	return i.Key() + ": " + strings.Join(words, ", ")
}

// Without returns it without what leads to tasks from the ports of some claims.
func (i *Ingress) Without(claims []*Endpoint) *Ingress {
	without := *i
	without.Turns = slices.DeleteFunc(slices.Clone(i.Turns), func(t Turn) bool {
		return slices.ContainsFunc(claims, func(e *Endpoint) bool {
			return Comment(e.Owner) == t.Owner && e.Ports[0].Protocol == t.Protocol && e.Ports[0].HostPort == t.Port
		})
	})
	return &without
}

// RefusedError says which ports of services can't be had on this host: another program listens there, or
// a container publishes them. The others are as they are to be.
type RefusedError struct {
	Claims []*Endpoint
	Errs   []error // for each, with code 102
}

// Error says why, one after the other.
func (e *RefusedError) Error() string {
	words := make([]string, len(e.Errs))
	for i, err := range e.Errs {
		words[i] = err.Error()
	}
	return strings.Join(words, "; ")
}

// Unwrap returns the errors.
func (e *RefusedError) Unwrap() []error { return e.Errs }

// Of returns what is refused of some claims; nil where that is nothing.
func (e *RefusedError) Of(claims []*Endpoint) *RefusedError {
	if e == nil {
		return nil
	}
	of := &RefusedError{}
	for i, c := range e.Claims {
		if (&RefusedError{Claims: claims}).Has(c) {
			of.Claims, of.Errs = append(of.Claims, c), append(of.Errs, e.Errs[i])
		}
	}
	if len(of.Claims) == 0 {
		return nil
	}
	return of
}

// ByServices reports whether other services have all that is refused.
func (e *RefusedError) ByServices() bool {
	return !slices.ContainsFunc(e.Errs, func(err error) bool {
		by, is := errors.AsType[*AllocatedError](err)
		return !is || !IsOfService(by.By)
	})
}

// Has reports whether a claim is refused.
func (e *RefusedError) Has(claim *Endpoint) bool {
	return e != nil && slices.ContainsFunc(e.Claims, func(o *Endpoint) bool { return o.Owner == claim.Owner && o.Ports[0] == claim.Ports[0] })
}

// Sender is another node of an overlay network whose host sends to containers here: connections that
// came to it, for a port of a service. What answers them is marked, and so routed back there.
type Sender struct {
	Network, Bridge string
	MAC             string // of the other node's bridge
	Mark            uint32 // under [MarkMask]
}

// Key names the bridge and the MAC.
func (s *Sender) Key() string { return "sender " + s.MAC + " on " + s.Bridge }

// Refers names the network whose rules must be there first.
func (s *Sender) Refers() []string { return []string{(&Network{Name: s.Network}).Key()} }

// Root marks the element as something that does not go with the bridge.
func (s *Sender) Root() {}

func (s *Sender) String() string { return joinElements([]Element{s.Element()}) }

// Element returns what puts it into the map.
func (s *Sender) Element() Element {
	return Element{Set: MapSenders, Key: []fmt.Stringer{IfName(s.Bridge), MAC(s.MAC)}, Value: []fmt.Stringer{Mark(s.Mark)}, Comment: NetworkComment(s.Network)}
}
