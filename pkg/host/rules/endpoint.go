package rules

import (
	"errors"
	"slices"

	"dcni/pkg/firewall"
	"dcni/pkg/host/conntrack"
	"dcni/pkg/network"
	"dcni/pkg/records"
)

// fwEndpoint is a [firewall.Endpoint].
type fwEndpoint struct {
	h *Rules
	o *firewall.Endpoint
}

// Ensure publishes under the host's lock of the firewall: whether an any-address
// binding and a one-address binding meet is not for the kernel to see.
func (e fwEndpoint) Ensure() (bool, error) {
	lock, err := e.h.Records.LockFirewall()
	if err != nil {
		return false, err
	}
	defer lock.Unlock()
	changed, err := e.h.backend(e.o.Owner.Network).Ensure(e.o)
	if err == nil && changed {
		err = conntrack.FlushPorts(e.o.Bound())
	}
	return changed, err
}

func (e fwEndpoint) Check() error { return e.h.backend(e.o.Owner.Network).Check(e.o) }

// Remove takes the ports back. A container with other attachments keeps them,
// see movePorts; two attachments that are removed at once wait for each other, or
// one could give the other what would then never be taken back.
func (e fwEndpoint) Remove() error {
	if len(e.h.Records.Siblings(e.o.Owner)) == 0 && !e.h.Records.ByIPTables(e.o.Owner.Network) {
		return e.takeBack()
	}
	lock, err := e.h.Records.LockFirewall()
	if err != nil {
		return err
	}
	defer lock.Unlock()
	e.movePorts()
	return e.takeBack()
}

// takeBack takes the ports back: those named, or all of the owner where the
// object names none, as one does that was made from the identity only.
func (e fwEndpoint) takeBack() error {
	if len(e.o.Ports) == 0 {
		return e.h.remove(e.o.Owner.Network, &firewall.Owned{Comment: firewall.Comment(e.o.Owner)})
	}
	return errors.Join(e.h.remove(e.o.Owner.Network, e.o), conntrack.FlushPorts(e.o.Bound()))
}

func (e fwEndpoint) Probe() error { return nil }

// movePorts has the container's other attachments take over what this one published for them
// too: first the one that is the gateway endpoint then. If one can't be had, its CHECK tells.
// The caller holds the lock of the firewall.
func (e fwEndpoint) movePorts() {
	siblings := slices.DeleteFunc(e.h.Records.Siblings(e.o.Owner), func(r *records.Record) bool {
		return r.State != records.Up || r.Endpoint == nil
	})
	slices.SortStableFunc(siblings, func(a, b *records.Record) int {
		return network.CandidateOf(a.Attachment.Network, a.Info, a.Subnets).Compare(network.CandidateOf(b.Attachment.Network, b.Info, b.Subnets))
	})
	for _, r := range siblings {
		if changed, err := e.h.backend(r.Attachment.Network).Ensure(&firewall.Takeover{Endpoint: r.Endpoint, From: e.o.Owner}); err == nil && changed {
			_ = conntrack.FlushPorts(r.Endpoint.Bound())
		}
	}
}
