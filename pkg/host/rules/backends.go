package rules

import (
	"errors"
	"slices"

	"dcni/pkg/firewall"
	policy "dcni/pkg/firewall/iptables"
	"dcni/pkg/wire"
)

// This file is about which backend carries out what. A network is by one backend, whatever its
// attachments' configurations have said: that is noted for the network. For a family that any
// network has by iptables, iptables keeps the host from routing for others, else nftables does.

// backend returns what carries a network's policy out.
func (h *Rules) backend(network string) firewall.Backend {
	if h.Records.ByIPTables(network) {
		return h.ipt
	}
	return h.nft
}

// backends returns those that are in use.
func (h *Rules) backends() []firewall.Backend {
	if len(h.familiesByIPTables()) > 0 {
		return []firewall.Backend{h.nft, h.ipt}
	}
	return []firewall.Backend{h.nft}
}

// remove takes an object of a network away, "" for one that is not known. nftables has it also
// where a process died that had the network be by iptables.
func (h *Rules) remove(network string, o wire.Object) error {
	err := h.ifThere(h.nft.Remove(o))
	if network == "" && len(h.familiesByIPTables()) > 0 || network != "" && h.Records.ByIPTables(network) {
		err = errors.Join(err, h.ipt.Remove(o))
	}
	return errors.Join(err, h.follow())
}

// ifThere is an error but that the kernel has no nf_tables, where iptables does all.
func (h *Rules) ifThere(err error) error {
	if we, is := errors.AsType[*wire.Error](err); is && we.Code == wire.CodeUnavailable && len(h.familiesByIPTables()) > 0 {
		return nil
	}
	return err
}

// familiesByIPTables returns those in which iptables' rules are in use.
func (h *Rules) familiesByIPTables() []firewall.Family {
	return slices.DeleteFunc(firewall.Families(), func(f firewall.Family) bool { return !h.Records.UsesIPTables(int(f)) })
}

// closer returns what closes the host as a router of a family.
func (h *Rules) closer(f firewall.Family) firewall.Backend {
	if h.Records.UsesIPTables(int(f)) {
		return h.ipt
	}
	return h.nft
}

// closedByNFTables returns the families that nftables closes the host for.
func (h *Rules) closedByNFTables() []firewall.Family {
	return slices.DeleteFunc(h.closedFamilies(), func(f firewall.Family) bool { return h.closer(f) != h.nft })
}

// closeRouter makes the rules close the host for the families that are to be, and for no other.
func (h *Rules) closeRouter() error {
	var err error
	if len(h.familiesByIPTables()) > 0 {
		_, err = h.ipt.Ensure(&firewall.Router{})
	}
	_, failed := h.nft.Ensure(&firewall.Router{Closed: h.closedByNFTables()})
	return errors.Join(err, h.ifThere(failed))
}

// useIPTables has iptables' rules be in use in families. Before nftables leaves off closing the
// host, iptables does.
func (h *Rules) useIPTables(families []firewall.Family) error {
	added := slices.DeleteFunc(families, func(f firewall.Family) bool { return h.Records.UsesIPTables(int(f)) })
	if len(added) == 0 {
		return nil
	}
	// What is there by now was put back by a program that had saved it: it would keep ports.
	if _, err := h.ipt.Sweep(added); err != nil {
		return err
	}
	for _, f := range added {
		if err := h.Records.SetUsesIPTables(int(f), true); err != nil {
			return err
		}
	}
	if _, err := h.installRules(h.ipt); err != nil {
		for _, f := range added {
			_ = h.Records.SetUsesIPTables(int(f), false)
		}
		return err
	}
	return h.closeRouter()
}

// retireIPTables takes iptables' rules away if no network is by them. If the host is closed as a
// router, nftables closes it before, or they stay.
func (h *Rules) retireIPTables() error {
	families := h.familiesByIPTables()
	networks, err := h.Records.NetworksByIPTables()
	if err != nil || len(networks) > 0 || len(families) == 0 {
		return err
	}
	if closed := h.closedFamilies(); len(closed) > 0 {
		if list, err := h.ipt.Passing(); err != nil || len(list) == 0 {
			return err
		}
		if _, err := h.nft.Ensure(&firewall.Router{Closed: closed}); err != nil {
			return err
		}
	}
	if err := h.ipt.Remove(firewall.Installation{}); err != nil {
		return err
	}
	for _, f := range families {
		err = errors.Join(err, h.Records.SetUsesIPTables(int(f), false))
	}
	return err
}

