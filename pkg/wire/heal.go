package wire

import (
	"errors"
	"net/netip"
	"slices"
)

// Heal makes so those of the objects that are not, in order. Each stands for
// itself: nothing is undone, and it goes on past errors. It reports each object
// that was not so: how it was, and nil or why it still is. What is its owner's to say, see
// [Owners], is left as it is, and is not reported.
func Heal(h Host, objects []Object, report func(o Object, was, err error)) {
	for _, o := range objects {
		was := h.Check(o)
		if _, owners := errors.AsType[ownersError](was); was == nil || owners {
			continue
		}
		changed, err := h.Ensure(o)
		if err == nil && !changed {
			// Another process did it just now, or it can't be had.
			if err = h.Check(o); err == nil {
				continue
			}
		}
		report(o, was, err)
	}
}

// Owners marks what Check found wrong as its owner's to mend: CHECK tells of it, and
// healing would try in vain at each pass.
func Owners(err error) error {
	if err == nil {
		return nil
	}
	return ownersError{err}
}

type ownersError struct{ error }

func (e ownersError) Unwrap() error { return e.error }

// An Insider is an object that may be inside a sandbox. There it is out of reach
// once the sandbox is gone, or its path is hidden.
type Insider interface {
	Object
	// Outside returns what of the object is the host's: the object itself, a
	// part of it, or nil.
	Outside() Object
}

// Outside returns what of the objects is the host's.
func Outside(objects []Object) []Object {
	var list []Object
	for _, o := range objects {
		if i, ok := o.(Insider); ok {
			o = i.Outside()
		}
		if o != nil {
			list = append(list, o)
		}
	}
	return list
}

// Outside returns the veth without its sandbox's end.
func (v *Veth) Outside() Object {
	half := *v
	half.NetNS = ""
	return &half
}

// Outside returns the fact if the link is the host's.
func (u *Up) Outside() Object { return ofHost(u, u.NetNS) }

// Outside returns the setting if it is the host's.
func (s *Sysctl) Outside() Object { return ofHost(s, s.NetNS) }

// Outside returns the fact if the link is the host's.
func (a *Autoconf) Outside() Object { return ofHost(a, a.NetNS) }

// Outside returns the address if it is the host's.
func (a *Addr) Outside() Object { return ofHost(a, a.NetNS) }

// Outside returns the route if it is the host's.
func (r *Route) Outside() Object { return ofHost(r, r.NetNS) }

// Outside returns nil: the path that a bind is about is the sandbox's.
func (b *NetNSBind) Outside() Object { return nil }

// WithoutIPv6 returns the objects without addresses and routes of IPv6 in a sandbox:
// they can't be there while IPv6 is switched off inside.
func WithoutIPv6(objects []Object) []Object {
	list := slices.Clone(objects)
	for i, o := range list {
		switch o := o.(type) {
		case *SourceRoutes:
			four := *o
			four.Addresses = slices.DeleteFunc(slices.Clone(o.Addresses), netip.Addr.Is6)
			list[i] = &four
		case *MovedRoutes:
			list[i] = o.without6()
		}
	}
	return slices.DeleteFunc(list, func(o Object) bool {
		switch o := o.(type) {
		case *Addr:
			return o.NetNS != "" && o.Prefix.Addr().Is6()
		case *Route:
			return o.NetNS != "" && o.Dst.Addr().Is6()
		}
		return false
	})
}

func ofHost(o Object, netns string) Object {
	if netns != "" {
		return nil
	}
	return o
}

// What healing did about something that was not as the records say.
const (
	PutBack = "put back"  // an object was made again
	Reaped  = "collected" // an attachment whose sandbox is gone was deleted
	Left    = "left"      // nothing, for now: ADD, CHECK or DEL is at work on it
	Lost    = "lost"      // its record, which can't be read, was moved away: no more is known of it
)

// A HealEvent is what healing did about one thing, or tried to.
type HealEvent struct {
	Attachment        // whose it is; without a container it is the network's
	Did        string `json:"did"`              // PutBack, Reaped, Left or Lost
	Object     string `json:"object,omitempty"` // as one line, as ip(8) or nft(8) would print it
	Was        string `json:"was,omitempty"`    // how it differed
	Error      string `json:"error,omitempty"`  // why it could not be done
}
