package host

import (
	"slices"

	"dcni/pkg/firewall"
	"dcni/pkg/host/conntrack"
	"dcni/pkg/records"
	"dcni/pkg/wire"
)

// This file is about containers on several networks. Runtimes ask each of them
// for all the ports to publish. The first network publishes them. The others find them
// published, but for the gateway endpoint, which takes them over, as with Docker: a
// datagram's answer leaves by the gateway endpoint, with its address, and would not be
// recognized as the answer had the datagram come in by another. When the attachment
// that has the ports is detached, a sibling takes them over.

// siblingAttachments returns the other attachments of an attachment's container.
func (h *Host) siblingAttachments(a wire.Attachment) []wire.Attachment {
	var list []wire.Attachment
	for _, r := range h.records.Siblings(a) {
		list = append(list, r.Attachment)
	}
	return list
}

// endpoint returns what the owner with a comment publishes, or nil. It reads all
// records: a comment may be cut.
func (h *Host) endpoint(comment string) *firewall.Endpoint {
	list, _ := h.records.List("")
	for _, r := range list {
		if r.Endpoint != nil && firewall.Comment(r.Attachment) == comment {
			return r.Endpoint
		}
	}
	return nil
}

// isGatewayEndpoint reports whether an attachment has its sandbox's default route of a
// family, the one of the lowest metric. It is false where that can't be told.
func (h *Host) isGatewayEndpoint(a wire.Attachment, v6 bool) bool {
	list, _ := h.records.OfContainer(a.Container)
	i := slices.IndexFunc(list, func(r *records.Record) bool { return r.Attachment == a })
	if i < 0 {
		return false
	}
	return h.links.IsWayOut(list[i].NetNS, a.IfName, v6)
}

// gatewayFirst sorts the endpoints of containers that have several: the ways
// out come first.
func (h *Host) gatewayFirst(endpoints []*firewall.Endpoint) []*firewall.Endpoint {
	many := make(map[string]int)
	for _, e := range endpoints {
		many[e.Owner.Container]++
	}
	var first, rest []*firewall.Endpoint
	for _, e := range endpoints {
		if many[e.Owner.Container] > 1 && (h.isGatewayEndpoint(e.Owner, false) || h.isGatewayEndpoint(e.Owner, true)) {
			first = append(first, e)
		} else {
			rest = append(rest, e)
		}
	}
	return append(first, rest...)
}

// movePorts publishes for the container's other attachments what this one
// published for them too. If one can't be had, its CHECK tells. The caller
// holds the lock of the firewall.
func (e fwEndpoint) movePorts() {
	for _, r := range e.h.records.Siblings(e.o.Owner) {
		if r.State != records.Up || r.Endpoint == nil {
			continue
		}
		if changed, err := e.h.fw.Ensure(r.Endpoint); err == nil && changed {
			_ = conntrack.FlushPorts(r.Endpoint.Ports)
		}
	}
}
