package rules

import (
	"errors"
	"strings"

	"dcni/pkg/firewall"
	"dcni/pkg/host/conntrack"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// fwNetwork is a [firewall.Network].
type fwNetwork struct {
	h *Rules
	o *firewall.Network
}

// Ensure installs the constant rules where they are missing, and the network's
// elements, under the host's lock of the firewall: another network's removal
// must not take the rules from between the two.
func (n fwNetwork) Ensure() (bool, error) {
	lock, err := n.h.Records.LockFirewall()
	if err != nil {
		return false, err
	}
	defer lock.Unlock()
	installed, err := n.h.installRules()
	if err != nil {
		return false, err
	}
	changed, err := n.h.fw.Ensure(n.o)
	return changed || installed, err
}

// installRules installs the constant rules where they are missing, with what is up. The
// caller holds the lock of the firewall.
func (h *Rules) installRules() (installed bool, err error) {
	var back []firewall.Port
	installed, err = h.fw.Install(func() (*firewall.Desired, error) {
		up, err := h.desired()
		if err != nil {
			return nil, err
		}
		for _, e := range up.Endpoints {
			back = append(back, e.Bound()...)
		}
		return up, nil
	})
	h.installed = h.installed || installed
	if err == nil && installed {
		// While there were no rules, conntrack took senders for clients of the host
		// itself.
		err = conntrack.FlushPorts(back)
	}
	return installed, err
}

func (n fwNetwork) Check() error { return n.h.fw.Check(n.o) }

// Remove takes the network's elements away, and the table if these Rules
// installed it and no network is left in it, so that an ADD that fails on a
// bare machine leaves it bare. Rules of the users' keep the table.
func (n fwNetwork) Remove() error {
	lock, err := n.h.Records.LockFirewall()
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if err := n.h.fw.Remove(n.o); err != nil || !n.h.installed {
		return err
	}
	return n.h.fw.Remove(firewall.Installation{})
}

func (n fwNetwork) Probe() error { return n.h.fw.Probe() }

// RemoveUnused deletes the rules if no network is in them any more. Rules
// of the users' keep them.
func (h *Rules) RemoveUnused() error {
	lock, err := h.Records.LockFirewall()
	if err != nil {
		return err
	}
	defer lock.Unlock()
	return h.fw.Remove(firewall.Installation{})
}

// desired returns what the records say is up: what the sets must hold when
// another program flushed them.
func (h *Rules) desired() (*firewall.Desired, error) {
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
		if r.State != records.Up {
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

func (m fwMember) Ensure() (bool, error) { return m.h.fw.Ensure(m.o) }
func (m fwMember) Check() error          { return m.h.fw.Check(m.o) }
func (m fwMember) Remove() error         { return m.h.fw.Remove(m.o) }
func (m fwMember) Probe() error          { return nil }

// Orphans lists the owners of elements, for garbage collection.
func (h *Rules) Orphans() ([]wire.Orphan, error) {
	comments, err := h.fw.Owners()
	if err != nil {
		return nil, err
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
func (c fwOwned) Remove() error         { return c.h.fw.Remove(c.o) }
func (c fwOwned) Probe() error          { return nil }
