package rules

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"dcni/pkg/firewall"
	"dcni/pkg/host/conntrack"
	"dcni/pkg/host/iptables"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// fwNetwork is a [firewall.Network].
type fwNetwork struct {
	h *Rules
	o *firewall.Network
}

// Ensure installs the constant rules where they are missing, and what the network
// has, under the host's lock of the firewall: another network's removal
// must not take the rules from between the two.
func (n fwNetwork) Ensure() (bool, error) {
	lock, err := n.h.Records.LockFirewall()
	if err != nil {
		return false, err
	}
	defer lock.Unlock()
	moved, err := n.h.move(n.o)
	if err != nil {
		return false, err
	}
	backend := n.h.backend(n.o.Name)
	installed, err := n.h.installRules(backend)
	if err != nil {
		return false, err
	}
	changed, err := backend.Ensure(n.o)
	if err == nil && backend == n.h.nft {
		err = n.h.follow()
	}
	return changed || installed || moved, err
}

// installRules installs a backend's constant rules where they are missing, with what is up. The
// caller holds the lock of the firewall.
func (h *Rules) installRules(backend firewall.Backend) (installed bool, err error) {
	var back []firewall.Port
	installed, err = backend.Install(func() (*firewall.Desired, error) {
		up, err := h.desired(backend)
		if err != nil {
			return nil, err
		}
		for _, e := range up.Endpoints {
			back = append(back, e.Bound()...)
		}
		return up, nil
	})
	h.installed = h.installed || installed && backend == h.nft
	if err == nil && installed {
		// While there were no rules, conntrack took senders for clients of the host
		// itself.
		err = conntrack.FlushPorts(back)
	}
	if err == nil && installed && backend == h.nft {
		err = h.follow()
	}
	return installed, err
}

func (n fwNetwork) Check() error {
	if n.o.ByIPTables() != n.h.Records.ByIPTables(n.o.Name) {
		return fmt.Errorf("network %s is by the other firewall than %s", n.o.Name, cmp.Or(n.o.Backend, firewall.NFTables))
	}
	return n.h.backend(n.o.Name).Check(n.o)
}

// Remove takes what the network has away, and nftables' table if these Rules
// installed it and no network is left in it, so that an ADD that fails on a
// bare machine leaves it bare. Rules of the users' keep the table. iptables' rules go with the
// last network that they are of.
func (n fwNetwork) Remove() error {
	lock, err := n.h.Records.LockFirewall()
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if err := n.h.remove(n.o.Name, n.o); err != nil {
		return err
	}
	if n.h.Records.ByIPTables(n.o.Name) {
		err = errors.Join(n.h.Records.SetByIPTables(n.o.Name, false), n.h.retireIPTables())
	}
	if err != nil || !n.h.installed {
		return err
	}
	return n.h.nft.Remove(firewall.Installation{})
}

func (n fwNetwork) Probe() error {
	if n.o.ByIPTables() {
		return iptables.Probe(n.o)
	}
	return n.h.nft.Probe()
}

// RemoveUnused deletes the rules if no network is in them any more. Rules
// of the users' keep them.
func (h *Rules) RemoveUnused() error {
	lock, err := h.Records.LockFirewall()
	if err != nil {
		return err
	}
	defer lock.Unlock()
	return errors.Join(h.nft.Remove(firewall.Installation{}), h.retireIPTables())
}

// desired returns what the records say is up and a backend carries out: what its rules must have when
// another program flushed them.
func (h *Rules) desired(backend firewall.Backend) (*firewall.Desired, error) {
	up, err := h.up(func(network string) bool { return h.backend(network) == backend })
	if err != nil || backend != h.nft {
		return up, err
	}
	claims, err := h.claimsOfServices()
	up.Endpoints = append(up.Endpoints, claims...)
	return up, err
}

// up returns what the records say is up on some networks.
func (h *Rules) up(of func(network string) bool) (*firewall.Desired, error) {
	keys, err := h.Records.Keys()
	if err != nil {
		return nil, err
	}
	list, err := h.Records.GetAll(keys)
	if err != nil {
		return nil, err
	}
	up := &firewall.Desired{}
	seen := map[string]bool{}
	for _, r := range list {
		if r.State != records.Up || !of(r.Network) {
			continue
		}
		if r.Firewall != nil && !seen[r.Firewall.Name] {
			seen[r.Firewall.Name] = true
			up.Networks = append(up.Networks, r.Firewall)
		}
		if r.Member != nil {
			up.Members = append(up.Members, r.Member)
		}
		if r.Endpoint != nil {
			up.Endpoints = append(up.Endpoints, r.Endpoint)
		}
	}
	up.Endpoints = h.gatewayFirst(up.Endpoints)
	return up, nil
}

// fwMember is a [firewall.Member].
type fwMember struct {
	h *Rules
	o *firewall.Member
}

func (m fwMember) Ensure() (bool, error) {
	backend := m.h.backend(m.o.Owner.Network)
	changed, err := backend.Ensure(m.o)
	if err == nil && backend == m.h.nft {
		err = m.h.follow()
	}
	return changed, err
}

func (m fwMember) Check() error  { return m.h.backend(m.o.Owner.Network).Check(m.o) }
func (m fwMember) Remove() error { return m.h.remove(m.o.Owner.Network, m.o) }
func (m fwMember) Probe() error  { return nil }

// Orphans lists the owners of elements, for garbage collection.
func (h *Rules) Orphans() ([]wire.Orphan, error) {
	var comments []string
	for _, backend := range h.backends() {
		list, err := backend.Owners()
		if h.ifThere(err) != nil {
			return nil, err
		}
		comments = append(comments, list...)
	}
	var out []wire.Orphan
	for _, c := range comments {
		out = append(out, wire.Orphan{
			Object: &firewall.Owned{Comment: c, Port: true},
			Of:     func(a wire.Attachment) bool { return firewall.Comment(a) == c },
			In:     func(network string) bool { return strings.HasPrefix(c, network+" ") },
		})
	}
	return out, nil
}

// fwOwned removes a [byComment]; the rest of a kind has no meaning for it.
type fwOwned struct {
	h *Rules
	o *firewall.Owned
}

func (c fwOwned) Ensure() (bool, error) { return false, errors.ErrUnsupported }
func (c fwOwned) Check() error          { return errors.ErrUnsupported }
func (c fwOwned) Remove() error         { return c.h.remove("", c.o) }
func (c fwOwned) Probe() error          { return nil }
