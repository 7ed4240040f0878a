package host

import (
	"dcni/pkg/firewall"
	"dcni/pkg/host/agent"
	"dcni/pkg/host/services"
	"dcni/pkg/service"
	"dcni/pkg/wire"
)

// SyncServices is [services.Services.Sync].
func (h *Host) SyncServices(network string, first bool, made services.Made) (service.Network, *firewall.RefusedError, error) {
	return h.services().Sync(network, first, made)
}

// EnsureIngress is [rules.Rules.EnsureIngress].
func (h *Host) EnsureIngress(n service.Network) (*firewall.RefusedError, error) {
	return h.rules.EnsureIngress(n, false)
}

// AnnounceTasks has dnetd make the services of a network as they are to be, with the tasks that
// are there by now. A network without services has nothing to make.
func (h *Host) AnnounceTasks(network string) error {
	if !h.records.HasServices(network) {
		return nil
	}
	_, err := h.dnetd().Ask(agent.Request{Op: agent.Services, Attachment: &wire.Attachment{Network: network}})
	return err
}
