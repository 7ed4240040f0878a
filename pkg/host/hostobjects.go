package host

import (
	"errors"
	"slices"

	"dcni/pkg/firewall"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// HostObjects lists the host's objects that dcni made and that go with their last user,
// in the order in which they are made.
func (h *Host) HostObjects() ([]wire.Object, error) {
	changes, err := h.records.Changes()
	if err != nil {
		return nil, err
	}
	var all, parents, links, first, last []wire.Object
	for _, c := range changes {
		if l := (&wire.SharedLink{Name: c.Dev}); c.Unreadable && c.Key == l.Key() {
			c.Kind = h.sharedKind(c.Dev)
		}
		switch {
		case c.Kind != "":
			l := &wire.SharedLink{Name: c.Dev, Kind: c.Kind, Parent: c.Parent, VLAN: c.VLAN}
			if c.Kind == wire.KindMacvlan {
				links = append(links, l)
			} else {
				parents = append(parents, l)
			}
		case c.Port != 0:
			all = append(all, &firewall.Underlay{Port: c.Port})
		case c.Encrypted != 0:
			all = append(all, &firewall.Encrypted{Port: c.Encrypted, IPv6: c.Family == 6})
		case c.Frames:
			all = append(all, &firewall.FrameRules{})
		case c.Permit != "":
			all = append(all, &firewall.Permit{Bridge: c.Permit})
		case c.ForAll:
			all = append(all, &wire.ForwardAll{Family: c.Family})
		case c.Family != 0:
			first = append(first, &wire.Forwarding{Family: c.Family})
		case c.Setting != "":
			first = append(first, &wire.Borrowed{Object: &wire.Sysctl{Path: c.Setting, Value: c.Value}})
		case c.Address.IsValid():
			first = append(first, &wire.Borrowed{Object: &wire.Addr{Dev: c.Dev, Prefix: c.Address}})
		case c.Dev != "":
			last = append(last, &wire.Borrowed{Object: &wire.Up{Dev: c.Dev}})
		}
	}
	return slices.Concat(all, parents, links, first, last), nil
}

// Blocked returns the networks with attachments that are up and whose bridges other programs'
// rules do not let pass.
func (h *Host) Blocked() ([]string, error) {
	list, err := h.records.OneOfEach()
	var permits []*firewall.Permit
	networks := map[*firewall.Permit]string{}
	for _, r := range list {
		if n := r.Firewall; n != nil && !n.Internal && !n.Adopted && r.State == records.Up {
			p := n.Permit()
			permits, networks[p] = append(permits, p), r.Network
		}
	}
	if len(permits) == 0 {
		return nil, err
	}
	blocked, e := h.permits().Blocked(permits)
	if len(blocked) > 0 { // now it matters which of them publish ports, and that is read of all containers
		for _, p := range blocked {
			p.Ports = h.publishes(networks[p])
		}
		blocked, e = h.permits().Blocked(blocked)
	}
	var names []string
	for _, p := range blocked {
		names = append(names, networks[p])
	}
	return names, errors.Join(err, e)
}

// publishes reports whether a container of a network has published ports, or is reached by all.
func (h *Host) publishes(network string) bool {
	list, _ := h.records.List(network) // one that can't be read publishes nothing that is known of
	return slices.ContainsFunc(list, func(r *records.Record) bool {
		return r.Endpoint != nil && len(r.Endpoint.Ports) > 0 || r.Firewall != nil && len(r.Firewall.Unprotected) > 0
	})
}

// sharedKind returns the kind of a link that dcni made, by what is there now: the record
// of it can't be read. A link of another kind is not dcni's.
func (h *Host) sharedKind(name string) string {
	if _, l, err := h.spaces.Link("", name); err == nil && (l.Kind == wire.KindVLAN || l.Kind == wire.KindMacvlan) {
		return l.Kind
	}
	return wire.KindDummy
}
