package rules

import (
	"slices"

	"dcni/pkg/firewall"
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
func (h *Rules) siblingAttachments(a wire.Attachment) []wire.Attachment {
	var list []wire.Attachment
	for _, r := range h.Records.Siblings(a) {
		list = append(list, r.Attachment)
	}
	return list
}

// endpoint returns what the owner with a comment publishes, or nil. It reads all
// records: a comment may be cut.
func (h *Rules) endpoint(comment string) *firewall.Endpoint {
	if firewall.IsOfService(comment) {
		claims, _ := h.claimsOfServices() // those that can be read
		i := slices.IndexFunc(claims, func(e *firewall.Endpoint) bool { return firewall.Comment(e.Owner) == comment })
		if i < 0 {
			return nil
		}
		all := *claims[i]
		all.Ports = nil
		for _, e := range claims {
			if e.Owner == all.Owner {
				all.Ports = append(all.Ports, e.Ports...)
			}
		}
		return &all
	}
	list, _ := h.Records.List("")
	for _, r := range list {
		if r.Endpoint != nil && firewall.Comment(r.Attachment) == comment {
			return r.Endpoint
		}
	}
	return nil
}

// isGatewayEndpoint reports whether an attachment has its sandbox's default route of a
// family, the one of the lowest metric. It is false where that can't be told.
func (h *Rules) isGatewayEndpoint(a wire.Attachment, v6 bool) bool {
	list, _ := h.Records.OfContainer(a.Container)
	i := slices.IndexFunc(list, func(r *records.Record) bool { return r.Attachment == a })
	if i < 0 {
		return false
	}
	return h.IsWayOut(list[i].NetNS, a.IfName, v6)
}

// gatewayFirst sorts the endpoints of containers that have several: the ways
// out come first.
func (h *Rules) gatewayFirst(endpoints []*firewall.Endpoint) []*firewall.Endpoint {
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
