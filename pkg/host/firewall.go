package host

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
	h *Host
	o *firewall.Network
}

// Ensure installs the constant rules where they are missing, and the network's
// elements, under the host's lock of the firewall: another network's removal
// must not take the rules from between the two.
func (n fwNetwork) Ensure() (bool, error) {
	lock, err := n.h.records.LockFirewall()
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
func (h *Host) installRules() (installed bool, err error) {
	var back []firewall.Port
	installed, err = h.fw.Install(func() (*firewall.Desired, error) {
		up, err := h.desired()
		if err != nil {
			return nil, err
		}
		for _, e := range up.Endpoints {
			back = append(back, e.Ports...)
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

// Remove takes the network's elements away, and the table if it was this Host
// that installed it and no network is left in it, so that an ADD that fails on a
// bare machine leaves it bare. Rules of the users' keep the table.
func (n fwNetwork) Remove() error {
	lock, err := n.h.records.LockFirewall()
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

// RemoveUnusedRules deletes the rules if no network is in them any more. Rules
// of the users' keep them.
func (h *Host) RemoveUnusedRules() error {
	lock, err := h.records.LockFirewall()
	if err != nil {
		return err
	}
	defer lock.Unlock()
	return h.fw.Remove(firewall.Installation{})
}

// desired returns what the records say is up: what the sets must hold when
// another program flushed them.
func (h *Host) desired() (*firewall.Desired, error) {
	keys, err := h.records.Keys()
	if err != nil {
		return nil, err
	}
	list, err := h.records.GetAll(keys)
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

// fwEndpoint is a [firewall.Endpoint].
type fwEndpoint struct {
	h *Host
	o *firewall.Endpoint
}

// Ensure publishes under the host's lock of the firewall: whether an any-address
// binding and a one-address binding meet is not for the kernel to see.
func (e fwEndpoint) Ensure() (bool, error) {
	lock, err := e.h.records.LockFirewall()
	if err != nil {
		return false, err
	}
	defer lock.Unlock()
	changed, err := e.h.fw.Ensure(e.o)
	if err == nil && changed {
		err = conntrack.FlushPorts(e.o.Ports)
	}
	return changed, err
}

func (e fwEndpoint) Check() error { return e.h.fw.Check(e.o) }

// Remove takes the ports back. A container with other attachments keeps them,
// see movePorts; two attachments that are removed at once wait for each other, or
// one could give the other what would then never be taken back.
func (e fwEndpoint) Remove() error {
	if len(e.h.records.Siblings(e.o.Owner)) == 0 {
		return e.takeBack()
	}
	lock, err := e.h.records.LockFirewall()
	if err != nil {
		return err
	}
	defer lock.Unlock()
	err = e.takeBack()
	e.movePorts()
	return err
}

// takeBack takes the ports back: those named, or all of the owner where the
// object names none, as one does that was made from the identity only.
func (e fwEndpoint) takeBack() error {
	if len(e.o.Ports) == 0 {
		return e.h.fw.Remove(&firewall.Owned{Comment: firewall.Comment(e.o.Owner)})
	}
	return errors.Join(e.h.fw.Remove(e.o), conntrack.FlushPorts(e.o.Ports))
}

func (e fwEndpoint) Probe() error { return nil }

// fwMember is a [firewall.Member].
type fwMember struct {
	h *Host
	o *firewall.Member
}

func (m fwMember) Ensure() (bool, error) { return m.h.fw.Ensure(m.o) }
func (m fwMember) Check() error          { return m.h.fw.Check(m.o) }
func (m fwMember) Remove() error         { return m.h.fw.Remove(m.o) }
func (m fwMember) Probe() error          { return nil }

// orphanElements lists the owners of elements, for garbage collection.
func (h *Host) orphanElements() ([]wire.Orphan, error) {
	comments, err := h.fw.Owners()
	if err != nil {
		return nil, err
	}
	var out []wire.Orphan
	for _, c := range comments {
		out = append(out, wire.Orphan{
			Object: &firewall.Owned{Comment: c},
			Of:     func(a wire.Attachment) bool { return firewall.Comment(a) == c },
			In:     func(network string) bool { return strings.HasPrefix(c, network+" ") },
		})
	}
	return out, nil
}

// fwOwned removes a [byComment]; the rest of a kind has no meaning for it.
type fwOwned struct {
	h *Host
	o *firewall.Owned
}

func (c fwOwned) Ensure() (bool, error) { return false, errors.ErrUnsupported }
func (c fwOwned) Check() error          { return errors.ErrUnsupported }
func (c fwOwned) Remove() error         { return c.h.fw.Remove(c.o) }
func (c fwOwned) Probe() error          { return nil }

// flows is a [wire.Flows].
type flows struct {
	h *Host
	o *wire.Flows
}

// Ensure does nothing: DEL saw to it. To look again would walk the whole table
// of connections, 5 ms on a host with the usual 262,144 buckets, for an address
// that no container has had since. Published UDP ports are different: clients go on
// sending to those, and publishing forgets them.
func (f flows) Ensure() (bool, error) { return false, nil }

func (f flows) Check() error { return nil }
func (f flows) Probe() error { return nil }

func (f flows) Remove() error {
	var errs []error
	for _, a := range f.o.Addresses {
		errs = append(errs, conntrack.FlushAddress(a))
	}
	return errors.Join(errs...)
}
