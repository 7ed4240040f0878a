package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"dcni/pkg/wire"
)

// Links is what an attachment has to do with links on a network whose containers may not talk
// to one another: it links to others, others link to it, or both. A link opens the ports that the
// other container exposes. Both have a route to one another through the gateway, for the ports of
// the bridge are isolated. Which containers that are is looked up when the object is ensured, so
// that another one of the same name takes the place of one that is gone.
type Links struct {
	Owner     wire.Attachment
	NetNS     string // path of the sandbox
	Cookie    uint64 // of its namespace
	Bridge    string
	Name      string // of the container, "" where the runtime tells none
	Addresses []netip.Addr
	Gateways  []netip.Addr
	Exposed   []Exposed
	Targets   []string // containers that it links to, see [IsTarget]
}

// Key names the attachment; see [wire.Object].
func (l *Links) Key() string { return "firewall links " + l.Owner.String() }

// Root marks the links as something DEL removes by itself.
func (l *Links) Root() {}

// Refers names the network whose rules must be there first.
func (l *Links) Refers() []string { return []string{(&Network{Name: l.Owner.Network}).Key()} }

// Outside returns nil: half of it is routes in sandboxes.
func (l *Links) Outside() wire.Object { return nil }

func (l *Links) String() string {
	s := "links of " + l.Owner.String()
	if len(l.Targets) > 0 {
		s += " to " + strings.Join(l.Targets, " ")
	}
	if len(l.Exposed) > 0 {
		words := make([]string, len(l.Exposed))
		for i, e := range l.Exposed {
			words[i] = e.String()
		}
		s += ", exposes " + strings.Join(words, " ")
	}
	return s
}

// LinksTo reports whether the container links to another one.
func (l *Links) LinksTo(o *Links) bool {
	return l.Owner != o.Owner && slices.ContainsFunc(l.Targets, func(word string) bool {
		return IsTarget(word, o.Name, o.Owner.Container)
	})
}

// shortID is how long the beginning of an ID is that Docker shows.
const shortID = 12

// IsTarget reports whether a link to a word is to a container: by its name, its ID, or the
// beginning of that. A name may be the beginning of another one's ID by chance, so that has to
// be as long as what Docker shows.
func IsTarget(word, name, id string) bool {
	return word == name || word == id || len(word) >= shortID && strings.HasPrefix(id, word)
}

// Elements returns what opens the exposed ports of another container to this one.
func (l *Links) Elements(to *Links) []Element {
	var elements []Element
	for _, a := range l.Addresses {
		for _, b := range to.Addresses {
			if a.Is6() != b.Is6() {
				continue
			}
			for _, e := range to.Exposed {
				elements = append(elements, Element{
					Set: byFamily(a.Is6(), SetLinks4, SetLinks6), Comment: Comment(l.Owner),
					Key: []fmt.Stringer{IfName(l.Bridge), a, b, Proto(e.Protocol), Service(e.Port)},
				})
			}
		}
	}
	return elements
}

// RoutesTo returns the routes to another container, through the gateway of each family.
func (l *Links) RoutesTo(o *Links) []wire.Route {
	var routes []wire.Route
	for _, a := range o.Addresses {
		i := slices.IndexFunc(l.Gateways, func(gw netip.Addr) bool { return gw.Is6() == a.Is6() })
		has := slices.ContainsFunc(l.Addresses, func(own netip.Addr) bool { return own.Is6() == a.Is6() })
		if i >= 0 && has {
			routes = append(routes, wire.Route{NetNS: l.NetNS, Dev: l.Owner.IfName, Dst: netip.PrefixFrom(a, a.BitLen()), Via: l.Gateways[i]})
		}
	}
	return routes
}

// Linked is all that links open to one attachment.
type Linked struct {
	Owner wire.Attachment
	Open  []Element // their comments are the owner's
}

// Key names the attachment; see [wire.Object].
func (l *Linked) Key() string { return "firewall linked " + l.Owner.String() }

func (l *Linked) String() string {
	if len(l.Open) == 0 {
		return l.Key() + " opens nothing"
	}
	return joinElements(l.Open)
}