// follow has iptables, where it closes the host as a router, let pass what nftables' networks are
// by now.
func (h *Rules) follow() error {
	if len(h.familiesByIPTables()) == 0 {
		return nil
	}
	_, err := h.ipt.Ensure(&firewall.Router{})
	return err
}

// claimsOfIPTables lists the ports that iptables' rules publish.
func (h *Rules) claimsOfIPTables() ([]firewall.Claim, error) {
	if len(h.familiesByIPTables()) == 0 {
		return nil, nil
	}
	return h.ipt.Claims()
}

// claimsOfNFTables lists the ports that nftables publishes.
func (h *Rules) claimsOfNFTables() ([]firewall.Claim, error) {
	claims, err := h.nft.Claims()
	return claims, h.ifThere(err)
}

// move has a network be by the backend that it says. What is up of it is in that one before it
// leaves the other, so that at no moment is a port not published, or a container open.
func (h *Rules) move(n *firewall.Network) (moved bool, err error) {
	if err := h.freeBridge(n); err != nil {
		return false, err
	}
	if n.ByIPTables() {
		if err := h.useIPTables(familiesOf(n)); err != nil {
			return false, err
		}
	}
	if n.ByIPTables() == h.Records.ByIPTables(n.Name) {
		return false, nil
	}
	up, err := h.up(func(network string) bool { return network == n.Name })
	if err != nil {
		return false, err
	}
	up.Networks = []*firewall.Network{n}
	var old, next firewall.Backend = h.nft, h.ipt
	if !n.ByIPTables() {
		old, next = next, old
	}
	if _, err := h.installRules(next); err != nil {
		return false, err
	}
	if err := next.Restore(up); err != nil {
		return false, errors.Join(err, h.leave(next, up))
	}
	if err := h.Records.SetByIPTables(n.Name, n.ByIPTables()); err != nil {
		return false, err
	}
	left := errors.Join(h.moveLinks(n.Name), h.ifThere(h.leave(old, up)), h.retireIPTables())
	if n.ByIPTables() {
		left = errors.Join(left, h.ifThere(h.nft.Remove(firewall.Installation{})))
	}
	return true, left
}

// leave takes all that a network has from a backend.
func (h *Rules) leave(backend firewall.Backend, up *firewall.Desired) error {
	errs := []error{backend.Remove(up.Networks[0])}
	if backend == h.ipt {
		return errs[0] // its attachments' rules went along
	}
	for _, m := range up.Members {
		errs = append(errs, backend.Remove(&firewall.Owned{Comment: firewall.Comment(m.Owner)}))
	}
	for _, e := range up.Endpoints {
		errs = append(errs, backend.Remove(&firewall.Owned{Comment: firewall.Comment(e.Owner)}))
	}
	return errors.Join(errs...)
}

// LostByIPTables reports whether another program took something of iptables' rules, or put rules
// back that no network has.
func (h *Rules) LostByIPTables() (bool, error) {
	if left, err := h.leftByIPTables(); err != nil || len(left) > 0 {
		return len(left) > 0, err
	}
	if len(h.familiesByIPTables()) == 0 {
		return false, nil
	}
	up, err := h.desired(h.ipt)
	if err != nil {
		return false, err
	}
	return h.ipt.Lacks(up)
}

// moveLinks opens what links open on a network.
func (h *Rules) moveLinks(network string) error {
	marked, err := h.Records.MarkedLinks(network)
	if err != nil || len(marked) == 0 {
		return err
	}
	list, err := h.Records.List(network)
	for _, r := range list {
		if slices.Contains(marked, r.Attachment) && r.IPAM.Type != "" {
			_, failed := fwLinks{h, linksOf(r)}.sync(marked, false)
			err = errors.Join(err, failed)
		}
	}
	return err
}

// freeBridge refuses a bridge that a network has by the other backend.
func (h *Rules) freeBridge(n *firewall.Network) error {
	if len(h.familiesByIPTables()) == 0 && !n.ByIPTables() || n.ByIPTables() && h.Records.ByIPTables(n.Name) {
		return nil
	}
	list, err := h.Records.OneOfEach()
	for _, r := range list {
		if r.Network != n.Name && r.Firewall != nil && r.Firewall.Bridge == n.Bridge {
			return wire.Invalid("bridge", n.Bridge, "must not be the bridge of another network: "+r.Network+" has it")
		}
	}
	return err
}

// familiesOf returns the families of a network's subnets.
func familiesOf(n *firewall.Network) []firewall.Family {
	return slices.DeleteFunc(firewall.Families(), func(f firewall.Family) bool { return !policy.Has(n, f == 6) })
}
