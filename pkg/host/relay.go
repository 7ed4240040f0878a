package host

import (
	"errors"
	"net/netip"
	"time"

	"dcni/pkg/host/agent"
	"dcni/pkg/wire"
)

// relayTime is how long dnetd may take to open or close an attachment's ports:
// 10,000 take 150 ms.
const relayTime = time.Second

// RefreshRelay has dnetd relay the ports of an attachment that came, or no more
// those that went. Without a dnetd it is nil: one that starts reads the records.
func RefreshRelay(a wire.Attachment) error {
	_, err := agent.Call(agent.DefaultSocket, relayTime, agent.Request{Op: agent.Refresh, Attachment: &a})
	if errors.Is(err, agent.ErrAbsent) {
		return nil
	}
	return err
}

// Internal reports whether a link of the host is the bridge of an internal
// network, from which nothing that is published may be reached.
func (h *Host) Internal(link int) (bool, error) {
	l, err := h.root.rt.LinkByIndex(link)
	if err != nil {
		return false, err
	}
	return h.fw.IsInternal(l.Name)
}

// LinkTo returns the index of the link that leads to an address.
func (h *Host) LinkTo(a netip.Addr) (int, error) {
	link, _, err := h.root.rt.RouteTo(a)
	return link, err
}
