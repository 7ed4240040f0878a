package rules

import (
	"errors"
	"fmt"

	"dcni/pkg/firewall"
	"dcni/pkg/host/conntrack"
	"dcni/pkg/service"
	"dcni/pkg/wire"
)

// This file is about the ports of the host that lead to services' tasks. They are nftables', and what
// they lead to is let pass by the rules of published ports: who was sent to a task came through one.

// ingress returns what a network's services are to have at the host's ports: nothing where iptables carries
// the network's policy out.
func (h *Rules) ingress(n service.Network) *firewall.Ingress {
	in := n.Ingress()
	if h.Records.ByIPTables(n.Name) {
		in.Claims, in.Turns = nil, nil
	}
	return in
}

// EnsureIngress makes the ports of a network's services so, each that can be had: refused are those that
// can't. Where something has changed, or for the first time, connections to tasks that are gone are
// forgotten. The caller holds the lock of the network's services.
func (h *Rules) EnsureIngress(n service.Network, first bool) (refused *firewall.RefusedError, err error) {
	in := h.ingress(n)
	h.mu.Lock()
	delete(h.checked, n.Name)
	h.mu.Unlock()
	if len(in.Claims) == 0 && h.nft.Check(in) == nil {
		return nil, nil
	}
	lock, err := h.Records.LockFirewall()
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	if len(in.Claims) > 0 {
		if _, err := h.installRules(h.nft); err != nil {
			return nil, err
		}
	}
	changed, err := h.nft.Ensure(in)
	if errors.As(err, &refused) {
		err = nil
	}
	if err = h.ifThere(err); changed || first {
		err = errors.Join(err, conntrack.FlushIngress(n.Kept()))
	}
	if changed && len(in.Claims) == 0 {
		err = errors.Join(err, h.nft.Remove(firewall.Installation{}))
	}
	return refused, err
}

// CheckIngress tells how the ports of a network's services differ. That one can't be had is no
// difference.
func (h *Rules) CheckIngress(n service.Network) error {
	if !n.Publishes() {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	err, known := h.checked[n.Name]
	if !known {
		if h.checked == nil {
			h.checked = map[string]error{}
		}
		err = h.nft.Check(h.ingress(n))
		h.checked[n.Name] = err
	}
	return err
}

// claimsOfServices returns what takes the ports of all services, for rules that are installed again.
func (h *Rules) claimsOfServices() (list []*firewall.Endpoint, err error) {
	networks, err := h.Records.ServiceNetworks()
	for _, name := range networks {
		services, unread := h.Records.Services(name)
		if err = errors.Join(err, unread); h.Records.ByIPTables(name) {
			continue
		}
		for _, s := range services {
			if !s.Removing {
				list = append(list, s.Claims()...)
			}
		}
	}
	if err != nil {
		err = fmt.Errorf("services: %w", err)
	}
	return list, err
}

// fwSender is a [firewall.Sender].
type fwSender struct {
	h *Rules
	o *firewall.Sender
}

func (s fwSender) Ensure() (bool, error) { return s.h.nft.Ensure(s.o) }
func (s fwSender) Check() error          { return s.h.nft.Check(s.o) }
func (s fwSender) Remove() error         { return s.h.ifThere(s.h.nft.Remove(s.o)) }
func (s fwSender) Probe() error          { return nil }

// Senders lists the other nodes that the rules know on a bridge.
func (h *Rules) Senders(bridge string) (list []wire.Object, err error) {
	all, err := h.senders(bridge)
	for _, s := range all {
		list = append(list, s)
	}
	return list, h.ifThere(err)
}
