package host

import (
	"errors"
	"net/netip"
	"time"

	"dcni/pkg/host/agent"
	"dcni/pkg/host/hostports"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// relayTime is how long dnetd may take to open or close an attachment's ports:
// 10,000 take half a second on a busy machine.
const relayTime = 2 * time.Second

// PortHolder returns the runtime's program if that binds the ports that it has
// published; else "".
func (h *Host) PortHolder() string { return hostports.RuntimeThatBinds() }

// RefreshRelay has dnetd hold the ports of an attachment that came, or no more
// those that went. Without a dnetd it is nil: one that starts reads the records.
func RefreshRelay(a wire.Attachment) error {
	_, err := agent.Client{Store: records.Default()}.Call(relayTime, agent.Request{Op: agent.Refresh, Attachment: &a})
	if errors.Is(err, agent.ErrAbsent) {
		return nil
	}
	return err
}

// Internal reports whether a link of the host is the bridge of an internal
// network, from which nothing that is published may be reached.
func (h *Host) Internal(link int) (bool, error) {
	l, err := h.spaces.Root.RT.LinkByIndex(link)
	if err != nil {
		return false, err
	}
	return h.rules.Internal(l.Name)
}

// LinkTo returns the index of the link that leads to an address.
func (h *Host) LinkTo(a netip.Addr) (int, error) {
	link, _, err := h.spaces.Root.RT.RouteTo(a)
	return link, err
}
