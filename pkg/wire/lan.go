package wire

import (
	"net/netip"
	"slices"
	"strings"
)

// Announcement tells the neighbours on a link that addresses are on it now, with its
// MAC: a gratuitous ARP request (RFC 5227, section 2.3) and an unsolicited neighbour
// advertisement (RFC 4861, section 7.2.6). A neighbour that knows another MAC of an
// address takes the new one at once. It comes after the addresses. It is said once and
// leaves nothing: Check finds nothing to compare.
type Announcement struct {
	NetNS     string
	Dev       string
	Addresses []netip.Addr
}

// Key names the link.
func (a *Announcement) Key() string { return "announcement dev " + a.Dev + at(a.NetNS) }

// Refers names the link.
func (a *Announcement) Refers() []string { return refers(a.NetNS, a.Dev) }

// Outside returns the announcement if the link is the host's.
func (a *Announcement) Outside() Object { return ofHost(a, a.NetNS) }

func (a *Announcement) String() string {
	words := make([]string, len(a.Addresses))
	for i, ip := range a.Addresses {
		words[i] = ip.String()
	}
	return "announce " + strings.Join(words, " ") + " dev " + a.Dev + in(a.NetNS)
}

// NeedAddresses splits objects into those that can be there only when the addresses
// are, and the rest, each in order. The rest is made while duplicate detection waits.
func NeedAddresses(objects []Object) (need, rest []Object) {
	for _, o := range objects {
		switch o.(type) {
		case *Addr, *Route, *SourceRoutes, *MovedRoutes, *Announcement:
			need = append(need, o)
		default:
			rest = append(rest, o)
		}
	}
	return need, rest
}

// A Detection asks whether machines on a LAN have addresses.
type Detection struct {
	NetNS     string // where the link is that is asked through; "": the host's own
	Link      string
	Addresses []netip.Addr
	// Again says that an address was taken just now. Two hosts that look for one at the
	// same time find that of each other; each then waits for a random time.
	Again bool
}

// A Conflict is an address that another machine has, or is about to take.
type Conflict struct {
	Address netip.Addr
	MAC     string // the machine's; "": it is this host
}

// Holder names the machine for people.
func (c Conflict) Holder() string {
	if c.MAC == "" {
		return "this host"
	}
	return c.MAC + " on the LAN"
}

// WithoutTaken returns the objects that can be there while other machines have some of the
// addresses: not those addresses, nor the routes of their families.
func WithoutTaken(objects []Object, taken []Conflict) []Object {
	has := func(match func(netip.Addr) bool) bool {
		return slices.ContainsFunc(taken, func(c Conflict) bool { return match(c.Address) })
	}
	var left []Object
	for _, o := range objects {
		switch object := o.(type) {
		case *Addr:
			if has(func(a netip.Addr) bool { return a == object.Prefix.Addr() }) {
				continue
			}
		case *Route:
			if has(func(a netip.Addr) bool { return a.Is4() == object.Dst.Addr().Is4() }) {
				continue
			}
		case *SourceRoutes:
			rules := *object
			rules.Addresses = slices.DeleteFunc(slices.Clone(object.Addresses), func(own netip.Addr) bool {
				return has(func(a netip.Addr) bool { return a == own })
			})
			o = &rules
		case *Announcement:
			said := *object
			said.Addresses = slices.DeleteFunc(slices.Clone(object.Addresses), func(own netip.Addr) bool {
				return has(func(a netip.Addr) bool { return a == own })
			})
			o = &said
			if len(said.Addresses) == 0 {
				continue
			}
		}
		left = append(left, o)
	}
	return left
}

// Detected is what a [Waiter] has found.
type Detected struct {
	Taken []Conflict
	Err   error
}

// A Waiter waits for what a [Detection] finds.
type Waiter interface {
	// Wait returns the addresses that are taken as soon as it knows of one, and none
	// when the time is over in which a machine would have answered.
	Wait() ([]Conflict, error)
	// Close ends the detection.
	Close()
}
